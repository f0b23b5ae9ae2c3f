"""SLURP's files: ``SPLIT.jsonl`` with sentences, and their recordings in an audio folder.

A line is an object with ``sentence``, ``scenario``, ``action``, optionally ``intent`` and
``entities``, and ``recordings``, each with a ``file``. Audio is looked for in ``slurp_real``,
``audio/slurp_real``, ``audio`` and beside the files. Bastianelli et al., arXiv 2011.13205.
"""

import json
from pathlib import Path, PurePosixPath
from typing import Any

from ....audio.manifests import Utterance
from ....errors import ManifestError
from .text_files import lines_of

_EXPECTED = "train.jsonl, devel.jsonl or test.jsonl (in it, or in dataset/slurp)"
_AUDIO = ("slurp_real", "audio/slurp_real", "audio", ".")


def read(folder: Path) -> list[Utterance]:
    """The recordings, in the order of the files.

    `split` is the name of the file; extra fields are ``intent``, ``scenario``, ``action``, and
    ``slots``: the kinds of its entities, sorted, with ``+`` between.

    Raises:
        ManifestError: a file or a recording is missing, or a line is not as expected.
    """
    home = folder / "dataset" / "slurp" if (folder / "dataset" / "slurp").is_dir() else folder
    files = [home / f"{split}.jsonl" for split in ("train", "devel", "test")]
    found = []
    for path in files:
        for number, line in enumerate(lines_of(path) if path.is_file() else [], 1):
            where = f"{path}, line {number}"
            found += _recordings(folder, path.stem, line, where)
    if not found:
        raise ManifestError(f"{folder}: expected {_EXPECTED}; no recording is named there")
    return found


def _recordings(folder: Path, split: str, line: str, where: str) -> list[Utterance]:
    try:
        said: Any = json.loads(line)
        scenario, action = str(said["scenario"]), str(said["action"])
        sentence, files = str(said["sentence"]), [str(row["file"]) for row in said["recordings"]]
        slots = sorted({str(entity["type"]) for entity in said.get("entities", [])})
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ManifestError(
            f"{where}: expected an object with sentence, scenario, action, recordings (each with "
            f"a file) and entities (each with a type): {error!r}"
        ) from None
    intent = str(said.get("intent") or f"{scenario}_{action}")
    extra = {"intent": intent, "scenario": scenario, "action": action, "slots": "+".join(slots)}
    return [
        Utterance(
            _audio(folder, file, where),
            PurePosixPath(split, file),
            text=sentence,
            split=split,
            extra=dict(extra),
        )
        for file in files
    ]


def _audio(folder: Path, file: str, where: str) -> Path:
    for part in _AUDIO:
        if (path := folder / part / file).is_file():
            return path
    raise ManifestError(f"{where}: no {file} in {', '.join(_AUDIO)} of {folder}")
