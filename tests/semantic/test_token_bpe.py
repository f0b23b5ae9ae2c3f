from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from syllabary.bpe import UnitBPE
from syllabary.bpe.vocabulary import Vocabulary
from syllabary.codecs.container import read_tokens, write_tokens
from syllabary.codecs.spec import TokenSpec
from syllabary.codecs.tokens import Tokens
from syllabary.errors import BPEError, TokenError, TokenMismatchError
from syllabary.semantic import bundled_bpe as names
from syllabary.semantic.token_bpe import PieceCoder, bundled_bpe, fit_bpe, load_bpe, share_frames

SPEC = TokenSpec("units", "d" * 64, 16000, Fraction(50), (5,))
TWO = TokenSpec("two", "e" * 64, 16000, Fraction(50), (4, 3), (7,))
PIECES = {
    SPEC: [[0, 1], [1, 0], [0, 1, 0], [2, 2], [2, 2, 2, 2], [3, 4, 3]],
    TWO: [[0, 4], [4, 1], [0, 4, 1, 5], [5, 2], [6, 3, 6]],
}


def bpe_for(spec, kind="bpe", **fields):
    sizes = spec.codebook_sizes
    longer = [np.array(piece) for piece in PIECES[spec]]
    scores = -np.arange(1, 1 + sum(sizes) + len(longer)) if kind == "unigram" else None
    vocabulary = Vocabulary.of_pieces(kind, sum(sizes), longer, scores)
    return UnitBPE(vocabulary, sizes, "small", **fields)


@st.composite
def batches(draw, spec):
    rows = []
    for _ in range(draw(st.integers(1, 3))):
        count = draw(st.integers(0, 12))
        runs = draw(st.lists(st.integers(1, 4), min_size=count, max_size=count))
        codes = np.array(
            [
                draw(st.lists(st.integers(0, size - 1), min_size=count, max_size=count))
                for size in spec.codebook_sizes
            ],
            np.int64,
        ).reshape(len(spec.codebook_sizes), count)
        codes = np.repeat(codes, runs, axis=1)
        frames = codes.shape[1]
        samples = frames * spec.hop - (draw(st.integers(0, spec.hop - 1)) if frames else 0)
        sizes = spec.global_codebook_sizes
        rows.append(
            Tokens(
                torch.from_numpy(codes)[None],
                torch.tensor([frames]),
                torch.tensor([samples]),
                spec,
                global_codes=torch.tensor([[draw(st.integers(0, s - 1)) for s in sizes]])
                if sizes
                else None,
            )
        )
    return Tokens.batch(rows)


@pytest.mark.parametrize("spec", [SPEC, TWO], ids=["one codebook", "two"])
@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_there_and_back(spec, kind):
    bpe = bpe_for(spec, kind)

    @settings(max_examples=60, deadline=None)
    @given(batches(spec), st.booleans())
    def check(tokens, merged_before):
        given_tokens = tokens.deduplicate() if merged_before else tokens
        coder = PieceCoder(bpe, spec, deduplicate=False)
        pieces = coder.encode(given_tokens)
        pieces.check()
        assert coder.decode(pieces).equal(tokens)
        ticks = tokens.lengths * len(spec.codebook_sizes)
        assert torch.equal(pieces.num_frames, ticks)

        coder = PieceCoder(bpe, spec, deduplicate=True)
        pieces = coder.encode(given_tokens)
        pieces.check()
        assert torch.equal(pieces.num_frames, ticks)
        back, exact = coder.decode(pieces), tokens.deduplicate()
        back.check()
        assert back.equal(replace(exact, durations=back.durations))  # the units, exactly
        assert torch.equal(back.num_frames, tokens.lengths)
        assert coder.decode(pieces, exact.durations).equal(exact)
        assert torch.equal(coder.encode(back).codes, pieces.codes)
        if not bool((pieces.lengths == exact.lengths * len(spec.codebook_sizes)).all()):
            assert int(pieces.lengths.sum()) < int(exact.lengths.sum()) * len(spec.codebook_sizes)

    check()


@settings(max_examples=30, deadline=None)
@given(batches(TWO))
def test_rows_do_not_depend_on_their_neighbours_and_files_hold_them(tmp_path_factory, tokens):
    coder = PieceCoder(bpe_for(TWO), TWO, deduplicate=True)
    pieces = coder.encode(tokens)
    path = tmp_path_factory.mktemp("pieces") / "x.syl"
    for row in range(len(tokens)):
        alone = coder.encode(tokens[row])
        assert alone.equal(pieces[row])
        write_tokens(path, alone)
        assert coder.decode(read_tokens(path)).equal(coder.decode(alone))


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_shares(data):
    """Whole, at least one frame each, near the expectation, and independent of other groups."""
    drawn = data.draw(st.lists(st.integers(1, 6), min_size=1, max_size=5))
    sizes, count = np.array(drawn), sum(drawn)
    spare = data.draw(st.lists(st.integers(0, 50), min_size=len(sizes), max_size=len(sizes)))
    frames = sizes + np.array(spare)
    means = st.floats(1, 30)
    expected = np.array(data.draw(st.lists(means, min_size=count, max_size=count)))
    shares = share_frames(frames, sizes, expected)
    assert shares.min() >= 1
    ends = np.cumsum(sizes)
    for size, end, total in zip(sizes, ends, frames, strict=True):
        group = slice(end - size, end)
        assert shares[group].sum() == total
        alone = share_frames(np.array([total]), np.array([size]), expected[group])
        assert np.array_equal(alone, shares[group])
        extra = expected[group] - 1 + 1 / 256
        wanted = 1 + (total - size) * extra / extra.sum()
        assert np.abs(shares[group] - wanted).max() <= 1.5 + (total - size) * size / 200


