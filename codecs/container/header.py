"""The header of a `.syl` file: read and checked, field by field."""

import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ...errors import ContainerError, TokenError
from ..spec import TokenSpec, bits_for
from .layout import CHECK, MAGIC, MAX_CODES, MAX_HEADER, PREAMBLE, VERSION


@dataclass(frozen=True)
class Header:
    """What a header says.

    Attributes:
        spec, num_codebooks, global_codes, metadata: see docs/token-format.md.
        has_durations: whether each position carries a number of frames.
        chunk_positions: of every chunk but the last; None: the chunks have no numbers.
        num_samples: of the whole file, as far as was known when it was begun.
    """

    spec: TokenSpec
    num_codebooks: int
    has_durations: bool
    global_codes: list[int]
    metadata: dict[str, Any]
    chunk_positions: int | None
    num_samples: int | None

    @cached_property
    def sizes(self) -> np.ndarray:
        """(codebooks,) the size of each codebook of the file."""
        return np.array(self.spec.codebook_sizes[: self.num_codebooks])

    @cached_property
    def widths(self) -> list[int]:
        """Bits of a code, for each codebook of the file."""
        return [bits_for(size) for size in self.spec.codebook_sizes[: self.num_codebooks]]


def read_header(take: Callable[[int], bytes], name: str) -> Header:
    """Read the header of a file.

    Args:
        take: reads up to so many bytes; fewer at the end.
        name: of the file, for messages.

    Raises:
        ContainerError: it is not a `.syl` file, its version is unknown, or its header is damaged.
    """
    if take(len(MAGIC)) != MAGIC:
        raise ContainerError(f"{name}: not a .syl file")
    preamble, check = take(PREAMBLE.size), take(CHECK.size)
    if len(preamble) + len(check) < PREAMBLE.size + CHECK.size:
        raise ContainerError(f"{name}: the header is cut short")
    version, reserved, length = PREAMBLE.unpack(preamble)
    if version == VERSION and reserved:
        raise ContainerError(f"{name}: the header is damaged (its reserved bytes are not 0)")
    if version != VERSION:
        raise ContainerError(f"{name}: format version {version}; this release reads {VERSION}")
    if length > MAX_HEADER:
        raise ContainerError(f"{name}: a header of {length} bytes; at most {MAX_HEADER}")
    text = take(length)
    if len(text) < length:
        raise ContainerError(f"{name}: the header is cut short")
    if CHECK.unpack(check)[0] != zlib.crc32(preamble + text):
        raise ContainerError(f"{name}: the header is damaged (CRC-32 differs)")
    return _parsed(text, name)


def _parsed(text: bytes, name: str) -> Header:
    try:
        fields = json.loads(text.decode())
    except (ValueError, RecursionError) as error:
        raise ContainerError(f"{name}: the header is not JSON: {error}") from None
    if not isinstance(fields, dict):
        raise ContainerError(f"{name}: the header must be a JSON object")
    try:
        spec = TokenSpec.from_json(fields.get("spec"))
    except TokenError as error:
        raise ContainerError(f"{name}: {error}") from None
    count, durations = fields.get("num_codebooks"), fields.get("durations")
    if type(count) is not int or not 1 <= count <= spec.num_codebooks:
        raise ContainerError(f"{name}: num_codebooks is {count!r}")
    if not isinstance(durations, bool):
        raise ContainerError(f"{name}: durations is {durations!r}, expected true or false")
    metadata = fields.get("metadata", {})
    if not isinstance(metadata, dict):
        raise ContainerError(f"{name}: metadata must be a JSON object")
    global_codes, sizes = fields.get("global_codes", []), spec.global_codebook_sizes
    if not isinstance(global_codes, list) or len(global_codes) != len(sizes):
        raise ContainerError(f"{name}: expected {len(sizes)} global codes")
    for code, size in zip(global_codes, sizes, strict=True):
        if type(code) is not int or not 0 <= code < size:
            raise ContainerError(f"{name}: global code {code!r}; its codebook has {size}")
    return Header(
        spec,
        count,
        durations,
        global_codes,
        metadata,
        _optional(fields, "chunk_positions", 1, MAX_CODES // count, name),
        _optional(fields, "num_samples", 0, (1 << 63) - 1, name),
    )


def _optional(fields: dict[str, Any], key: str, least: int, most: int, name: str) -> int | None:
    value = fields.get(key)
    if value is None or (type(value) is int and least <= value <= most):
        return value
    raise ContainerError(f"{name}: {key} is {value!r}")
