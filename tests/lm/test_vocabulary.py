"""Ids and `Tokens`, both ways; names; which tokenizer's they are."""

import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from syllabary.errors import (
    PatternError,
    TokenError,
    TokenMismatchError,
    VocabularyError,
)
from syllabary.lm import NAMINGS, Naming, Vocabulary, patterns
from syllabary.lm.naming import numbers

from .conftest import token_spec, tokens_of


@given(
    st.lists(st.integers(2, 70_000), min_size=1, max_size=5),
    st.lists(st.integers(2, 9), max_size=2),
    st.lists(st.integers(0, 6), min_size=1, max_size=3),
    st.integers(0, 200_000),
    st.data(),
)
@settings(max_examples=100, deadline=None)
def test_tokens_come_back(sizes, global_sizes, lengths, first, data):
    spec = token_spec(sizes, global_codebook_sizes=tuple(global_sizes))
    count = data.draw(st.integers(1, len(sizes)))
    vocabulary = Vocabulary(spec, first, codebooks=count)
    tokens = tokens_of(spec, lengths)
    kinds = ["flatten", "musiclm", "vall-e", "depth"] + ([] if global_sizes else ["delay"])
    pattern = patterns.pattern(data.draw(st.sampled_from(kinds)), sizes[:count])
    for given_pattern in (None, pattern):
        rows = vocabulary.encode(tokens, given_pattern)
        back = vocabulary.decode(rows, given_pattern, tokens.num_samples)
        assert back.equal(tokens.keep_codebooks(count))
        low, high = vocabulary.speech
        assert all((row >= first).all() and (row < vocabulary.stop).all() for row in rows)
        if given_pattern is None:
            assert all(((row >= low) & (row < high)).all() for row in rows)
            again = vocabulary.parse("".join(map(vocabulary.text, rows)))
            assert np.array_equal(again, np.concatenate(rows))
    assert len(vocabulary.names) == len(set(vocabulary.names)) == vocabulary.stop - first
    assert Vocabulary.from_json(vocabulary.to_json()) == vocabulary
    assert Vocabulary.from_description(vocabulary.description) == vocabulary


def test_ids_by_example():
    spec = token_spec((8, 16))
    vocabulary = Vocabulary(spec, 1000)
    assert [vocabulary.marker(name) for name in vocabulary.markers] == [1000, 1001, 1002]
    assert vocabulary.base == (1003, 1011) and vocabulary.speech == (1003, 1027)
    assert vocabulary.stop == 1028  # one more: the description
    assert vocabulary.name(1011) == "<|s1_0|>"
    tokens = tokens_of(spec, (2,))
    codes = tokens.codes[0]
    (row,) = vocabulary.encode(tokens)
    assert row.tolist() == [
        1003 + codes[0, 0], 1011 + codes[1, 0], 1003 + codes[0, 1], 1011 + codes[1, 1],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("naming", "sizes", "first", "name", "index"),
    [
        ("llasa", (65536,), 128256, "<|s_65535|>", 128256 + 8 + 65535),
        ("glm-4-voice", (16384,), 151342, "<|audio_7|>", 151342 + 2 + 7),
        ("orpheus", (4096,) * 7, 128256, "<custom_token_10>", 128266),
        ("orpheus", (4096,) * 7, 128256, "<custom_token_4107>", 132363),
        ("slamkit", (500,), 50272, "<Un499>", 50272 + 499),
        ("spirit-lm", (501,), 32000, "[Hu500]", 32000 + 2 + 500),
        ("espnet", (1024,) * 8, 0, "<codec_layer7_1023>", 8191),
        ("<|x_{codebook}.{code}|>", (4, 4), 10, "<|x_1.0|>", 10 + 3 + 4),
    ],
)
def test_published_names(naming, sizes, first, name, index):
    vocabulary = Vocabulary(token_spec(sizes), first, naming=naming)
    assert vocabulary.name(index) == name
    assert vocabulary.parse(name).tolist() == [index]


def test_orpheus_as_published():
    """SNAC in one stream: id = 128266 + 4096 × slot + code."""
    vocabulary = Vocabulary(token_spec((4096,) * 7), 128256, naming="orpheus")
    pattern = vocabulary.bind(patterns.SNAC((4096,) * 7), special="<custom_token_7>")
    codes = pattern.from_levels([np.array([1]), np.array([11, 12]), np.array([21, 22, 23, 24])])
    assert pattern.lay(codes)[0].tolist() == [
        [128267, 132373, 136479, 140576, 144662, 148769, 152866]
    ]


