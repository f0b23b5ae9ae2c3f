from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import syllabary
from syllabary.audio.resampling import resample
from syllabary.codecs.spec import TokenizerSpec, TokenSpec, bits_for
from syllabary.codecs.tokens import Tokens
from syllabary.errors import TokenError, TokenMismatchError, WaveError

SPEC = TokenSpec("toy", "d" * 64, 16000, Fraction(50), (10, 1024), ())


def make(lengths, short_by=0, seed=0, spec=SPEC):
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(0, 3, (len(lengths), 2, max(lengths, default=0)), generator=generator)
    lengths = torch.tensor(lengths)
    samples = (lengths * spec.hop - short_by).clamp(0)
    return Tokens(codes, lengths, samples, spec)


def test_bits_for():
    assert [bits_for(size) for size in (2, 3, 4, 5, 1024, 1025, 65536)] == [1, 2, 2, 3, 10, 11, 16]


def test_spec_arithmetic():
    assert SPEC.hop == 320
    assert SPEC.bits_per_frame() == 14
    assert SPEC.bitrate() == 700
    assert SPEC.bitrate(1) == 200
    assert [SPEC.frames_for(n) for n in (0, 1, 319, 320, 321)] == [0, 1, 1, 1, 2]
    assert TokenSpec.from_json(SPEC.to_json()) == SPEC


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("sample_rate", 0),
        ("sample_rate", "16000"),
        ("frame_rate", [0, 1]),
        ("frame_rate", [50]),
        ("frame_rate", [3, 7.5]),
        ("frame_rate", [16000, 321]),
        ("frame_rate", [17, 1]),
        ("codebook_sizes", [[1, 1]]),
        ("codebook_sizes", [[2.5, 1]]),
        ("codebook_sizes", [[16, 5000]]),
        ("codebook_sizes", [16]),
        ("tokenizer", None),
        ("digest", 3),
        ("bogus", 3),
    ],
)
def test_bad_specs(field, value):
    fields = SPEC.to_json()
    if value == [16000, 321]:
        TokenSpec.from_json(fields | {field: value})  # a hop of 321 samples is fine
        return
    with pytest.raises(TokenError):
        TokenSpec.from_json(fields | {field: value})
    fields.pop(field, None)
    if field == "bogus":
        return
    with pytest.raises(TokenError):
        TokenSpec.from_json(fields)


def test_a_tokenizer_spec_knows_its_promises():
    fields = ("x", True, 1, 1, 1, 0, None, "Apache-2.0", "here", "toy")
    assert TokenizerSpec(SPEC, *fields, {"streaming-equality": "looks ahead"}).broken_promises
    with pytest.raises(ValueError, match="unknown promises"):
        TokenizerSpec(SPEC, *fields, {"being-nice": "no"})


def test_rows_and_frames():
    tokens = make([5, 3], short_by=100)
    assert len(tokens) == 2
    assert tokens[1].lengths.tolist() == [3]
    assert tokens[-1].equal(tokens[1])
    assert tokens[0:2].equal(tokens)
    with pytest.raises(IndexError):
        tokens[2]
    part = tokens.frames(2, 4)
    assert part.lengths.tolist() == [2, 1]
    assert part.num_samples.tolist() == [640, 220]
    part.check()
    with pytest.raises(TokenError, match="start"):
        tokens.frames(3, 2)
    assert tokens.keep_codebooks(1).codes.shape == (2, 1, 5)
    for count in (0, -1, 3):
        with pytest.raises(TokenError, match="1 to 2 codebooks"):
            tokens.keep_codebooks(count)
    assert tokens[torch.tensor(1)].equal(tokens[1])
    assert tokens.keep_codebooks(1).bitrate() < tokens.bitrate()
    assert tokens.to("cpu").equal(tokens)
    assert tokens.duration() == (1500 + 860) / 16000


@given(
    lengths=st.lists(st.integers(0, 9), min_size=1, max_size=4),
    cuts=st.lists(st.integers(0, 9), max_size=4),
    short_by=st.integers(0, 319),
)
def test_cutting_and_joining(lengths, cuts, short_by):
    tokens = make(lengths, short_by)
    bounds = [0, *sorted(cuts), 9]
    parts = [tokens.frames(a, b) for a, b in pairwise(bounds)]
    assert Tokens.concat(parts).equal(tokens)
    assert Tokens.batch([tokens[row] for row in range(len(tokens))]).equal(tokens)


@given(lengths=st.lists(st.integers(0, 30), min_size=1, max_size=4), seed=st.integers(0, 99))
def test_merging_runs(lengths, seed):
    tokens = make(lengths, short_by=7, seed=seed)
    merged = tokens.deduplicate()
    merged.check()
    assert merged.restore().equal(tokens)
    assert merged.deduplicate().equal(merged)
    assert torch.equal(merged.num_frames, tokens.num_frames)
    for row in range(len(tokens)):
        codes = merged.codes[row, :, : int(merged.lengths[row])]
        assert not (codes[:, 1:] == codes[:, :-1]).all(0).any()


def test_equality():
    tokens = make([4, 2])
    assert tokens.equal(make([4, 2]))
    padded = Tokens(
        torch.nn.functional.pad(tokens.codes, (0, 3), value=9).int(),
        tokens.lengths.int(),
        tokens.num_samples,
        SPEC,
    )
    assert tokens.equal(padded) and padded.equal(tokens)
    assert not tokens.equal(make([4, 3]))
    assert not tokens.equal(make([4, 2], short_by=1))
    assert not tokens.equal(make([4, 2], seed=1))
    assert not tokens.equal(tokens.deduplicate())


