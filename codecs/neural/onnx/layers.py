"""Encoders and decoders as ONNX graphs: windows of samples to latents, and latents to samples.

The encoder computes in float64, whose rounding changes no code; the decoder in float32, except for
pitch and pulses, as in the compiled decoder.
"""

import math

import numpy as np
import torch
from torch import Tensor, nn

from ..layers.analysis import FLOOR, SpeechAnalysis
from ..layers.causal import CausalBlock, CausalStack
from ..layers.harmonic_head import LOG_GAIN, HarmonicHead
from ..layers.pulses import AROUND, AT_PULSE, BIN_STEP, PITCH_BINS, PITCH_MIN
from ..layers.transformer import CausalTransformer, Int8Linear, SlidingAttention, TransformerLayer
from ..trunks.raw_frames import SampleDecoder, SampleEncoder
from ..trunks.spectral import SpectralDecoder, SpectralEncoder
from .graph import Graph, Value

_MOST = 127
_ZERO_POINT = 128  # of unsigned bytes
Layers = CausalStack | CausalTransformer
States = list[Value]


def encoder_latents(
    g: Graph, encoder: SpectralEncoder | SampleEncoder, windows: Value, state: States
) -> tuple[Value, States]:
    """Map windows (1, frames, window) to latents (1, frames, latent_dim), and the new state."""
    if isinstance(encoder, SampleEncoder):
        hidden = g.gelu(g.linear(windows, encoder.first))
        return _layers(g, encoder.stack, g.linear(hidden, encoder.second), state)
    features = _features(g, encoder.analysis, windows)
    first, _, second = encoder.pitch
    assert isinstance(first, nn.Linear) and isinstance(second, nn.Linear)
    hidden = g.gelu(g.linear(features.part(0, first.in_features, 2), first))
    guess = g.linear(hidden, second).op("Softmax", axis=-1)
    inputs = g.concat([features, guess * 4.0], 2)
    y, state = _layers(g, encoder.stack, inputs, state)
    return g.linear(y, encoder.outward) + g.linear(inputs, encoder.direct), state


def decoder_start(decoder: SpectralDecoder | SampleDecoder) -> list[Tensor]:
    """Return the initial state as a list: of the layers, then of the head."""
    state = decoder.init_state()
    if isinstance(state, list):
        return state
    head, position = state.head, torch.zeros(1, dtype=torch.long)
    return [
        *state.layers, *head.layers, head.pitch, head.phase, position, head.sources, head.overlap,
    ]  # fmt: skip


def decoder_samples(
    g: Graph, decoder: SpectralDecoder | SampleDecoder, latents: Value, state: States
) -> tuple[Value, States]:
    """Map latents (1, frames, latent_dim) to samples (1, frames × hop), and the new state."""
    count = len(decoder.stack.init_state(1))
    y, after = _layers(g, decoder.stack, latents, state[:count])
    if isinstance(decoder, SampleDecoder):
        return g.linear(y, decoder.head).shaped(1, -1), after
    wave, rest = _head(g, decoder.head, g.concat([y, latents], 2), state[count:])
    return wave, after + rest


def _layers(g: Graph, stack: Layers, x: Value, state: States) -> tuple[Value, States]:
    """`CausalStack` or `CausalTransformer` as a graph."""
    if isinstance(stack.inward, nn.Linear):
        x = g.linear(x, stack.inward)
    after: States = []
    if isinstance(stack, CausalStack):
        for block, past in zip(stack.blocks, state, strict=True):
            assert isinstance(block, CausalBlock)
            x, past = _block(g, block, x, past)
            after.append(past)
        return g.norm(x, stack.norm), after
    for layer, keys, values in zip(stack.layers, state[::2], state[1::2], strict=True):
        assert isinstance(layer, TransformerLayer)
        normed = g.norm(x, layer.attention_norm)
        y, keys, values = _attention(g, layer.attention, normed, keys, values)
        x = x + y
        hidden = g.gelu(_maybe_int8(g, g.norm(x, layer.norm), layer.widen))
        x = x + _maybe_int8(g, hidden, layer.narrow)
        after += [keys, values]
    return g.norm(x, stack.norm), after


