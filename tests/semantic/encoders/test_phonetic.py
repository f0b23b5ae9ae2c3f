"""Phonetic directions: discriminants of made-up phones, and published encoders that are mapped."""

import numpy as np
import pytest
import torch

pytest.importorskip("transformers")

import syllabary
from syllabary.errors import QuantizerError
from syllabary.semantic.encoders import catalogue
from syllabary.semantic.encoders.layers import LayerChoice
from syllabary.semantic.encoders.mfcc import MFCC
from syllabary.semantic.encoders.overlapping import WindowedEncoder
from syllabary.semantic.encoders.phonetic import Phonetic, PhoneticConfig, fit_phonetic
from syllabary.semantic.units.tokenizer import UnitTokenizer

from ... import tiny_units
from ...conftest import synthetic_speech


class Given(WindowedEncoder):
    """Says that its features are those of a table, whatever it hears."""

    kind, hop, sample_rate, latency = "given", 1, 16000, 0
    source = description = "a table"

    def __init__(self, tables: list[np.ndarray]) -> None:
        torch.nn.Module.__init__(self)
        self.config = PublishedConfig()
        self.register_buffer("_anchor", torch.empty(0), persistent=False)
        self.tables, self.dims = iter(tables), (tables[0].shape[1],)
        self.window, self.overlap = 1 << 20, 0

    def fields(self):
        return {"kind": "given"}

    def run(self, samples):
        return torch.from_numpy(next(self.tables)).float()


class PublishedConfig:
    choice = LayerChoice((1,))


def phones_in_noise(rng: np.random.Generator, frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Three phones in two of six dimensions; the others vary a hundred times as much."""
    labels = rng.integers(0, 3, frames)
    places = np.array([[0, 0], [3, 0], [0, 3]])[labels] + rng.normal(size=(frames, 2))
    loud = 100 * rng.normal(size=(frames, 4))
    return labels, np.concatenate([loud[:, :2], places, loud[:, 2:]], 1)


def fitted(dim: int | None = None) -> tuple[Phonetic, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    parts = [phones_in_noise(rng, 4000) for _ in range(5)]
    encoder = Given([table for _, table in parts])
    speech = [(torch.zeros(len(labels)), labels) for labels, _ in parts]
    return (fit_phonetic(encoder, speech, dim), *phones_in_noise(rng, 4000))


def test_the_directions_are_those_of_the_phones():
    found, labels, table = fitted()
    assert found.dims == (2,) and found.weight.shape == (2, 6)
    noise, phones = found.weight[:, [0, 1, 4, 5]], found.weight[:, 2:4]
    assert noise.abs().max() * 100 < 0.05 * phones.abs().max()
    mapped = table @ found.weight.numpy().T + found.bias.numpy()
    means = np.stack([mapped[labels == phone].mean(0) for phone in range(3)])
    within = mapped - means[labels]
    # Frames of one phone have a variance of about 1 in both, and the mean of all is about 0.
    assert np.allclose(np.cov(within.T), np.eye(2), atol=0.05)
    assert np.abs(mapped.mean(0)).max() < 0.1
    assert np.linalg.norm(means[0] - means[1]) == pytest.approx(3, abs=0.1)


def test_fewer_directions_are_the_first_ones():
    two, one = fitted()[0], fitted(1)[0]
    assert one.dims == (1,) and torch.allclose(one.weight, two.weight[:1])


@pytest.mark.parametrize(
    ("labels", "dim", "what"),
    [
        (np.zeros(300, int), None, "1 directions need 2 phones of 50 frames or more, .* are 1"),
        (np.arange(300) % 3, 3, "3 directions need 4 phones of 50 frames or more, .* are 3"),
        (np.arange(300) % 100, None, "there are 0"),
    ],
)
def test_too_few_phones(labels, dim, what):
    table = np.random.default_rng(0).normal(size=(300, 4))
    with pytest.raises(QuantizerError, match=what):
        fit_phonetic(Given([table]), [(torch.zeros(300), labels)], dim)


def published(layers: tuple[int, ...] = (1, 3)) -> WindowedEncoder:
    found = catalogue.find(str(tiny_units.directory("hubert")), LayerChoice(layers))
    assert isinstance(found, WindowedEncoder)
    return found


def a_map(encoder: WindowedEncoder, dim: int = 5) -> Phonetic:
    torch.manual_seed(0)
    weight = torch.randn(dim, encoder.dim, dtype=torch.float64)
    return Phonetic.of(encoder, weight, torch.randn(dim, dtype=torch.float64))


def test_features_are_mapped_and_batches_too():
    inner = published()
    mapped = a_map(inner)
    rows = [torch.from_numpy(synthetic_speech(9000, seed)) for seed in (0, 1)]
    for row, features in zip(rows, mapped.features(rows), strict=True):
        (plain,) = inner.features([row])
        expected = plain.double() @ mapped.weight.T + mapped.bias
        assert torch.equal(features, expected.float())
    layers = inner.hidden_states(torch.stack(rows))
    expected = torch.cat([layers[1], layers[3]], 2).double() @ mapped.weight.T + mapped.bias
    waves = torch.stack(rows).requires_grad_()
    found = mapped.hidden_states(waves)
    assert set(found) == {1} and torch.allclose(found[1], expected.float())
    found[1].sum().backward()
    assert waves.grad is not None and waves.grad.abs().sum() > 0


@pytest.mark.parametrize("model", ["hubert", "w2v-bert", "whisper"])
def test_the_directions_are_of_the_features_that_are_mapped(model):
    """Whisper's without the silence that fills its window."""
    inner = catalogue.find(str(tiny_units.directory(model)), LayerChoice((1,)))
    rng = np.random.default_rng(0)
    waves = [torch.from_numpy(synthetic_speech(16_000, seed)) for seed in range(8)]
    speech = [(wave, rng.integers(0, 3, -(-len(wave) // inner.hop))) for wave in waves]
    found = fit_phonetic(inner, speech)
    rows = torch.cat([found.features([wave])[0] for wave in waves]).double()
    assert rows.mean(0).abs().max() < 1e-3  # of what the statistics were of, or it would not be 0
    if model != "w2v-bert":  # through which no gradient passes
        states = found.hidden_states(waves[0][None])[1][0]
        assert torch.allclose(states, found.features([waves[0]])[0], atol=1e-4)


def test_units_of_it_are_saved_and_loaded(tmp_path):
    mapped = a_map(published())
    units = UnitTokenizer.of(mapped, torch.randn(7, 5), "phonetic")
    units.save_pretrained(tmp_path / "units")
    again = syllabary.load(tmp_path / "units")
    wave = torch.from_numpy(synthetic_speech(9000))
    assert again.spec.tokens.digest == units.spec.tokens.digest
    assert torch.equal(again.encode(wave, 16000).codes, units.encode(wave, 16000).codes)
    taken = catalogue.find(str(tmp_path / "units"))
    assert isinstance(taken, Phonetic) and torch.equal(taken.weight, mapped.weight)


def test_other_encoders_are_refused():
    with pytest.raises(ValueError, match="published models, not 'mfcc'"):
        Phonetic(PhoneticConfig({}, 3), MFCC())
    with pytest.raises(ValueError, match="published models, not 'phonetic'"):
        Phonetic(PhoneticConfig({}, 3), a_map(published()))
    each = catalogue.find(str(tiny_units.directory("hubert")), LayerChoice((1, 2), "each"))
    with pytest.raises(ValueError, match="one group of features"):
        Phonetic(PhoneticConfig({}, 3), each)
    with pytest.raises(ValueError, match="dim must be at least 1"):
        PhoneticConfig({}, 0)
