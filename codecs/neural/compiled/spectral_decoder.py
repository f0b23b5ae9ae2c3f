"""`SpectralDecoder`, compiled: equal except for rounding, for any number of frames per call.

A frame's samples are bit-identical for any number of frames per call. Computed in float32, phases
in float64.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ....kernels.cache import kernel
from ....kernels.fourier import samples, spectra
from ....kernels.linear import at_address, exponentials, linear, sine_of_half_turns
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
from .packing import Array, PackedStack, addresses, array, pack_linear

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

    def init_state(self) -> CompiledSpectralState:
        """Create the initial state of a row."""
        delay = self.config.delay
        return CompiledSpectralState(
            layers=self.stack.init_state(),
            head=self.head.init_state(),
            pitch=np.float32(PITCH_START),
            phase=0.0,
            position=0,
            sources=np.zeros((2, delay), np.float32),
            overlap=np.zeros(delay, np.float32),
        )

    def wave(
        self, latents: Tensor, edges: Array, states: Sequence[CompiledSpectralState]
    ) -> Tensor:
        """Decode to samples (frames, hop) float32.

        Args:
            latents: (frames, in_features), concatenated over rows.
            edges: (rows + 1,) int64: row r has the frames from `edges[r]` to `edges[r + 1]`.
            states: of each row; updated.
        """
        config = self.config
        z = np.ascontiguousarray(latents.float().numpy())
        x = _first_columns(z, *self.inward, self.stack.width)
        self.stack(x, edges, [state.layers for state in states])
        raised = _first_columns(
            np.concatenate([x, z], 1), *self.upsample, config.rate * self.head.width
        )
        y = raised.reshape(-1, self.head.width)
        self.head(y, edges * config.rate, [state.head for state in states])
        track = _pitch_track(y, *self.pitch)
        pitches = np.array([state.pitch for state in states])
        phases = np.array([state.phase for state in states])
        positions = np.array([state.position % len(self.noise) for state in states])
        sources = _sources(
            track, edges, pitches, phases, positions,
            addresses([state.sources for state in states]),
            self.ramp, config.sample_rate, self.top, self.noise, config.delay, config.hop,
        )  # fmt: skip
        pieces = _pieces(sources, edges, self.window, config.step, config.delay, config.rate)
        filtered = samples(_shaped(spectra(pieces), y, *self.gains), config.window)
        wave = _overlap_add(
            filtered, edges, self.window, config.step,
            addresses([state.overlap for state in states]), config.delay,
            np.float32(config.overlap_gain),
        )  # fmt: skip
        after = zip(states, pitches, phases.tolist(), positions.tolist(), strict=True)
        for state, pitch, phase, position in after:
            state.pitch, state.phase, state.position = pitch, phase, position
        return torch.from_numpy(wave)


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
    track, edges, pitches, phases, positions, pasts, ramp, sample_rate, top, noise, delay, hop
):
    """Return pulses and noise (2, rows × delay + samples); each row starts with its `delay` last
    ones.

    Args:
        track: (points,) Hz, of all rows.
        pitches, phases, positions: (rows,) of the states; updated.
        pasts: (rows,) addresses of the states' sources (2, delay); updated.
    """
    rows = pasts.shape[0]
    rate = hop // ramp.shape[0]
    out = np.empty((2, rows * delay + edges[rows] * hop), np.float32)
    pulses, white = out[0], out[1]
    for r in range(rows):
        past = at_address(np.float32(0), pasts[r], (2, delay))
        points = track[edges[r] * rate : edges[r + 1] * rate]
        start = r * delay + edges[r] * hop
        done = start + delay
        end = done + points.shape[0] * ramp.shape[0]
        pulses[start:done] = past[0]
        white[start:done] = past[1]
        phases[r] = _pulses(points, pitches[r], phases[r], ramp, sample_rate, top, pulses[done:end])
        pitches[r] = points[-1]
        positions[r] = _repeat(noise, positions[r], white[done:end])
        past[0] = pulses[end - delay : end]
        past[1] = white[end - delay : end]
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
def _overlap_add(pieces, edges, window, step, pasts, delay, gain):  # type: ignore[no-untyped-def]
    """Overlap-add windowed pieces (frames, rate, window) to samples (frames, hop), with a gain.

    Args:
        pasts: (rows,) addresses of the overlap (delay,) from earlier pieces; updated.
    """
    frames, rate, size = pieces.shape
    hop = rate * step
    out = np.empty((frames, hop), np.float32)
    # Buffer to which frames are added one by one: the current hop's samples, and later ones.
    open_ = np.empty(hop + delay, np.float32)
    for row in range(pasts.shape[0]):
        past = at_address(np.float32(0), pasts[row], (delay,))
        open_[:delay] = past
        for t in range(edges[row], edges[row + 1]):
            open_[delay:] = 0
            for r in range(rate):
                for j in range(size):
                    open_[r * step + j] += pieces[t, r, j] * window[j]
            for j in range(hop):
                out[t, j] = open_[j] * gain
            for j in range(delay):
                open_[j] = open_[hop + j]
        past[:] = open_[:delay]
    return out
