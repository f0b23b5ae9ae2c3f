"""Rows of a session at another sample rate than the tokenizer's."""

import numpy as np
import torch
from torch import Tensor

from ...audio.resampling import Resampler


class RowResampler:
    """Convert the chunks of one row, as `syllabary.audio.resample` converts the whole.

    Args:
        source_rate, target_rate: in Hz.

    Attributes:
        taken, given: samples so far, at the one rate and at the other.

    Raises:
        WaveError: a rate out of range.
    """

    def __init__(self, source_rate: int, target_rate: int) -> None:
        self._rates = source_rate, target_rate
        self.reset()

    def reset(self) -> None:
        """Begin again, for other audio."""
        self._resampler = Resampler(*self._rates)
        self.taken = self.given = 0

    def push(self, samples: Tensor, final: bool) -> Tensor:
        """Take more samples (n,) float32 and return the converted ones available so far."""
        self.taken += len(samples)
        # Nothing at all is nothing at any rate; the resampler would make up its filter's tail.
        if not self.taken or not (len(samples) or final):
            return samples
        found = self._resampler.push(np.asarray(samples.cpu()), final)
        if final:
            self._resampler = Resampler(*self._rates)
        self.given += len(found)
        return torch.from_numpy(found).to(samples.device)
