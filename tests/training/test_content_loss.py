"""The loss between hidden states of speech encoders, and what is distilled from them."""

import pytest
import torch

pytest.importorskip("transformers")

from syllabary.errors import CheckpointError, TrainingError
from syllabary.semantic.encoders.content import Content
from syllabary.semantic.encoders.layers import LayerChoice
from syllabary.semantic.units.tokenizer import UnitTokenizer
from syllabary.training.losses.content import ContentLoss, ContentLossConfig
from syllabary.training.losses.distillation import (
    Distillation,
    DistillationConfig,
    at_rate,
)

from .. import tiny_codecs, tiny_units
from ..conftest import synthetic_speech

WAVES = ("hubert", "wavlm", "whisper")


def speech(rows=2, samples=16_000):
    return torch.stack([torch.from_numpy(synthetic_speech(samples, row)) for row in range(rows)])


def loss_of(name, layers=()):
    return ContentLoss(ContentLossConfig(str(tiny_units.directory(name)), layers), 16_000)


@pytest.mark.parametrize("name", WAVES)
def test_hidden_states_are_the_features(name):
    """A row as long as the model's window has the features that tokens are made of."""
    encoder = tiny_units.encoder(name, choice=LayerChoice((2,)))
    # Whisper's own windows are as long as its positions; others take what comes.
    samples = encoder.window * encoder.hop if name == "whisper" else 16_000
    waves = speech(2, samples)
    states = encoder.hidden_states(waves)
    for row, features in enumerate(encoder.features(list(waves))):
        error = (states[2][row] - features).norm() / features.norm()
        assert float(error) < 1e-4


@pytest.mark.parametrize("name", WAVES)
def test_it_is_nothing_for_equals_and_grows_with_noise(name):
    loss, wave = loss_of(name), speech()
    torch.manual_seed(0)
    noise = torch.randn_like(wave)
    found = [float(loss(wave + size * noise, wave)) for size in (0.0, 1e-6, 1e-5, 1e-4)]
    assert found[0] == 0 and found == sorted(found) and found[-1] > 10 * found[1] > 0


@pytest.mark.parametrize("name", WAVES)
def test_following_the_gradient_helps(name):
    loss, target = loss_of(name), speech(1)
    torch.manual_seed(0)
    prediction = (target + 0.02 * torch.randn_like(target)).requires_grad_()
    before = loss(prediction, target)
    before.backward()
    step = 1e-2 * prediction.grad / prediction.grad.norm()
    assert float(loss((prediction - step).detach(), target)) < float(before)
    assert all(p.grad is None for p in loss.parameters())


def test_ours_teaches_too(tmp_path):
    unit_tokenizer = tiny_codecs.content_units()
    assert isinstance(unit_tokenizer, UnitTokenizer) and isinstance(unit_tokenizer.encoder, Content)
    unit_tokenizer.save_pretrained(tmp_path)
    loss = ContentLoss(ContentLossConfig(str(tmp_path)), 16_000)
    wave = speech()
    assert float(loss(wave, wave)) == 0
    quieter = (wave + 0.01 * torch.randn_like(wave)).requires_grad_()
    loss(quieter, wave).backward()
    assert float(quieter.grad.abs().max()) > 0
    states = unit_tokenizer.encoder.hidden_states(wave)
    features = unit_tokenizer.encoder.features(list(wave))
    for row, found in enumerate(features):
        ahead = unit_tokenizer.encoder.config.look_ahead
        assert torch.allclose(states[-1][row, ahead:], found, atol=1e-3)


def test_padding_has_no_influence():
    loss = loss_of("hubert")
    wave, other = speech(), 0.5 * speech().flip(0)
    lengths = torch.tensor([16_000, 9_600])
    expected = loss(other, wave, lengths)
    rubbish = other.clone()
    rubbish[1, 9_600:] = float("nan")
    assert torch.equal(loss(rubbish, wave, lengths), expected)


