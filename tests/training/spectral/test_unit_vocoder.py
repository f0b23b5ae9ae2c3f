"""The task that trains a vocoder for units."""

import dataclasses
import json
import shutil

import pytest
import torch

import syllabary
from syllabary.errors import TrainingError
from syllabary.training import recipe_registry as recipes
from syllabary.training.loop import train
from syllabary.training.spectral.unit_vocoder_task import (
    UnitVocoderRecipe,
    UnitVocoderTask,
    _runs,
)

from ... import tiny_codecs
from ...conftest import synthetic_speech
from ..loop import tiny
from .test_tasks import shared

pytest.importorskip("pyworld")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return tiny.write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def units(tmp_path_factory):
    folder = tmp_path_factory.mktemp("units")
    tiny_codecs.content_units("small").save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("stores")


def recipe(corpus, units, **fields):
    settings = shared(corpus) | {"adversarial": None, "default_voice": ""} | fields
    model = settings.pop("model", tiny_codecs.speaking_config(1))
    return UnitVocoderRecipe(name="spoken", units=str(units), model=model, **settings)


def test_a_few_steps_leave_a_tokenizer_of_the_same_units(corpus, units, cache, tmp_path):
    wanted = recipe(corpus, units)
    train(wanted, tmp_path, device="cpu", cache=cache)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    steps = [line for line in lines if line["kind"] == "train"]
    assert {"mel", "pitch", "durations"} <= set(steps[0])
    assert recipes.find(str(tmp_path / "last")) == wanted
    spoken, before = syllabary.load(tmp_path / "last"), syllabary.load(units)
    wave = synthetic_speech(7000, 2)
    tokens = spoken.encode(wave, 16000)
    assert torch.equal(tokens.codes, before.encode(wave, 16000).codes)
    assert tokens.spec.digest == before.spec.tokens.digest
    assert spoken.decode(tokens).shape == (1, 7000)
    average = torch.load(tmp_path / "state.pt", weights_only=True)["average"]
    found = spoken.state_dict()
    for name, value in average.items():
        if name != "voice":
            assert torch.equal(found["vocoder." + name], value)


def test_it_goes_on_from_a_run_and_from_a_saved_tokenizer(corpus, units, cache, tmp_path):
    train(recipe(corpus, units), tmp_path / "one", device="cpu", cache=cache)
    still = dataclasses.replace(recipe(corpus, units).optimizer, lr=0.0, muon_lr=0.0)
    for place in ("one", "one/last"):
        following = recipe(
            corpus, units, start_from=str(tmp_path / place), optimizer=still, steps=1
        )
        target = tmp_path / place.replace("/", "-from-")
        train(following, target / "run", device="cpu", cache=cache)
        first, second = (
            torch.load(path / "state.pt", weights_only=True)["average"]
            for path in (tmp_path / "one", target / "run")
        )
        assert all(torch.equal(first[n], second[n]) for n in first if n != "voice")


def test_it_begins_with_a_codec(corpus, units, cache, tmp_path):
    codec = tiny_codecs.rvq(name="small")
    codec.save_pretrained(tmp_path / "codec")
    still = dataclasses.replace(recipe(corpus, units).optimizer, lr=0.0, muon_lr=0.0)
    wanted = recipe(corpus, units, decoder=str(tmp_path / "codec"), optimizer=still, steps=1)
    train(wanted, tmp_path / "run", device="cpu", cache=cache)
    average = torch.load(tmp_path / "run" / "state.pt", weights_only=True)["average"]
    for name, value in codec.decoder.state_dict().items():
        assert torch.equal(average["decoder." + name], value)
    # Embeddings are means of latents: no larger than the latents, and not all the same.
    wave = torch.from_numpy(synthetic_speech(16_000))[None]
    latents, _ = codec.encoder.latents(codec.encoder.windows_of(wave))
    assert average["units.weight"].abs().max() <= 2 * latents.abs().max()
    assert average["units.weight"].std(0).min() > 0
    tiny_codecs.fsq(name="small").save_pretrained(tmp_path / "fsq")
    other = recipe(corpus, units, decoder=str(tmp_path / "fsq"))
    with pytest.raises(TrainingError, match="neither an RVQ codec"):
        train(other, tmp_path / "other", device="cpu", cache=cache)


def test_it_begins_with_the_vocoder_of_other_units(corpus, units, cache, tmp_path):
    before = syllabary.load(units)
    turned = type(before).of(before.encoder, before.centroids[0].flip(0), "small")
    turned.save_pretrained(tmp_path / "turned")
    still = dataclasses.replace(recipe(corpus, units).optimizer, lr=0.0, muon_lr=0.0)
    other = tmp_path / "turned"
    wanted = recipe(corpus, other, decoder=str(units), optimizer=still, steps=1)
    train(wanted, tmp_path / "run", device="cpu", cache=cache)
    average = torch.load(tmp_path / "run" / "state.pt", weights_only=True)["average"]
    own = before.vocoder.state_dict()
    for name, value in own.items():
        if name not in ("units.weight", "durations.units.weight", "voice"):
            assert torch.equal(average[name], value)
    for name in ("units.weight", "durations.units.weight"):
        found, expected = average[name][:23], own[name][:23].flip(0)
        # Units that hardly occur begin near the mean of all; by chance one would be right.
        near = torch.cdist(found, expected).argmin(1)
        assert (near == torch.arange(23)).sum() >= 12
    assert torch.equal(average["durations.units.weight"][-1], own["durations.units.weight"][-1])


def test_what_would_change_the_units_or_the_voice_is_refused(corpus, units, cache, tmp_path):
    place = tmp_path / "units"
    shutil.copytree(units, place)
    wanted = recipe(corpus, place)
    train(wanted, tmp_path / "run", device="cpu", cache=cache, time_budget=0.0)
    base = syllabary.load(units)
    table = base.centroids[0].flip(0)
    vocoder, base.vocoder = base.vocoder, None
    type(base).of(base.encoder, table, "small").with_vocoder(vocoder).save_pretrained(place)
    with pytest.raises(TrainingError, match=r"other data \(units differ\)"):
        train(wanted, tmp_path / "run", device="cpu", cache=cache)
    silent = recipe(corpus, units, default_voice="nobody")
    with pytest.raises(TrainingError, match="no source 'nobody'"):
        train(silent, tmp_path / "silent", device="cpu", cache=cache)


def test_runs_and_what_is_known_of_them():
    units = torch.tensor([[3, 3, 1, 1, 1, 2], [5, 5, 5, 4, 9, 9]])
    there = torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
    runs, durations, known = _runs(units, there)
    assert runs[:, :3].tolist() == [[3, 1, 2], [5, 4, -1]]
    assert durations[0, :3].tolist() == [2, 3, 1] and durations[1, :2].tolist() == [3, 1]
    assert known[0].tolist() == [False, True, False, False, False, False]
    # The second utterance ends within its crop.
    assert known[1].tolist() == [False, True, False, False, False, False]


def test_it_refuses_what_is_no_unit_tokenizer(corpus, tmp_path):
    tiny_codecs.rvq(name="small").save_pretrained(tmp_path)
    with pytest.raises(TrainingError, match="no unit tokenizer"):
        UnitVocoderTask(recipe(corpus, tmp_path))


def test_the_bundled_recipe_fits_the_bundled_decoder_that_it_starts_from():
    made = recipes.find("units-vocoder")
    network = syllabary.load(made.decoder).network
    assert (made.model.stack, made.model.head) == (network.decoder, network.head)
    assert made.model.latent_dim == network.latent_dim and not network.encoder_look_ahead
