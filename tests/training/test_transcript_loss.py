"""The loss of transcripts' letters."""

import math

import pytest
import torch

from syllabary.errors import TrainingError
from syllabary.training.data.store import StoreEntry
from syllabary.training.losses import TranscriptLoss, TranscriptLossConfig
from syllabary.training.losses.transcripts import spelling

HOP = 320


class Store:
    """What the loss asks of a store."""

    sample_rate = 16_000

    def __init__(self, **lengths):
        self.entries = [StoreEntry(name, 0, length) for name, length in lengths.items()]

    def __len__(self):
        return len(self.entries)


def made(store, texts, letters="abc"):
    loss = TranscriptLoss(TranscriptLossConfig(letters))
    loss.prepare(store, texts, 10 * HOP)
    return loss


def test_spelling():
    assert spelling("A b, c!", "abc") == [1, 2, 3]
    assert spelling("It's", "abcdefghijklmnopqrstuvwxyz'") == [9, 20, 27, 19]
    assert spelling("it's", "its") == [1, 2, 3]  # punctuation, where it is not a letter
    assert spelling("It\u2019s", "'ist") == [2, 4, 1, 3]
    for unknown in ("a 2", "abd", "", "?", "ä"):
        assert spelling(unknown, "abc") == []


def test_a_letter_is_one_however_it_was_typed():
    for typed in ("é", "É", "e\u0301", "E\u0301"):
        assert spelling(typed, "eé") == [2]
        assert spelling(typed, "e") == []
    assert spelling("Straße", "aerst") == [4, 5, 3, 1, 4, 4, 2]


def test_all_alignments_are_counted():
    """Two frames, uniform scores: "a" is a·, ·a or aa of 16 pairs; "ab" is one of them."""
    loss = made(Store(one=2 * HOP, two=2 * HOP - 1), {"one": "a", "two": "ab"})
    scores, lengths = torch.zeros(2, 5, 4), torch.tensor([2 * HOP, 2 * HOP - 1])
    found, share = loss(scores, ["one", "two"], lengths, HOP)
    assert float(found) == pytest.approx((math.log(16 / 3) + math.log(16) / 2) / 2)
    assert float(share) == 1


def test_what_is_said_in_order_costs_nothing_and_what_is_not_does():
    loss = made(Store(one=5 * HOP), {"one": "abca"})
    lengths = torch.tensor([5 * HOP])

    def of(*frames):
        scores = torch.full((1, 5, 4), -30.0)
        scores[0, torch.arange(5), torch.tensor(frames)] = 30
        return float(loss(scores, ["one"], lengths, HOP)[0])

    assert of(1, 2, 3, 1, 0) < 1e-6 and of(0, 1, 2, 3, 1) < 1e-6 and of(1, 1, 2, 3, 1) < 1e-6
    assert of(1, 3, 2, 1, 0) > 5


def test_rows_without_a_transcript_count_as_nothing():
    store = Store(told=3 * HOP, silent=3 * HOP, number=3 * HOP, long=11 * HOP)
    loss = made(store, {"told": "b", "number": "b 2", "long": "abc"})
    scores = torch.randn(4, 10, 4, requires_grad=True)
    lengths = torch.tensor([3 * HOP, 3 * HOP, 3 * HOP, 10 * HOP])
    found, share = loss(scores, ["told", "silent", "number", "long"], lengths, HOP)
    alone, _ = loss(scores[:1], ["told"], lengths[:1], HOP)
    assert found.item() == pytest.approx(alone.item() / 4) and share.item() == 0.25
    (gradient,) = torch.autograd.grad(found, scores)
    assert gradient[0, :3].abs().sum() > 0
    assert gradient[0, 3:].abs().sum() == 0 and gradient[1:].abs().sum() == 0
    nothing, share = loss(scores[1:], ["silent", "number", "long"], lengths[1:], HOP)
    assert nothing.item() == 0 and share.item() == 0
    # More letters than frames have no way through: no infinity.
    crowded = made(Store(told=2 * HOP), {"told": "abc"})
    found, _ = crowded(scores, ["told"] * 4, torch.full((4,), 2 * HOP), HOP)
    assert found.item() == 0


def test_the_digest_is_of_what_is_used():
    store = Store(a=HOP, b=11 * HOP)
    first = made(store, {"a": "ab", "b": "c"}).digest
    assert made(store, {"a": "A, b!", "b": "cc"}).digest == first
    assert made(store, {"a": "ba"}).digest != first


def test_what_cannot_teach_is_refused():
    store = Store(a=11 * HOP, b=HOP)
    with pytest.raises(TrainingError, match=r"none of 2 utterances is at most 0.20 s .* 'abc'"):
        made(store, {"a": "abc", "b": "xyz"})
    for letters in ("", "aa", "A", "e\u0301", "ß", " ", "?"):
        with pytest.raises(TrainingError, match="in lower case and composed, each once"):
            TranscriptLossConfig(letters)
