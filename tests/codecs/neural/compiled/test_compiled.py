"""The compiled networks say what the modules say, and the same whatever comes with a frame."""

import copy
import pickle

import numpy as np
import pytest
import torch

from syllabary.codecs.neural.compiled.cache import (
    Compiled,
    compiled_decoder,
    compiled_encoder,
)
from syllabary.codecs.neural.compiled.packing import pack
from syllabary.codecs.neural.compiled.residual_stages import CompiledStages
from syllabary.codecs.neural.layers.analysis import AnalysisConfig
from syllabary.codecs.neural.layers.causal import StackConfig
from syllabary.codecs.neural.layers.harmonic_head import HarmonicHeadConfig
from syllabary.codecs.neural.trunks.spectral import SpectralConfig, SpectralDecoder, SpectralEncoder
from syllabary.codecs.rvq.tokenizer import RVQCodec, RVQConfig
from syllabary.kernels import linear as kernels

# Widths that fill neither a panel nor a vector, a window that is no power of two, another kernel.
ODD = SpectralConfig(
    AnalysisConfig(hop=200, mel_window=400, num_mels=21, num_bands=3, num_lags=17),
    pitch_hidden=19,
    encoder=StackConfig(width=23, blocks=2, expansion=2, kernel=3),
    latent_dim=11,
    decoder=StackConfig(width=37, blocks=1, kernel=1),
    head=HarmonicHeadConfig(hop=200, rate=2, window=400, stack=StackConfig(width=18, blocks=1)),
)
CONFIGS = {"default": SpectralConfig(), "odd": ODD}
PIECES = (1, 1, 3, 4, 5, 64, 1, 7)


def noisy_wave(samples: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, samples, generator=generator) * torch.linspace(0, 0.3, samples)


def scrambled(module: torch.nn.Module) -> torch.nn.Module:
    """With weights far from their start, at which some are zero."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    return module.eval()


def of_one_row(function, frames, states, **options) -> torch.Tensor:
    """What a compiled network makes of frames that are all of its only row."""
    edges, rows = np.array([0, len(frames)]), np.array([0])
    return torch.from_numpy(function(frames.numpy(), edges, rows, states, **options))


def wave_of(renderer):
    """The compiled decoder's samples as a result."""

    def wave(latents, edges, rows, states):
        out = np.empty((len(latents), renderer.config.hop), np.float32)
        renderer.wave(latents, edges, rows, states, out)
        return out

    return wave


@pytest.fixture(params=CONFIGS, scope="module")
def config(request: pytest.FixtureRequest) -> SpectralConfig:
    return CONFIGS[request.param]


@pytest.fixture(scope="module")
def encoder(config: SpectralConfig) -> SpectralEncoder:
    torch.manual_seed(0)
    return scrambled(SpectralEncoder(config))


@pytest.fixture(scope="module")
def decoder(config: SpectralConfig) -> SpectralDecoder:
    torch.manual_seed(0)
    return scrambled(config.make_decoder())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("frames", [9, 45])  # few, and so many that panels are widened
@pytest.mark.parametrize("outputs, inputs", [(1, 1), (33, 7), (200, 130)])
def test_linear(dtype, outputs, inputs, frames):
    generator = np.random.default_rng(0)
    weight, bias = torch.randn(outputs, inputs), torch.randn(outputs)
    x = generator.standard_normal((frames, inputs)).astype(dtype)
    panels, offsets = pack(weight, bias, dtype)
    exact = x.astype(np.float64) @ weight.double().numpy().T + bias.double().numpy()
    gelu = torch.nn.functional.gelu(torch.from_numpy(exact), approximate="tanh").numpy()
    tolerance = 1e-5 if dtype == np.float32 else 1e-13
    for activated, expected in ((False, exact), (True, gelu)):
        out = np.empty((frames, len(offsets)), dtype)
        kernels.linear(x, panels, offsets, activated, out)
        np.testing.assert_allclose(out[:, :outputs], expected, atol=tolerance * inputs**0.5)
        for start in range(frames):
            alone = np.empty((1, len(offsets)), dtype)
            kernels.linear(x[start : start + 1], panels, offsets, activated, alone)
            assert np.array_equal(alone[0], out[start])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gelu_far_out(dtype):
    """Where its exponential would overflow."""
    panels, offsets = pack(torch.eye(4), None, dtype)
    x = np.array([[-1e4, -30, 30, 1e4]], dtype)
    out = np.empty((1, len(offsets)), dtype)
    kernels.linear(x, panels, offsets, True, out)
    np.testing.assert_allclose(out[0, :4], [0, 0, 30, 1e4], rtol=1e-6, atol=1e-30)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_exponentials(dtype):
    x = np.linspace(-80, 80, 16 * 100).astype(dtype)
    expected = np.exp(x.astype(np.float64))
    kernels.exponentials(x)
    np.testing.assert_allclose(x, expected, rtol=4 * np.finfo(dtype).eps)


