import pytest

import syllabary
from syllabary.codecs import registry
from syllabary.errors import SyllabaryError
from syllabary.eval.systems import catalogue
from syllabary.eval.systems.interface import MissingSystemError
from syllabary.eval.systems.references import Original

from ... import tiny_codecs


def test_lists_and_groups():
    assert catalogue.names("opus-6, rvq-16k:4,,opus-6") == ["opus-6", "rvq-16k:4"]
    trained = catalogue.names("trained")
    assert {"rvq-16k", "fsq-16k", "ts3-16k", "units-16k", "dmel"} <= set(trained)
    assert "dmel-narrow" not in trained and not set(trained) & {"opus-6", "original"}
    assert catalogue.names("peers") == list(catalogue.PEERS)
    assert catalogue.names("references,peers")[:3] == ["original", "original-8k", "noise"]
    for nothing in ("", " , "):
        with pytest.raises(SyllabaryError, match="all, trained, presets, peers, references"):
            catalogue.names(nothing)


def test_all_of_them(monkeypatch):
    monkeypatch.setattr(registry.TOKENIZERS, "_added", {})
    syllabary.register("tiny-nested", lambda: tiny_codecs.rvq(name="tiny-nested"))
    found = catalogue.names("all")
    presets = set(catalogue.names("presets"))
    assert "dmel-narrow" in presets and not presets & set(found)
    assert set(syllabary.list_tokenizers()) - presets <= set(found)
    assert {"rvq-16k:4", "rvq-16k:2", "tiny-nested:2", "tiny-nested:1"} <= set(found)
    assert not [name for name in found if name.startswith(("dmel", "fsq")) and ":" in name]
    assert found[-12:] == [*catalogue.PEERS, *catalogue.REFERENCES]
    assert len(found) == len(set(found))


class Entry:
    """Of an installed package."""

    group, value = catalogue.ENTRY_POINT_GROUP, "package:System"

    def __init__(self, name, load):
        self.name, self.load = name, load


def test_other_packages_add_systems(monkeypatch):
    class Mine(Original):
        name = "mine"

    def broken():
        raise ImportError("no module named strange")

    entries = [Entry("mine", lambda: Mine), Entry("broken", broken)]
    installed = {catalogue.ENTRY_POINT_GROUP: entries}
    monkeypatch.setattr("syllabary.catalogue.entry_points", lambda group: installed.get(group, []))
    assert isinstance(catalogue.find("mine"), Mine)
    assert {"mine", "broken"} <= set(catalogue.names("all"))
    with pytest.raises(MissingSystemError, match="no module named strange"):
        catalogue.find("broken")


@pytest.mark.parametrize("name", ["codec2-9000", "lyra-v2-7", "opus-", "opus-x"])
def test_patterns_take_no_nonsense(name):
    with pytest.raises(SyllabaryError):
        catalogue.find(name)
