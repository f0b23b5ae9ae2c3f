"""Loss balancing: each loss gets a fixed fraction of the gradient that reaches the model.

Défossez et al., *High Fidelity Neural Audio Compression*, 2022 (arXiv 2210.13438), section 3.4:
weights become fractions, independent of the losses' natural scales.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ...errors import TrainingError
from .ranks import mean_over_ranks

_LEAST_NORM = 1e-12


class GradientBalancer:
    """Rescales each loss's gradient with respect to the model's output.

    With gᵢ the gradient of loss i, nᵢ the sum over rows of ‖gᵢ[row]‖ and ⟨·⟩ a moving average,
    the output receives Σ total_norm · λᵢ / Σλ · gᵢ / ⟨nᵢ⟩. For losses that are means over the
    batch, nᵢ doesn't depend on the batch size (the paper's mean over rows does), so neither the
    batch size nor the number of ranks changes what the parameters receive.

    The average starts without bias: after k steps it weighs them with decay^(k−1), …, decay, 1.
    A loss that is left out of a step keeps its average, and the others share its fraction.

    Args:
        fractions: λ of each loss, positive; they needn't sum to 1.
        total_norm: of the sum, were all gradients parallel and at their averages.
        decay: of the moving average; the paper's 0.999.

    Raises:
        TrainingError: no losses, a fraction or norm that isn't positive, or a decay outside [0, 1).
    """

    def __init__(
        self, fractions: Mapping[str, float], total_norm: float = 1.0, decay: float = 0.999
    ) -> None:
        if not fractions or not all(0 < value < math.inf for value in fractions.values()):
            raise TrainingError(f"expected a positive fraction for each loss, got {fractions}")
        if not (0 < total_norm < math.inf and 0 <= decay < 1):
            raise TrainingError(
                f"expected total_norm > 0 and decay in [0, 1), got {total_norm}, {decay}"
            )
        self.fractions = dict(fractions)
        self.total_norm, self.decay = total_norm, decay
        # Python's floats: double precision, and JSON keeps them exactly.
        self._sums = dict.fromkeys(self.fractions, 0.0)
        self._weights = dict.fromkeys(self.fractions, 0.0)

    def average_norm(self, name: str) -> float:
        """⟨n⟩ of a loss; NaN before its first step."""
        return self._sums[name] / self._weights[name] if self._weights[name] else math.nan

    def combine(
        self, losses: Mapping[str, Tensor], output: Tensor
    ) -> tuple[Tensor, dict[str, float]]:
        """The balanced gradient, and each loss's own norm n at this step.

        Args:
            losses: scalars by name, all functions of `output`. In a distributed run every rank
                must give the same names.
            output: what the model made, (batch, …).

        Returns:
            A gradient of the shape of `output`, and norms by name (mean over ranks).

        Raises:
            TrainingError: a name without a fraction, a loss that isn't a scalar or doesn't depend
                on `output`, or a gradient that isn't finite (the averages stay as they were).
        """
        names = [name for name in self.fractions if name in losses]
        unknown = sorted(set(losses) - set(names))
        if unknown or not names:
            raise TrainingError(
                f"expected losses among {', '.join(self.fractions)}, got {', '.join(losses)}"
            )
        gradients = []
        for place, name in enumerate(names):
            loss = losses[name]
            if loss.numel() != 1:
                raise TrainingError(f"loss {name!r} has shape {tuple(loss.shape)}, not a scalar")
            # Losses share parts of the graph, such as a discriminator's layers.
            keep = place + 1 < len(names)
            found = None
            if loss.requires_grad:
                (found,) = torch.autograd.grad(loss, output, retain_graph=keep, allow_unused=True)
            if found is None:
                raise TrainingError(f"loss {name!r} doesn't depend on the model's output")
            gradients.append(found.detach())
        own = [
            torch.linalg.vector_norm(grad.flatten(1).double(), dim=1).sum() for grad in gradients
        ]
        norms = dict(zip(names, mean_over_ranks(torch.stack(own)).tolist(), strict=True))
        for name, norm in norms.items():
            if not math.isfinite(norm):
                raise TrainingError(f"the gradient of loss {name!r} isn't finite")

        share = self.total_norm / sum(self.fractions[name] for name in names)
        combined = torch.zeros_like(output, requires_grad=False)
        for name, grad in zip(names, gradients, strict=True):
            self._sums[name] = self.decay * self._sums[name] + norms[name]
            self._weights[name] = self.decay * self._weights[name] + 1.0
            average = max(self.average_norm(name), _LEAST_NORM)
            combined += grad * (share * self.fractions[name] / average)
        return combined, norms

    def backward(self, losses: Mapping[str, Tensor], output: Tensor) -> dict[str, float]:
        """Sends the balanced gradient through the model; arguments and errors as for `combine`.

        Only what `output` was made from receives gradient, not the discriminators. The model is
        passed once, so under DistributedDataParallel it is synchronised once.

        Returns:
            Norms by name, for the log.
        """
        combined, norms = self.combine(losses, output)
        output.backward(combined)
        return norms

    def state_dict(self) -> dict[str, dict[str, float]]:
        """The moving averages: after `load_state_dict`, training goes on bit for bit."""
        return {"sums": dict(self._sums), "weights": dict(self._weights)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes the averages of `state_dict`.

        Raises:
            TrainingError: a state of other losses.
        """
        sums, weights = state.get("sums"), state.get("weights")
        if not (isinstance(sums, Mapping) and isinstance(weights, Mapping)) or (
            set(sums) != set(self.fractions) or set(weights) != set(self.fractions)
        ):
            raise TrainingError(
                f"expected a balancer's state for {', '.join(self.fractions)}, got {dict(state)}"
            )
        self._sums = {name: float(sums[name]) for name in self.fractions}
        self._weights = {name: float(weights[name]) for name in self.fractions}
