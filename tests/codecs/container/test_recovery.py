"""Damaged files: a chunk costs its own frames, and all others are right and in their place."""

import io
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syllabary.codecs.container import (
    ContainerWarning,
    SylReader,
    read_tokens,
    recover_tokens,
    write_tokens,
)
from syllabary.codecs.container.layout import CHECK, CHUNK, TOTALS
from syllabary.codecs.tokens import Tokens
from syllabary.errors import ContainerError

from .test_container import GOOD, SPEC, chunk, header, make, write

FRAMES, SIZE = 100, 16


def merged(tokens):
    """The same with runs, as units have them."""
    codes = tokens.codes.repeat_interleave(3, -1)[..., : tokens.codes.shape[2]].contiguous()
    return Tokens(codes, tokens.lengths, tokens.num_samples, SPEC).deduplicate()


def parts_of(data):
    """The header of a file, and its chunks."""
    reader = SylReader(io.BytesIO(data))
    start = reader.bytes_read
    parts = [data[:start]]
    while start < len(data):
        size = CHUNK.size + CHECK.size + CHUNK.unpack_from(data, start)[1]
        parts.append(data[start : start + size])
        start += size
    return parts


def read_all(data, recover):
    """Codes of frames (codebooks, frames), which of them are lost, and the reader."""
    reader = SylReader(io.BytesIO(data), recover=recover)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ContainerWarning)
        tokens = reader.tokens()
    tokens.check()
    return tokens.restore().codes[0].numpy(), reader.lost.mask(), reader


@st.composite
def damages(draw, count):
    """A damage of one of `count` chunks: what is done to the list of all."""
    kind = draw(st.sampled_from(["bytes", "missing", "garbage before", "twice"]))
    at = draw(st.integers(0, count - 1))
    random = np.random.default_rng(draw(st.integers(0, 999)))

    def bytes_changed(part):
        values = np.frombuffer(part, np.uint8).copy()
        places = random.choice(len(values), min(len(values), int(random.integers(1, 9))), False)
        values[places] ^= random.integers(1, 256, len(places), np.uint8)
        return values.tobytes()

    def apply(parts):
        if kind == "bytes":
            parts[at] = bytes_changed(parts[at])
        elif kind == "missing":
            parts[at] = b""
        elif kind == "garbage before":
            parts[at] = random.bytes(int(random.integers(1, 300))) + parts[at]
        else:
            parts[at] = parts[at] * 2

    return kind, at, apply


CASES = [
    pytest.param(compress, runs, told, id=f"{'coded' * compress}-{'runs' * runs}-{'told' * told}")
    for compress in (False, True)
    for runs in (False, True)
    for told in (False, True)
]


def original(compress, runs, told):
    tokens = merged(make(FRAMES)) if runs else make(FRAMES)
    length = int(tokens.num_samples[0]) if told else None
    data = write(tokens, chunk=SIZE, compress=compress, num_samples=length)
    return tokens, data


def frames_of_chunks(data):
    """(first frame, frame after the last) of each chunk of codes."""
    reader = SylReader(io.BytesIO(data))
    sizes = [
        part.codes.shape[1] if part.durations is None else int(part.durations.sum())
        for part in reader.chunks()
    ]
    ends = np.cumsum(sizes).tolist()
    return list(zip([0, *ends[:-1]], ends, strict=True))


