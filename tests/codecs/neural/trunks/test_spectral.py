"""Encoder and decoder: nobody hears what comes later, or who else is there."""

import pytest
import torch

from syllabary.codecs.neural.trunks.spectral import SpectralConfig, SpectralDecoder, SpectralEncoder

from .... import tiny_codecs
from ....conftest import synthetic_speech


def encoder(**changes):
    torch.manual_seed(0)
    return SpectralEncoder(tiny_codecs.network(**changes)).double().eval()


def decoder():
    torch.manual_seed(0)
    config = tiny_codecs.network()
    return SpectralDecoder(config.latent_dim, config.decoder, config.head).eval()


def waves(rows, samples):
    speech = [torch.from_numpy(synthetic_speech(samples, seed)) for seed in range(rows)]
    return torch.stack(speech).double()


@pytest.mark.parametrize("look_ahead", [0, 2])
@pytest.mark.parametrize("samples", [1, 319, 320, 321, 3000])
def test_windows_end_where_their_frames_do(look_ahead, samples):
    network = encoder(encoder_look_ahead=look_ahead)
    size = network.config.analysis.window
    wave = torch.arange(1, samples + 1, dtype=torch.float64)[None]
    windows = network.windows_of(wave)
    assert windows.shape == (1, -(-samples // 320) + look_ahead, size)
    padded = torch.nn.functional.pad(wave[0], (size, size + 3 * 320))
    for frame, window in enumerate(windows[0]):
        end = size + (frame + 1) * 320
        assert torch.equal(window, padded[end - size : end])


@torch.no_grad()
def test_latents_do_not_depend_on_later_samples():
    network = encoder()
    wave = waves(1, 6400)
    latents, logits, _ = network(network.windows_of(wave))
    other = wave.clone()
    other[:, 10 * 320 :] = torch.randn(1, 6400 - 3200)
    changed, guess, _ = network(network.windows_of(other))
    assert torch.equal(latents[:, :10], changed[:, :10])
    assert torch.equal(logits[:, :10], guess[:, :10])
    assert not torch.allclose(latents[:, 10], changed[:, 10])
    # The last sample of its own frame counts: it is not a frame late either.
    other = wave.clone()
    other[:, 9 * 320 + 200 : 10 * 320] += 0.5
    changed, _, _ = network(network.windows_of(other))
    assert not torch.allclose(latents[:, 9], changed[:, 9])


@torch.no_grad()
def test_rows_do_not_depend_on_each_other():
    network = encoder()
    wave = waves(3, 4000)
    together, _, _ = network(network.windows_of(wave))
    for row in range(3):
        alone, _, _ = network(network.windows_of(wave[row : row + 1]))
        assert torch.allclose(together[row], alone[0], rtol=1e-9, atol=1e-11)


@torch.no_grad()
def test_the_encoder_goes_on_from_its_state():
    network = encoder()
    windows = network.windows_of(waves(1, 6400))
    whole, _, _ = network(windows)
    first, _, state = network(windows[:, :7], network.init_state())
    second, _, _ = network(windows[:, 7:], state)
    assert torch.allclose(torch.cat([first, second], 1), whole, rtol=1e-9, atol=1e-11)


@torch.no_grad()
def test_sound_does_not_depend_on_later_latents():
    network = decoder()
    latents = torch.randn(1, 20, 8)
    pitch = torch.full((1, 20 * 4), 120.0)
    wave = network(latents, pitch=pitch)[0].wave
    other = latents.clone()
    other[:, 12:] += 1
    changed = network(other, pitch=pitch)[0].wave
    assert torch.allclose(wave[:, : 12 * 320], changed[:, : 12 * 320], atol=1e-6)
    assert not torch.allclose(wave[:, 12 * 320 : 13 * 320], changed[:, 12 * 320 : 13 * 320])


def test_the_delay_is_look_ahead_and_overlap():
    assert tiny_codecs.network().delay == 240
    assert tiny_codecs.network(decoder_look_ahead=3).delay == 3 * 320 + 240
    assert tiny_codecs.network(640, encoder_look_ahead=3).delay == 240


def test_gradients_reach_every_weight():
    network = encoder().train()
    latents, logits, _ = network(network.windows_of(waves(2, 3200)))
    (latents.square().mean() + logits.square().mean()).backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in network.parameters())


def test_bad_settings():
    with pytest.raises(ValueError, match="same sample_rate and hop"):
        SpectralConfig(head=tiny_codecs.head(640))
    with pytest.raises(ValueError, match="can't be negative"):
        tiny_codecs.network(encoder_look_ahead=-1)
