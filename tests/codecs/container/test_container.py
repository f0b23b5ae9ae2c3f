"""The container under attack: no damage is misread, no header crashes or allocates at will."""

import io
import json
import random
import tracemalloc
import warnings
import zlib
from fractions import Fraction

import numpy as np
import pytest
import torch

from syllabary.codecs.container import (
    ContainerWarning,
    SylReader,
    SylWriter,
    read_tokens,
    write_tokens,
)
from syllabary.codecs.container.layout import CHECK, CHUNK, MAGIC, PREAMBLE
from syllabary.codecs.spec import TokenSpec
from syllabary.codecs.tokens import Tokens
from syllabary.errors import ContainerError, TokenError, TokenMismatchError

SPEC = TokenSpec("toy", "d" * 64, 16000, Fraction(50), (10, 1024))


def make(frames, seed=0, spec=SPEC):
    rng = np.random.default_rng(seed)
    codes = np.stack([rng.integers(0, size, frames) for size in spec.codebook_sizes])
    return Tokens(
        torch.from_numpy(codes)[None],
        torch.tensor([frames]),
        torch.tensor([max(0, frames * spec.hop - 5)]),
        spec,
    )


def write(tokens, chunk=None, **options):
    file = io.BytesIO()
    merged = tokens.durations is not None
    with SylWriter(
        file, tokens.spec, has_durations=merged, chunk_positions=chunk, **options
    ) as writer:
        writer.write(tokens)
    return file.getvalue()


def read(data):
    """All codes, and whether the file was whole."""
    reader = SylReader(io.BytesIO(data))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ContainerWarning)
        codes = [chunk.codes for chunk in reader.chunks()]
    return np.concatenate([np.zeros((2, 0), int), *codes], 1), reader


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("merged", [False, True])
def test_every_flipped_bit_is_found(compress, merged):
    tokens = make(40)
    if merged:
        codes = tokens.codes.repeat_interleave(2, -1)[..., :40].contiguous()
        tokens = Tokens(codes, tokens.lengths, tokens.num_samples, SPEC).deduplicate()
    data = write(tokens, chunk=16, compress=compress)
    expected, _ = read(data)
    misread = undetected = 0
    for index in range(len(data)):
        for bit in range(8):
            damaged = bytearray(data)
            damaged[index] ^= 1 << bit
            try:
                codes, reader = read(bytes(damaged))
            except ContainerError:
                continue
            undetected += bool(reader.complete)
            misread += not np.array_equal(codes, expected[:, : codes.shape[1]])
    assert (undetected, misread) == (0, 0)


@pytest.mark.parametrize("compress", [False, True])
def test_every_truncation_reads_up_to_its_last_whole_chunk(compress):
    tokens = make(40)
    data = write(tokens, chunk=16, compress=compress)
    expected, _ = read(data)
    seen = set()
    for length in range(len(data)):
        try:
            codes, reader = read(data[:length])
        except ContainerError:
            continue
        assert reader.complete is False
        assert not reader.is_whole()
        assert np.array_equal(codes, expected[:, : codes.shape[1]])
        assert reader.num_samples == codes.shape[1] * SPEC.hop
        seen.add(codes.shape[1])
    assert seen == {0, 16, 32, 40}
    with pytest.warns(ContainerWarning, match=r"cut short; the 0\.64 s before"):
        list(SylReader(io.BytesIO(data[:-60])).chunks())


def header(fields, length=None):
    text = json.dumps(fields).encode() if not isinstance(fields, bytes) else fields
    preamble = PREAMBLE.pack(1, 0, len(text) if length is None else length)
    return MAGIC + preamble + CHECK.pack(zlib.crc32(preamble + text)) + text


def chunk(kind, payload, positions, length=None):
    head = CHUNK.pack(kind, len(payload) if length is None else length, positions)
    return head + CHECK.pack(zlib.crc32(payload, zlib.crc32(head))) + payload


GOOD = {"spec": SPEC.to_json(), "num_codebooks": 2, "durations": False, "metadata": {}}
GOOD |= {"chunk_positions": 5}


def random_json(rng, depth=0):
    kind = rng.randrange(9 if depth < 3 else 6)
    if kind == 6:
        return [random_json(rng, depth + 1) for _ in range(rng.randrange(4))]
    if kind >= 7:
        keys = [*GOOD, *SPEC.to_json(), "global_codes", "num_samples", "x"]
        return {rng.choice(keys): random_json(rng, depth + 1) for _ in range(rng.randrange(4))}
    return [None, True, rng.randrange(-5, 2**40), rng.random() * 1e300, "text", "€" * 9][kind]


