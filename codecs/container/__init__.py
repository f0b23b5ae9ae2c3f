"""The `.syl` container: tokens in a file, checked and bit-packed. See docs/token-format.md.

Reading and inspecting files loads no torch; `read_tokens` and `write_tokens` do.
"""

from .file import read_tokens, tokens_from_bytes, tokens_to_bytes, write_tokens
from .reader import Chunk, ContainerWarning, SylReader, chunk_size
from .writer import SylWriter

__all__ = [
    "Chunk",
    "ContainerWarning",
    "SylReader",
    "SylWriter",
    "chunk_size",
    "read_tokens",
    "tokens_from_bytes",
    "tokens_to_bytes",
    "write_tokens",
]
