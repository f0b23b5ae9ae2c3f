"""Bytes cut into messages: a valid .syl file again, with the same codes, however it was written."""

import io
import random
from fractions import Fraction

import numpy as np
import pytest
import torch

from syllabary.codecs.container import SylReader, read_tokens, write_tokens
from syllabary.codecs.tokens import Tokens
from syllabary.errors import ContainerError, ServingError
from syllabary.serving.input_pieces import CodeReader, PCMPieces, SylPieces
from syllabary.serving.protocol import PCM, Kind, Limits

from ..conftest import synthetic_speech


@pytest.fixture(scope="module")
def tokens(tokenizers):
    return tokenizers["dmel"].encode(synthetic_speech(50_000), 16_000)


@pytest.fixture
def written(tmp_path):
    def write(tokens, **options) -> bytes:
        write_tokens(tmp_path / "x.syl", tokens, **options)
        return (tmp_path / "x.syl").read_bytes()

    return write


def push(pieces, data, seed=0):
    """Push in random parts, some of them empty or of one byte."""
    rng = random.Random(seed)
    found, at = [], 0
    while at < len(data):
        size = rng.choice([0, 1, 7, 100, 5000])
        found += pieces.push(data[at : at + size])
        at += size
    return found


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("merged", [False, True])
def test_files_become_short_messages(tokens, written, compress, merged, tmp_path):
    data = written(tokens.deduplicate() if merged else tokens, compress=compress)
    found = push(SylPieces(Limits()), data)
    (tmp_path / "again.syl").write_bytes(b"".join(piece.payload for piece in found))
    assert read_tokens(tmp_path / "again.syl").equal(tokens)
    assert found[0].kind == Kind.SYL_HEADER and {p.kind for p in found[1:]} == {Kind.SYL_CHUNK}
    rate = float(tokens.spec.frame_rate)
    assert max(piece.units for piece in found) <= 0.1 * rate
    assert sum(piece.units for piece in found) == tokens.codes.shape[2]
    assert [piece.final for piece in found] == [False] * (len(found) - 1) + [True]
    codes = CodeReader()
    read = np.concatenate([codes.push(piece.payload) for piece in found], axis=1)
    assert np.array_equal(read, tokens.codes[0].numpy())
    assert codes.num_samples == 50_000


def test_short_chunks_stay_as_they_are(tokens, written):
    data = written(tokens)
    short = b"".join(piece.payload for piece in push(SylPieces(Limits()), data))
    assert b"".join(piece.payload for piece in push(SylPieces(Limits()), short, seed=1)) == short


def test_small_limits(tokens, written):
    limits = Limits(message_bytes=200, input_ms=100)
    found = push(SylPieces(Limits(input_ms=100)), written(tokens))
    assert max(piece.units for piece in found) <= 0.025 * float(tokens.spec.frame_rate)
    pieces = list(PCMPieces(PCM(), limits).push(bytes(10_000)))
    assert max(len(piece.payload) for piece in pieces) <= 200 - 16
    assert sum(piece.units for piece in pieces) == 5000


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: b"RIFF" + data, "not a .syl file"),
        (lambda data: data[:40] + b"\0" + data[41:], "header is damaged"),
        (lambda data: data[:-100] + b"\0\1" + data[-98:], "damaged"),
        (lambda data: data + b"more, and more", "after the end mark"),
        (lambda data: data + b"m", "after the end mark"),
        (lambda data: data[:8] + b"\1\0\0\0\xff\xff\xff\xff" + data[16:], "at most"),
    ],
)
def test_damaged_files(tokens, written, change, message):
    with pytest.raises(ContainerError, match=message):
        push(SylPieces(Limits()), change(written(tokens)))


def test_truncated_files(tokens, written):
    data = written(tokens)
    pieces = SylPieces(Limits())
    push(pieces, data[:-40])
    pieces.finish()
    assert not pieces.ended
    for size in (0, 5, 20, 100):
        pieces = SylPieces(Limits())
        push(pieces, data[:size])
        with pytest.raises(ContainerError, match="before its first"):
            pieces.finish()


def test_codes_of_the_whole_utterance(written):
    from syllabary.codecs.spec import TokenSpec

    spec = TokenSpec("x", "00" * 32, 16_000, Fraction(50), (16,), global_codebook_sizes=(4,))
    tokens = Tokens(
        codes=torch.zeros(1, 1, 3, dtype=torch.long),
        lengths=torch.tensor([3]),
        num_samples=torch.tensor([960]),
        spec=spec,
        global_codes=torch.tensor([[2]]),
    )
    with pytest.raises(ContainerError, match="whole utterance"):
        push(SylPieces(Limits()), written(tokens))


def test_codes_need_a_header(tokens, written):
    data = written(tokens)
    file = io.BytesIO(data)
    SylReader(file)
    with pytest.raises(ServingError, match="begin with"):
        CodeReader().push(data[file.tell() :])
