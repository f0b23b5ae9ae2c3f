"""The head: what it lags by, what it carries on, and what its sources are."""

import pytest
import torch

from syllabary.codecs.neural.layers.causal import StackConfig
from syllabary.codecs.neural.layers.harmonic_head import HarmonicHead, HarmonicHeadConfig

STACK = StackConfig(width=8, blocks=1, expansion=2, kernel=3)
CONFIGS = [
    HarmonicHeadConfig(stack=STACK),
    HarmonicHeadConfig(hop=640, rate=8, window=320, stack=STACK),
    HarmonicHeadConfig(hop=200, rate=2, window=400, stack=STACK),
    HarmonicHeadConfig(hop=320, rate=8, window=320, stack=STACK),
]
SILENT = -12.0


def head(config=CONFIGS[0], in_features=6):
    torch.manual_seed(0)
    return HarmonicHead(in_features, config).eval()


def through(config, pulses, noise):
    """A head whose filters have these log gains at all frequencies and turn nothing."""
    network = head(config)
    bins = config.window // 2 + 1
    with torch.no_grad():
        network.gains.weight.zero_()
        network.gains.bias[:bins] = pulses
        network.gains.bias[bins : 2 * bins] = noise
        network.gains.bias[2 * bins :] = 0
    return network


@pytest.mark.parametrize("config", CONFIGS)
@torch.no_grad()
def test_open_filters_give_the_source_after_the_delay(config):
    x = torch.randn(2, 12, 6)
    white = torch.randn(2, 12 * config.hop)
    wave = through(config, SILENT, 0.0)(x, noise=white).wave
    assert wave.shape == white.shape
    late = config.delay
    assert torch.allclose(wave[:, late:], white[:, : white.shape[1] - late], atol=2e-3)
    pitch = torch.full((2, 12 * config.rate), 125.0)
    pulses = through(config, 0.0, SILENT)(x, pitch=pitch).wave[:, late:]
    period = 128
    steady = pulses[:, 2 * config.hop :]
    assert torch.allclose(steady[:, period:], steady[:, :-period], atol=5e-3)
    assert float(steady.square().mean()) == pytest.approx(1, rel=0.05)


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("cut", [1, 5, 11])
@torch.no_grad()
def test_frames_in_two_calls_are_the_frames_in_one(config, cut):
    network = head(config)
    x = torch.randn(2, 12, 6)
    # Given, so that two equally likely pitches can't be told apart by the last bit.
    pitch = 100 + 100 * torch.rand(2, 12 * config.rate)
    whole = network(x, pitch=pitch)
    first = network(x[:, :cut], pitch=pitch[:, : cut * config.rate])
    second = network(x[:, cut:], first.state, pitch=pitch[:, cut * config.rate :])
    wave = torch.cat([first.wave, second.wave], 1)
    logits = torch.cat([first.pitch_logits, second.pitch_logits], 1)
    assert torch.allclose(wave, whole.wave, atol=1e-3 * float(whole.wave.abs().max()))
    assert torch.allclose(logits, whole.pitch_logits, atol=1e-4)
    assert second.state.position == whole.state.position == 12 * config.hop


@torch.no_grad()
def test_a_state_may_be_gone_on_from_twice():
    network = head()
    x = torch.randn(1, 8, 6)
    state = network(x).state
    assert torch.equal(network(x, state).wave, network(x, state).wave)
    assert not torch.equal(network(x, state).wave, network(x).wave)


@torch.no_grad()
def test_the_stored_noise_repeats_and_is_the_same_in_all_heads():
    config = CONFIGS[0]
    one, other = through(config, SILENT, 0.0), head()
    assert torch.equal(one.noise, other.noise)
    period = one.noise.shape[0]
    assert period == 8 * config.sample_rate
    wave = one(torch.zeros(1, (period + 3200) // config.hop, 6)).wave[0, config.delay :]
    assert torch.allclose(wave[:period], one.noise, atol=5e-3)
    assert torch.allclose(wave[period:], wave[: len(wave) - period], atol=5e-3)
    assert float(one.noise.square().mean()) == pytest.approx(1, rel=0.02)


@torch.no_grad()
def test_nothing_it_hears_makes_it_overflow():
    network = head()
    for scale in (0, 1e3, 1e6):
        assert bool(network(scale * torch.randn(1, 20, 6)).wave.isfinite().all())


def test_gradients_reach_everything():
    network = head().train()
    result = network(torch.randn(2, 6, 6), noise=torch.randn(2, 6 * 320))
    (result.wave.square().mean() + result.pitch_logits.square().mean()).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and bool(parameter.grad.isfinite().all()), name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize(
    "fields", [{"rate": 3}, {"window": 240, "rate": 2}, {"window": 160}, {"window": 200}]
)
def test_windows_that_do_not_add_up(fields):
    with pytest.raises(ValueError, match="rate must divide hop"):
        HarmonicHeadConfig(**fields)
