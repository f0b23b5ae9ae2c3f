"""Read and write whole `.syl` files, each with the tokens of one utterance."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import ContainerError
from ...filesystem import replacing
from .reader import SylReader
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

    Returns:
        The size of the file in bytes.

    Raises:
        TokenError: more than one row, or codes out of range.
    """
    path = Path(path)
    global_codes = None if tokens.global_codes is None else tokens.global_codes[0].tolist()
    with (
        replacing(path) as temporary,
        temporary.open("wb") as file,
        SylWriter(
            file,
            tokens.spec,
            num_codebooks=tokens.num_codebooks,
            has_durations=tokens.durations is not None,
            global_codes=global_codes,
            metadata=metadata,
            compress=compress,
        ) as writer,
    ):
        writer.write(tokens)
    return writer.bytes_written


def read_tokens(path: str | Path) -> "Tokens":
    """Read a `.syl` file as a batch of one.

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