def test_levels_of_several_rates_share_their_ids():
    vocabulary = Vocabulary(token_spec((1024, 4096)), 65533)
    pattern = vocabulary.bind(patterns.StepAudio((1024,) * 2 + (4096,) * 3))
    assert pattern.base == (65536, 65536, 66560, 66560, 66560)


@given(st.integers(0, 3000), st.integers(0, 3000))
@settings(max_examples=60)
def test_a_regex_of_numbers_takes_these_and_no_others(first, count):
    found = re.compile(numbers(first, first + count))
    for number in range(7000):
        assert bool(found.fullmatch(str(number))) == (first <= number <= first + count)
    assert not found.fullmatch("0" + str(first))


@given(st.sampled_from(sorted(NAMINGS)), st.lists(st.integers(2, 99), min_size=1, max_size=4))
@settings(max_examples=60)
def test_a_regex_of_names_takes_these_and_no_others(naming, sizes):
    made = NAMINGS[naming]
    if not made.tells_codebooks_apart():
        sizes = sizes[:1]
    names = made.names(sizes)
    found = re.compile(made.regex(sizes))
    assert len(set(names)) == sum(sizes)
    assert all(found.fullmatch(name) for name in names)
    beyond = Naming(made.template, (), made.first_number).names([size + 1 for size in sizes])
    assert all(bool(found.fullmatch(name)) == (name in set(names)) for name in beyond)
    assert found.findall("".join(names)) == names


# --- bad input -----------------------------------------------------------------------------------


def test_tokens_of_another_tokenizer():
    vocabulary = Vocabulary(token_spec(name="rvq"), 100)
    with pytest.raises(TokenMismatchError, match=r"made by other .*not by rvq"):
        vocabulary.encode(tokens_of(token_spec(digest="cd", name="other")))
    with pytest.raises(TokenMismatchError, match=r"of rvq \(abab.*not of other \(cdcd"):
        vocabulary.check_spec(token_spec(digest="cd", name="other"))
    vocabulary.check_spec(token_spec(name="a copy of rvq"))


def test_codes_beyond_the_vocabulary():
    spec = token_spec((8, 8))
    vocabulary = Vocabulary(spec, 100)
    tokens = tokens_of(spec)
    tokens.codes[0, 1, 2] = 8
    with pytest.raises(TokenError, match="code 8 is out of range: codebook 1"):
        vocabulary.encode(tokens)
    with pytest.raises(TokenError, match="1 codebooks; this vocabulary is for 2"):
        vocabulary.encode(tokens_of(spec, codebooks=1))


def test_ids_that_are_no_codes():
    vocabulary = Vocabulary(token_spec((8, 8)), 100)
    good = vocabulary.encode(tokens_of(token_spec((8, 8))))[0]
    for wrong, message in (
        (100, r"utterance 1: id 100 .* is <\|speech_start\|>: leave markers out"),
        (5, "id 5 is not of the speech of codec at all"),
        (10_000, "id 10000 is not of the speech"),
        (int(good[1]), "where a code of codebook 0 belongs"),
    ):
        bad = good.copy()
        bad[2] = wrong
        with pytest.raises(TokenError, match=message):
            vocabulary.decode([good, bad])
    with pytest.raises(PatternError, match="Steps that are cut short"):
        vocabulary.decode([good[:-1]])
    with pytest.raises(VocabularyError, match="no name of this vocabulary"):
        vocabulary.parse("<|s0_0|><|s0_8|>")
    with pytest.raises(VocabularyError, match="not of this vocabulary"):
        vocabulary.name(99)


def test_durations_are_not_lost_unseen():
    spec = token_spec((4,))
    tokens = tokens_of(spec, (9,)).deduplicate()
    vocabulary = Vocabulary(spec, 0)
    with pytest.raises(TokenError, match="restore"):
        vocabulary.encode(tokens)
    (row,) = vocabulary.encode(tokens, drop_durations=True)
    assert np.array_equal(vocabulary.decode([row]).codes[0], tokens.codes[0, :, : len(row)])


