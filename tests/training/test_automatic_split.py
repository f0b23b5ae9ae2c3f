"""Dividing speech without splits into training and validation."""

from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syllabary.audio.manifests import Utterance
from syllabary.errors import TrainingError
from syllabary.training.data.automatic_split import split_automatically


def item(name, speaker=None):
    return Utterance(Path("/corpus") / name, PurePosixPath(name), speaker=speaker)


@given(st.lists(st.integers(0, 12), min_size=2, max_size=80))
def test_every_file_is_in_one_part_and_no_speaker_in_both(speakers):
    items = [item(f"wav/s{s}/{n}.wav") for n, s in enumerate(speakers)]
    found = split_automatically(items)
    assert found.train and found.valid
    names = [u.name for u in (*found.train, *found.valid)]
    assert sorted(names) == sorted(u.name for u in items)
    assert {u.split for u in found.train} == {"train"} and {u.split for u in found.valid} == {
        "valid"
    }
    if len(set(speakers)) > 1:
        assert not {u.speaker for u in found.train} & {u.speaker for u in found.valid}
        assert "by speakers" in found.note
    else:
        assert "by files" in found.note
    assert split_automatically(items) == found


def test_speakers_of_a_manifest_count_and_not_its_folders():
    items = [item(f"f{n}/x.wav", f"s{n % 3}") for n in range(30)]
    found = split_automatically(items)
    assert len({u.speaker for u in found.valid}) == 1 and len(found.valid) == 10


def test_folders_are_speakers_from_where_paths_differ():
    found = split_automatically([item(f"data/wav/p{n % 20}/{n}/a.wav") for n in range(40)])
    assert {u.speaker for u in (*found.train, *found.valid)} == {f"p{n}" for n in range(20)}
    assert len(found.valid) == 4
    flat = split_automatically([item(f"{n}.wav") for n in range(40)])
    assert len(flat.valid) == 4 and "no speakers are known" in flat.note


def test_one_file_can_not_be_divided():
    with pytest.raises(TrainingError, match="too few"):
        split_automatically([item("a.wav")])
