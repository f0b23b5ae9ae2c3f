"""Predict the durations of units from their neighbours, for units that have none.

The duration predictor of FastSpeech (Ren et al., arXiv 1905.09263), as used in unit vocoders
(Polyak et al., "Speech Resynthesis from Discrete Disentangled Self-Supervised Representations",
arXiv 2104.00355). A duration is one frame plus a Poisson-distributed number, whose mean the network
learns, so that a predicted utterance is as long as utterances of its units are on average.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

_REACH = 3


class DurationPredictor(nn.Module):
    """Two convolutions over the de-duplicated units of an utterance.

    Args:
        num_units: number of units.
        width: channels.
    """

    def __init__(self, num_units: int, width: int) -> None:
        super().__init__()
        self.units = nn.Embedding(num_units + 1, width)  # the last one stands for no unit
        self.layers = nn.ModuleList(
            nn.Conv1d(width, width, 2 * _REACH + 1, padding=_REACH) for _ in range(2)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.outward = nn.Linear(width, 1)

    def forward(self, units: Tensor) -> Tensor:
        """Map units (batch, positions), -1 for none, to the log mean number of further frames."""
        none = self.units.num_embeddings - 1
        x = self.units(torch.where(units < 0, none, units))
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = x + functional.gelu(layer(norm(x).mT).mT, approximate="tanh")
        logs = self.outward(x)[..., 0]
        return logs.to(torch.promote_types(logs.dtype, torch.float32)).clamp(-6, 4)

    def loss(self, units: Tensor, durations: Tensor, known: Tensor) -> Tensor:
        """Return the negative log likelihood up to a constant, averaged over positions.

        Args:
            units: (batch, positions), -1 for none.
            durations: (batch, positions) frames, at least 1 where known.
            known: (batch, positions) bool: False for runs that the crop cuts off.
        """
        logs = self(units)
        return ((logs.exp() - (durations - 1) * logs) * known).mean()

    @torch.no_grad()
    def durations(self, units: Tensor) -> Tensor:
        """Predict durations (positions,) int64, at least 1 frame, of de-duplicated units
        (positions,).

        Rounding errors are carried over to the next unit, so that the sum is the sum of the means.
        """
        if not len(units):
            return units.new_zeros(0)
        # Padded at the end as in training: with "no unit", over the receptive field.
        padded = functional.pad(units, (0, 2 * _REACH), value=-1)
        # In float64, since float32 rounding differs between processors and could move a boundary.
        precise = {name: weight.double() for name, weight in self.named_parameters()}
        logs = torch.func.functional_call(self, precise, (padded[None],))
        means = 1 + logs[0, : len(units)].double().exp()
        ends = means.cumsum(0).round().long()
        ends = torch.maximum(ends, torch.arange(1, len(units) + 1, device=units.device))
        return torch.diff(ends, prepend=ends.new_zeros(1)).clamp_min(1)
