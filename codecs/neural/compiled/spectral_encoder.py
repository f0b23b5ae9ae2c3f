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
from ....kernels.linear import banded_linear, exponentials, linear
from ..layers.analysis import FLOOR, SpeechAnalysis
from ..layers.pulses import PITCH_BINS
from ..trunks.spectral import SpectralEncoder
from .attention import packed_layers
from .packing import Array, array, pack_bands, pack_linear

#: Frames whose spectra are in memory at once: larger buffers are returned to the system after each
#: call, and allocating them again costs more than the transforms.
BLOCK = 8
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
        self.filters = tuple(pack_bands(fixed.T, np.float64) for fixed in filters)
        self.channels = config.num_lags, config.num_mels, config.num_bands
        # Where the pieces of mel spectra, bands and pitch are: the first one, and how many. An
        # argument, since numba compiles what is called with constants once for each of them.
        self.pieces = (0, 2), (0, 4), (2 if self.mel_fft == config.pitch_window else 0, 1)

    def spectra(self, windows: Array) -> tuple[Array, Array, Array, Array]:
        """Transform windows (frames, window), at most `BLOCK`, for `_features`.

        Returns:
            Spectra of the mel pieces and of the bands' pieces, (frames, pieces, bins), and of the
            pitch window its amplitudes (frames, bins), complex without an imaginary part, and its
            autocorrelation (frames, samples).
        """
        frames, size = len(windows), self.config.pitch_window
        bands = np.empty((frames, 4, self.band_fft))
        if self.mel_fft == size:  # one transform for both
            mel = pitch = np.empty((frames, 3, size))
        else:
            mel, pitch = np.empty((frames, 2, self.mel_fft)), np.empty((frames, 1, size))
        _cut(windows, self.config.hop, *self.windows, mel, bands, pitch, self.pieces)
        of_mel = spectra(mel)
        of_pitch = of_mel if pitch is mel else spectra(pitch)
        amplitudes = _complex_amplitudes(of_pitch, self.pieces[2], FLOOR)
        return of_mel, spectra(bands), amplitudes, samples(amplitudes, size)

    def without_pitch(self, windows: Array) -> Array:
        """Return features (frames, num_features - num_lags), without autocorrelation, float64."""
        config, (_, num_mels, num_bands) = self.config, self.channels
        inputs = np.empty((len(windows), config.num_features - config.num_lags))
        most = min(len(windows), BLOCK)
        mel = np.empty((most, 2, self.mel_fft))
        bands = np.empty((most, 4, self.band_fft))
        for start in range(0, len(windows), BLOCK):
            part = windows[start : start + BLOCK]
            pieces = mel[: len(part)], bands[: len(part)]
            _cut_spectral(part, config.hop, *self.windows[:2], *pieces, self.pieces)
            _log_features(
                spectra(pieces[0]), self.filters[0], num_mels, spectra(pieces[1]),
                self.filters[1], num_bands, self.pieces, 0, inputs[start : start + BLOCK],
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
        self.in_features = self.config.num_features + PITCH_BINS
        self.analysis = FrameAnalysis(encoder.analysis)
        guess, _, logits = encoder.pitch
        inward = encoder.stack.inward
        assert isinstance(guess, nn.Linear) and isinstance(logits, nn.Linear)
        assert isinstance(inward, nn.Linear)
        self.pitch = pack_linear(guess, np.float64), pack_linear(logits, np.float64)
        self.inward = pack_linear(inward, np.float64)
        self.stack = packed_layers(encoder.stack, np.float64)
        self.outward = pack_linear(encoder.outward, np.float64)
        self.direct = pack_linear(encoder.direct, np.float64)

    def init_states(self, rows: int) -> Any:
        """Create the initial states of `rows` rows."""
        return self.stack.init_states(rows)

    def latents(
        self,
        windows: Array,
        edges: Array,
        rows: Array,
        states: Any,
        dtype: type[np.floating[Any]] = np.float32,
    ) -> Array:
        """Encode to latents (frames, latent_dim), computed in float64.

        Args:
            windows: (frames, window) float32, concatenated over some rows of a stream.
            edges: (busy + 1,) int64: row `rows[r]` has the frames from `edges[r]` to
                `edges[r + 1]`.
            rows: (busy,) int64.
            states: of all rows; updated.
            dtype: that the result is rounded to.
        """
        analysis = self.analysis
        inputs = np.empty((len(windows), self.in_features))
        for start in range(0, len(windows), BLOCK):
            part = windows[start : start + BLOCK]
            x, around = _to_stack(
                *analysis.spectra(part), analysis.filters, analysis.channels, analysis.pieces,
                start, start + len(part) == len(windows), inputs, self.pitch, self.inward,
                self.direct, self.stack.width,
            )  # fmt: skip
        # By itself, since a kernel compiles all that it calls once more.
        self.stack.run(x, edges, rows, states)
        latents = np.empty((len(windows), self.latent_dim), dtype)
        _layer_and(x, *self.outward, around, latents)
        return latents


@kernel
def _to_stack(  # type: ignore[no-untyped-def]
    mel, bands, amplitudes, correlation, filters, channels, pieces, start, last, inputs, pitch,
    inward, direct, width,
):  # fmt: skip
    """Write the features of a block of frames to `inputs`; after the last one, return the stack's
    inputs (frames, width), and what is added to its outputs (frames, latent_dim padded).

    Args:
        mel, bands, amplitudes, correlation: see `FrameAnalysis.spectra`.
        filters, channels, pieces: of `FrameAnalysis`.
        start: the block's first frame. last: whether it is the last block.
        inputs: (frames, num_features + PITCH_BINS); scratch.
        pitch, inward, direct: panels and bias of layers.
        width: of the stack.
    """
    features = inputs[start : start + mel.shape[0]]
    _features(
        correlation, amplitudes, filters[2], mel, filters[0], bands, filters[1], channels, pieces,
        features,
    )  # fmt: skip
    if not last:
        return np.empty((0, width)), np.empty((0, width))
    start = inputs.shape[1] - PITCH_BINS
    _guess(inputs, pitch[0][0], pitch[0][1], pitch[1][0], pitch[1][1], start)
    return _two_layers(inputs, inward[0], inward[1], width, direct[0], direct[1])


@kernel(inline="always")  # compiled once, as part of its caller
def _features(  # type: ignore[no-untyped-def]
    correlation, amplitudes, lags, mel, mel_filters, bands, band_filters, channels, pieces, inputs
):
    """Write scaled correlations and log amplitudes to `inputs`; see `_correlations` and `_logs`.

    Args:
        channels: numbers of lags, mel channels and bands.
    """
    num_lags, num_mels, num_bands = channels
    _correlations(correlation, amplitudes, lags, num_lags, inputs)
    _log_features(
        mel, mel_filters, num_mels, bands, band_filters, num_bands, pieces, num_lags, inputs
    )


@kernel(inline="always")  # compiled once, as part of its caller
def _log_features(  # type: ignore[no-untyped-def]
    mel, mel_filters, num_mels, bands, band_filters, num_bands, pieces, start, inputs
):
    """Write scaled log amplitudes to `inputs`, from column `start` on; see `_logs`."""
    _logs(mel, pieces[0], mel_filters, num_mels, start, inputs)
    start += pieces[0][1] * num_mels
    _logs(bands, pieces[1], band_filters, num_bands, start, inputs)


@kernel
def _cut(  # type: ignore[no-untyped-def]
    windows, hop, mel_window, band_window, pitch_window, mel, bands, pitch, pieces
):
    """Cut windowed pieces from each window, ending where it ends; the last of `pitch` is one."""
    _cut_spectral(windows, hop, mel_window, band_window, mel, bands, pieces)
    for t in range(windows.shape[0]):
        _cut_pieces(windows[t], hop, pitch_window, pitch[t], pieces[2])


@kernel(inline="always")  # compiled once, as part of its caller
def _cut_spectral(windows, hop, mel_window, band_window, mel, bands, pieces):  # type: ignore[no-untyped-def]
    """Cut the pieces for mel spectra and bands only; see `_cut`."""
    for t in range(windows.shape[0]):
        _cut_pieces(windows[t], hop // 2, mel_window, mel[t], pieces[0])
        _cut_pieces(windows[t], hop // 4, band_window, bands[t], pieces[1])


@kernel
def _cut_pieces(samples, hop, window, out, pieces):  # type: ignore[no-untyped-def]
    """Cut the last pieces of the samples, `hop` apart, windowed and padded with zeros.

    Args:
        pieces: where they go in `out`: the first one, and how many.
    """
    first, count = pieces
    length = window.shape[0]
    start = samples.shape[0] - length - (count - 1) * hop
    for i in range(count):
        piece, whole = samples[start + i * hop :], out[first + i]
        for j in range(length):
            whole[j] = np.float64(piece[j]) * window[j]
        for j in range(length, whole.shape[0]):
            whole[j] = 0


@kernel
def _complex_amplitudes(spectra, pieces, least):  # type: ignore[no-untyped-def]
    """`_amplitudes`, complex as inverse transforms take them."""
    amplitudes = _amplitudes(spectra, pieces, least)
    return amplitudes.astype(np.complex128)


@kernel
def _amplitudes(spectra, pieces, least):  # type: ignore[no-untyped-def]
    """Compute amplitudes (frames × count, bins), at least `least`, of some pieces.

    Args:
        pieces: the first one, and how many.
    """
    first, count = pieces
    frames, _, bins = spectra.shape
    out = np.empty((frames * count, bins))
    for t in range(frames):
        for i in range(count):
            for k in range(bins):
                value = spectra[t, first + i, k]
                amplitude = math.sqrt(value.real * value.real + value.imag * value.imag)
                out[t * count + i, k] = amplitude if amplitude > least else least
    return out


@kernel(inline="always")  # compiled once, as part of its caller
def _correlations(correlation, amplitudes, lags, count, inputs):  # type: ignore[no-untyped-def]
    """Write the scaled autocorrelation at `count` lags to the first columns of `inputs`."""
    frames, size = correlation.shape
    panels, bands, bias = lags
    at_lags = np.empty((frames, bias.shape[0]))
    banded_linear(correlation, panels, bands, bias, at_lags)
    for t in range(frames):
        total = 0.0
        for k in range(amplitudes.shape[1]):
            total += amplitudes[t, k].real
        total *= 2 / size
        for i in range(count):
            inputs[t, i] = _PITCH_SCALE * at_lags[t, i] / total


@kernel
def _logs(spectra, pieces, filters, channels, start, inputs):  # type: ignore[no-untyped-def]
    """Write scaled logarithms of pieces' filtered amplitudes to `inputs`, from column `start` on.

    Args:
        pieces: the first one, and how many.
    """
    frames, count = spectra.shape[0], pieces[1]
    amplitudes = _amplitudes(spectra, pieces, 0.0)
    panels, bands, bias = filters
    energies = np.empty((frames * count, bias.shape[0]))
    banded_linear(amplitudes, panels, bands, bias, energies)
    for t in range(frames):
        for i in range(count):
            for c in range(channels):
                log = math.log10(energies[t * count + i, c] + FLOOR)
                inputs[t, start + i * channels + c] = _LOG_SCALE * log + _LOG_SHIFT


@kernel(inline="always")  # compiled once, as part of its caller
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


@kernel(inline="always")  # compiled once, as part of its caller
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
def _layer_and(x, panels, bias, other, out):  # type: ignore[no-untyped-def]
    """Apply a linear layer, and add `other`."""
    padded = np.empty((x.shape[0], bias.shape[0]))
    linear(x, panels, bias, False, padded)
    for t in range(x.shape[0]):
        for c in range(out.shape[1]):
            out[t, c] = padded[t, c] + other[t, c]
