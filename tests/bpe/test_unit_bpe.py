import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syllabary.bpe import UnitBPE, training
from syllabary.errors import BPEError, TokenError

from .conftest import NUM_UNITS, SIZE
from .vocabularies import bpes_and_units, unit_likeness


def test_ids_are_dense_and_start_with_the_units(bpe):
    assert bpe.vocab_size == bpe.num_pieces == SIZE
    assert bpe.num_units == NUM_UNITS + 1  # the last never occurs in training
    for unit in range(bpe.num_units):
        assert bpe.units_of(unit).tolist() == [unit]
        assert bpe.encode(np.array([unit])).tolist() == [unit]
    assert np.array_equal(bpe.piece_lengths, [len(bpe.units_of(i)) for i in range(SIZE)])
    assert bpe.piece_lengths.sum() == len(bpe.vocabulary.units)


def test_training_shortens_and_repeats_itself(bpe, sequences):
    again = UnitBPE.train(sequences, NUM_UNITS + 1, SIZE, kind=bpe.kind)
    assert again.digest == bpe.digest
    units, ids = sum(map(len, sequences)), sum(map(len, bpe.encode_batch(sequences)))
    assert ids < 0.8 * units
    other = UnitBPE.train(sequences[1:], NUM_UNITS + 1, SIZE, kind=bpe.kind)
    assert other.digest != bpe.digest


@settings(max_examples=60, deadline=None)
@given(bpes_and_units(), st.lists(st.integers(0, 60), max_size=5))
def test_a_batch_gives_what_each_gives(case, cuts):
    bpe, units = case
    parts = np.split(units, sorted(cut for cut in cuts if cut <= len(units)))
    for dtype in (np.int64, np.uint16, np.int8):
        together = bpe.encode_batch([part.astype(dtype) for part in parts])
        assert [ids.tolist() for ids in together] == [bpe.encode(part).tolist() for part in parts]
    for ids, part in zip(together, parts, strict=True):
        assert np.array_equal(bpe.decode(ids), part)
        assert bpe.piece_lengths[ids].sum() == len(part)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=4), st.integers(0, 7), st.data())
def test_codebooks_lie_side_by_side(sizes, frames, data):
    from syllabary.bpe.vocabulary import Vocabulary

    bpe = UnitBPE(Vocabulary.of_pieces("bpe", sum(sizes), []), tuple(sizes))
    codes = np.array(
        [
            data.draw(st.lists(st.integers(0, size - 1), min_size=frames, max_size=frames))
            for size in sizes
        ],
        np.int64,
    ).reshape(len(sizes), frames)
    units = bpe.flatten(codes)
    assert np.array_equal(bpe.unflatten(units), codes)
    starts = np.cumsum([0, *sizes[:-1]])
    for at, unit in enumerate(units):
        codebook = at % len(sizes)
        assert 0 <= unit - starts[codebook] < sizes[codebook]
        assert codes[codebook, at // len(sizes)] == unit - starts[codebook]
    if len(sizes) > 1 and frames:
        with pytest.raises(TokenError, match="no whole frames"):
            bpe.unflatten(units[1:])
        with pytest.raises(TokenError, match="not of codebook 0"):
            bpe.unflatten(np.roll(units, 1))
        codes[1, 0] = sizes[1]
        with pytest.raises(TokenError, match=f"code {sizes[1]} is out of range: codebook 1"):
            bpe.flatten(codes)


def test_specials(sequences):
    bpe = UnitBPE.train(sequences, NUM_UNITS, 200, specials=("<s>", "</s>"))
    assert bpe.vocab_size == 200 and bpe.num_pieces == 198
    assert bpe.special_id("</s>") == 199
    ids = bpe.encode(sequences[0])
    assert ids.max() < 198
    framed = np.array([198, *ids, 199])
    assert np.array_equal(bpe.decode(framed, skip_specials=True), sequences[0])
    with pytest.raises(TokenError, match="piece 199 is the special '</s>', which stands for no"):
        bpe.decode(framed)
    with pytest.raises(TokenError, match="piece 200 is out of range"):
        bpe.decode(np.array([200]), skip_specials=True)
    with pytest.raises(BPEError, match="no special '<pad>'"):
        bpe.special_id("<pad>")


@pytest.mark.parametrize(
    ("units", "what"),
    [
        ([-1], "unit -1 is out of range: there are 61 units"),
        ([3, 61], "unit 61 is out of range"),
        ([0.5], "must be integers, got float64"),
        ([[1, 2]], "must have shape"),
        ([True, False], "must be integers, got bool"),
    ],
)
def test_what_is_no_unit(bpe, units, what):
    with pytest.raises(TokenError, match=what):
        bpe.encode(np.array(units))
    with pytest.raises(TokenError, match=f"sequence 1: .*{what}"):
        bpe.encode_batch([np.array([1]), np.array(units)])
    with pytest.raises(TokenError, match="sequence 0: "):
        UnitBPE.train([np.array(units)], 61, 70)
    assert bpe.encode_batch([]) == []


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"vocab_size": 60}, "more than the 60 units"),
        ({"vocab_size": 61, "specials": ("<s>",)}, "more than the 60 units and 1 specials"),
        ({"vocab_size": 300_000}, "at most 262144"),
        (
            {"sequences": [np.arange(60)], "vocab_size": 20_000},
            r"these sequences give \d+ pieces, not 20000",
        ),
        ({"kind": "word"}, "bpe or unigram, got 'word'"),
        ({"codebook_sizes": 0}, "at least one code"),
        ({"codebook_sizes": ()}, "at least one code"),
        ({"codebook_sizes": 140_000, "vocab_size": 150_000}, "expected 1 to 131068"),
        ({"max_piece_length": 1}, "expected 2 to 256"),
        ({"sample_units": 0}, "at least 1"),
        ({"name": "a/b"}, "a name is"),
        ({"specials": ("<unk>",)}, "not <unk>"),
        ({"specials": ("<s>", "<s>")}, "all different"),
        ({"sequences": []}, "no units to train on"),
        ({"sequences": [np.zeros(0, int)]}, "no units to train on"),
    ],
)
def test_settings_that_make_no_sense(sequences, changes, what):
    settings = {"sequences": sequences, "codebook_sizes": NUM_UNITS, "vocab_size": 200} | changes
    with pytest.raises(BPEError, match=what):
        UnitBPE.train(**settings)


