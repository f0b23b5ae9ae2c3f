import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from syllabary.bpe import UnitBPE
from syllabary.bpe.vocabulary import Vocabulary
from syllabary.errors import BPEError, TokenError

from .vocabularies import bpes_and_units, unit_likeness


def streamed(bpe, chunks):
    stream = bpe.stream()
    given = [stream.push(chunk) for chunk in chunks]
    return [*given, stream.finish()]


@settings(max_examples=150, deadline=None)
@given(bpes_and_units(), st.lists(st.integers(0, 60), max_size=20), st.booleans())
def test_any_chunks_give_the_pieces_of_the_whole(case, cuts, one_by_one):
    bpe, units = case
    if one_by_one:
        cuts = range(len(units))
    chunks = np.split(units, sorted(cut for cut in cuts if cut <= len(units)))
    assert np.concatenate(streamed(bpe, chunks)).tolist() == bpe.encode(units).tolist()


@settings(max_examples=100, deadline=None)
@given(bpes_and_units(max_size=25), st.data())
def test_what_came_out_is_final(case, data):
    """The pieces so far start those of every continuation: what `push` promises."""
    bpe, units = case
    stream = bpe.stream()
    out = np.concatenate([stream.push(units), np.zeros(0, int)]).tolist()
    assert bpe.piece_lengths[out].sum() + stream.waiting == len(units)
    unit = st.integers(0, bpe.num_units - 1)
    for _ in range(5):
        more = np.array(data.draw(st.lists(unit, max_size=12)), np.int64)
        whole = bpe.encode(np.concatenate([units, more])).tolist()
        assert whole[: len(out)] == out


def test_trained_ones_wait_for_little(bpe, sequences):
    most = 0
    for units in sequences[:10]:
        stream = bpe.stream()
        out = []
        for unit in units:
            out.append(stream.push(np.array([unit])))
            most = max(most, stream.waiting)
        out.append(stream.finish())
        assert np.concatenate(out).tolist() == bpe.encode(units).tolist()
    assert 0 < most <= 4 * bpe.vocabulary.longest


def test_merges_in_silence_do_not_pile_up(sequences):
    """Without de-duplication: a run of one unit has no cut, but pieces come all the same."""
    repeated = [unit_likeness(300, 60, seed, repeats=True) for seed in range(40)]
    silence = [np.zeros(400, np.int64)] * 20
    bpe = UnitBPE.train([*repeated, *silence], 60, 300)
    assert bpe.vocabulary.longest == 16
    stream = bpe.stream()
    units = np.concatenate([repeated[0], np.zeros(3000, np.int64), repeated[1]])
    out, most = [], 0
    for unit in units:
        out.append(stream.push(np.array([unit])))
        most = max(most, stream.waiting)
    out.append(stream.finish())
    assert np.concatenate(out).tolist() == bpe.encode(units).tolist()
    assert most < 100


def test_a_unigram_that_can_never_know():
    """a+aa is preferred to aa+a, so the first piece depends on the parity of all."""
    vocabulary = Vocabulary.of_pieces(
        "unigram", 1, [np.array([0, 0])], np.array([-512, -256], np.int64)
    )
    bpe = UnitBPE(vocabulary, (1,))
    stream = bpe.stream()
    given = [stream.push(np.array([0])) for _ in range(51)]
    assert (
        np.concatenate([*given, stream.finish()]).tolist() == bpe.encode(np.zeros(51, int)).tolist()
    )


@example(chunks=[[], [1], []])
@given(chunks=st.lists(st.lists(st.integers(0, 60), max_size=3), max_size=4))
@settings(max_examples=20, deadline=None)
def test_empty_chunks(chunks):
    vocabulary = Vocabulary.of_pieces("bpe", 61, [np.array([1, 2])])
    bpe = UnitBPE(vocabulary, (61,))
    arrays = [np.array(chunk, np.int64) for chunk in chunks]
    units = np.concatenate([*arrays, np.zeros(0, np.int64)])
    assert np.concatenate(streamed(bpe, arrays)).tolist() == bpe.encode(units).tolist()


def test_errors_leave_the_stream_as_it_was(bpe, sequences):
    stream = bpe.stream()
    first = stream.push(sequences[0][:50])
    with pytest.raises(TokenError, match="out of range"):
        stream.push(np.array([0, 999]))
    rest = [stream.push(sequences[0][50:]), stream.finish()]
    assert np.concatenate([first, *rest]).tolist() == bpe.encode(sequences[0]).tolist()
    for call in (lambda: stream.push(np.array([0])), stream.finish):
        with pytest.raises(BPEError, match="finished"):
            call()