def test_what_can_not_be_joined():
    tokens = make([4, 2])
    other = make([4, 2], spec=TokenSpec("other", "e" * 64, 16000, Fraction(50), (10, 1024)))
    with pytest.raises(TokenMismatchError, match=r"other \(eeee.*toy \(dddd"):
        Tokens.concat([tokens, other])
    with pytest.raises(TokenError, match="batch sizes"):
        Tokens.concat([tokens, tokens[0]])
    with pytest.raises(TokenError, match="codebooks"):
        Tokens.batch([tokens, tokens.keep_codebooks(1)])
    with pytest.raises(TokenError, match="durations"):
        Tokens.batch([tokens, tokens.deduplicate()])
    with pytest.raises(TokenError, match="at least one"):
        Tokens.concat([])
    with pytest.raises(TokenError, match="within a frame"):
        Tokens.concat([make([4], short_by=5), make([4])])
    with pytest.raises(TokenError, match="within a frame"):
        Tokens.concat([make([4], short_by=5).deduplicate(), make([4]).deduplicate()])
    with pytest.raises(TokenError, match="restore"):
        tokens.deduplicate().frames(0, 1)


def test_global_codes():
    spec = TokenSpec("g", "f" * 64, 16000, Fraction(50), (10, 1024), (8, 8))
    codes, lengths = torch.zeros(2, 2, 3, dtype=torch.long), torch.tensor([3, 3])
    with pytest.raises(TokenError, match="global_codes"):
        Tokens(codes, lengths, lengths * 320, spec)
    tokens = Tokens(
        codes, lengths, lengths * 320, spec, global_codes=torch.tensor([[1, 2], [3, 8]])
    )
    with pytest.raises(TokenError, match="global code 8"):
        tokens.check()
    tokens[0].check()
    assert Tokens.batch([tokens[1], tokens[0]]).global_codes.tolist() == [[3, 8], [1, 2]]


def test_what_is_printed_is_short():
    assert repr(make([4, 2])) == "Tokens('toy', batch 2 × 2 codebooks × 4 frames, 0.12 s, cpu)"
    spec = TokenSpec("many", "d" * 64, 16000, Fraction(50), (16,) * 80 + (4,))
    assert repr(spec).endswith("16000 Hz, 50 frames/s, codebooks 80 × 16, 1 × 4)")


def test_any_integers_become_int64():
    tokens = make([4, 2]).deduplicate()
    for dtype in (torch.int8, torch.uint8, torch.uint16, torch.int32, torch.uint32):
        small = Tokens(
            tokens.codes.to(dtype),
            tokens.lengths.to(dtype),
            tokens.num_samples,
            SPEC,
            tokens.durations.to(dtype),
        )
        small.check()
        assert small.equal(tokens) and small.restore().equal(make([4, 2]))
        assert small.codes.dtype == small.durations.dtype == torch.int64


def test_what_lies_beyond_the_lengths_never_counts():
    tokens = make([3, 5]).deduplicate()
    longest = tokens.codes.shape[-1]
    pad = torch.nn.functional.pad
    padded = Tokens(
        pad(tokens.codes, (0, 2), value=7),
        tokens.lengths,
        tokens.num_samples,
        SPEC,
        pad(tokens.durations, (0, 2), value=9),
    )
    padded.check()
    assert padded.equal(tokens) and padded.codes.shape[-1] == longest + 2
    assert padded.restore().equal(tokens.restore())


def test_bad_durations():
    tokens = make([3]).deduplicate()
    bad = Tokens(tokens.codes, tokens.lengths, tokens.num_samples, SPEC, tokens.durations * 0)
    with pytest.raises(TokenError, match="duration"):
        bad.check()


@pytest.mark.parametrize("form", [lambda t: t.numpy(), lambda t: t.tolist(), lambda t: "codes"])
@pytest.mark.parametrize("name", ["codes", "lengths", "num_samples", "durations"])
def test_what_is_no_tensor_is_named(form, name):
    fields = {
        "codes": torch.zeros(1, 2, 3, dtype=torch.long),
        "lengths": torch.tensor([3]),
        "num_samples": torch.tensor([3 * 320]),
        "durations": torch.ones(1, 3, dtype=torch.long),
    }
    fields[name] = form(fields[name])
    kind = type(fields[name]).__name__
    with pytest.raises(TokenError, match=f"{name} must be a tensor of integers, got {kind}"):
        Tokens(spec=SPEC, **fields)


@pytest.mark.parametrize("rate", ["16000", b"16000", None, True, [16000]])
def test_a_sample_rate_that_is_no_number_is_named_with_its_type(rate):
    tokenizer = syllabary.load("dmel")
    wave = np.zeros(1600, np.float32)
    with pytest.raises(WaveError, match=f"a number in Hz, got .*{type(rate).__name__}"):
        tokenizer.encode(wave, rate)
    with pytest.raises(WaveError, match="numbers in Hz"):
        resample(wave, 8000, rate)
    for same in (16000, 16000.0, np.int64(16000), torch.tensor(16000)):
        assert tokenizer.encode(wave, same).equal(tokenizer.encode(wave, 16000))
