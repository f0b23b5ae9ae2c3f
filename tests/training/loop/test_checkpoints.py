"""The tokenizers that a run leaves: how they are found, named, licensed, and warned of."""

import pytest

import syllabary
from syllabary.codecs.checkpoint import UnfinishedWarning
from syllabary.codecs.registry import SHIPPED
from syllabary.errors import CheckpointError
from syllabary.training.loop import train
from syllabary.training.loop.checkpoints import own_name

from . import tiny


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return tiny.write_corpus(tmp_path_factory.mktemp("corpus"))


def trained(corpus, folder, **fields):
    recipe = tiny.recipe(corpus, steps=2, adversarial=None, **fields)
    train(recipe, folder, device="cpu", cache=corpus / "stores")
    return syllabary.load(folder)


def test_a_run_is_a_tokenizer_by_the_name_of_its_folder(corpus, tmp_path):
    found = trained(corpus, tmp_path / "mine", license="CC BY 4.0")
    best = syllabary.load(tmp_path / "mine" / "best")
    assert found.spec == best.spec and found.spec.tokens.tokenizer == "mine"
    assert best.license == "CC BY 4.0"
    assert syllabary.load(tmp_path / "mine" / "last").license == "CC BY 4.0"
    (tmp_path / "mine" / "best").rename(tmp_path / "elsewhere")
    assert syllabary.load(tmp_path / "mine").spec == best.spec  # by last/, of the same step


def test_a_chosen_name_stays_and_no_licence_is_invented(corpus, tmp_path):
    found = trained(corpus, tmp_path / "x", name="my-codec")
    assert found.name == "my-codec" and found.license == "not stated"
    found.save_pretrained(tmp_path / "saved")
    assert "license" not in (tmp_path / "saved" / "config.json").read_text()


def test_no_tokenizer_passes_for_a_bundled_one(tmp_path):
    from syllabary.training.recipe_registry import find

    bundled = syllabary.load("rvq-16k")
    recipe = find("rvq-16k")
    assert own_name(bundled, recipe, tmp_path / "a") == "rvq-16k"  # the same codes: it is that one
    other = type(bundled)(bundled.config, "rvq-16k").eval()
    assert own_name(other, recipe, tmp_path / "a") == "a"
    assert own_name(other, recipe, tmp_path / "rvq-16k") == "rvq-16k-trained"
    assert {syllabary.load(name).spec.license for name in SHIPPED} == {"Apache-2.0"}
    assert other.spec.license == "not stated"


def test_codebooks_that_have_not_started_are_warned_of(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(tiny.TinyTask, "is_whole", lambda self, step: step > 5)
    with pytest.warns(UnfinishedWarning, match="step 2, before its codebooks started"):
        early = trained(corpus, tmp_path / "early")
    with pytest.warns(UnfinishedWarning):  # also of a copy, which is no better
        early.save_pretrained(tmp_path / "copy")
        syllabary.load(tmp_path / "copy")


def test_a_run_without_a_tokenizer_says_so(tmp_path):
    (tmp_path / "recipe.json").write_text("{}")
    with pytest.raises(CheckpointError, match="has not saved a tokenizer yet"):
        syllabary.load(tmp_path)
