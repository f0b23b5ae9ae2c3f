"""Compute mel amplitudes of tiles of windows, with results independent of the thread count."""

import threading
from weakref import WeakKeyDictionary

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from ...audio.mel import MelSpectrogram


class _TileAnalysis:
    """Compute `MelSpectrogram.frames` on the CPU, over tiles of one fixed shape.

    Reusing buffers saves four fifths of the time, which allocating memory would take. The
    filterbank is applied as a sparse matrix (every FFT bin lies in at most two filters), on one
    thread and in a fixed order; the last bits of a dense product would depend on the thread count.

    Args:
        mel: the spectrogram, in float64.
        tile: windows per tile.
    """

    def __init__(self, mel: MelSpectrogram, tile: int) -> None:
        bins = mel.n_fft // 2 + 1
        self.window, self.source = mel.window, mel.filters
        self.filters = scipy.sparse.csr_array(mel.filters.T.numpy())
        self.padded = torch.zeros(tile, mel.n_fft, dtype=torch.float64)
        self.windowed = self.padded[:, : self.window.shape[0]]
        self.spectrum = torch.empty(tile, bins, dtype=torch.complex128)
        self.parts = torch.view_as_real(self.spectrum).flatten(-2)
        self.squares = torch.empty_like(self.parts)
        self.power = torch.empty(tile, bins, dtype=torch.float64)

    def __call__(self, windows: Tensor) -> Tensor:
        """Map windows (tile, window_length) float32 to amplitudes (num_mels, tile) float64."""
        torch.mul(windows, self.window, out=self.windowed)
        torch.fft.rfft(self.padded, out=self.spectrum)
        torch.mul(self.parts, self.parts, out=self.squares)
        torch.add(self.squares[:, ::2], self.squares[:, 1::2], out=self.power)
        amplitudes = np.ascontiguousarray(self.power.sqrt_().numpy().T)
        return torch.from_numpy(self.filters @ amplitudes)


_scratch = threading.local()


def analyse(mel: MelSpectrogram, windows: Tensor) -> Tensor:
    """Compute mel amplitudes (num_mels, tile) float64 of windows (tile, window_length) float32.

    The buffers are kept per thread and used again for the next utterance.
    """
    if mel.window.device.type != "cpu":
        return mel.frames(windows).T.contiguous()
    if not hasattr(_scratch, "analyses"):
        _scratch.analyses = WeakKeyDictionary()
    made = _scratch.analyses.get(mel)
    if made is None or made.window is not mel.window or made.source is not mel.filters:
        made = _scratch.analyses[mel] = _TileAnalysis(mel, windows.shape[0])
    amplitudes: Tensor = made(windows)
    return amplitudes
