"""Ids that no utterance has are refused by name, or repaired in a way that is written down."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syllabary.errors import PatternError, TokenError
from syllabary.lm import Vocabulary, WrittenCodes, pattern

from .conftest import token_spec, tokens_of

SIZES = (8, 16, 16)
VOCABULARY = Vocabulary(token_spec(SIZES), 1000)
A, B, C = VOCABULARY.base  # of the three codebooks


def written(ids, *, pieces=None, **settings):
    reader = WrittenCodes(VOCABULARY, **settings)
    ids = np.asarray(ids)
    parts = [reader.push(part) for part in np.split(ids, pieces or [], axis=-1)]
    reader.finish()
    return np.concatenate(parts, 1), reader.repairs


@given(
    st.sampled_from(["flatten", "delay", "parallel", "musiclm", "vall-e", "depth", "espnet"]),
    st.integers(0, 9),
    st.booleans(),
    st.data(),
)
@settings(max_examples=80, deadline=None)
def test_what_is_right_comes_back_in_any_pieces(kind, frames, repair, data):
    made = pattern(kind, SIZES)
    tokens = tokens_of(VOCABULARY.spec, (frames,))
    (ids,) = VOCABULARY.encode(tokens, made)
    cuts = sorted(data.draw(st.lists(st.integers(0, ids.shape[-1]), max_size=4)))
    length = frames if made.needs_length and kind != "vall-e" else None
    codes, repairs = written(ids, pieces=cuts, pattern=made, repair=repair, frames=length)
    assert np.array_equal(codes, tokens.codes[0].numpy())
    assert not repairs.any and not repairs.skipped


CASES = [
    # A code of the last codebook where the second belongs: that one is missing.
    ([A, B, C, A + 1, C + 1, A + 2, B + 2, C + 2], [[0, 1, 2], [0, 0, 2], [0, 1, 2]], 1, 1, 0),
    # The next frame begins too early.
    ([A, B, C, A + 1, A + 2, B + 2, C + 2], [[0, 1, 2], [0, 0, 2], [0, 0, 2]], 1, 2, 0),
    # Text and a marker in a frame are passed over, and counted.
    ([A, B, 5, VOCABULARY.first, C], [[0], [0], [0]], 2, 0, 0),
    # Nothing came before: what is missing is `fill`.
    ([C + 3, A, B, C], [[7, 0], [6, 0], [3, 0]], 1, 2, 0),
    # An early end.
    ([A, B, C, A + 1, B + 1], [[0], [0], [0]], 0, 0, 2),
    # A code twice.
    ([A, B, B + 1, C], [[0, 0], [0, 1], [5, 0]], 1, 2, 0),
]


@pytest.mark.parametrize(("ids", "codes", "wrong", "filled", "cut"), CASES)
def test_repairs_by_example(ids, codes, wrong, filled, cut):
    for cuts in (None, list(range(len(ids)))):
        found, repairs = written(ids, pieces=cuts, repair=True, fill=[7, 6, 5])
        assert found.tolist() == codes
        assert (repairs.wrong, repairs.filled, repairs.cut) == (wrong, filled, cut)
    with pytest.raises(TokenError, match=r"where a code of codebook \d belongs|ends within frame"):
        written(ids)


def test_text_between_frames_is_no_fault():
    marker = VOCABULARY.marker(VOCABULARY.markers[0])
    codes, repairs = written([3, marker, A, B, C, 999, A + 1, B, C, VOCABULARY.stop + 5])
    assert codes.tolist() == [[0, 1], [0, 0], [0, 0]]
    assert repairs.skipped == 4 and not repairs.any


def test_delayed_steps():
    made = pattern("delay", SIZES)
    tokens = tokens_of(VOCABULARY.spec, (6,))
    (steps,) = VOCABULARY.encode(tokens, made)
    damaged = steps.copy()
    damaged[1, 4] = A  # codebook 1 of frame 2, as the delays are 0, 1, 2 after a first step
    codes, repairs = written(damaged, pattern=made, repair=True)
    expected = tokens.codes[0].numpy().copy()
    expected[1, 2] = expected[1, 1]
    assert np.array_equal(codes, expected)
    assert (repairs.wrong, repairs.filled) == (1, 1)
    with pytest.raises(TokenError, match="codebook 1"):
        written(damaged, pattern=made)
    # Cut short, frames at the end lack their later codebooks.
    codes, repairs = written(steps[:, :6], pattern=made, repair=True)
    assert np.array_equal(codes, tokens.codes[0, :, :3].numpy())
    assert repairs.cut == 3  # codebooks 0 and 1 of frame 3, codebook 0 of frame 4
    with pytest.raises(TokenError, match="ends within frame 3, of which there are 3 codes"):
        written(steps[:, :6], pattern=made)


def test_global_codes_come_first():
    spec = token_spec((8,), global_codebook_sizes=(4, 5))
    vocabulary = Vocabulary(spec, 0)
    tokens = tokens_of(spec, (3,))
    (ids,) = vocabulary.encode(tokens)
    reader = WrittenCodes(vocabulary, repair=True)
    parts = [reader.push(ids[number : number + 1]) for number in range(len(ids))]
    reader.finish()
    assert np.array_equal(np.concatenate(parts, 1), tokens.codes[0].numpy())
    assert reader.global_codes == tokens.global_codes[0].tolist()
    with pytest.raises(TokenError, match="global code 0 of codec belongs"):
        WrittenCodes(vocabulary, repair=True).push(ids[2:])
    short = WrittenCodes(vocabulary, repair=True)
    short.push(ids[:1])
    with pytest.raises(TokenError, match="after 1 of the 2 ids of global codes"):
        short.finish()


def test_bad_input():
    reader = WrittenCodes(VOCABULARY)
    with pytest.raises(TokenError, match="integers, got float64"):
        reader.push(np.array([1.5]))
    with pytest.raises(PatternError, match=r"shape \(n,\), got \(2, 3\)"):
        reader.push(np.zeros((2, 3), int))
    reader.finish()
    with pytest.raises(TokenError, match="has ended"):
        reader.push(np.array([A]))
    with pytest.raises(PatternError, match="frames"):
        WrittenCodes(VOCABULARY, pattern("coarse-first", SIZES))
