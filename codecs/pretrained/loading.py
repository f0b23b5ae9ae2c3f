"""Load a folder as its publisher left it, whatever the architecture."""

import json
from pathlib import Path
from typing import Any

from ...errors import CheckpointError
from ..interface import AudioTokenizer
from .architectures import PACKAGED
from .packaged_codec import PackagedCodec, packaged_as
from .transformers_codec import TransformersCodec


def load_published(directory: Path, name: str | None = None) -> AudioTokenizer:
    """Load a published model, whose `config.json` tells what it is.

    Args:
        directory: with `config.json` and the weights.
        name: the tokenizer's name; default: the directory's.

    Raises:
        CheckpointError: a file is missing or damaged, or the architecture is unknown.
    """
    if packaged_as(_fields(directory)) is not None:
        return PackagedCodec.from_published(directory, name)
    return TransformersCodec.from_published(directory, name)


def weights_beside(directory: Path) -> tuple[str, ...]:
    """Names of the files with weights that a model of this configuration has on the hub.

    None for those of transformers, whose weights are safetensors.
    """
    architecture = packaged_as(_fields(directory))
    return PACKAGED[architecture].weights if architecture else ()


def _fields(directory: Path) -> Any:
    path = directory / "config.json"
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: {error}") from None