def test_global_codes_that_are_missing():
    spec = token_spec((8,), global_codebook_sizes=(5, 6))
    vocabulary = Vocabulary(spec, 100)
    (row,) = vocabulary.encode(tokens_of(spec, (3,)))
    with pytest.raises(TokenError, match="must begin with 2 ids of global codes"):
        vocabulary.decode([row[2:]])
    with pytest.raises(TokenError, match="no place for"):
        two = token_spec((8, 8), global_codebook_sizes=(5,))
        Vocabulary(two, 0).encode(tokens_of(two), patterns.Delay((8, 8)))


@pytest.mark.parametrize(
    "make",
    [
        lambda spec: Vocabulary(spec, -1),
        lambda spec: Vocabulary(spec, 2**31),
        lambda spec: Vocabulary(spec, 0, codebooks=5),
        lambda spec: Vocabulary(spec, 0, naming="llasa"),  # one name for four codebooks
        lambda spec: Vocabulary(spec, 0, naming="<s>"),
        lambda spec: Vocabulary(spec, 0, naming="s{number}"),
        lambda spec: Vocabulary(spec, 0, naming="1{number}>"),
        lambda spec: Vocabulary(spec, 0, naming="<{codebook}{code}>"),
        lambda spec: Vocabulary(spec, 0, naming="<{code} {codebook}>"),
        lambda spec: Vocabulary(spec, 0, naming="<{unit}>"),
        lambda spec: Vocabulary(spec, 0, naming="<{code"),
        lambda spec: Vocabulary(spec, 0, naming="<{code:04}_{codebook}>"),
        lambda spec: Vocabulary(spec, 0, markers=("<a>", "<a>")),
        lambda spec: Vocabulary(spec, 0, markers=("<|s0_1|>",)),
        lambda spec: Vocabulary(spec, 0, markers=("",)),
        lambda spec: Vocabulary(spec, 0).marker("<a>"),
        lambda spec: Vocabulary(spec, 0).bind(patterns.Delay((1024,) * 3)),
        lambda spec: Vocabulary(spec, 0, naming="espnet").bind(patterns.Delay((1024,) * 4)),
        lambda spec: Vocabulary.from_json({"format": "x"}),
        lambda spec: Vocabulary.from_json({**Vocabulary(spec, 0).to_json(), "first": "0"}),
        lambda spec: Vocabulary.from_json({**Vocabulary(spec, 0).to_json(), "more": 0}),
        lambda spec: Vocabulary.from_description("<|x|>"),
        lambda spec: Vocabulary.from_description(Vocabulary(spec, 0).description[:-9] + "|>"),
    ],
)
def test_vocabularies_that_can_t_be(make):
    with pytest.raises(VocabularyError):
        make(token_spec())


def test_a_tensor_of_a_model(tmp_path):
    """What `generate` gives goes back as it is."""
    spec = token_spec((8, 8))
    vocabulary = Vocabulary(spec, 100)
    tokens = tokens_of(spec)
    rows = [torch.from_numpy(row) for row in vocabulary.encode(tokens)]
    assert vocabulary.decode(rows).equal(tokens)


def test_an_end_of_its_own():
    """The end of VALL-E's first stage is a marker, whatever it was among bare codes."""
    spec = token_spec((8, 8))
    vocabulary = Vocabulary(spec, 100)
    bare = patterns.VallE((8, 8), end=9)
    bound = vocabulary.bind(bare, end="<|speech_end|>")
    tokens = tokens_of(spec, (3,))
    (row,) = vocabulary.encode(tokens, bound)
    assert row[3] == vocabulary.marker("<|speech_end|>") == 101
    assert vocabulary.decode([row], bound).equal(tokens)
    assert vocabulary.encode(tokens, bare)[0][3] == vocabulary.marker("<|speech_pad|>")


def test_a_pattern_that_another_vocabulary_bound():
    """Its ids are those of the vocabulary that encodes, not of the one before."""
    spec = token_spec((8, 8))
    one, other = Vocabulary(spec, 100), Vocabulary(spec, 104)
    tokens = tokens_of(spec, (3,))
    moved = one.bind(patterns.Delay((8, 8)))
    (row,) = other.encode(tokens, moved)
    assert np.array_equal(row, other.encode(tokens, patterns.Delay((8, 8)))[0])
    assert other.decode([row], moved).equal(tokens)
