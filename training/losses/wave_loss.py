"""What the losses between two waveforms share: checked input, full precision, and no padding."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from .lengths import prepare


class WaveLoss(nn.Module, ABC):
    """A loss between a prediction and its target."""

    def forward(self, prediction: Tensor, target: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Compute the loss, a scalar; no gradient flows into `target`.

        Args:
            prediction, target: (batch, samples); computed in float32, or float64 if either is,
                also under autocast.
            lengths: (batch,) valid samples of each row; samples beyond have no influence.

        Raises:
            TrainingError: shapes, dtypes or lengths that don't fit together.
        """
        with torch.autocast(prediction.device.type, enabled=False):
            return self.compare(*prepare(prediction, target, lengths))

    @abstractmethod
    def compare(self, fake: Tensor, real: Tensor, valid: Tensor) -> Tensor:
        """Compute the loss of what `lengths.prepare` returns."""