def test_mean_durations_steer_the_shares():
    tokens = Tokens(
        torch.tensor([[[0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 2]]]),
        torch.tensor([12]),
        torch.tensor([12 * 320]),
        SPEC,
    )
    durations = np.array([5.0, 1.0, 1.0, 1.0, 1.0])
    coder = PieceCoder(bpe_for(SPEC, unit_durations=durations, deduplicated=True), SPEC)
    pieces = coder.encode(tokens)
    assert pieces.codes.tolist() == [[[7, 2]]] and pieces.durations.tolist() == [[11, 1]]
    assert coder.decode(pieces).durations.tolist() == [[5, 1, 5, 1]]
    plain = PieceCoder(bpe_for(SPEC), SPEC, deduplicate=True)
    assert plain.decode(pieces).durations.tolist() == [[4, 3, 4, 1]]
    assert coder.from_ids([np.array([7, 2])]).equal(
        replace(pieces, num_samples=torch.tensor([3840]))
    )


def test_mean_durations_of_several_codebooks():
    """A frame lasts the mean of its codes'; pieces that share one share it as in encoding."""
    durations = np.array([3.0, 1.0, 1.0, 1.0, 7.0, 2.0, 1.0])
    spec = replace(TWO, global_codebook_sizes=())
    coder = PieceCoder(bpe_for(TWO, unit_durations=durations, deduplicated=True), spec)
    # Frames as single units, as one piece, and with a piece from within one into the next.
    for ids, expected in (
        ([0, 4, 0, 5], [5, 5, 3, 3]),  # means 5 and 2.5, rounded up
        ([7, 0, 5], [10, 3, 3]),
        ([0, 8, 5], [5, 7, 2]),  # 5 and 1.5: 7 in all, of which the first frame has 5
    ):
        made = coder.from_ids([np.array(ids)])
        assert made.durations[0].tolist() == expected
        assert made.num_samples.tolist() == [sum(expected) * 160]
        again = coder.encode(coder.decode(made).restore())
        assert int(again.durations.sum()) == sum(expected)
    across = coder.from_ids([np.array([0, 4, 0, 5, 0, 4])])
    assert across.durations[0].tolist() == [5, 5, 3, 3, 5, 5]


def test_the_spec_says_all():
    bpe = bpe_for(SPEC)
    one, other = PieceCoder(bpe, SPEC, True).spec, PieceCoder(bpe, SPEC, False).spec
    assert one.tokenizer == "units+small" and one.codebook_sizes == (11,)
    assert (one.sample_rate, one.frame_rate) == (16000, 50)
    assert len({one.digest, other.digest, SPEC.digest, bpe.digest}) == 4
    two = PieceCoder(bpe_for(TWO), TWO).spec
    assert two.frame_rate == 100 and two.global_codebook_sizes == (7, 320)
    assert PieceCoder(replace(bpe, deduplicated=True), SPEC).spec == one


def tokens_of(codes, spec=SPEC, durations=None):
    codes = torch.tensor([codes])
    frames = codes.shape[-1] if durations is None else sum(durations)
    held = None if durations is None else torch.tensor([durations])
    return Tokens(
        codes, torch.tensor([codes.shape[-1]]), torch.tensor([frames * spec.hop]), spec, held
    )


