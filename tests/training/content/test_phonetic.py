"""Phone directions of a content encoder: frames, phones and perturbed speech belong together."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from syllabary.codecs.neural.layers.causal import StackConfig
from syllabary.errors import QuantizerError
from syllabary.quantizers.kmeans import KMeans, KMeansConfig
from syllabary.semantic.content.encoder import ContentConfig, ContentEncoder
from syllabary.semantic.encoders.content import Content
from syllabary.training.content.perturb import PerturbConfig, frame_pairs
from syllabary.training.content.phonetic import with_phonetic_directions
from syllabary.training.content.task import LayerFeatures

HOP = 320


def content(averaged: int = 1) -> Content:
    torch.manual_seed(0)
    config = ContentConfig(
        layers=StackConfig(width=32, blocks=1), dim=8, look_ahead=3, averaged=averaged
    )
    return Content(config).eval()


def vowels(seed: int, frames: int = 200) -> tuple[torch.Tensor, np.ndarray]:
    """Two "phones" of 5 to 15 frames, tones of 400 and of 1,500 Hz, at changing levels."""
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.full(rng.integers(5, 15), n % 2) for n in range(60)])[:frames]
    time = np.arange(frames * HOP) / 16000
    high = np.repeat(labels, HOP) == 1
    levels = np.repeat(10 ** rng.uniform(-2.5, -0.5, frames // 20), 20 * HOP)
    wave = levels * np.where(high, np.sin(2e3 * np.pi * 1.5 * time), np.sin(800 * np.pi * time))
    return torch.from_numpy(wave.astype(np.float32)), labels


def units_right(encoder: Content) -> float:
    """The share of frames that the better of the two maps of two units to the phones gets right."""
    speech = [vowels(seed) for seed in range(50, 60)]
    rows = torch.cat([encoder.features([wave])[0][:-8] for wave, _ in speech])
    labels = np.concatenate([labels[:-8] for _, labels in speech])
    units = KMeans(KMeansConfig(2, iterations=10)).fit(rows, alone=True)(rows).numpy()
    share = float((units == labels).mean())
    return max(share, 1 - share)


@pytest.mark.parametrize("averaged", [1, 3])
def test_two_units_become_the_two_phones(averaged):
    """Of random layers, whose output varies most with the levels."""
    before = content(averaged)
    calm = PerturbConfig(speed=1.1, noise=0.2, voices=0.0, room=0.0, tilt_db=3.0)
    speech = [vowels(seed) for seed in range(30)]
    found = with_phonetic_directions(before, speech, perturb=calm)
    wrong = [1 - units_right(each) for each in (before, found)]
    assert wrong[1] < 0.12 and wrong[1] < 0.5 * wrong[0]
    assert found.config == before.config
    again = with_phonetic_directions(before, speech, perturb=calm)
    assert torch.equal(found.network.outward.weight, again.network.outward.weight)


def test_layers_of_an_encoder_that_averages_are_of_the_same_frames():
    plain, wave = content(), vowels(0)[0][None]
    config = replace(plain.config, averaged=3, look_ahead=plain.config.look_ahead + 1)
    averaging = ContentEncoder(config)
    averaging.load_state_dict(plain.network.state_dict())
    found, expected = (LayerFeatures(each)(wave) for each in (averaging, plain.network))
    assert found.shape == expected.shape and torch.allclose(found, expected, atol=1e-5)
    means = LayerFeatures(averaging, projected=True)(wave)
    own = LayerFeatures(plain.network, projected=True)(wave)
    assert torch.allclose(means[:, 1:-1], own.unfold(1, 3, 1).mean(-1), atol=1e-5)


def test_pairs_are_of_the_same_frames():
    """Features of the place of a click: where it is in the perturbed wave, it is in the clean."""
    waves = torch.zeros(4, 98 * HOP)
    waves[:, 50 * HOP + 160] = 1

    def loudness(rows: torch.Tensor) -> torch.Tensor:
        return rows.unfold(1, HOP, HOP).square().sum(2, keepdim=True)

    still = PerturbConfig(speed=1.25, noise=0, voices=0, room=0, tilt_db=0, gain_db=(0, 0))
    torch.manual_seed(1)
    pairs = frame_pairs(loudness, waves, still, 16000, HOP, 2)
    assert pairs.clean.shape == pairs.perturbed.shape and pairs.places.shape == (4, 76)
    frames = pairs.perturbed[..., 0].argmax(1)
    assert (pairs.places.gather(1, frames[:, None])[:, 0] - 50).abs().max() < 1
    assert (pairs.clean[..., 0].argmax(1) - frames).abs().max() <= 1


def test_short_speech_is_refused():
    wave, labels = vowels(0, 80)
    with pytest.raises(QuantizerError, match=r"no speech of 2\.0 s or more has phones"):
        with_phonetic_directions(content(), [(wave, labels)])
