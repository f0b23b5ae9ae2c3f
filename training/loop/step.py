"""A training step: the discriminator's, the generator's, and the moving average's."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import QuantizerError, TrainingError
from ...quantizers.modules.distributed import sum_over_ranks
from ..held_still import held_still
from ..losses.balancer import GradientBalancer
from ..mismatch import first_mismatch
from ..precision import in_bfloat16
from ..recipe import AdversarialConfig
from ..task import Batch, Generated, TrainingTask
from .average import WeightAverage
from .optimization import ModuleOptimizer
from .ranks import Ranks, share_from_first
from .schedule import average_decay_at, rate_at, seed_at

JUDGE = "discriminator/"
"""What the names of a discriminator's figures begin with in the log."""


class NotFiniteError(TrainingError):
    """A loss or a gradient is NaN or infinite; the weights are unchanged."""


class Stepper:
    """The modules and optimizers that a step changes.

    Args:
        task: on its device, with the same modules on all ranks.
        ranks: this process among others.

    Attributes:
        average: of the generator's weights.
    """

    def __init__(self, task: TrainingTask[Any], ranks: Ranks) -> None:
        self.task, self.recipe, self.ranks = task, task.recipe, ranks
        self.optimizer = ModuleOptimizer(
            task.generator, self.recipe.optimizer, task.hidden_matrices()
        )
        self.average = WeightAverage(task.generator)
        self.adversarial: AdversarialConfig | None = self.recipe.adversarial
        self.judge_optimizer = None
        if self.adversarial is not None:
            if task.discriminator is None:
                raise TrainingError(
                    f"the recipe has `adversarial` and task {self.recipe.task!r} made no "
                    "discriminator; set it to null or give the task one"
                )
            self.judge_optimizer = ModuleOptimizer(task.discriminator, self.adversarial.optimizer)
        self.balancer = None
        if self.recipe.balancer is not None:
            config = self.recipe.balancer
            self.balancer = GradientBalancer(config.fractions, config.total_norm, config.decay)
        self._frozen: list[nn.Module] | None = None

    def take(self, batch: Batch, step: int, stop: bool = False) -> tuple[dict[str, float], bool]:
        """Take step number `step`; a function of the modules, the batch and the step number alone.

        Args:
            batch: this rank's rows.
            step: from 0.
            stop: whether this rank requests a stop.

        Returns:
            Figures for the log, means over ranks; and whether any rank requests a stop.

        Raises:
            NotFiniteError: before the step of the module whose loss or gradient isn't finite.
            TrainingError: two losses of a task have the same name, or there are none.
        """
        torch.manual_seed(seed_at(self.recipe.seed, step, self.ranks.rank))
        self._set_modes(step)
        try:
            with self._autocast():
                generated = self.task.generate(batch, step)
        except QuantizerError as error:
            # Quantizers reject non-finite values before a loss can show them.
            raise NotFiniteError(str(error)) from None
        losses = dict(generated.losses)
        figures: dict[str, float] = {}
        adversarial = self.adversarial
        if adversarial is not None and step >= adversarial.start_step:
            if (step - adversarial.start_step) % adversarial.discriminator_every == 0:
                figures |= self._judge_step(batch, generated, step, adversarial.start_step)
            with self._autocast():
                for name, loss in self._adversarial_losses(batch, generated, step).items():
                    if name in losses:
                        raise TrainingError(f"two losses are named {name!r}")
                    losses[name] = loss
        extra = {"stop": torch.tensor(float(stop))}
        found = self._means({**generated.figures, **losses, **extra})
        stop = found.pop("stop") > 0
        _check({name: found[name] for name in losses}, "loss")
        figures |= found | {"total": sum(found[name] for name in losses)}

        self.optimizer.clear()
        figures |= self._backward(losses, generated.wave)
        norm = float(self.optimizer.clipped_norm())
        _check({"of the generator": norm}, "gradient")
        rate = rate_at(self.recipe.schedule, step, self.recipe.steps)
        figures |= {"gradient_norm": norm, "lr": self.optimizer.step(rate)}
        self.average.update(self.task.generator, average_decay_at(self.recipe.ema_decay, step))
        return figures, stop

    def _autocast(self) -> torch.autocast:
        return in_bfloat16(self.ranks.device.type, self.recipe.bf16)

    def _set_modes(self, step: int) -> None:
        """Set training mode; frozen parts are set to evaluation mode without gradients."""
        modules = list(self.task.frozen(step))
        if modules == self._frozen:
            return
        self._frozen = modules
        frozen = {parameter for module in modules for parameter in module.parameters()}
        self.task.generator.train()
        if self.task.discriminator is not None:
            self.task.discriminator.train()
        for parameter in self.optimizer.parameters:
            parameter.requires_grad_(parameter not in frozen)
        for module in modules:
            module.eval()

    def _judge_step(
        self, batch: Batch, generated: Generated, step: int, start: int
    ) -> dict[str, float]:
        assert self.judge_optimizer is not None
        with self._autocast():
            losses = self.task.discriminator_losses(batch, generated.wave.detach(), step)
        found = self._means(losses)
        _check(found, "discriminator's loss")
        self.judge_optimizer.clear()
        _sum(losses).backward()
        norm = float(self.judge_optimizer.clipped_norm())
        _check({"of the discriminator": norm}, "gradient")
        self.judge_optimizer.step(rate_at(self.recipe.schedule, step, self.recipe.steps, start))
        return {JUDGE + name: value for name, value in found.items()} | {
            JUDGE + "gradient_norm": norm
        }

    def _adversarial_losses(
        self, batch: Batch, generated: Generated, step: int
    ) -> dict[str, Tensor]:
        assert self.judge_optimizer is not None
        with held_still(self.judge_optimizer.parameters):
            return self.task.adversarial_losses(batch, generated, step)

    def _backward(self, losses: Mapping[str, Tensor], wave: Tensor) -> dict[str, float]:
        """Compute gradients of the summed losses, or by the balancer; return the balancer's
        norms.
        """
        fractions = self.balancer.fractions if self.balancer is not None else {}
        balanced = {name: loss for name, loss in losses.items() if name in fractions}
        if self.balancer is None or not balanced:
            _sum(losses).backward()
            return {}
        rest = {name: loss for name, loss in losses.items() if name not in balanced}
        try:
            combined, norms = self.balancer.combine(balanced, wave)
        except TrainingError as error:
            raise NotFiniteError(f"the balancer: {error}") from None
        ends, gradients = [wave], [combined]
        if rest:
            total = _sum(rest)
            ends.append(total)
            gradients.append(torch.ones_like(total))
        # A single backward pass, so that shared parts of the graph are traversed once.
        torch.autograd.backward(ends, gradients)
        return {f"norm/{name}": norm for name, norm in norms.items()}

    def _means(self, values: Mapping[str, Tensor]) -> dict[str, float]:
        """Average values over ranks, in one exchange, so that all ranks see what one of
        them finds.
        """
        device = self.ranks.device
        stacked = torch.stack(
            [value.detach().to(device, torch.float64).reshape(()) for value in values.values()]
        )
        means = (sum_over_ranks(stacked) / self.ranks.size).tolist()
        return dict(zip(values, means, strict=True))

    # --- the state --------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Return tensors and plain values from which `load_state` resumes bit for bit."""
        judge = self.task.discriminator if self.judge_optimizer is not None else None
        return {
            "generator": self.task.generator.state_dict(),
            "average": self.average.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "discriminator": judge.state_dict() if judge is not None else None,
            "discriminator_optimizer": (
                self.judge_optimizer.state_dict() if self.judge_optimizer is not None else None
            ),
            "balancer": self.balancer.state_dict() if self.balancer is not None else None,
            "memory": dict(self.task.memory),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore the values of `state`.

        Raises:
            TrainingError: it belongs to other modules.
        """
        try:
            self.task.generator.load_state_dict(state["generator"])
            self.average.module.load_state_dict(state["average"])
            self.optimizer.load_state_dict(state["optimizer"])
            if self.judge_optimizer is not None and self.task.discriminator is not None:
                self.task.discriminator.load_state_dict(state["discriminator"])
                self.judge_optimizer.load_state_dict(state["discriminator_optimizer"])
            if self.balancer is not None:
                self.balancer.load_state_dict(state["balancer"])
            # States of earlier releases have none.
            self.task.memory = dict(state.get("memory", {}))
        except (KeyError, TypeError, RuntimeError, ValueError) as error:
            raise TrainingError(f"the state does not fit the task: {error}") from None

    def start_from(self, state: Mapping[str, Any]) -> Sequence[str]:
        """Start from another run's averaged weights and, if both have one, its discriminator.

        Returns:
            See `TrainingTask.begin_with`.

        Raises:
            TrainingError: it belongs to other modules.
        """
        try:
            anew = self.task.begin_with(state["average"])
            self.average.module.load_state_dict(self.task.generator.state_dict())
            if self.task.discriminator is not None and state.get("discriminator") is not None:
                self.task.discriminator.load_state_dict(state["discriminator"])
        except (KeyError, RuntimeError) as error:
            raise TrainingError(
                f"start_from: the modules do not fit: {first_mismatch(error)}; --from CODEC trains "
                "a codec on with its own layers"
            ) from None
        return anew

    def share(self) -> None:
        """Copy the first rank's weights to every rank, in case initialization differed."""
        modules = [self.task.generator, self.average.module]
        if self.task.discriminator is not None:
            modules.append(self.task.discriminator)
        for module in modules:
            share_from_first([*module.parameters(), *module.buffers()])


def _sum(losses: Mapping[str, Tensor]) -> Tensor:
    if not losses:
        raise TrainingError("the task gave no losses")
    return torch.stack([loss.reshape(()).float() for loss in losses.values()]).sum()


def _check(values: Mapping[str, float], what: str) -> None:
    for name, value in values.items():
        if not math.isfinite(value):
            raise NotFiniteError(f"the {what} {name} is {value}")
