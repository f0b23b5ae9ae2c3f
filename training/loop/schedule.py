"""Functions of the step: the learning rate, the average's decay, and the seed."""

import math

from ..data.draws import draws
from ..recipe import ScheduleConfig


def decay_steps_of(schedule: ScheduleConfig, steps: int) -> int:
    """Where the decay ends: as the schedule says, else at the run's end."""
    return steps if schedule.decay_steps is None else schedule.decay_steps


def rate_at(schedule: ScheduleConfig, step: int, steps: int, start: int = 0) -> float:
    """The learning rate of a step as a part of the highest.

    Args:
        schedule: its course.
        step: from 0.
        steps: of the whole run.
        start: where warming up begins (for a discriminator that joins later); the decay goes by
            the run's steps all the same, so that both players slow down together.
    """
    warm = min(1.0, (step - start + 1) / (schedule.warmup_steps + 1))
    end = decay_steps_of(schedule, steps)
    part = step / end
    if schedule.decay == "constant":
        return warm
    if schedule.decay == "exponential":
        return warm * schedule.final_ratio**part
    cosine = 0.5 + 0.5 * math.cos(math.pi * min(part, 1.0))
    return warm * (schedule.final_ratio + (1 - schedule.final_ratio) * cosine)


def average_decay_at(decay: float, step: int) -> float:
    """Of the weights' moving average: it forgets its beginning, where the weights are random."""
    return min(decay, (1 + step) / (10 + step))


def seed_at(seed: int, step: int, rank: int) -> int:
    """For torch's generators at one step of one rank, from 0 to 2^53 - 1."""
    return int(draws("step", (seed, step, rank), 1)[0] * 2**53)
