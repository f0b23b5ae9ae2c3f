"""Averages of weights: what they are, of networks of different depths, and what can't be one."""

from dataclasses import replace

import pytest
import torch

from syllabary.codecs.checkpoint import inference_state
from syllabary.errors import TrainingError
from syllabary.training.averaging import average_tokenizers
from syllabary.training.spectral.growth import load_grown

from .. import tiny_codecs


def _trained(tokenizer, seed):
    """What some training may have made of it."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in tokenizer.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return tokenizer.eval()


@pytest.fixture(params=["rvq", "ts3", "fsq"])
def pair(request):
    make = getattr(tiny_codecs, request.param)
    torch.manual_seed(0)
    return make().eval(), _trained(make(), 1)


def test_every_weight_is_between(pair):
    before, after = pair
    made = average_tokenizers(pair, [1, 3])
    for name, value in inference_state(made).items():
        one, other = before.state_dict()[name], after.state_dict()[name]
        if value.is_floating_point():
            assert torch.allclose(value, 0.25 * one + 0.75 * other, atol=1e-6), name
        else:
            assert torch.equal(value, other), name
    assert made.spec.tokens.digest not in {each.spec.tokens.digest for each in pair}
    codes = made.encode(torch.randn(1, 6400) / 10, 16_000)
    assert made.decode(codes).shape == (1, 6400)


def test_all_the_weight_on_one_is_that_one(pair):
    made = average_tokenizers(pair, [0, 2.5])
    assert made.spec.tokens.digest == pair[1].spec.tokens.digest


@pytest.mark.parametrize("kind", ["rvq", "ts3"])
def test_layers_that_one_lacks_count_as_identities(kind):
    torch.manual_seed(0)
    small = getattr(tiny_codecs, kind)().eval()
    network = small.network
    more = {"blocks": 4} if kind == "rvq" else {"layers": 4}
    deeper = replace(network, decoder=replace(network.decoder, **more))
    large = type(small)(replace(small.config, network=deeper)).eval()
    load_grown(large, small.state_dict())
    _trained(large, 2)
    latents = torch.randn(1, 20, network.latent_dim)
    wanted = small.decoder.wave(latents)[0]
    # As the shallow one, when all the weight is on it, and in either order.
    for order, weights in (((small, large), (1, 0)), ((large, small), (0, 1))):
        made = average_tokenizers(order, weights)
        assert made.config == large.config
        assert torch.equal(made.decoder.wave(latents)[0], wanted)
    halves = average_tokenizers([small, large]).decoder.wave(latents)[0]
    assert not torch.equal(halves, wanted)
    assert not torch.equal(halves, large.decoder.wave(latents)[0])


def test_what_can_not_be_averaged_is_named():
    rvq, ts3 = tiny_codecs.rvq(), tiny_codecs.ts3()
    with pytest.raises(TrainingError, match=r"ts3 and rvq|rvq and ts3"):
        average_tokenizers([rvq, ts3])
    network = replace(rvq.network, encoder=replace(rvq.network.encoder, width=16))
    with pytest.raises(TrainingError, match=r"of layers: network.encoder.width: \d+ and \d+"):
        average_tokenizers([rvq, type(rvq)(replace(rvq.config, network=network))])
    later = replace(rvq.network, decoder_look_ahead=3)
    with pytest.raises(TrainingError, match=r"decoder_look_ahead: (0 and 3|3 and 0)"):
        average_tokenizers([rvq, type(rvq)(replace(rvq.config, network=later))])
    with pytest.raises(TrainingError, match="two tokenizers at least, got 1"):
        average_tokenizers([rvq])
    with pytest.raises(TrainingError, match="2 tokenizers, but 3 weights"):
        average_tokenizers([rvq, rvq], [1, 2, 3])
    for weights in ([0, 0], [1, -1], [1, float("nan")]):
        with pytest.raises(TrainingError, match="finite, at least 0, and not all 0"):
            average_tokenizers([rvq, rvq], weights)
