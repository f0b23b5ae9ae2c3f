"""`SpectralDecoder` compiled: the same but for rounding, for any number of frames at a time.

A frame's samples are the same to the bit however many frames come at once. Sums are float32, phases
float64.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numba import njit
from torch import Tensor, nn

from .attention_kernel import packed_layers
from .harmonic_head import LOG_GAIN, HarmonicHeadConfig
from .kernels import exponentials, linear, sine_of_half_turns
from .network import SpectralDecoder
from .packed import Array, PackedStack, array, pack_linear
from .source import AROUND, AT_PULSE, BIN_STEP, PITCH_BINS, PITCH_MIN, PITCH_START
from .transforms import samples, spectra

_LEAST_GAIN, _MOST_GAIN = LOG_GAIN


@dataclass(frozen=True)
class FrameDecoderState:
    """What `FrameDecoder` carries from one frame to the next."""

    layers: Array  # pasts at the frames' rate
    head: Array  # pasts at the spectra's rate
    pitch: np.float32  # Hz at the end
    phase: float  # turns
    position: int  # in the stored noise
    sources: Array  # (2, delay) the last samples of pulses and noise
    overlap: Array  # (delay,) what windows to come add to


class FrameDecoder:
    """A decoder of one row at a time, on the CPU.

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

    def init_state(self) -> FrameDecoderState:
        """The state of a row that has heard nothing."""
        delay = self.config.delay
        return FrameDecoderState(
            layers=self.stack.init_state(),
            head=self.head.init_state(),
            pitch=np.float32(PITCH_START),
            phase=0.0,
            position=0,
            sources=np.zeros((2, delay), np.float32),
            overlap=np.zeros(delay, np.float32),
        )

    def wave(self, latents: Tensor, state: FrameDecoderState) -> tuple[Tensor, FrameDecoderState]:
        """Samples (1, frames × hop) float32 of latents (1, frames, in_features), and the state."""
        config = self.config
        z = np.ascontiguousarray(latents[0].float().numpy())
        x, layers = self.stack(_first_columns(z, *self.inward, self.stack.width), state.layers)
        raised = _first_columns(
            np.concatenate([x, z], 1), *self.upsample, config.rate * self.head.width
        )
        y, head = self.head(raised.reshape(-1, self.head.width), state.head)
        track = _pitch_track(y, *self.pitch)
        sources = np.empty((2, config.delay + len(z) * config.hop), np.float32)
        sources[:, : config.delay] = state.sources
        phase = _pulses(
            track, state.pitch, state.phase, self.ramp, config.sample_rate, self.top,
            sources[0, config.delay :],
        )  # fmt: skip
        position = _repeat(self.noise, state.position % len(self.noise), sources[1, config.delay :])
        pieces = _pieces(sources, self.window, config.step, len(z), config.rate)
        filtered = samples(_shaped(spectra(pieces), y, *self.gains), config.window)
        done = len(z) * config.hop
        added = np.zeros(done + config.delay, np.float32)
        added[: config.delay] = state.overlap
        _overlap_add(filtered, self.window, config.step, added)
        wave = added[:done] * np.float32(config.overlap_gain)
        after = FrameDecoderState(
            layers, head, track[-1], phase, position,
            sources[:, done:].copy(), added[done:].copy(),
        )  # fmt: skip
        return torch.from_numpy(wave)[None], after


@njit(nogil=True, cache=True)
def _first_columns(x, panels, bias, count):  # type: ignore[no-untyped-def]
    """The `count` outputs of a linear layer, contiguous."""
    padded = np.empty((x.shape[0], bias.shape[0]), np.float32)
    linear(x, panels, bias, False, padded)
    return padded[:, :count].copy()


@njit(nogil=True, cache=True)
def _pitch_track(x, panels, bias):  # type: ignore[no-untyped-def]
    """What `source.expected_pitch` makes of the logits, (points,) Hz."""
    points, size = x.shape[0], 2 * AROUND + 1
    logits = np.empty((points, bias.shape[0]), np.float32)
    linear(x, panels, bias, False, logits)
    pitch = np.empty(points, np.float32)
    # Places of a vector that no bin takes are made anything by `exponentials`, and not read.
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


@njit(nogil=True, cache=True)
def _pulses(pitch, before, phase, ramp, sample_rate, top, out):  # type: ignore[no-untyped-def]
    """What `source.PulseTrain` gives, into `out`; the phase after it."""
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
        # Without branches, for the compiler to take several at once.
        for j in range(step):
            sine, ratio = sine_of_half_turns(phases[j]), ratios[j]
            between = sine_of_half_turns(ratio * phases[j]) / sine
            ratio = between if abs(sine) >= AT_PULSE else ratio
            pulses[j] = (ratio - 1) / 2 * np.sqrt(4 / (ratios[j] - 1))
        before = pitch[i]
    return phase


@njit(nogil=True, cache=True)
def _repeat(noise, position, out):  # type: ignore[no-untyped-def]
    """Stored noise from a position on, over and over; the position after it."""
    for i in range(out.shape[0]):
        out[i] = noise[position]
        position = position + 1 if position + 1 < noise.shape[0] else 0
    return position


@njit(nogil=True, cache=True)
def _pieces(sources, window, step, frames, rate):  # type: ignore[no-untyped-def]
    """Windows (frames, 2, rate, window) of sources (2, samples)."""
    out = np.empty((frames, 2, rate, window.shape[0]), np.float32)
    for t in range(frames):
        for s in range(2):
            for r in range(rate):
                start = (t * rate + r) * step
                for j in range(window.shape[0]):
                    out[t, s, r, j] = sources[s, start + j] * window[j]
    return out


@njit(nogil=True, cache=True)
def _shaped(spectra, x, panels, bias):  # type: ignore[no-untyped-def]
    """Spectra (frames, 2, rate, bins) of the sources, filtered and added: (frames, rate, bins)."""
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


@njit(nogil=True, cache=True)
def _overlap_add(pieces, window, step, out):  # type: ignore[no-untyped-def]
    """Add windowed pieces (frames, rate, window) to `out`, in their order."""
    frames, rate, size = pieces.shape
    for t in range(frames):
        for r in range(rate):
            start = (t * rate + r) * step
            for j in range(size):
                out[start + j] += pieces[t, r, j] * window[j]