@pytest.mark.parametrize(("compress", "runs", "told"), CASES)
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_any_damage_costs_its_own_frames(compress, runs, told, data):
    tokens, whole = original(compress, runs, told)
    expected, lost, reader = read_all(whole, recover=True)
    assert not lost.any() and not reader.damaged and reader.complete
    assert np.array_equal(expected, tokens.restore().codes[0].numpy())
    head, *parts = parts_of(whole)
    spans = frames_of_chunks(whole)
    damaged = data.draw(st.lists(damages(len(parts)), min_size=1, max_size=4))
    for _, _, apply in damaged:
        apply(parts)
    # What is cut: the end of the file, anywhere.
    cut = data.draw(st.one_of(st.just(0), st.integers(0, sum(map(len, parts)))))
    rest = b"".join(parts)
    codes, lost, reader = read_all(head + rest[: len(rest) - cut], recover=True)
    # No frame is wrong and unmarked, and time is kept.
    assert codes.shape[1] == len(lost) <= FRAMES
    assert np.array_equal(codes[:, ~lost], expected[:, : len(lost)][:, ~lost])
    assert not codes[:, lost].any()
    assert reader.damaged == (head + rest[: len(rest) - cut] != whole)
    assert reader.length_known == (told or reader.complete)
    if reader.length_known:
        assert len(lost) == FRAMES and reader.num_samples == int(tokens.num_samples[0])
    # Chunks that were not touched lose nothing.
    touched = {at for _, at, _ in damaged}
    end = 0
    for number, (part, span) in enumerate(zip(parts[:-1], spans, strict=True)):
        end += len(part)
        if number not in touched and end <= len(rest) - cut:
            assert not lost[slice(*span)].any()


@pytest.mark.parametrize(("compress", "runs", "told"), CASES)
def test_every_flipped_bit_costs_one_chunk(compress, runs, told):
    tokens, whole = original(compress, runs, told)
    expected = tokens.restore().codes[0].numpy()
    first = len(parts_of(whole)[0])
    spans, losses = frames_of_chunks(whole), set()
    for index in range(len(whole)):
        damaged = bytearray(whole)
        damaged[index] ^= 1 << index % 8
        if index < first:
            with pytest.raises(ContainerError):
                read_all(bytes(damaged), recover=True)
            continue
        codes, lost, reader = read_all(bytes(damaged), recover=True)
        assert np.array_equal(codes[:, ~lost], expected[:, : len(lost)][:, ~lost])
        assert reader.damaged and len(lost) == FRAMES
        losses.add(reader.lost.spans)
    assert losses == {(), *((span,) for span in spans)}


@pytest.mark.parametrize(("compress", "runs", "told"), CASES)
def test_every_truncation(compress, runs, told):
    tokens, whole = original(compress, runs, told)
    expected = tokens.restore().codes[0].numpy()
    first = len(parts_of(whole)[0])
    ends = [0, *(stop for _, stop in frames_of_chunks(whole))]
    for length in range(len(whole)):
        if length < first:
            with pytest.raises(ContainerError, match=r"cut short|not a \.syl file"):
                read_all(whole[:length], recover=True)
            continue
        codes, lost, reader = read_all(whole[:length], recover=True)
        assert np.array_equal(codes[:, ~lost], expected[:, : len(lost)][:, ~lost])
        assert (~lost).sum() in ends and reader.length_known is told
        if reader.length_known:
            assert len(lost) == FRAMES and reader.num_samples == int(tokens.num_samples[0])
        else:
            assert not lost.any() and reader.num_samples == len(lost) * SPEC.hop


def test_a_missing_chunk_is_named_without_recovery():
    parts = parts_of(write(make(FRAMES), chunk=SIZE))
    for gone in range(1, len(parts) - 2):
        with pytest.raises(ContainerError, match=f"chunk {gone} is missing, or a chunk is out of"):
            read_all(b"".join(parts[:gone] + parts[gone + 1 :]), recover=False)
    swapped = [*parts[:2], parts[3], parts[2], *parts[4:]]
    with pytest.raises(ContainerError, match="out of its place"):
        read_all(b"".join(swapped), recover=False)
    _, lost, reader = read_all(b"".join(swapped), recover=True)
    assert reader.lost.spans == ((16, 32),) and len(lost) == FRAMES  # the one that came too late