def test_what_does_not_fit_is_a_named_error():
    bpe = bpe_for(SPEC)
    coder = PieceCoder(bpe, SPEC, deduplicate=True)
    with pytest.raises(TokenMismatchError, match="made by two"):
        coder.encode(tokens_of([[0, 1], [0, 1]], replace(TWO, global_codebook_sizes=())))
    with pytest.raises(TokenMismatchError, match="was trained on the units"):
        PieceCoder(replace(bpe, source="f" * 64), SPEC)
    with pytest.raises(BPEError, match=r"for codebooks of \[5\] codes; two has \[4, 3\]"):
        PieceCoder(bpe, TWO)
    odd = replace(TWO, sample_rate=16050, global_codebook_sizes=())
    with pytest.raises(BPEError, match="frames of 321"):
        PieceCoder(bpe_for(TWO), odd)
    with pytest.raises(TokenError, match="code 5 is out of range"):
        coder.encode(tokens_of([[5]]))
    pieces = coder.encode(tokens_of([[0, 1, 0, 0]]))
    with pytest.raises(TokenMismatchError):
        PieceCoder(bpe, SPEC, deduplicate=False).decode(pieces)
    short = tokens_of([[7]], coder.spec, [2])
    with pytest.raises(TokenError, match="row 0: 3 units can't share 2 frames"):
        coder.decode(short)
    for durations, what in [
        ([[1, 1]], "the pieces have 3"),
        ([[2, 1, 1, 1]], "the pieces have 3"),
        ([[2, 0, 2]], "at least 1 frame"),
        ([[1, 1, 1]], "don't sum"),
    ]:
        with pytest.raises(TokenError, match=what):
            coder.decode(pieces, torch.tensor(durations))
    every = PieceCoder(bpe, SPEC, deduplicate=False)
    with pytest.raises(TokenError, match="lasts as long as it has units"):
        every.decode(tokens_of([[7]], every.spec, [4]))
    both = PieceCoder(bpe_for(TWO), TWO)
    with pytest.raises(TokenError, match="2 codebooks, got 1"):
        both.encode(
            Tokens(
                torch.zeros(1, 1, 2, dtype=torch.long),
                torch.tensor([2]),
                torch.tensor([640]),
                TWO,
                global_codes=torch.tensor([[0]]),
            )
        )


def test_a_part_of_several_codebooks_gives_its_whole_frames():
    coder = PieceCoder(bpe_for(TWO), TWO, deduplicate=False)
    tokens = Tokens(
        torch.tensor([[[0, 1, 2, 3], [0, 1, 2, 0]]]),
        torch.tensor([4]),
        torch.tensor([4 * 320 - 100]),
        TWO,
        global_codes=torch.tensor([[6]]),
    )
    pieces = coder.encode(tokens)
    for kept in range(int(pieces.lengths) + 1):
        ticks = int(pieces.durations[0, :kept].sum())
        cut = Tokens(
            pieces.codes[..., :kept],
            torch.tensor([kept]),
            torch.tensor([ticks * coder.spec.hop]),
            coder.spec,
            pieces.durations[:, :kept],
            pieces.global_codes,
        )
        assert (
            coder.decode(cut, partial=True).equal(tokens.frames(0, ticks // 2)) or ticks // 2 == 4
        )


def test_fit_learns_pieces_and_durations():
    rng = np.random.default_rng(0)
    rows = []
    for _ in range(30):
        units = np.repeat([0, 1, 2, 3], [3, 1, 2, 1])
        codes = np.concatenate([units, rng.integers(0, 4, 30)])
        rows.append(tokens_of([codes.tolist()]))
    bpe = fit_bpe(rows, 12, name="fit")
    assert (bpe.deduplicated, bpe.source, bpe.name, bpe.vocab_size) == (
        True,
        SPEC.digest,
        "fit",
        12,
    )
    merged = Tokens.batch(rows).deduplicate()
    for unit in range(4):
        mask = (merged.codes[:, 0] == unit) & (merged.durations > 0)
        assert bpe.unit_durations[unit] == pytest.approx(
            float(merged.durations[mask].float().mean()), abs=1e-3
        )
    # Unit 4 never occurs.
    overall = merged.durations.sum() / merged.lengths.sum()
    assert bpe.unit_durations[4] == pytest.approx(float(overall), abs=1e-3)
    assert fit_bpe(iter(rows), 12, name="fit").digest == bpe.digest
    assert fit_bpe([Tokens.batch(rows)], 12).digest == bpe.digest
    every = fit_bpe(rows, 12, deduplicate=False)
    assert every.unit_durations is None and not every.deduplicated
    with pytest.raises(BPEError, match="no tokens to train on"):
        fit_bpe([], 12)
    with pytest.raises(TokenMismatchError):
        fit_bpe([rows[0], replace(rows[1], spec=replace(SPEC, digest="0" * 64))], 12)


def test_names(tmp_path, monkeypatch):
    monkeypatch.setattr(names, "BUNDLED", tmp_path)
    bundled_bpe.cache_clear()
    with pytest.raises(BPEError, match="inside the package: there are none"):
        load_bpe("units-bpe-4k")
    bpe_for(SPEC).save(tmp_path / "units-bpe-4k")
    assert names.list_bpes() == ["units-bpe-4k"]
    assert load_bpe("units-bpe-4k") is bundled_bpe("units-bpe-4k")
    with pytest.raises(BPEError, match=r"no byte-pair encoding '\.\./x' inside"):
        bundled_bpe("../x")
    assert load_bpe(tmp_path / "units-bpe-4k").name == "small"
    bundled_bpe.cache_clear()
    assert names.split_name("units-16k+units-bpe-4k") == ("units-16k", "units-bpe-4k")
    assert names.split_name("dmel+num_levels=8+b") == ("dmel+num_levels=8", "b")
    for plain in ("units", "dmel+num_levels=8", "+x", "x+", "x+a/b", "x+../y"):
        assert names.split_name(plain) is None
