"""`SpectralEncoder` compiled: the same numbers, for any number of frames at a time.

Sums are float64, as those of the module are when it encodes, so that a code doesn't depend on which
of the two found it, but for values that float64 cannot tell from a tie.
"""

import math

import numpy as np
import scipy.fft
import torch
from numba import njit
from torch import Tensor, nn

from .analysis import FLOOR, SpeechAnalysis
from .kernels import exponentials, linear
from .network import SpectralEncoder
from .packed import Array, PackedStack, array, pack, pack_linear
from .source import PITCH_BINS

_LOG_SCALE, _LOG_SHIFT = SpeechAnalysis.LOG_SCALE, SpeechAnalysis.LOG_SHIFT
_PITCH_SCALE = SpeechAnalysis.CORRELATION_SCALE


class FrameEncoder:
    """An encoder of one row at a time, on the CPU.

    Args:
        encoder: its weights are copied.
    """

    def __init__(self, encoder: SpectralEncoder) -> None:
        analysis, config = encoder.analysis, encoder.config.analysis
        self.config = config
        self.latent_dim = encoder.config.latent_dim
        self.mel_fft, self.band_fft = analysis.mel_fft, analysis.band_fft
        windows = analysis.mel_window, analysis.band_window, analysis.pitch_window
        self.windows = [array(window).astype(np.float64) for window in windows]
        filters = analysis.mel_filters, analysis.band_filters, analysis.lags
        self.filters = [pack(fixed.T, None, np.float64) for fixed in filters]
        guess, _, logits = encoder.pitch
        inward = encoder.stack.inward
        assert isinstance(guess, nn.Linear) and isinstance(logits, nn.Linear)
        assert isinstance(inward, nn.Linear)
        self.pitch = [pack_linear(layer, np.float64) for layer in (guess, logits)]
        self.inward = pack_linear(inward, np.float64)
        self.stack = PackedStack(encoder.stack, np.float64)
        self.outward = pack_linear(encoder.outward, np.float64)
        self.direct = pack_linear(encoder.direct, np.float64)

    def init_state(self) -> Array:
        """The state of a row that has heard nothing."""
        return self.stack.init_state()

    def latents(self, windows: Tensor, state: Array) -> tuple[Tensor, Array]:
        """Latents (1, frames, latent_dim) float64 of windows (1, frames, window), and the state."""
        heard = self._heard(np.ascontiguousarray(windows[0].double().numpy()))
        x = np.empty((len(heard), self.stack.shape[2]))
        _to_width(heard, *self.inward, x)
        y, state = self.stack(x, state)
        out = np.empty((len(heard), self.latent_dim))
        _sum_of_two(y, *self.outward, heard, *self.direct, out)
        return torch.from_numpy(out)[None], state

    def _heard(self, windows: Array) -> Array:
        """The features (frames, num_features + PITCH_BINS) of windows (frames, window) float64."""
        config, frames = self.config, len(windows)
        mel = np.zeros((frames, 2, self.mel_fft))
        bands = np.zeros((frames, 4, self.band_fft))
        pitch = np.zeros((frames, 1, config.pitch_window))
        for hop, window, pieces in zip(
            (config.hop // 2, config.hop // 4, 0), self.windows, (mel, bands, pitch), strict=True
        ):
            _cut(windows, hop, window, pieces)
        spectra = [_transformed(pieces) for pieces in (mel, bands, pitch)]
        amplitudes = _amplitudes(spectra[2], FLOOR)
        correlation = np.empty((frames, config.pitch_window))
        for t in range(frames):
            correlation[t] = scipy.fft.irfft(amplitudes[t], config.pitch_window)
        heard = np.empty((frames, config.num_features + PITCH_BINS))
        _correlations(correlation, amplitudes, *self.filters[2], config.num_lags, heard)
        _logs(spectra[0], *self.filters[0], config.num_mels, config.num_lags, heard)
        _logs(spectra[1], *self.filters[1], config.num_bands, config.pitch_features, heard)
        (first, first_bias), (second, second_bias) = self.pitch
        _guess(heard, first, first_bias, second, second_bias, config.num_features)
        return heard


def _transformed(pieces: Array) -> Array:
    """Spectra (frames, pieces, bins) of (frames, pieces, samples).

    One call for each frame: how the library adds up depends on how many transforms it gets.
    """
    frames, count, size = pieces.shape
    spectra = np.empty((frames, count, size // 2 + 1), np.complex128)
    for t in range(frames):
        spectra[t] = scipy.fft.rfft(pieces[t])
    return spectra


@njit(nogil=True, cache=True)
def _cut(windows, hop, window, out):  # type: ignore[no-untyped-def]
    """The last pieces of each window, `hop` apart, times a window; zeros after them stay."""
    frames, count, _ = out.shape
    length = window.shape[0]
    start = windows.shape[1] - length - (count - 1) * hop
    for t in range(frames):
        for i in range(count):
            for j in range(length):
                out[t, i, j] = windows[t, start + i * hop + j] * window[j]


@njit(nogil=True, cache=True)
def _amplitudes(spectra, least):  # type: ignore[no-untyped-def]
    """(frames × pieces, bins) amplitudes, `least` at least."""
    frames, count, bins = spectra.shape
    out = np.empty((frames * count, bins))
    for t in range(frames):
        for i in range(count):
            for k in range(bins):
                value = spectra[t, i, k]
                amplitude = math.sqrt(value.real * value.real + value.imag * value.imag)
                out[t * count + i, k] = amplitude if amplitude > least else least
    return out


@njit(nogil=True, cache=True)
def _correlations(correlation, amplitudes, lags, bias, count, heard):  # type: ignore[no-untyped-def]
    """Put the scaled autocorrelation at `count` lags into the first columns of `heard`."""
    frames, size = correlation.shape
    at_lags = np.empty((frames, bias.shape[0]))
    linear(correlation, lags, bias, False, at_lags)
    for t in range(frames):
        total = 0.0
        for k in range(amplitudes.shape[1]):
            total += amplitudes[t, k]
        total *= 2 / size
        for i in range(count):
            heard[t, i] = _PITCH_SCALE * at_lags[t, i] / total


@njit(nogil=True, cache=True)
def _logs(spectra, filters, bias, channels, start, heard):  # type: ignore[no-untyped-def]
    """Put the scaled logarithms of filtered amplitudes into `heard`, from column `start` on."""
    frames, count, _ = spectra.shape
    amplitudes = _amplitudes(spectra, 0.0)
    energies = np.empty((frames * count, bias.shape[0]))
    linear(amplitudes, filters, bias, False, energies)
    for t in range(frames):
        for i in range(count):
            for c in range(channels):
                log = math.log10(energies[t * count + i, c] + FLOOR)
                heard[t, start + i * channels + c] = _LOG_SCALE * log + _LOG_SHIFT


@njit(nogil=True, cache=True)
def _guess(heard, first, first_bias, second, second_bias, start):  # type: ignore[no-untyped-def]
    """Put the guess at the pitch into `heard`, from column `start` on."""
    frames = heard.shape[0]
    hidden = np.empty((frames, first_bias.shape[0]))
    linear(heard, first, first_bias, True, hidden)
    logits = np.empty((frames, second_bias.shape[0]))
    linear(hidden, second, second_bias, False, logits)
    for t in range(frames):
        most = logits[t, 0]
        for c in range(PITCH_BINS):
            most = max(most, logits[t, c])
        for c in range(PITCH_BINS):
            logits[t, c] -= most
    exponentials(logits)
    for t in range(frames):
        total = 0.0
        for c in range(PITCH_BINS):
            total += logits[t, c]
        for c in range(PITCH_BINS):
            heard[t, start + c] = 4 * (logits[t, c] / total)


@njit(nogil=True, cache=True)
def _to_width(x, panels, bias, out):  # type: ignore[no-untyped-def]
    """`linear` into an array that has no room for the outputs that there aren't."""
    padded = np.empty((x.shape[0], bias.shape[0]), x.dtype)
    linear(x, panels, bias, False, padded)
    out[:] = padded[:, : out.shape[1]]


@njit(nogil=True, cache=True)
def _sum_of_two(x, panels, bias, other, other_panels, other_bias, out):  # type: ignore[no-untyped-def]
    """The sum of two linear layers."""
    first = np.empty((x.shape[0], bias.shape[0]))
    second = np.empty((x.shape[0], bias.shape[0]))
    linear(x, panels, bias, False, first)
    linear(other, other_panels, other_bias, False, second)
    for t in range(x.shape[0]):
        for c in range(out.shape[1]):
            out[t, c] = first[t, c] + second[t, c]