def test_chosen_layers_alone_count():
    wave, other = speech(), speech().flip(0)
    one, both = loss_of("whisper", (1,)), loss_of("whisper", (1, 3))
    third = loss_of("whisper", (3,))
    assert float(both(other, wave)) == pytest.approx(
        (float(one(other, wave)) + float(third(other, wave))) / 2, rel=1e-5
    )
    assert len({one.digest, both.digest, third.digest}) >= 2  # of what is kept


def test_what_cannot_teach_is_refused():
    with pytest.raises(CheckpointError, match="no gradient passes"):
        ContentLoss(ContentLossConfig("mfcc"), 16_000)
    with pytest.raises(TrainingError, match="takes 16000 Hz, and the recipe trains at 24000"):
        ContentLoss(ContentLossConfig(str(tiny_units.directory("hubert"))), 24_000)
    with pytest.raises(CheckpointError, match="layer 9"):
        loss_of("hubert", (9,))


@pytest.mark.parametrize("hop", [320, 400, 160])
def test_features_come_at_the_codecs_rate(hop):
    """A straight line stays one, whatever the rate."""
    line = (torch.arange(50.0) + 0.5)[None, :, None] * 320
    frames = 16_000 // hop
    found = at_rate(line, 320, hop, frames)[0, :, 0]
    middles = (torch.arange(frames) + 0.5) * hop
    inside = (middles > 160) & (middles < 16_000 - 160)
    assert torch.allclose(found[inside], middles[inside])
    assert at_rate(line, 320, 320, 53).shape[1] == 53


def test_distillation_is_relative_to_a_constant():
    config = DistillationConfig(weight=2.0, encoder=str(tiny_units.directory("hubert")), layer=2)
    distillation = Distillation(config, 16_000)
    wave, lengths = speech(4), torch.full((4,), 16_000)
    distillation.standardise([wave])
    nothing = torch.zeros(4, 50, distillation.width)
    assert float(distillation(nothing, wave, lengths, 320)) == pytest.approx(2, rel=1e-3)
    states = distillation.encoder.hidden_states(wave)[2]
    right = (states - distillation.mean) / distillation.scale
    assert float(distillation(right, wave, lengths, 320)) < 1e-6
    late = Distillation(DistillationConfig(**{**vars(config), "delay": 3}), 16_000)
    late.standardise([wave])
    delayed = torch.cat([torch.randn(4, 3, late.width), right[:, :-3]], 1)
    assert float(late(delayed, wave, lengths, 320)) < 1e-6


def test_distillation_of_units_is_relative_to_their_entropy():
    fields = {"encoder": str(tiny_units.directory("hubert")), "layer": 2, "clusters": 12}
    config = DistillationConfig(weight=2.0, **fields)
    distillation = Distillation(config, 16_000)
    assert distillation.width == 12
    wave, lengths = speech(4), torch.full((4,), 16_000)
    distillation.standardise([wave])
    states = distillation.encoder.hidden_states(wave)[2]
    rows = (states - distillation.mean) / distillation.scale
    units = torch.cdist(rows.flatten(0, 1), distillation.centroids).argmin(1)
    counts = torch.bincount(units, minlength=12)
    assert counts.min() > 0
    constant = (counts / counts.sum()).log().expand(4, 50, 12)
    units = at_rate(units.view(4, -1, 1).float(), 320, 320, 50)[..., 0].long()
    assert float(distillation(constant, wave, lengths, 320)) == pytest.approx(2, rel=0.05)
    right = 30 * torch.nn.functional.one_hot(units, 12).float()
    assert float(distillation(right, wave, lengths, 320)) < 1e-6
    late = Distillation(DistillationConfig(**{**vars(config), "delay": 3}), 16_000)
    late.standardise([wave])
    delayed = torch.cat([torch.randn(4, 3, 12), right[:, :-3]], 1)
    assert float(late(delayed, wave, lengths, 320)) < 1e-6
    assert float(late(right, wave, lengths, 320)) > 0.5
