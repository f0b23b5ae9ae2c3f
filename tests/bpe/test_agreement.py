"""One vocabulary, three encoders: ours, sentencepiece's and Hugging Face's give equal ids."""

import numpy as np
import pytest
import sentencepiece
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from syllabary.bpe import UnitBPE, kernels
from syllabary.bpe.alphabet import MAX_UNITS, text_of, units_in
from syllabary.bpe.huggingface_file import write_tokenizer
from syllabary.bpe.segmentation import merges
from syllabary.bpe.sentencepiece_file import write_model
from syllabary.bpe.vocabulary import Vocabulary

from .vocabularies import bpes_and_units, by_definition, unit_likeness


def encoders(bpe):
    model = sentencepiece.SentencePieceProcessor(model_proto=write_model(bpe.vocabulary))
    tokenizer = tokenizers.Tokenizer.from_str(write_tokenizer(bpe.vocabulary))
    return (
        lambda units: model.encode(text_of(units)),
        lambda units: tokenizer.encode(text_of(units)).ids,
    )


def test_code_points_are_those_that_nobody_touches():
    import unicodedata

    text = text_of(np.arange(MAX_UNITS))
    assert len(text) == MAX_UNITS == 131_068 == len(set(text))
    assert {unicodedata.category(point) for point in text} == {"Co"}
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        assert unicodedata.normalize(form, text) == text
    assert text.lower() == text.upper() == text.strip() == text
    assert np.array_equal(units_in(text), np.arange(MAX_UNITS))
    for wrong in ("a", "\ue000", "\U000ffffe", "\ud800"):
        with pytest.raises(ValueError, match="stands for no unit"):
            units_in(text[:3] + wrong)


@settings(max_examples=150, deadline=None)
@given(bpes_and_units())
def test_random_vocabularies(case):
    bpe, units = case
    ids = bpe.encode(units).tolist()
    if bpe.kind == "bpe":
        assert ids == by_definition(bpe.vocabulary, units)
    for encode in encoders(bpe):
        assert encode(units) == ids
    assert np.array_equal(bpe.decode(np.array(ids, int)), units)


@settings(max_examples=50, deadline=None)
@given(bpes_and_units(kinds=("bpe",), max_size=300))
def test_long_runs_use_a_heap_and_give_the_same(case):
    bpe, units = case
    units = np.concatenate([units, np.zeros(kernels._SHORT + 2, np.int64), units])
    assert bpe.encode(units).tolist() == by_definition(bpe.vocabulary, units)


def test_merges_that_a_list_of_pairs_gets_wrong():
    """With both pairs of 'aba' in the list, the one that comes first wins, wherever it stands."""
    a, b = 0, 1
    longer = [[a, b], [b, a], [b, b], [a, b, a]]
    vocabulary = Vocabulary.of_pieces("bpe", 2, [np.array(piece) for piece in longer])
    bpe = UnitBPE(vocabulary, (2,))
    assert merges(vocabulary).tolist() == [[0, 1, 2], [1, 0, 3], [1, 1, 4], [2, 0, 5]]
    for units in ([a, b, a], [b, b, a], [a, b, a, b, a], [b, a, b, a]):
        ids = by_definition(vocabulary, np.array(units))
        assert bpe.encode(np.array(units)).tolist() == ids
        assert [encode(np.array(units)) for encode in encoders(bpe)] == [ids, ids]


def test_trained_vocabularies(bpe, sequences):
    noise = np.random.default_rng(0).integers(0, bpe.num_units, (40, 200))
    for encode in encoders(bpe):
        for units in [*sequences, *noise, np.zeros(500, int), np.zeros(0, int), noise.reshape(-1)]:
            assert encode(units) == bpe.encode(units).tolist()
    assert bpe.vocabulary.longest > 2


def test_units_of_both_planes():
    """And repetitions."""
    num_units = 65_560
    parts = [unit_likeness(1500, 60, seed, repeats=True) + 65_500 for seed in range(2)]
    bpe = UnitBPE.train(parts, num_units, num_units + 200)
    ids = bpe.encode(parts[0])
    assert len(ids) < len(parts[0]) / 2 and np.array_equal(bpe.decode(ids), parts[0])
    for encode in encoders(bpe):
        assert encode(parts[0]) == ids.tolist()


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_specials_keep_their_ids(data):
    names = data.draw(st.lists(st.sampled_from(["<s>", "</s>", "<pad>", "a b"]), unique=True))
    vocabulary = Vocabulary.of_pieces("bpe", 2, [np.array([0, 1])], None, tuple(names))
    bpe = UnitBPE(vocabulary, (2,))
    model = sentencepiece.SentencePieceProcessor(model_proto=write_model(vocabulary))
    tokenizer = tokenizers.Tokenizer.from_str(write_tokenizer(vocabulary))
    assert bpe.vocab_size == 3 + len(names) == tokenizer.get_vocab_size()
    for name in names:
        assert bpe.special_id(name) == model.piece_to_id(name) == tokenizer.token_to_id(name)
    # sentencepiece insists on an unknown, which comes after all ids and out of no text.
    assert model.unk_id() == bpe.vocab_size == model.get_piece_size() - 1
