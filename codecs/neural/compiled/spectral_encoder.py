"""`SpectralEncoder`, compiled: the same values, for any number of frames per call.

Computed in float64 like the module in inference, so that both find the same codes, except for
values that are ties within float64's precision.
"""

import math
from typing import Any

import numpy as np
from torch import nn

from ....kernels.cache import kernel
from ....kernels.fourier import samples, spectra
from ....kernels.linear import exponentials, linear
from ..layers.analysis import FLOOR, SpeechAnalysis
from ..layers.pulses import PITCH_BINS
from ..trunks.spectral import SpectralEncoder
from .attention import packed_layers
from .packing import Array, array, pack, pack_linear

# Frames whose spectra are in memory at once: larger buffers are returned to the system after each
# call, and allocating them again costs more than the transforms.
_BLOCK = 8
_LOG_SCALE, _LOG_SHIFT = SpeechAnalysis.LOG_SCALE, SpeechAnalysis.LOG_SHIFT
_PITCH_SCALE = SpeechAnalysis.CORRELATION_SCALE


class FrameAnalysis:
    """`SpeechAnalysis`, compiled, in float64.

    Args:
        analysis: the features to compute.
    """

    def __init__(self, analysis: SpeechAnalysis) -> None:
        self.config = config = analysis.config
        self.mel_fft, self.band_fft = analysis.mel_fft, analysis.band_fft
        windows = analysis.mel_window, analysis.band_window, analysis.pitch_window
        self.windows = [array(window).astype(np.float64) for window in windows]
        filters = analysis.mel_filters, analysis.band_filters, analysis.lags
        self.filters = [pack(fixed.T, None, np.float64) for fixed in filters]
        self.channels = config.num_lags, config.num_mels, config.num_bands

    def into(self, windows: Array, inputs: Array) -> None:
        """Write features to the first columns of `inputs` (frames, num_features or more).

        Args:
            windows: (frames, window).
            inputs: the output, float64.
        """
        config = self.config
        most = min(len(windows), _BLOCK)
        mel = np.empty((most, 2, self.mel_fft))
        bands = np.empty((most, 4, self.band_fft))
        pitch = np.empty((most, 1, config.pitch_window))
        for start in range(0, len(windows), _BLOCK):
            part = windows[start : start + _BLOCK]
            pieces = mel[: len(part)], bands[: len(part)], pitch[: len(part)]
            _cut(part, config.hop, *self.windows, *pieces)
            amplitudes = _amplitudes(spectra(pieces[2]), FLOOR)
            _features(
                samples(amplitudes, config.pitch_window), amplitudes, self.filters[2],
                spectra(pieces[0]), self.filters[0], spectra(pieces[1]), self.filters[1],
                self.channels, inputs[start : start + _BLOCK],
            )  # fmt: skip

    def without_pitch(self, windows: Array) -> Array:
        """Return features (frames, num_features - num_lags), without autocorrelation, float64."""
        config, (_, num_mels, num_bands) = self.config, self.channels
        inputs = np.empty((len(windows), config.num_features - config.num_lags))
        most = min(len(windows), _BLOCK)
        mel = np.empty((most, 2, self.mel_fft))
        bands = np.empty((most, 4, self.band_fft))
        for start in range(0, len(windows), _BLOCK):
            part = windows[start : start + _BLOCK]
            pieces = mel[: len(part)], bands[: len(part)]
            _cut_spectral(part, config.hop, *self.windows[:2], *pieces)
            _log_features(
                spectra(pieces[0]), self.filters[0], num_mels, spectra(pieces[1]),
                self.filters[1], num_bands, 0, inputs[start : start + _BLOCK],
            )  # fmt: skip
        return inputs


