"""Read and write sentencepiece's `.model`: the protocol-buffer fields that a unit BPE needs.

Implemented here, so that using a model needs neither sentencepiece nor protobuf, and so that every
count in a file is checked against its bytes. The output is an ordinary model:
`sentencepiece.SentencePieceProcessor(model_file=…)` encodes `text_of(units)` to the same ids.
(Unigram models: up to about 4,000 units in one text, beyond which its float32 sums are inexact.)
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ..errors import BPEError
from .alphabet import text_of, units_in
from .vocabulary import (
    MAX_PIECE_LENGTH,
    MAX_VOCAB_SIZE,
    SCORE_SCALE,
    UNKNOWN,
    Kind,
    Vocabulary,
)

#: Larger than any useful model, though not than the largest possible one.
MAX_MODEL_BYTES = 64 << 20

_NORMAL, _UNKNOWN, _CONTROL = 1, 2, 3  # ModelProto.SentencePiece.Type
_KINDS: dict[int, Kind] = {1: "unigram", 2: "bpe"}  # TrainerSpec.ModelType

Value = int | bytes


class RawPiece(NamedTuple):
    """A piece as stored in the file."""

    text: str
    score: float
    type: int


def write_model(vocabulary: Vocabulary) -> bytes:
    """Return the bytes of a `.model` with the ids of the vocabulary, and `<unk>` after them.

    sentencepiece requires a piece for unknown text. No text of units contains any.
    """
    out = bytearray()
    merges = np.arange(vocabulary.num_pieces) - vocabulary.num_units
    scores = (
        -np.maximum(merges, 0).astype(np.float64)
        if vocabulary.scores is None
        else vocabulary.scores / SCORE_SCALE
    )
    for piece, score in zip(vocabulary.pieces(), scores.tolist(), strict=True):
        out += _field(1, _piece(text_of(piece), score, _NORMAL))
    for name in vocabulary.specials:
        out += _field(1, _piece(name, 0.0, _CONTROL))
    out += _field(1, _piece(UNKNOWN, 0.0, _UNKNOWN))
    kinds = {kind: number for number, kind in _KINDS.items()}
    trainer = _field(3, kinds[vocabulary.kind]) + _field(4, vocabulary.size + 1)
    trainer += _field(20, vocabulary.longest)  # max_sentencepiece_length
    trainer += b"".join(_field(number, 0) for number in (21, 22, 23, 25))  # no splitting
    trainer += _field(40, vocabulary.size)  # unk_id
    trainer += b"".join(_field(number, -1) for number in (41, 42, 43))  # no bos, eos, pad
    out += _field(2, trainer)
    normalizer = _field(1, b"identity") + b"".join(_field(number, 0) for number in (3, 4, 5))
    out += _field(3, normalizer)
    return bytes(out)


def read_model(data: bytes, name: str = "model") -> Vocabulary:
    """Read a vocabulary from the output of `write_model`.

    Raises:
        BPEError: the data is damaged, or is not a model of units with ids in this package's order.
    """
    kind, pieces = raw_pieces(data, name)
    units: list[np.ndarray] = []
    specials: list[str] = []
    scores: list[float] = []
    if not pieces or pieces[-1].type != _UNKNOWN:
        raise BPEError(f"{name}: expected {UNKNOWN} as the last piece")
    for number, piece in enumerate(pieces[:-1]):
        if piece.type == _CONTROL:
            specials.append(piece.text)
            continue
        if piece.type != _NORMAL or specials:
            raise BPEError(
                f"{name}: piece {number} is of type {piece.type}; expected units, then pieces of "
                "units, then control pieces"
            )
        try:
            units.append(units_in(piece.text))
        except ValueError as error:
            raise BPEError(f"{name}: piece {number}: {error}") from None
        scores.append(piece.score)
    if not units:
        raise BPEError(f"{name}: it holds no units")
    lengths = np.array([len(piece) for piece in units])
    num_units = int(np.argmax(lengths != 1)) if (lengths != 1).any() else len(units)
    scaled = np.array(scores) * SCORE_SCALE
    if kind == "bpe":
        expected = -np.maximum(np.arange(len(scores)) - num_units, 0)
        if not np.array_equal(scores, expected):
            raise BPEError(f"{name}: the scores of a bpe model must fall with the pieces' ids")
    elif not np.array_equal(scaled, np.rint(scaled)):
        raise BPEError(f"{name}: unigram scores must be multiples of 1/{SCORE_SCALE}")
    try:
        return Vocabulary.of_pieces(
            kind,
            num_units,
            units[num_units:],
            scaled.astype(np.int64) if kind == "unigram" else None,
            tuple(specials),
        )
    except BPEError as error:
        raise BPEError(f"{name}: {error}") from None


def raw_pieces(data: bytes, name: str = "model") -> tuple[Kind, list[RawPiece]]:
    """Return the kind and the pieces of any sentencepiece model.

    Raises:
        BPEError: the data is damaged, too large, or of a kind other than bpe and unigram.
    """
    if len(data) > MAX_MODEL_BYTES:
        raise BPEError(f"{name}: {len(data)} bytes; expected at most {MAX_MODEL_BYTES}")
    pieces: list[RawPiece] = []
    kind = 1  # protobuf's default
    try:
        for number, value in _fields(data):
            if number == 1 and isinstance(value, bytes):
                if len(pieces) > MAX_VOCAB_SIZE:
                    raise ValueError(f"more than {MAX_VOCAB_SIZE} pieces")
                pieces.append(_raw_piece(value))
            elif number == 2 and isinstance(value, bytes):
                for inner, setting in _fields(value):
                    if inner == 3 and isinstance(setting, int):
                        kind = setting
    except ValueError as error:
        raise BPEError(f"{name}: expected a sentencepiece model, but {error}") from None
    if kind not in _KINDS:
        raise BPEError(f"{name}: expected a bpe or unigram model, got type {kind}")
    return _KINDS[kind], pieces


def _raw_piece(data: bytes) -> RawPiece:
    text, score, kind = "", 0.0, _NORMAL
    for number, value in _fields(data):
        if number == 1 and isinstance(value, bytes):
            if len(value) > 4 * MAX_PIECE_LENGTH:
                raise ValueError(f"a piece has {len(value)} bytes")
            text = value.decode()  # UnicodeDecodeError is a ValueError
        elif number == 2 and isinstance(value, bytes) and len(value) == 4:
            score = struct.unpack("<f", value)[0]
            if not abs(score) <= MAX_VOCAB_SIZE:  # also true for NaN
                raise ValueError(f"a score of {score}")
        elif number == 3 and isinstance(value, int):
            kind = value
    return RawPiece(text, score, kind)


# --- the wire format of protocol buffers -------------------------------------------------------


def _piece(text: str, score: float, kind: int) -> bytes:
    return _field(1, text.encode()) + b"\x15" + struct.pack("<f", score) + _field(3, kind)


def _field(number: int, value: int | bytes | bytearray) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    return _varint(number << 3 | 2) + _varint(len(value)) + bytes(value)


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1  # negative numbers are 64-bit two's complement
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _fields(data: bytes) -> Iterator[tuple[int, Value]]:
    """Yield (number, value) of each field: integers as int, all others as bytes."""
    at = 0
    while at < len(data):
        tag, at = _read_varint(data, at)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            value, at = _read_varint(data, at)
            yield number, value
            continue
        if wire == 2:
            size, at = _read_varint(data, at)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise ValueError(f"byte {at} starts a field of unknown type")
        if size > len(data) - at:
            raise ValueError(f"it ends within a field of {size} bytes")
        yield number, data[at : at + size]
        at += size


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise ValueError("it ends within a number")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError(f"byte {at} is within a number that does not end")
