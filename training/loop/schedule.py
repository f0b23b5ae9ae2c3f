"""Functions of the step: the learning rate, the decay of the moving average, and the seed."""

import math

from ..data.draws import draws
from ..recipe import ScheduleConfig


def decay_steps_of(schedule: ScheduleConfig, steps: int) -> int:
    """Return the step at which the decay ends: the schedule's, else the run's end."""
    return steps if schedule.decay_steps is None else schedule.decay_steps


def rate_at(schedule: ScheduleConfig, step: int, steps: int, start: int = 0) -> float:
    """Return the learning rate of a step as a fraction of the maximum.

    Args:
        schedule: the learning rate schedule.
        step: from 0.
        steps: of the whole run.
        start: where warm-up begins (for a discriminator that starts later); the decay still follows
            the run's steps, so that generator and discriminator slow down together.
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
    """Return the decay of the moving average, smaller at first to forget the random initial
    weights.
    """
    return min(decay, (1 + step) / (10 + step))


def seed_at(seed: int, step: int, rank: int) -> int:
    """Return the seed of torch's generators at a step of a rank, from 0 to 2^53 - 1."""
    return int(draws("step", (seed, step, rank), 1)[0] * 2**53)