class CompiledSpectralEncoder:
    """Encode the frames of several rows on the CPU.

    Frames of several rows are concatenated, so that the weights, whose reading dominates the cost
    of a single frame, are read once for all rows. Only stateful parts run row by row.

    Args:
        encoder: its weights are copied.
    """

    def __init__(self, encoder: SpectralEncoder) -> None:
        self.config = encoder.config.analysis
        self.latent_dim = encoder.config.latent_dim
        self.analysis = FrameAnalysis(encoder.analysis)
        guess, _, logits = encoder.pitch
        inward = encoder.stack.inward
        assert isinstance(guess, nn.Linear) and isinstance(logits, nn.Linear)
        assert isinstance(inward, nn.Linear)
        self.pitch = [pack_linear(layer, np.float64) for layer in (guess, logits)]
        self.inward = pack_linear(inward, np.float64)
        self.stack = packed_layers(encoder.stack, np.float64)
        self.outward = pack_linear(encoder.outward, np.float64)
        self.direct = pack_linear(encoder.direct, np.float64)

    def init_states(self, rows: int) -> Any:
        """Create the initial states of `rows` rows."""
        return self.stack.init_states(rows)

    def latents(self, windows: Array, edges: Array, rows: Array, states: Any) -> Array:
        """Encode to latents (frames, latent_dim) float64.

        Args:
            windows: (frames, window) float32, concatenated over some rows of a stream.
            edges: (busy + 1,) int64: row `rows[r]` has the frames from `edges[r]` to
                `edges[r + 1]`.
            rows: (busy,) int64.
            states: of all rows; updated.
        """
        inputs = self._inputs(windows)
        x, direct = _two_layers(inputs, *self.inward, self.stack.width, *self.direct)
        self.stack.run(x, edges, rows, states)
        latents: Array = _layer_and(x, *self.outward, direct, self.latent_dim)
        return latents

    def _inputs(self, windows: Array) -> Array:
        """Return features and pitch estimate (frames, num_features + PITCH_BINS) of windows."""
        inputs = np.empty((len(windows), self.config.num_features + PITCH_BINS))
        self.analysis.into(windows, inputs)
        (first, first_bias), (second, second_bias) = self.pitch
        _guess(inputs, first, first_bias, second, second_bias, self.config.num_features)
        return inputs


@kernel
def _features(  # type: ignore[no-untyped-def]
    correlation, amplitudes, lags, mel, mel_filters, bands, band_filters, channels, inputs
):
    """Write scaled correlations and log amplitudes to `inputs`; see `_correlations` and `_logs`.

    Args:
        channels: numbers of lags, mel channels and bands.
    """
    num_lags, num_mels, num_bands = channels
    _correlations(correlation, amplitudes, lags[0], lags[1], num_lags, inputs)
    _log_features(mel, mel_filters, num_mels, bands, band_filters, num_bands, num_lags, inputs)


@kernel
def _log_features(  # type: ignore[no-untyped-def]
    mel, mel_filters, num_mels, bands, band_filters, num_bands, start, inputs
):
    """Write scaled log amplitudes to `inputs`, from column `start` on; see `_logs`."""
    _logs(mel, mel_filters[0], mel_filters[1], num_mels, start, inputs)
    start += mel.shape[1] * num_mels
    _logs(bands, band_filters[0], band_filters[1], num_bands, start, inputs)


@kernel
def _cut(windows, hop, mel_window, band_window, pitch_window, mel, bands, pitch):  # type: ignore[no-untyped-def]
    """Cut windowed pieces from each window, ending where it ends."""
    _cut_spectral(windows, hop, mel_window, band_window, mel, bands)
    for t in range(windows.shape[0]):
        _cut_one(windows[t], 0, pitch_window, pitch[t])