def test_an_error_in_the_data_is_not_the_end_of_the_data(sequences):
    def failing():
        yield from sequences
        raise RuntimeError("the disk is gone")

    with pytest.raises(RuntimeError, match="the disk is gone"):
        UnitBPE.train(failing(), NUM_UNITS, 200)


def test_without_sentencepiece(monkeypatch, sequences):
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with pytest.raises(BPEError, match=r"pip install 'syllabary\[lm\]'"):
        UnitBPE.train(sequences, NUM_UNITS, 200)


def test_sequences_longer_than_a_sentence(sequences):
    """sentencepiece numbers places with 16 bits, and would leave out what is too long."""
    long = np.concatenate([unit_likeness(70_000, NUM_UNITS, seed) for seed in range(2)])
    bpe = UnitBPE.train([long], NUM_UNITS, 300)
    ids = bpe.encode(long)
    assert len(ids) < 0.7 * len(long) and np.array_equal(bpe.decode(ids), long)
    # Cut or not, nearly all pairs are the same, and so are the pieces.
    parts = UnitBPE.train(np.array_split(long, 100), NUM_UNITS, 300)
    mine, its = ({tuple(p) for p in b.vocabulary.pieces()} for b in (bpe, parts))
    assert len(mine & its) > 270


def test_a_sample_is_bounded_fair_and_in_order():
    texts = [chr(0xF0000 + number) * (1 + number % 7) for number in range(500)]
    seen = np.zeros(500)
    for seed in range(200):
        kept = list(training._sampled(iter(texts), 200, seed))
        assert 180 <= sum(map(len, kept)) <= 200
        order = [texts.index(text) for text in kept]
        assert order == sorted(order)
        seen[order] += 1
    # Each is kept in about a tenth of the samples, the last as often as the first.
    assert abs(seen[:250].mean() - seen[250:].mean()) < 2.5
    assert list(training._sampled(iter(texts), 10**6, 0)) == texts


def test_training_on_a_sample(sequences):
    few = UnitBPE.train(sequences, NUM_UNITS, 150, sample_units=6000, seed=1)
    assert few.digest == UnitBPE.train(sequences, NUM_UNITS, 150, sample_units=6000, seed=1).digest
    assert few.digest != UnitBPE.train(sequences, NUM_UNITS, 150, sample_units=6000, seed=2).digest