def _block(g: Graph, block: CausalBlock, x: Value, past: Value) -> tuple[Value, Value]:
    """`CausalBlock`, with one product per tap: ONNX Runtime has no convolution in float64."""
    reach = block.kernel - 1
    padded = g.concat([past, x], 1)
    y = None
    for tap, weights in enumerate(_array(block.taps)):
        product = padded.part(tap, tap - reach, 1) * weights
        y = product if y is None else y + product
    assert y is not None
    y = g.norm(y + _array(block.taps_bias), block.norm)
    y = g.linear(g.gelu(g.linear(y, block.widen)), block.narrow)
    return x + y * _array(block.scale), padded.last(reach, 1)


def _attention(
    g: Graph, attention: SlidingAttention, x: Value, keys: Value, values: Value
) -> tuple[Value, Value, Value]:
    """`SlidingAttention` as a graph."""
    config, frames = attention.config, x.length(1)
    key = g.concat([keys, _maybe_int8(g, x, attention.key)], 1)
    value = g.concat([values, _maybe_int8(g, x, attention.value)], 1)

    def heads(part: Value, *axes: int) -> Value:
        return part.shaped(1, -1, config.heads, config.head_dim).op("Transpose", perm=axes)

    q = heads(_maybe_int8(g, x, attention.query), 0, 2, 1, 3)
    # Each row is shifted to the start of its window, as in the module.
    apart = g.pad(q @ _array(attention.distances).T, [0] * 4, [0, 0, 0, frames], -math.inf)
    ahead = [g.constant(np.array(n)) for n in ([0], [2])]
    span = frames + (config.window - 1)
    end = frames * span
    apart = g.op("Slice", apart.shaped(1, config.heads, -1), ahead[0], end, ahead[1], dtype=q.dtype)
    shape = g.concat([g.constant(np.array([1, config.heads])), frames, span], 0)
    apart = g.op("Reshape", apart, shape, dtype=q.dtype)
    scores = (q @ heads(key, 0, 2, 3, 1) + apart) * config.head_dim**-0.5
    y = scores.op("Softmax", axis=-1) @ heads(value, 0, 2, 1, 3)
    y = y.op("Transpose", perm=[0, 2, 1, 3]).shaped(1, -1, config.width)
    past = config.window - 1
    return _maybe_int8(g, y, attention.outward), key.last(past, 1), value.last(past, 1)


def _maybe_int8(g: Graph, x: Value, layer: nn.Linear) -> Value:
    """Apply a linear layer; `Int8Linear` with MatMulInteger.

    Both factors are unsigned bytes: for an unsigned and a signed one, processors without VNNI add
    pairs of products in 16 bits, which overflow.
    """
    if not isinstance(layer, Int8Linear):
        return g.linear(x, layer)
    weight = _array(layer.weight).astype(np.float64)
    scales = (np.abs(weight).max(1) / _MOST).astype(np.float32).astype(np.float64)
    scales[scales == 0] = 1
    whole = (np.rint(weight / scales[:, None]) + _ZERO_POINT).astype(np.uint8)
    most = x.op("Abs").over("ReduceMax", -1)
    inverse = g.value(_MOST, x.dtype).op("Div", most)
    infinite = inverse.op("IsInf", dtype=bool)
    inverse = g.op("Where", infinite, g.value(0.0, x.dtype), inverse, dtype=x.dtype)
    rounded = ((x * inverse).op("Round") + _ZERO_POINT).cast(np.uint8)
    zero = g.value(_ZERO_POINT, np.uint8)
    sums = g.op("MatMulInteger", rounded, g.constant(whole.T), zero, zero, dtype=np.int32)
    # In another order, ONNX Runtime fuses this into an operation without float64 support.
    y: Value = sums.cast(x.dtype) * scales * (most / _MOST)
    return y if layer.bias is None else y + _array(layer.bias)


