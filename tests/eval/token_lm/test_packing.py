import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from syllabary.eval.token_lm.packing import pack, shuffled_batches

lengths = st.lists(st.integers(1, 9), min_size=1, max_size=6)


def utterances(lengths):
    """Symbols that say where they are from: utterance, frame."""
    return [
        np.stack([np.full(length, number), np.arange(length)], 1)
        for number, length in enumerate(lengths)
    ]


@given(lengths, st.randoms())
@settings(deadline=None)
def test_previous_is_of_the_same_utterance(lengths, random):
    rows = utterances(lengths)
    order = list(range(len(rows)))
    random.shuffle(order)
    stream = pack(rows, order)
    assert len(stream) == sum(lengths)
    for symbols, previous, utterance in zip(
        stream.symbols, stream.previous, stream.utterance, strict=True
    ):
        assert symbols[0] == utterance
        expected = [-1, -1] if symbols[1] == 0 else [utterance, symbols[1] - 1]
        assert previous.tolist() == expected


@given(lengths, st.integers(1, 12), st.integers(1, 3), st.integers(0, 5))
@settings(deadline=None)
def test_a_pass_shows_no_frame_twice(lengths, length, batch, seed):
    rows = utterances(lengths)
    length = min(length, sum(lengths))
    blocks_a_pass = sum(lengths) // length
    batches = shuffled_batches(rows, length, batch, np.random.default_rng(seed))
    blocks = []
    while len(blocks) < 2 * blocks_a_pass:
        found = next(batches)
        assert found.symbols.shape == (batch, length, 2)
        assert found.utterance.shape == (batch, length)
        blocks += [block.reshape(-1, 2).tolist() for block in found.symbols]
    for start in (0, blocks_a_pass):
        shown = [tuple(frame) for block in blocks[start : start + blocks_a_pass] for frame in block]
        assert len(shown) == len(set(shown)) == blocks_a_pass * length
