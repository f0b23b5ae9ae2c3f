"""The container on a pipe: chunks of a few frames leave, and are read, one at a time."""

import io
import os

import numpy as np
import pytest

from syllabary.codecs.container import SylReader, SylWriter, chunk_size
from syllabary.codecs.container.layout import CHECK, CHUNK, MAX_CODES
from syllabary.codecs.tokens import Tokens
from syllabary.errors import ContainerError, TokenError

from .test_container import SPEC, make


@pytest.mark.parametrize("frames", [1, 2, 7])
def test_a_chunk_leaves_when_it_has_its_frames(frames):
    tokens = make(30)
    file = io.BytesIO()
    writer = SylWriter(file, SPEC, chunk_positions=frames)
    header = file.tell()
    size = CHUNK.size + CHECK.size + -(-frames * 14 // 8)
    for number in range(30):
        writer.write(tokens.frames(number, number + 1))
        assert file.tell() == header + (number + 1) // frames * size
    writer.close()
    file.seek(0)
    reader = SylReader(file)
    chunks = [chunk.codes for chunk in reader.chunks()]
    assert {chunk.shape[1] for chunk in chunks[:-1]} == {frames}
    assert np.array_equal(np.concatenate(chunks, 1), tokens.codes[0])
    assert reader.complete and reader.num_samples == int(tokens.num_samples[0])


@pytest.mark.parametrize("frames", [1, 3])
def test_codes_without_checks_give_the_same_bytes(frames):
    tokens = make(10)
    files = io.BytesIO(), io.BytesIO()
    checked, plain = (SylWriter(file, SPEC, chunk_positions=frames) for file in files)
    buffer = np.empty((1, SPEC.num_codebooks), np.int64)
    for number in range(10):
        one = tokens.frames(number, number + 1)
        checked.write(one)
        buffer[:] = one.codes[0].T.numpy()  # the same array each time, as an encoder's may be
        plain.write_codes(buffer, int(one.num_samples[0]))
    checked.close()
    plain.close()
    assert files[0].getvalue() == files[1].getvalue()
    with pytest.raises(ContainerError, match="closed"):
        plain.write_codes(buffer, SPEC.hop)
    with pytest.raises(ContainerError, match="durations"):
        SylWriter(io.BytesIO(), SPEC, has_durations=True).write_codes(buffer, SPEC.hop)


def test_a_pipe_gives_each_chunk_before_the_next_one_comes():
    tokens = make(5)
    source, sink = os.pipe()
    with os.fdopen(source, "rb") as incoming, os.fdopen(sink, "wb", buffering=0) as outgoing:
        writer = SylWriter(outgoing, SPEC, chunk_positions=1)
        reader = SylReader(incoming)
        chunks = reader.chunks(past_end=False)
        for number in range(5):
            writer.write(tokens.frames(number, number + 1))
            assert np.array_equal(next(chunks).codes, tokens.codes[0, :, number : number + 1])
        writer.close()
        # The end mark is enough: the pipe is open still, and nothing waits for it to close.
        assert next(chunks, None) is None
        assert reader.complete and reader.num_samples == int(tokens.num_samples[0])


def test_bytes_after_the_end_are_found_when_asked_for():
    file = io.BytesIO()
    with SylWriter(file, SPEC) as writer:
        writer.write(make(3))
    for after, error in ((b"", None), (b"\0", "bytes after the end mark")):
        reader = SylReader(io.BytesIO(file.getvalue() + after))
        assert sum(chunk.codes.shape[1] for chunk in reader.chunks(past_end=False)) == 3
        assert reader.complete
        if error is None:
            reader.check_end()
        else:
            with pytest.raises(ContainerError, match=error):
                reader.check_end()
            assert not reader.complete


def test_the_start_of_a_chunk_says_its_size():
    file = io.BytesIO()
    writer = SylWriter(file, SPEC, chunk_positions=4)
    start = file.tell()
    writer.write(make(4))
    data = file.getvalue()[start:]
    assert [chunk_size(data[:count]) for count in (0, 11, 12, 16)] == [None, None, *[len(data)] * 2]


@pytest.mark.parametrize("positions", [0, -1, MAX_CODES // 2 + 1])
def test_chunks_that_can_not_be(positions):
    with pytest.raises(TokenError, match="a chunk holds 1 to 524288 positions of 2 codebooks"):
        SylWriter(io.BytesIO(), SPEC, chunk_positions=positions)


def test_short_chunks_hold_durations_and_coded_payloads():
    tokens = make(12)
    codes = tokens.codes.repeat_interleave(3, -1)[..., :12].contiguous()
    merged = Tokens(codes, tokens.lengths, tokens.num_samples, SPEC).deduplicate()
    for compress in (False, True):
        file = io.BytesIO()
        with SylWriter(
            file, SPEC, has_durations=True, compress=compress, chunk_positions=1
        ) as writer:
            writer.write(merged)
        chunks = list(SylReader(io.BytesIO(file.getvalue())).chunks())
        assert [chunk.durations.tolist() for chunk in chunks] == [[3]] * 4
