"""`SpectralDecoder`, compiled: equal except for rounding, for any number of frames per call.

A frame's samples are bit-identical for any number of frames per call. Computed in float32, phases
in float64.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from ....kernels.cache import kernel
from ....kernels.fourier import samples, spectra
from ....kernels.linear import (
    exponentials,
    linear,
    normalize,
    run_blocks,
    sine_of_half_turns,
)
from ..layers.harmonic_head import LOG_GAIN, HarmonicHeadConfig
from ..layers.pulses import (
    AROUND,
    AT_PULSE,
    BIN_STEP,
    PITCH_BINS,
    PITCH_MIN,
    PITCH_START,
    check_source,
)
from ..trunks.spectral import SpectralDecoder
from .attention import AttentionPast, packed_layers
from .packing import Array, BlockPasts, PackedStack, array, pack_linear

_LEAST_GAIN, _MOST_GAIN = LOG_GAIN


@dataclass
class CompiledSpectralState:
    """State of one row of a `CompiledSpectralDecoder` between frames."""

    layers: Any  # of the layers at the frame rate
    head: Array  # pasts at the spectra's rate
    pitch: np.float32  # Hz at the end
    phase: float  # turns
    position: int  # in the stored noise
    sources: Array  # (2, delay) the last samples of pulses and noise
    overlap: Array  # (delay,) samples that later windows still add to

    def check(self) -> None:
        """Raise StateError for impossible values; see `check_source`."""
        if isinstance(self.layers, AttentionPast):
            self.layers.check()
        check_source(float(self.pitch), self.phase, self.position)


class SpectralStates:
    """`CompiledSpectralState` of all rows of a stream; each attribute has one for each row.

    Args:
        rows: number of rows.
        layers, head: of the layers at the frame rate and at the spectra's rate.
        delay: of the head, in samples.
    """

    def __init__(self, rows: int, layers: Any, head: BlockPasts, delay: int) -> None:
        self.layers, self.head = layers, head
        self.pitch = np.full(rows, PITCH_START, np.float32)
        self.phase = np.zeros(rows)
        self.position = np.zeros(rows, np.int64)
        self.sources = np.zeros((rows, 2, delay), np.float32)
        self.overlap = np.zeros((rows, delay), np.float32)

    def row(self, row: int) -> CompiledSpectralState:
        """Return the state of a row, whose arrays are views."""
        return CompiledSpectralState(
            layers=self.layers.row(row),
            head=self.head.row(row),
            pitch=self.pitch[row],
            phase=float(self.phase[row]),
            position=int(self.position[row]),
            sources=self.sources[row],
            overlap=self.overlap[row],
        )

    def put(self, row: int, state: CompiledSpectralState | None) -> None:
        """Set the state of a row; None: the initial one."""
        self.layers.put(row, None if state is None else state.layers)
        self.head.put(row, None if state is None else state.head)
        self.pitch[row] = PITCH_START if state is None else state.pitch
        self.phase[row] = 0 if state is None else state.phase
        self.position[row] = 0 if state is None else state.position
        self.sources[row] = 0 if state is None else state.sources
        self.overlap[row] = 0 if state is None else state.overlap


class CompiledSpectralDecoder:
    """Decode the frames of several rows on the CPU, concatenated as in the encoder.

    Args:
        decoder: its weights are copied.
    """

    def __init__(self, decoder: SpectralDecoder) -> None:
        head, dtype = decoder.head, np.float32
        self.config: HarmonicHeadConfig = head.config
        self.window, self.noise = array(head.window), array(head.noise)
        self.ramp, self.top = array(head.pulses.ramp), np.float32(head.pulses.top)
        inward = decoder.stack.inward
        assert isinstance(inward, nn.Linear)
        self.inward = pack_linear(inward, dtype)
        self.stack = packed_layers(decoder.stack, dtype)
        self.upsample = pack_linear(head.upsample, dtype)
        self.head = PackedStack(head.stack, dtype)
        self.pitch = pack_linear(head.pitch, dtype)
        self.gains = pack_linear(head.gains, dtype)
        self.overlap_gain = np.float32(self.config.overlap_gain)

    def init_states(self, rows: int) -> SpectralStates:
        """Create the initial states of `rows` rows."""
        layers, head = self.stack.init_states(rows), self.head.init_states(rows)
        return SpectralStates(rows, layers, head, self.config.delay)

    def wave(
        self, latents: Array, edges: Array, rows: Array, states: SpectralStates, out: Array
    ) -> None:
        """Decode to samples, clamped to full scale.

        Args:
            latents: (frames, in_features) float32, contiguous, of some rows of a stream.
            edges: (busy + 1,) int64: row `rows[r]` has the frames from `edges[r]` to
                `edges[r + 1]`.
            rows: (busy,) int64.
            states: of all rows; updated.
            out: (frames, hop) float32, output.
        """
        config, head = self.config, self.head
        x = _first_columns(latents, *self.inward, self.stack.width)
        # By itself, since a kernel compiles all that it calls once more.
        self.stack.run(x, edges, rows, states.layers)
        pieces, y = _sources_and_features(
            x, latents, self.upsample, config.rate, edges, rows, states.head.addresses,
            head.weights, head.norm, head.epsilon, self.pitch, states.pitch, states.phase,
            states.position, states.sources, self.ramp, config.sample_rate, self.top, self.noise,
            config.hop, self.window,
        )  # fmt: skip
        filtered = samples(_shaped(spectra(pieces), y, *self.gains), config.window)
        _overlap_add(
            filtered, edges, rows, self.window, config.step, states.overlap, self.overlap_gain, out
        )


@kernel
def _sources_and_features(  # type: ignore[no-untyped-def]
    x, z, upsample, rate, edges, rows, pasts, weights, norm, epsilon, pitch, pitches, phases,
    positions, sources, ramp, sample_rate, top, noise, hop, window,
):  # fmt: skip
    """Run the layers at the spectra's rate; return windows of the sources (frames, 2, rate,
    window), and the features (frames × rate, head's width) that say how to filter them.

    Args:
        x, z: (frames, width) outputs of the layers at the frame rate, and their inputs.
        upsample, pitch: panels and bias of layers.
        rate: spectra per frame.
        pasts, weights, norm, epsilon: of the `PackedStack` of these layers.
        others: see `_sources` and `_pieces`.
    """
    frames, width = x.shape
    both = np.empty((frames, width + z.shape[1]), np.float32)
    for t in range(frames):
        for c in range(width):
            both[t, c] = x[t, c]
        for c in range(z.shape[1]):
            both[t, width + c] = z[t, c]
    narrow = norm[0].shape[0]
    raised = _first_columns(both, upsample[0], upsample[1], rate * narrow)
    features = raised.reshape(frames * rate, narrow)
    run_blocks(features, edges * rate, rows, pasts, *weights)
    normalize(features, norm[0], norm[1], epsilon, features)
    track = _pitch_track(features, pitch[0], pitch[1])
    moved = _sources(
        track, edges, rows, pitches, phases, positions, sources, ramp, sample_rate, top, noise, hop
    )
    return _pieces(moved, edges, window, ramp.shape[0], sources.shape[2], rate), features


@kernel
def _first_columns(x, panels, bias, count):  # type: ignore[no-untyped-def]
    """Return the first `count` outputs of a linear layer, contiguous."""
    padded = np.empty((x.shape[0], bias.shape[0]), np.float32)
    linear(x, panels, bias, False, padded)
    return padded[:, :count].copy()


@kernel
def _pitch_track(x, panels, bias):  # type: ignore[no-untyped-def]
    """Compute `pulses.expected_pitch` of a linear layer's logits: (points,) Hz."""
    points, size = x.shape[0], 2 * AROUND + 1
    logits = np.empty((points, bias.shape[0]), np.float32)
    linear(x, panels, bias, False, logits)
    pitch = np.empty(points, np.float32)
    # Lanes without a bin get arbitrary values from `exponentials`, which are not read.
    near, weights = np.zeros(size), np.zeros(16)
    for t in range(points):
        best = 0
        for c in range(PITCH_BINS):
            if logits[t, c] > logits[t, best]:
                best = c
        for i in range(size):
            c = min(max(best + i - AROUND, 0), PITCH_BINS - 1)
            near[i] = c
            weights[i] = np.float64(logits[t, c]) - np.float64(logits[t, best])
        exponentials(weights)
        total = mean = 0.0
        for i in range(size):
            total += weights[i]
            mean += weights[i] * near[i]
        weights[0] = mean / total * BIN_STEP
        exponentials(weights)
        pitch[t] = PITCH_MIN * weights[0]
    return pitch


@kernel
def _pulses(pitch, before, phase, ramp, sample_rate, top, out):  # type: ignore[no-untyped-def]
    """Compute `pulses.PulseTrain` into `out`; return the phase after it."""
    step = ramp.shape[0]
    phases, ratios = np.empty(step), np.empty(step)
    for i in range(pitch.shape[0]):
        for j in range(step):
            track = before + (pitch[i] - before) * ramp[j]
            phases[j] = np.float64(track) / sample_rate
            ratios[j] = 2 * np.float64(np.floor(top / track)) + 1
        for j in range(step):
            phase += phases[j]
            phase -= np.floor(phase)
            phases[j] = phase
        pulses = out[i * step : (i + 1) * step]
        # Without branches, so that the compiler can vectorize it.
        for j in range(step):
            sine, ratio = sine_of_half_turns(phases[j]), ratios[j]
            between = sine_of_half_turns(ratio * phases[j]) / sine
            ratio = between if abs(sine) >= AT_PULSE else ratio
            pulses[j] = (ratio - 1) / 2 * np.sqrt(4 / (ratios[j] - 1))
        before = pitch[i]
    return phase


@kernel
def _repeat(noise, position, out):  # type: ignore[no-untyped-def]
    """Repeat the stored noise from a position on into `out`; return the position after it."""
    for i in range(out.shape[0]):
        out[i] = noise[position]
        position = position + 1 if position + 1 < noise.shape[0] else 0
    return position


@kernel
def _sources(  # type: ignore[no-untyped-def]
    track, edges, rows, pitches, phases, positions, pasts, ramp, sample_rate, top, noise, hop
):
    """Return pulses and noise (2, rows × delay + samples); each row starts with its `delay` last
    ones.

    Args:
        track: (points,) Hz, of the rows in `rows`.
        pitches, phases, positions, pasts: `pitch`, `phase`, `position` and `sources` of
            `SpectralStates`; updated.
    """
    count, delay = rows.shape[0], pasts.shape[2]
    rate = hop // ramp.shape[0]
    out = np.empty((2, count * delay + edges[count] * hop), np.float32)
    pulses, white = out[0], out[1]
    for r in range(count):
        row = rows[r]
        past = pasts[row]
        points = track[edges[r] * rate : edges[r + 1] * rate]
        start = r * delay + edges[r] * hop
        done = start + delay
        end = done + points.shape[0] * ramp.shape[0]
        # Loops instead of slices: numba compiles the error of a slice assignment for long.
        for j in range(delay):
            pulses[start + j] = past[0, j]
            white[start + j] = past[1, j]
        phases[row] = _pulses(
            points, pitches[row], phases[row], ramp, sample_rate, top, pulses[done:end]
        )
        pitches[row] = points[-1]
        positions[row] = _repeat(noise, positions[row] % noise.shape[0], white[done:end])
        for j in range(delay):
            past[0, j] = pulses[end - delay + j]
            past[1, j] = white[end - delay + j]
    return out


@kernel
def _pieces(sources, edges, window, step, delay, rate):  # type: ignore[no-untyped-def]
    """Cut the result of `_sources` into windows (frames, 2, rate, window)."""
    rows = edges.shape[0] - 1
    out = np.empty((edges[rows], 2, rate, window.shape[0]), np.float32)
    for row in range(rows):
        for t in range(edges[row], edges[row + 1]):
            for s in range(2):
                for r in range(rate):
                    start = row * delay + (t * rate + r) * step
                    for j in range(window.shape[0]):
                        out[t, s, r, j] = sources[s, start + j] * window[j]
    return out


@kernel
def _shaped(spectra, x, panels, bias):  # type: ignore[no-untyped-def]
    """Filter and add the sources' spectra (frames, 2, rate, bins): (frames, rate, bins)."""
    frames, _, rate, bins = spectra.shape
    out = np.empty((frames, rate, bins), np.complex64)
    gains = np.empty((frames * rate, bias.shape[0]), np.float32)
    linear(x, panels, bias, False, gains)
    room = (2 * bins + 15) // 16 * 16
    levels = np.zeros(room, np.float32)
    real, imag = np.empty(bins, np.float32), np.empty(bins, np.float32)
    for t in range(frames):
        for r in range(rate):
            row = gains[t * rate + r]
            for k in range(2 * bins):
                level = min(max(row[k], np.float32(_LEAST_GAIN)), np.float32(_MOST_GAIN))
                levels[k] = level
            exponentials(levels)
            angles = row[2 * bins :]
            for k in range(bins):
                turns = np.float64(angles[k]) * (1 / math.pi)
                real[k] = np.float32(sine_of_half_turns(turns + 0.5)) * levels[k]
                imag[k] = np.float32(sine_of_half_turns(turns)) * levels[k]
            pulses, noise = spectra[t, 0, r], spectra[t, 1, r]
            result, noise_gains = out[t, r], levels[bins:]
            for k in range(bins):
                a, b, gain = pulses[k], noise[k], noise_gains[k]
                result[k] = complex(
                    a.real * real[k] - a.imag * imag[k] + b.real * gain,
                    a.real * imag[k] + a.imag * real[k] + b.imag * gain,
                )
    return out


@kernel
def _overlap_add(  # type: ignore[no-untyped-def]
    pieces, edges, rows, window, step, pasts, gain, out
):
    """Overlap-add windowed pieces (frames, rate, window) to samples (frames, hop), with a gain.

    Args:
        pasts: `overlap` of `SpectralStates`, from earlier pieces; updated.
        out: output.
    """
    rate, size = pieces.shape[1:]
    hop, delay = rate * step, pasts.shape[1]
    # Buffer to which frames are added one by one: the current hop's samples, and later ones.
    open_ = np.empty(hop + delay, np.float32)
    for r in range(rows.shape[0]):
        past = pasts[rows[r]]
        for j in range(delay):
            open_[j] = past[j]
        for t in range(edges[r], edges[r + 1]):
            for j in range(delay, open_.shape[0]):
                open_[j] = 0
            for n in range(rate):
                for j in range(size):
                    open_[n * step + j] += pieces[t, n, j] * window[j]
            # Codes that do not come from speech may give any gain.
            for j in range(hop):
                out[t, j] = max(np.float32(-1), min(np.float32(1), open_[j] * gain))
            for j in range(delay):
                open_[j] = open_[hop + j]
        for j in range(delay):
            past[j] = open_[j]
