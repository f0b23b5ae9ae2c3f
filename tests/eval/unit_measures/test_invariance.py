from pathlib import Path, PurePosixPath

import numpy as np
import pytest

from syllabary.audio.manifests import Utterance, read_manifest
from syllabary.eval.metrics.interface import MetricError
from syllabary.eval.unit_measures.invariance import parallel_sentences, speaker_invariance


def said(name, speaker, text):
    return Utterance(Path(name), PurePosixPath(name), speaker=speaker, text=text)


ITEMS = [
    said("a1", "ann", "Hello there."),
    said("a2", "ann", "hello  there"),
    said("b1", "bob", "HELLO, there"),
    said("b2", "bob", "good bye"),
    said("c1", "cat", "Good bye!"),
    said("c2", "cat", "something else"),
    said("d1", None, "hello there"),
    said("d2", "dan", None),
]


def test_sentences():
    found = parallel_sentences(ITEMS)
    assert [[str(item.name) for item in group] for group in found] == [["a1", "b1"], ["b2", "c1"]]
    assert not parallel_sentences(ITEMS, least_words=3)


def test_by_hand():
    sentences = parallel_sentences(ITEMS)
    units = {
        PurePosixPath(name): np.array(codes)
        for name, codes in {
            "a1": [1, 1, 2, 3, 3],
            "b1": [1, 2, 2, 4],  # one edit of a1's 3 units
            "b2": [5, 6],
            "c1": [5, 5, 6, 6],  # none
        }.items()
    }
    found = speaker_invariance(sentences, units)
    assert found.num_sentences == 2
    assert (found.same.edits, found.same.length) == (2, 3 + 3 + 2 + 2)
    # a1 with c1 (4 frames, as b1 has); b1 with c1 (nearest to a1's 5, and bob is himself);
    # b2 with a1 (nearest to c1's 4, not bob's); c1 with b1 (nearer to b2's 2 than a1).
    assert (found.different.edits, found.different.length) == (3 + 3 + 3 + 3, 10)
    assert found.normalised == pytest.approx(2 / 12)


def test_what_cannot_be_compared():
    sentences = parallel_sentences(ITEMS)
    with pytest.raises(MetricError, match="1 parallel sentences"):
        speaker_invariance(sentences[:1], {})
    with pytest.raises(MetricError, match="no units of a1"):
        speaker_invariance(sentences, {})


def test_the_corpus_has_parallel_sentences(speech_folder):
    items = read_manifest(speech_folder / "manifest.jsonl")
    shared = [item for item in items if item.extra["source"] == "speechocean762"]
    groups = parallel_sentences(shared)
    assert len(groups) >= 20
    assert all(len({item.speaker for item in group}) == len(group) > 1 for group in groups)