def _features(g: Graph, analysis: SpeechAnalysis, windows: Value) -> Value:
    """`SpeechAnalysis` as a graph."""
    config, fixed = analysis.config, analysis
    mel = _last(g, windows, fixed.mel_window, 2, config.hop // 2)
    mel = _amplitudes(g, mel, analysis.mel_fft) @ _array(fixed.mel_filters)
    bands = _last(g, windows, fixed.band_window, 4, config.hop // 4)
    bands = _amplitudes(g, bands, analysis.band_fft) @ _array(fixed.band_filters)
    size = config.pitch_window
    last = _last(g, windows, fixed.pitch_window, 1, 0)
    amplitudes = _amplitudes(g, last, size).op("Max", FLOOR).shaped(1, -1, size // 2 + 1)
    total = amplitudes.over("ReduceSum", -1) * (2 / size)
    # The inverse transform of a real spectrum and the selection of lags, as one linear map.
    lags = inverse_fourier(size)[: size // 2 + 1, : size // 2] @ _array(fixed.lags)
    parts = [(amplitudes @ lags) * fixed.CORRELATION_SCALE / total]
    for energies, width in ((mel, 2 * config.num_mels), (bands, 4 * config.num_bands)):
        logs = (energies + FLOOR).op("Log") * (fixed.LOG_SCALE / math.log(10))
        parts.append((logs + fixed.LOG_SHIFT).shaped(1, -1, width))
    return g.concat(parts, 2)


def _last(g: Graph, windows: Value, window: Tensor, count: int, hop: int) -> Value:
    """Return the last `count` pieces, `hop` apart, windowed: (1, frames, count, length)."""
    length = len(window)
    start = -(length + (count - 1) * hop)
    ends = [start + i * hop + length for i in range(count)]
    pieces = [windows.part(end - length, end, 2).unsqueezed(2) for end in ends]
    return g.concat(pieces, 2) * _array(window)


def _amplitudes(g: Graph, pieces: Value, size: int) -> Value:
    """Map pieces (1, frames, pieces, samples) to amplitude spectra (1, frames, pieces, bins).

    As matrix products where needed: ONNX Runtime has a fast, exact DFT for powers of two only.
    """
    if size & (size - 1):
        forth, bins = fourier(size), size // 2 + 1
        spectra = pieces @ forth
        parts = [spectra.part(0, bins, 3), spectra.part(bins, 0, 3)]
        squares = parts[0] * parts[0] + parts[1] * parts[1]
        return squares.op("Sqrt")
    length = g.value(size, np.int64)
    spectra = g.op("DFT", pieces.unsqueezed(4), length, dtype=pieces.dtype, axis=3, onesided=1)
    return (spectra * spectra).over("ReduceSum", 4, keep=False).op("Sqrt")


def _head(g: Graph, head: HarmonicHead, x: Value, state: States) -> tuple[Value, States]:
    """`HarmonicHead`: x (1, frames, in_features) to samples, and the new state."""
    config = head.config
    *layers, before, phase, position, sources, overlap = state
    y = g.linear(x, head.upsample).shaped(1, -1, config.stack.width)
    y, layers = _layers(g, head.stack, y, layers)
    pitch = _expected_pitch(g, g.linear(y, head.pitch))
    pulses, phase = _pulses(g, head, pitch, before, phase)
    numbers = g.op(
        "Range", g.value(0, np.int64), _scalar(g, pulses.length(1)), g.value(1, np.int64),
        dtype=np.int64,
    )  # fmt: skip
    size = len(head.noise)
    noise = g.op(
        "Gather", g.constant(head.noise), (position + numbers).op("Mod", size), dtype=x.dtype
    )
    position = (position + pulses.length(1)).op("Mod", size)
    added = g.concat([pulses.shaped(1, 1, -1), noise.shaped(1, 1, -1)], 1)
    sources = g.concat([sources, added], 2)
    wave = _filter(g, head, sources, g.linear(y, head.gains), overlap)
    delay = config.delay
    return wave.part(0, -delay, 1), [
        *layers, pitch.last(1, 1).shaped(1), phase, position,
        sources.last(delay, 2), wave.last(delay, 1),
    ]  # fmt: skip


def _expected_pitch(g: Graph, logits: Value) -> Value:
    """`pulses.expected_pitch`: logits (1, points, PITCH_BINS) to Hz (1, points)."""
    best = logits.op("ArgMax", dtype=np.int64, axis=2, keepdims=1)
    near = best + np.arange(-AROUND, AROUND + 1)
    near = near.op("Max", 0).op("Min", PITCH_BINS - 1)
    around = g.op("GatherElements", logits, near, dtype=logits.dtype, axis=2)
    weights = around.cast(np.float64).op("Softmax", axis=-1)
    mean = (weights * near.cast(np.float64)).over("ReduceSum", 2, keep=False)
    return ((mean * BIN_STEP).op("Exp") * PITCH_MIN).cast(logits.dtype)


def _pulses(
    g: Graph, head: HarmonicHead, pitch: Value, before: Value, phase: Value
) -> tuple[Value, Value]:
    """`pulses.PulseTrain`, in float64 as in the compiled decoder; returns pulses and phase (1,)."""
    train = head.pulses
    earlier = g.concat([before.shaped(1, 1), pitch.part(0, -1, 1)], 1)
    glide = (pitch - earlier).unsqueezed(2) * _array(train.ramp)
    track = (earlier.unsqueezed(2) + glide).shaped(1, -1)
    steps = track.cast(np.float64) / train.sample_rate
    turns = g.op("CumSum", steps, g.value(1, np.int64), dtype=np.float64) + phase
    turns = turns - turns.op("Floor")
    count = g.value(train.top, track.dtype).op("Div", track).op("Floor").cast(np.float64)
    ratio = count * 2.0 + 1.0
    sine = (turns * math.pi).op("Sin")
    at_pulse = sine.op("Abs").op("Less", AT_PULSE, dtype=bool)
    safe = g.op("Where", at_pulse, g.value(1.0, np.float64), sine, dtype=np.float64)
    between = (ratio * turns * math.pi).op("Sin") / safe
    cosines = (g.op("Where", at_pulse, ratio, between, dtype=np.float64) - 1.0) * 0.5
    pulses = cosines * (g.value(2.0, np.float64).op("Div", count)).op("Sqrt")
    return pulses.cast(np.float32), turns.last(1, 1).shaped(1)


def _filter(g: Graph, head: HarmonicHead, sources: Value, gains: Value, overlap: Value) -> Value:
    """Filter the sources; return samples and, after them, the overlap: (1, samples + delay)."""
    config = head.config
    step, overlapping = config.step, config.window // config.step
    bins, window = config.window // 2 + 1, head.window.double().numpy()
    steps = sources.shaped(1, 2, -1, step)
    pieces = g.concat([steps.part(i, i + 1 - overlapping, 2) for i in range(overlapping)], 3)
    spectra = pieces @ (window[:, None] * fourier(config.window))

    def source(index: int) -> tuple[Value, Value]:
        own = spectra.part(index, index + 1, 1).shaped(1, -1, 2 * bins)
        return own.part(0, bins, 2), own.part(bins, 2 * bins, 2)

    (a, b), (c, d) = source(0), source(1)
    least, most = LOG_GAIN
    levels = gains.part(0, 2 * bins, 2).op("Max", least).op("Min", most).op("Exp")
    pulse_gain, noise_gain = levels.part(0, bins, 2), levels.part(bins, 2 * bins, 2)
    angle = gains.part(2 * bins, 3 * bins, 2)
    x, y = pulse_gain * angle.op("Cos"), pulse_gain * angle.op("Sin")
    real, imag = a * x - b * y + c * noise_gain, a * y + b * x + d * noise_gain
    back = inverse_fourier(config.window) * window * config.overlap_gain
    parts = g.concat([real, imag], 2) @ back
    total = g.pad(overlap.shaped(1, -1, step), [0] * 3, [0, parts.length(1), 0], 0.0)
    for i in reversed(range(overlapping)):  # the earliest window first
        part = parts.part(i * step, (i + 1) * step, 2)
        total = total + g.pad(part, [0, i, 0], [0, overlapping - 1 - i, 0], 0.0)
    return total.shaped(1, -1)


def fourier(length: int) -> np.ndarray:
    """Return the Fourier matrix, real then imaginary parts: (length, 2 × bins) float64."""
    angle = _angles(length)
    return np.concatenate([np.cos(angle), -np.sin(angle)], 1)


def inverse_fourier(length: int) -> np.ndarray:
    """Return the inverse of `fourier`: (2 × bins, length) float64."""
    angle = _angles(length).T
    weight = np.full((len(angle), 1), 2 / length)
    weight[[0, -1]] = 1 / length
    return np.concatenate([weight * np.cos(angle), -weight * np.sin(angle)])


def _angles(length: int) -> np.ndarray:
    """Return angles in radians for each sample and each bin up to half of an even length."""
    turns = np.outer(np.arange(length), np.arange(length // 2 + 1)) % length
    return turns * (2 * math.pi / length)


def _scalar(g: Graph, value: Value) -> Value:
    """Reshape from (1,) to ()."""
    return g.op("Squeeze", value, g.constant(np.array([0])), dtype=value.dtype)


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().float().numpy()
