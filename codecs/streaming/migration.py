"""Serialize the state of a stream's row, to continue it in another session or process.

Format: magic, length of the header (4 bytes, little-endian), a JSON header, tensors in the
safetensors format, and the SHA-256 of all of it. No pickle. The checksum detects damage but is no
signature: accept states only from sources that you would accept the audio itself from.
"""

import hashlib
import json
import struct
from collections.abc import Mapping, Sequence
from typing import Any

from safetensors import SafetensorError
from safetensors.numpy import save
from safetensors.torch import load
from safetensors.torch import save as save_torch
from torch import Tensor

from ...errors import StateError
from .tokenizer import StreamingTokenizer

MAGIC = b"SYLROW\r\n"
FORMAT_VERSION = 1

_LENGTH = struct.Struct("<I")
_CHECKSUM = hashlib.sha256().digest_size
_LONGEST_HEADER = 1 << 16  # bytes; actual headers have a few hundred


def pack(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> bytes:
    """Serialize a header of JSON values and named tensors."""
    text = json.dumps({"format_version": FORMAT_VERSION, **header}).encode()
    try:  # by way of NumPy: a third of the time of safetensors' own for torch
        body = save({name: tensor.contiguous().numpy() for name, tensor in tensors.items()})
    except TypeError:  # a dtype that NumPy lacks, such as bfloat16
        body = save_torch({name: tensor.contiguous().clone() for name, tensor in tensors.items()})
    parts = [MAGIC, _LENGTH.pack(len(text)), text, body]
    checksum = hashlib.sha256()
    for part in parts:
        checksum.update(part)
    return b"".join([*parts, checksum.digest()])


def unpack(data: bytes) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the header and tensors that `pack` serialized.

    Raises:
        StateError: the bytes are not of this format or version, damaged, or cut short.
    """
    if not isinstance(data, bytes | bytearray | memoryview):
        raise StateError(f"a row's state is bytes, got {type(data).__name__}")
    data = bytes(data)
    if not data.startswith(MAGIC):
        raise StateError("these bytes are not the exported state of a stream's row")
    start = len(MAGIC) + _LENGTH.size
    content, checksum = data[:-_CHECKSUM], data[-_CHECKSUM:]
    if len(content) < start or hashlib.sha256(content).digest() != checksum:
        raise StateError("the state of a row is damaged or cut short: its checksum does not match")
    (length,) = _LENGTH.unpack_from(content, len(MAGIC))
    try:
        if length > len(content) - start:
            raise ValueError("the header is longer than the file")
        if length > _LONGEST_HEADER:
            raise ValueError(f"the header has {length} bytes, at most {_LONGEST_HEADER}")
        header = json.loads(content[start : start + length])
        if not isinstance(header, dict):
            raise ValueError("the header is no JSON object")
        if header.get("format_version") != FORMAT_VERSION:
            raise ValueError(
                f"format version {header.get('format_version')!r}, this version of syllabary reads "
                f"{FORMAT_VERSION}"
            )
        return header, load(content[start + length :])
    except RecursionError:
        raise StateError("the state of a row can't be read: too deep a header") from None
    except KeyError as error:
        # safetensors raises this for a dtype that its format has but torch lacks.
        raise StateError(f"the state of a row can't be read: unknown dtype {error}") from None
    except (ValueError, RuntimeError, SafetensorError) as error:  # torch: sizes that overflow
        raise StateError(f"the state of a row can't be read: {error}") from None


def identity(
    tokenizer: StreamingTokenizer, num_codebooks: int, parts: Sequence[str]
) -> dict[str, Any]:
    """Create the header: what must agree between two sessions for a row to move between them.

    Args:
        tokenizer: of the session.
        num_codebooks: of the session.
        parts: `encoder` and `decoder`, if the row has used them.
    """
    spec = tokenizer.spec.tokens
    header = {
        "format": "syllabary-stream-row",
        "tokenizer": spec.tokenizer,
        "digest": spec.digest,
        "num_codebooks": num_codebooks,
        "parts": list(parts),
    }
    if "decoder" in parts:
        # Tokenizers with equal codes may have different decoders.
        header["full_digest"] = tokenizer.full_digest
    return header


def check_identity(
    header: Mapping[str, Any], tokenizer: StreamingTokenizer, num_codebooks: int
) -> list[str]:
    """Check a header against a session; return the parts (encoder, decoder) in the state.

    Raises:
        StateError: the state is of another tokenizer, decoder, or number of codebooks.
    """
    parts: Any = header.get("parts")
    if parts not in ([], ["encoder"], ["decoder"], ["encoder", "decoder"]):
        raise StateError(f"the state of a row has the parts {parts!r}")
    mine = identity(tokenizer, num_codebooks, parts)
    if header.get("digest") != mine["digest"]:
        raise StateError(
            f"the row's state is of {header.get('tokenizer')!r} "
            f"({str(header.get('digest'))[:12]}), not of this {mine['tokenizer']!r} "
            f"({mine['digest'][:12]})"
        )
    if header.get("full_digest") != mine.get("full_digest"):
        raise StateError(
            f"the row's state is of a {mine['tokenizer']!r} with another decoder, which can't go "
            "on from it"
        )
    for name, value in mine.items():
        if header.get(name) != value:
            raise StateError(
                f"the row's state has {name} {header.get(name)!r}, this session {value!r}"
            )
    return list(parts)


def check_promise(tokenizer: StreamingTokenizer) -> None:
    """Check that the tokenizer's rows can be exported and imported.

    Raises:
        StateError: the tokenizer declares that it can't keep `migration`.
    """
    reason = tokenizer.spec.broken_promises.get("migration")
    if reason:
        raise StateError(
            f"{tokenizer.name} declares that the state of its rows can't be moved: {reason}"
        )