@kernel
def _cut_spectral(windows, hop, mel_window, band_window, mel, bands):  # type: ignore[no-untyped-def]
    """Cut the pieces for mel spectra and bands only; see `_cut`."""
    for t in range(windows.shape[0]):
        _cut_one(windows[t], hop // 2, mel_window, mel[t])
        _cut_one(windows[t], hop // 4, band_window, bands[t])


@kernel
def _cut_one(samples, hop, window, out):  # type: ignore[no-untyped-def]
    """Cut the last pieces of the samples, `hop` apart, windowed and padded with zeros."""
    count, length = out.shape[0], window.shape[0]
    start = samples.shape[0] - length - (count - 1) * hop
    for i in range(count):
        piece, whole = samples[start + i * hop :], out[i]
        for j in range(length):
            whole[j] = np.float64(piece[j]) * window[j]
        whole[length:] = 0


@kernel
def _amplitudes(spectra, least):  # type: ignore[no-untyped-def]
    """Compute amplitudes (frames × pieces, bins), at least `least`."""
    frames, count, bins = spectra.shape
    out = np.empty((frames * count, bins))
    for t in range(frames):
        for i in range(count):
            for k in range(bins):
                value = spectra[t, i, k]
                amplitude = math.sqrt(value.real * value.real + value.imag * value.imag)
                out[t * count + i, k] = amplitude if amplitude > least else least
    return out


@kernel
def _correlations(correlation, amplitudes, lags, bias, count, inputs):  # type: ignore[no-untyped-def]
    """Write the scaled autocorrelation at `count` lags to the first columns of `inputs`."""
    frames, size = correlation.shape
    at_lags = np.empty((frames, bias.shape[0]))
    linear(correlation, lags, bias, False, at_lags)
    for t in range(frames):
        total = 0.0
        for k in range(amplitudes.shape[1]):
            total += amplitudes[t, k]
        total *= 2 / size
        for i in range(count):
            inputs[t, i] = _PITCH_SCALE * at_lags[t, i] / total


@kernel
def _logs(spectra, filters, bias, channels, start, inputs):  # type: ignore[no-untyped-def]
    """Write scaled logarithms of filtered amplitudes to `inputs`, from column `start` on."""
    frames, count, _ = spectra.shape
    amplitudes = _amplitudes(spectra, 0.0)
    energies = np.empty((frames * count, bias.shape[0]))
    linear(amplitudes, filters, bias, False, energies)
    for t in range(frames):
        for i in range(count):
            for c in range(channels):
                log = math.log10(energies[t * count + i, c] + FLOOR)
                inputs[t, start + i * channels + c] = _LOG_SCALE * log + _LOG_SHIFT


@kernel
def _guess(inputs, first, first_bias, second, second_bias, start):  # type: ignore[no-untyped-def]
    """Write the pitch estimate to `inputs`, from column `start` on."""
    frames = inputs.shape[0]
    hidden = np.empty((frames, first_bias.shape[0]))
    linear(inputs, first, first_bias, True, hidden)
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
            inputs[t, start + c] = 4 * (logits[t, c] / total)


@kernel
def _two_layers(x, panels, bias, width, other_panels, other_bias):  # type: ignore[no-untyped-def]
    """Apply two linear layers; return `width` outputs of one, all padded ones of the other."""
    first = np.empty((x.shape[0], bias.shape[0]))
    second = np.empty((x.shape[0], other_bias.shape[0]))
    linear(x, panels, bias, False, first)
    linear(x, other_panels, other_bias, False, second)
    return first[:, :width].copy(), second


@kernel
def one_layer(x, panels, bias, width):  # type: ignore[no-untyped-def]
    """Apply a linear layer, given as `panels`: (frames, width)."""
    padded = np.empty((x.shape[0], bias.shape[0]))
    linear(x, panels, bias, False, padded)
    return padded[:, :width].copy()


@kernel
def _layer_and(x, panels, bias, other, width):  # type: ignore[no-untyped-def]
    """Apply a linear layer of `width` outputs, and add `other`."""
    padded = np.empty((x.shape[0], bias.shape[0]))
    linear(x, panels, bias, False, padded)
    out = np.empty((x.shape[0], width))
    for t in range(x.shape[0]):
        for c in range(width):
            out[t, c] = padded[t, c] + other[t, c]
    return out
