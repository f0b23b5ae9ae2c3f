"""Read and write whole `.syl` files, or their bytes, each with the tokens of one utterance."""

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from ...errors import ContainerError
from ...filesystem import replacing
from .reader import SylReader
from .recovery import LostFrames
from .writer import SylWriter

if TYPE_CHECKING:
    from ..tokens import Tokens


def write_tokens(
    path: str | Path,
    tokens: "Tokens",
    metadata: dict[str, Any] | None = None,
    compress: bool = False,
) -> int:
    """Write a batch of one to a `.syl` file, which appears whole or not at all.

    Args:
        path: of the file.
        tokens: of one utterance.
        metadata: JSON values for the file's header; default: the tokens' own.
        compress: make the file smaller, with entropy coding.

    Returns:
        The size of the file in bytes.

    Raises:
        TokenError: more than one row, or codes out of range.
    """
    with replacing(Path(path)) as temporary, temporary.open("wb") as file:
        return _write(file, tokens, metadata, compress)


def tokens_to_bytes(
    tokens: "Tokens", metadata: dict[str, Any] | None = None, compress: bool = False
) -> bytes:
    """Return the bytes of the `.syl` file of a batch of one; see `write_tokens`.

    For databases, messages and columns of tables. A larger batch is one utterance after the other:
    ``[tokens_to_bytes(tokens[row]) for row in range(len(tokens))]``.

    Raises:
        TokenError: more than one row, or codes out of range.
    """
    file = BytesIO()
    _write(file, tokens, metadata, compress)
    return file.getvalue()


def read_tokens(path: str | Path) -> "Tokens":
    """Read a `.syl` file as a batch of one, with its metadata.

    Raises:
        ContainerError: it is not a `.syl` file, or it is damaged.

    Warns:
        ContainerWarning: the file is truncated; the tokens before the cut are returned.
    """
    try:
        with Path(path).open("rb") as file:
            return SylReader(file, str(path)).tokens()
    except OSError as error:
        raise ContainerError(f"{path}: {error.strerror}") from None


def recover_tokens(path: str | Path) -> tuple["Tokens", LostFrames]:
    """Read what is left of a damaged `.syl` file as a batch of one.

    Frames of damaged and missing chunks are lost; the others have the codes that were written, in
    their places. If the end is missing and the header does not tell the length (it does where the
    length was known when the file was begun), the tokens end with the last whole chunk.

    Returns:
        The tokens, with codes 0 where frames are lost, and these frames:
        ``tokenizer.decode(tokens, lost=lost.mask()[None])`` conceals them. The tokens' metadata
        tell of them under `lost`.

    Raises:
        ContainerError: it is not a `.syl` file, its header is damaged, or its chunks have no
            numbers.

    Warns:
        ContainerWarning: the file is truncated and does not tell how long it was.
    """
    try:
        with Path(path).open("rb") as file:
            reader = SylReader(file, str(path), recover=True)
            return reader.tokens(), reader.lost
    except OSError as error:
        raise ContainerError(f"{path}: {error.strerror}") from None


def tokens_from_bytes(data: bytes) -> "Tokens":
    """Return the tokens in the bytes of a `.syl` file; see `read_tokens`.

    Raises:
        ContainerError: these are not the bytes of a `.syl` file, or they are damaged.

    Warns:
        ContainerWarning: they are truncated; the tokens before the cut are returned.
    """
    return SylReader(BytesIO(data), "bytes").tokens()


def _write(
    file: BinaryIO, tokens: "Tokens", metadata: dict[str, Any] | None, compress: bool
) -> int:
    """Write the file of a batch of one; return its size."""
    if metadata is None and tokens.metadata is not None and len(tokens) == 1:
        metadata = tokens.metadata[0]
    global_codes = None if tokens.global_codes is None else tokens.global_codes[0].tolist()
    with SylWriter(
        file,
        tokens.spec,
        num_codebooks=tokens.num_codebooks,
        has_durations=tokens.durations is not None,
        global_codes=global_codes,
        metadata=metadata,
        compress=compress,
        num_samples=int(tokens.num_samples[0]) if len(tokens) == 1 else None,
    ) as writer:
        writer.write(tokens)
    return writer.bytes_written
