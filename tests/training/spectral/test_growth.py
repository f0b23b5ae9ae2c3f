"""Deeper stacks begin as the shallower ones that they come from."""

from dataclasses import replace

import pytest
import torch

from syllabary.training.spectral.growth import load_grown

from ... import tiny_codecs


@pytest.mark.parametrize("kind", ["rvq", "ts3"])
def test_what_is_added_changes_nothing(kind):
    torch.manual_seed(0)
    small = tiny_codecs.rvq() if kind == "rvq" else tiny_codecs.ts3()
    network = small.network
    more = {"blocks": 4} if kind == "rvq" else {"layers": 4}
    deeper = replace(
        network, encoder=replace(network.encoder, **more), decoder=replace(network.decoder, **more)
    )
    torch.manual_seed(1)
    large = type(small)(replace(small.config, network=deeper)).eval()
    load_grown(large, small.state_dict())
    wave = torch.randn(1, 6400)
    latents = [codec.encoder.latents(codec.encoder.windows_of(wave))[0] for codec in (small, large)]
    assert torch.equal(*latents)
    waves = [codec.decoder.wave(latents[0])[0] for codec in (small, large)]
    assert torch.equal(*waves)
    # And it can learn: a gradient reaches what was added.
    large.train().decoder(latents[0].detach())[0].wave.square().sum().backward()
    added = large.decoder.stack.blocks[3] if kind == "rvq" else large.decoder.stack.layers[3]
    assert any(float(p.grad.abs().max()) > 0 for p in added.parameters() if p.grad is not None)


def test_other_sizes_are_refused():
    small = tiny_codecs.rvq()
    network = replace(small.network, encoder=replace(small.network.encoder, width=16))
    large = type(small)(replace(small.config, network=network))
    with pytest.raises(RuntimeError, match="size mismatch"):
        load_grown(large, small.state_dict())