def mutate(rng, value):
    """A copy with one thing somewhere changed."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(list(value))
        return value | {key: mutate(rng, value[key])}
    if isinstance(value, list) and value and rng.random() < 0.7:
        at = rng.randrange(len(value))
        return [*value[:at], mutate(rng, value[at]), *value[at + 1 :]]
    return random_json(rng)


def test_100_000_random_headers():
    """With correct checksums, so that what is tested is the reading, not the CRC."""
    rng = random.Random(0)
    opened = 0
    for _ in range(100_000):
        kind = rng.randrange(3)
        if kind == 0:
            data = header(bytes(rng.randrange(256) for _ in range(rng.randrange(30))))
        elif kind == 1:
            data = header(mutate(rng, mutate(rng, GOOD)))
        else:
            payload = bytes(rng.randrange(256) for _ in range(rng.randrange(12)))
            kinds = [b"TOKS", b"TOKR", b"TS\0\0", b"TR\1\0", b"END.", b"????"]
            data = header(mutate(rng, GOOD) if rng.random() < 0.5 else GOOD)
            data += chunk(rng.choice(kinds), payload, rng.randrange(2 ** rng.randrange(32)))
        try:
            read_any(data)
            opened += 1
        except ContainerError:
            pass
    assert opened > 500  # enough of them are sound to reach the codes


def read_any(data):
    reader = SylReader(io.BytesIO(data))
    sizes = np.array(reader.spec.codebook_sizes[: reader.num_codebooks])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ContainerWarning)
        for part in reader.chunks():
            assert part.codes.min() >= 0
            assert (sizes > part.codes.T).all()


@pytest.mark.parametrize(
    "data",
    [
        MAGIC + PREAMBLE.pack(1, 0, 2**32 - 1) + b"\0\0\0\0{}",
        header(GOOD, length=1 << 20),
        header(GOOD) + chunk(b"TOKS", b"", 2**32 - 1, length=1 << 26),
        header(GOOD) + chunk(b"TOKS", b"abc", 2**32 - 1),
        header(GOOD) + chunk(b"TOKR", CHECK.pack(5) + b"\0\0\0\0\0", 2**32 - 1),
        header(GOOD) + chunk(b"TOKR", CHECK.pack(2**32 - 1) + b"\0\0\0\0\0", 100),
        header(GOOD | {"durations": True}) + chunk(b"TOKS", b"\0\0\x20", 2**32 - 1),
        header(b"[" * 500_000),
        header(b'{"a":' * 100_000),
        header(b"9" * 5000),
        header(GOOD | {"spec": SPEC.to_json() | {"codebook_sizes": [[2, 2**31]]}}),
    ],
)
def test_forged_counts_allocate_nothing(data):
    tracemalloc.start()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ContainerWarning)
            list(SylReader(io.BytesIO(data)).chunks())
    except ContainerError:
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4_000_000 + 10 * len(data)


def test_a_version_from_the_future_is_named():
    data = bytearray(write(make(3)))
    data[8] = 2
    with pytest.raises(ContainerError, match="version 2; this release reads 1"):
        SylReader(io.BytesIO(bytes(data)))
    with pytest.raises(ContainerError, match=r"not a \.syl file"):
        SylReader(io.BytesIO(b"RIFF0000WAVE"))


def test_bytes_after_the_end_are_refused():
    with pytest.raises(ContainerError, match="after the end"):
        read(write(make(3)) + b"x")


def test_the_size_is_the_advertised_bitrate():
    spec = TokenSpec("toy", "d" * 64, 16000, Fraction(50), (1024,) * 8)
    tokens = make(50 * 60, spec=spec)
    nominal = spec.bitrate() * 60 / 8
    assert nominal <= len(write(tokens)) < 1.03 * nominal


def test_metadata_global_codes_and_fewer_codebooks(tmp_path):
    spec = TokenSpec("g", "f" * 64, 16000, Fraction(50), (10, 1024), (8, 300))
    tokens = make(7).keep_codebooks(1)
    tokens = Tokens(
        tokens.codes, tokens.lengths, tokens.num_samples, spec, None, torch.tensor([[1, 299]])
    )
    metadata = {"text": "naïve ☃", "list": [1, 2.5, None]}
    write_tokens(tmp_path / "x.syl", tokens, metadata)
    assert read_tokens(tmp_path / "x.syl").equal(tokens)
    with (tmp_path / "x.syl").open("rb") as file:
        reader = SylReader(file)
        assert reader.metadata == metadata
        assert reader.global_codes == [1, 299]
        assert reader.is_whole()
    with pytest.raises(ContainerError, match="at most"):
        write_tokens(tmp_path / "y.syl", tokens, {"x": "y" * 2**20})
    assert [path.name for path in tmp_path.iterdir()] == ["x.syl"]


def test_what_a_writer_refuses(tmp_path):
    writer = SylWriter(io.BytesIO(), SPEC)
    other = TokenSpec("other", "e" * 64, 16000, Fraction(50), (10, 1024))
    with pytest.raises(TokenMismatchError):
        writer.write(make(3, spec=other))
    with pytest.raises(TokenError, match="one utterance"):
        writer.write(Tokens.batch([make(3), make(3)]))
    with pytest.raises(TokenError, match="codebooks"):
        writer.write(make(3).keep_codebooks(1))
    with pytest.raises(TokenError, match="durations"):
        writer.write(make(3).deduplicate())
    with pytest.raises(ContainerError, match="No such file"):
        read_tokens(tmp_path / "none.syl")


def test_writers_keep_what_they_were_given():
    tokens = make(7)
    expected = tokens.codes[0].numpy().copy()
    file = io.BytesIO()
    with SylWriter(file, SPEC) as writer:
        writer.write(tokens)
        tokens.codes.zero_()
        with pytest.raises(TokenError, match="within a frame"):
            writer.write(make(3))
    with pytest.raises(ContainerError, match="closed"):
        writer.write(make(3))
    assert np.array_equal(read(file.getvalue())[0], expected)
    with pytest.raises(TokenError, match="1 to 2 codebooks"):
        SylWriter(io.BytesIO(), SPEC, num_codebooks=3)
    with pytest.raises(TokenError, match="global codes"):
        SylWriter(io.BytesIO(), SPEC, global_codes=[1])
    for metadata in ({"x": float("nan")}, {"x": np.float32(1)}):
        with pytest.raises(ContainerError, match="not JSON"):
            SylWriter(io.BytesIO(), SPEC, metadata=metadata)
    one = Tokens(
        codes=torch.zeros(1, 2, 1, dtype=torch.long),
        lengths=torch.ones(1, dtype=torch.long),
        num_samples=torch.tensor([320 << 20]),
        spec=SPEC,
        durations=torch.tensor([[1 << 20]]),
    )
    with pytest.raises(TokenError, match="too long"):
        SylWriter(io.BytesIO(), SPEC, has_durations=True).write(one)


BITS = TokenSpec("bits", "d" * 64, 16000, Fraction(50), (2,))


@pytest.mark.parametrize(
    ("spec", "kind", "payload", "positions", "most"),
    [
        (BITS, b"TOKS", bytes(1 << 17), 1 << 20, 1 << 20),
        # Bit by bit and watched by tracemalloc, the most takes 10 s: a sixteenth stands for it.
        (BITS, b"TOKR", CHECK.pack(3000) + b"\2" + bytes(2999), 1 << 16, 1 << 20),
        pytest.param(
            *(BITS, b"TOKR", CHECK.pack(3000) + b"\2" + bytes(2999), 1 << 20, 1 << 20),
            marks=pytest.mark.slow,
        ),
        (SPEC, b"TOKS", bytes((14 << 19) // 8), 1 << 19, 1 << 19),
    ],
)
def test_the_largest_chunks_are_bounded(spec, kind, payload, positions, most):
    """Counts that the bytes do bear out: a chunk may take 32 MB, and no more positions fit."""
    for count in (positions, 2 * most):
        fields = GOOD | {"spec": spec.to_json(), "num_codebooks": spec.num_codebooks}
        data = header(fields) + chunk(kind, payload, count)
        tracemalloc.start()
        try:
            read_any(data)
            assert count <= most
        except ContainerError as error:
            assert count > most or kind == b"TOKR", error
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 50_000_000 * (count <= most) * positions / most + 5_000_000


def test_pipes_will_do():
    class Pipe(io.RawIOBase):
        """Gives three bytes at a time and can't seek."""

        def __init__(self, data):
            self.data = io.BytesIO(data)

        def readable(self):
            return True

        def read(self, count=-1):
            return self.data.read(min(count, 3))

    data = write(make(40), chunk=16)
    reader = SylReader(Pipe(data))
    assert sum(part.codes.shape[1] for part in reader.chunks()) == 40
    assert reader.complete and reader.num_samples == 40 * 320 - 5