def test_sines():
    x = np.concatenate([np.linspace(-3, 3, 1001), 200 * np.linspace(0, 1, 1001), [1e6 + 0.25]])
    found = [kernels.sine_of_half_turns.py_func(value) for value in x]
    expected = np.sin(np.pi * np.remainder(x, 2))
    np.testing.assert_allclose(found, expected, atol=2e-15)


def test_latents(encoder: SpectralEncoder, config: SpectralConfig):
    windows = encoder.windows_of(noisy_wave(16000))
    exact = copy.deepcopy(encoder).double()
    with torch.no_grad():
        expected, _ = exact.latents(windows.double(), exact.init_state())
    compiled = compiled_encoder(encoder)
    states = compiled.init_states(1)
    found = of_one_row(compiled.latents, windows[0].contiguous(), states, dtype=np.float64)
    torch.testing.assert_close(found, expected[0], rtol=0, atol=1e-12)


def test_samples(decoder: SpectralDecoder, config: SpectralConfig):
    latents = torch.randn(1, 40, config.latent_dim, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        expected, _ = decoder.wave(latents, decoder.init_state())
    compiled = compiled_decoder(decoder)
    found = of_one_row(wave_of(compiled), latents[0], compiled.init_states(1))
    assert float(expected.std()) > 0.01
    expected = expected.clamp(-1, 1)
    assert float((found.flatten() - expected[0]).abs().max()) < 2e-3 * float(expected.abs().max())


@pytest.mark.parametrize("threads", [1, 2])
def test_any_number_of_frames_at_a_time(encoder, decoder, config, threads):
    windows = encoder.windows_of(noisy_wave(sum(PIECES) * config.hop))[0]
    latents = torch.randn(len(windows), config.latent_dim).cumsum(0) / 4
    coder, renderer = compiled_encoder(encoder), compiled_decoder(decoder)
    runs = [
        (coder.init_states, coder.latents, windows.contiguous()),
        (renderer.init_states, wave_of(renderer), latents),
    ]
    before = torch.get_num_threads()
    for init_states, function, frames in runs:
        whole = of_one_row(function, frames, init_states(1))
        try:
            torch.set_num_threads(threads)
            parts, at, states = [], 0, init_states(1)
            for count in PIECES:
                piece = frames[at : at + count]
                parts.append(of_one_row(function, piece, states))
                at += count
        finally:
            torch.set_num_threads(before)
        assert torch.equal(torch.cat(parts), whole)


def test_changed_weights_are_noticed():
    layer, made = torch.nn.Linear(2, 2), []
    compiled = Compiled(lambda module: made.append(module) or len(made))
    assert (compiled(layer), compiled(layer)) == (1, 1)
    with torch.no_grad():
        layer.weight.add_(1)
    assert compiled(layer) == 2
    layer.load_state_dict({name: t + 1 for name, t in layer.state_dict().items()})
    assert compiled(layer) == 3


def test_a_copy_does_not_carry_what_was_compiled(decoder):
    compiled = Compiled(compiled_decoder)
    full = compiled(decoder)
    for other in (copy.deepcopy(compiled), pickle.loads(pickle.dumps(compiled))):
        assert other(decoder) is not full
    assert compiled(decoder) is full


def test_stages():
    torch.manual_seed(0)
    codec = RVQCodec(RVQConfig()).eval()
    latents = torch.randn(1, 300, codec.network.latent_dim)
    expected = codec.quantizer.encode(latents)[0].T.numpy()
    frames = latents[0].numpy()
    compiled = codec.prepared(codec._stages)
    assert isinstance(compiled, CompiledStages)
    for count in (1, 5, 8):
        assert np.array_equal(compiled.encode(frames, count), expected[:, :count])
        columns = np.asfortranarray(frames)  # any order in memory
        assert np.array_equal(compiled.encode(columns, count), expected[:, :count])
        assert np.array_equal(compiled.encode(frames[::-2], count), expected[::-2, :count])
    alone = [compiled.encode(frames[n : n + 1], 8) for n in range(50)]
    assert np.array_equal(np.concatenate(alone), expected[:50])
