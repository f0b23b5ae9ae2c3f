"""Read and write whole `.syl` files, each with the tokens of one utterance."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

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
    import torch

    from ..tokens import Tokens

    try:
        with Path(path).open("rb") as file:
            reader = SylReader(file, str(path))
            chunks = list(reader.chunks())
    except OSError as error:
        raise ContainerError(f"{path}: {error.strerror}") from None
    empty = np.zeros((reader.num_codebooks, 0), np.int64)
    codes = np.concatenate([empty, *(chunk.codes for chunk in chunks)], axis=1)
    tokens = Tokens(
        codes=torch.from_numpy(codes)[None],
        lengths=torch.tensor([codes.shape[1]]),
        num_samples=torch.tensor([reader.num_samples]),
        spec=reader.spec,
        durations=None,
        global_codes=torch.tensor([reader.global_codes]) if reader.global_codes else None,
    )
    if not reader.has_durations:
        return tokens
    durations = [chunk.durations for chunk in chunks if chunk.durations is not None]
    joined = np.concatenate([np.zeros(0, np.int64), *durations])
    return replace(tokens, durations=torch.from_numpy(joined)[None])