def test_numbers_wrap(monkeypatch):
    """Files of more chunks than there are numbers, and a gap around the place where they wrap."""
    from syllabary.codecs.container import layout, reader

    monkeypatch.setattr(layout, "NUMBERS", 16)
    monkeypatch.setattr(reader, "NUMBERS", 16)
    tokens = make(100)
    head, *parts = parts_of(write(tokens, chunk=1))
    del parts[13:19]
    codes, lost, found = read_all(head + b"".join(parts), recover=True)
    assert found.lost.spans == ((13, 19),)
    assert np.array_equal(codes[:, ~lost], tokens.codes[0].numpy()[:, ~lost])


def test_a_pipe_gives_each_chunk_before_the_next_one_comes():
    """Damage included: what follows it comes as soon as it is whole."""
    head, *parts = parts_of(write(make(5), chunk=1))
    source = io.BytesIO()

    class Pipe:
        def read(self, count):
            return source.read(count)

    def arrive(data):
        at = source.tell()
        source.seek(0, io.SEEK_END)
        source.write(data)
        source.seek(at)

    arrive(head)
    reader = SylReader(Pipe(), recover=True)
    chunks = reader.chunks(past_end=False)
    arrive(parts[0])
    assert not next(chunks).lost
    broken = bytearray(parts[1])
    broken[-1] ^= 1
    arrive(bytes(broken) + parts[2])
    assert next(chunks).lost
    assert not next(chunks).lost and not reader.held


@pytest.mark.parametrize(
    ("rest", "message"),
    [
        (chunk(b"END.", TOTALS.pack(1 << 40, 320 << 40), 0), "claims that"),
        (chunk(b"END.", TOTALS.pack(7, 320 * 9), 0), "the end mark says 7 positions"),
    ],
)
def test_forged_ends_are_refused(rest, message):
    fields = GOOD | {"chunk_positions": 5}
    with pytest.raises(ContainerError, match=message):
        read_all(header(fields) + rest, recover=True)


def test_forged_chunks_are_lost():
    """A right checksum around wrong contents: a code beyond its codebook."""
    fields = GOOD | {"chunk_positions": 2}
    end = chunk(b"END.", TOTALS.pack(2, 640), 0)
    data = header(fields) + chunk(b"TS\0\0", b"\xff\xff\xff\xf0", 2) + end
    _, lost, reader = read_all(data, recover=True)
    assert lost.all() and reader.num_samples == 640
    with pytest.raises(ContainerError, match="out of its codebook's range"):
        read_all(data, recover=False)


def test_files_without_numbers_are_refused():
    data = write(make(30), chunk=SIZE, numbered=False)
    assert np.array_equal(read_all(data, recover=False)[0], make(30).codes[0].numpy())
    with pytest.raises(ContainerError, match="no numbers"):
        SylReader(io.BytesIO(data), recover=True)


def test_tokens_say_which_frames_are_lost(tmp_path):
    tokens = make(1200)
    write_tokens(tmp_path / "x.syl", tokens, {"speaker": "7"})
    same, lost = recover_tokens(tmp_path / "x.syl")
    assert same.equal(tokens) and not lost and same.metadata == ({"speaker": "7"},)
    head, *parts = parts_of((tmp_path / "x.syl").read_bytes())
    (tmp_path / "x.syl").write_bytes(head + parts[0] + parts[2])
    found, lost = recover_tokens(tmp_path / "x.syl")
    assert lost.spans == ((500, 1000),) and lost.count == 500 and lost.mask().sum() == 500
    assert str(lost) == "500 of 1200 frames are lost (10.00 s), at 10.00–20.00 s"
    assert found.metadata[0]["lost"] == {
        "frames": 500,
        "of": 1200,
        "spans": [[500, 1000]],
        "seconds": [[10.0, 20.0]],
        "length_known": True,
    }
    write_tokens(tmp_path / "y.syl", found)  # the marker goes on with them
    assert read_tokens(tmp_path / "y.syl").metadata == found.metadata
    with pytest.raises(ContainerError, match="No such file"):
        recover_tokens(tmp_path / "none.syl")
