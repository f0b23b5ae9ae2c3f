"""TensorBoard: curves, spectrograms and audio, if the package is installed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..losses.spectra import Spectrum
from .validation import Example, Validation

FOLDER = "tensorboard"
_RANGE_DB = 80.0


class Board:
    """Writes TensorBoard files; does nothing without the package `tensorboard`.

    Args:
        folder: of the run.
        step: the state's; TensorBoard discards entries of later steps.
        sample_rate: Hz.
    """

    def __init__(self, folder: Path, step: int, sample_rate: int) -> None:
        self.sample_rate = sample_rate
        self._writer: Any = None
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return
        self._writer = SummaryWriter(str(folder / FOLDER), purge_step=step + 1)

    @property
    def is_there(self) -> bool:
        return self._writer is not None

    def figures(self, step: int, figures: Mapping[str, float]) -> None:
        for name, value in figures.items():
            self._add("add_scalar", f"train/{name}", value, step)

    def validation(self, result: Validation) -> None:
        """Write means, and for each example its audio and both spectrograms, the original
        on top.
        """
        for name, value in result.means.items():
            self._add("add_scalar", f"validation/{name}", value, result.step)
        for place, example in enumerate(result.examples):
            tag = f"{place}/{Path(example.name).stem}"
            rate = self.sample_rate
            for what, wave in (("original", example.reference), ("decoded", example.estimate)):
                sound = torch.from_numpy(wave).clamp(-1, 1)[None]
                self._add("add_audio", f"{tag}/{what}", sound, result.step, sample_rate=rate)
            self._add("add_image", f"{tag}/spectrograms", _picture(example), result.step)
        if self._writer is not None:
            self._writer.flush()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()

    def _add(self, method: str, *arguments: Any, **options: Any) -> None:
        if self._writer is not None:
            getattr(self._writer, method)(*arguments, **options)


def _picture(example: Example) -> torch.Tensor:
    """Draw both spectrograms in grey levels (1, height, frames) in [0, 1], low frequencies
    below.
    """
    spectrum = Spectrum(512, 128)
    levels = []
    for wave in (example.reference, example.estimate):
        size = spectrum(torch.from_numpy(np.asarray(wave, np.float32))[None])[0].abs()
        levels.append(20 * size.clamp(min=1e-6).log10().T.flip(0))
    top = float(levels[0].max())
    shown = [((level - top) / _RANGE_DB + 1).clamp(0, 1) for level in levels]
    line = torch.ones(2, shown[0].shape[1])
    return torch.cat([shown[0], line, shown[1]])[None]
