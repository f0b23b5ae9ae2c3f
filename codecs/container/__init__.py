"""The `.syl` container: tokens in a file, checked and bit-packed. See docs/token-format.md.

Reading and inspecting files loads no torch; `read_tokens` and `write_tokens` do.
"""

from .chunk import Chunk, chunk_size
from .file import (
    read_tokens,
    recover_tokens,
    tokens_from_bytes,
    tokens_to_bytes,
    write_tokens,
)
from .reader import ContainerWarning, SylReader
from .recovery import LostFrames
from .writer import SylWriter

__all__ = [
    "Chunk",
    "ContainerWarning",
    "LostFrames",
    "SylReader",
    "SylWriter",
    "chunk_size",
    "read_tokens",
    "recover_tokens",
    "tokens_from_bytes",
    "tokens_to_bytes",
    "write_tokens",
]
