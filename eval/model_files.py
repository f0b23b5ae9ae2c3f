"""Digests of models, from the files in a folder."""

import hashlib
import json
from pathlib import Path

from .requirements import MetricError

#: Files that determine a model's output; other files in a folder are ignored.
DECIDING = ("*.json", "*.txt", "*.model", "*.bin", "*.safetensors")
#: Training files with the same suffix as weights, which models do not read.
_IGNORED = ("training_args.bin", "optimizer.bin", "trainer_state.json")


def folder_digest(folder: Path) -> str:
    """SHA-256 (hex) of a model's files, with their names.

    Raises:
        MetricError: one can't be read.
    """
    sha = hashlib.sha256()
    for path in sorted({path for pattern in DECIDING for path in folder.glob(pattern)}):
        if path.name in _IGNORED or not path.is_file():
            continue
        try:
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise MetricError(f"{path}: {error.strerror}") from None
        sha.update(json.dumps([path.name, content]).encode())
    return sha.hexdigest()
