"""VoxCeleb's folders: ``idXXXXX/VIDEO/NUMBER.wav``, and lists of trials.

Trials are lines ``1 PATH PATH`` (same) and ``0 PATH PATH``, whose paths are the utterances' names:
name that file as `trials` of a task. The ids' genders are in ``vox1_meta.csv``, where it is.
Nagrani et al., "VoxCeleb", arXiv 1706.08612.
"""

import re
from pathlib import Path, PurePosixPath

from ....audio.files import SUFFIXES
from ....audio.manifests import Utterance
from ....errors import ManifestError
from ....filesystem import files_below
from .text_files import lines_of

_EXPECTED = "idXXXXX/VIDEO/NUMBER.wav"


def read(folder: Path) -> list[Utterance]:
    """The utterances, in the order of their names.

    `split` is the folder above the speakers (``dev``, ``test``; ``wav`` is passed over), where
    `folder` is above it; extra fields are ``video`` and, where known, ``gender`` and ``nation``.

    Names are paths from the speaker's folder on, as lists of trials have them.

    Raises:
        ManifestError: nothing is there; what is expected is named.
    """
    known = _meta(folder / "vox1_meta.csv")
    found = []
    for path in sorted(files_below(folder)):
        inside = path.relative_to(folder).parts
        if path.suffix.lower() not in SUFFIXES or len(inside) < 3:
            continue
        speaker, video, number = inside[-3:]
        if not re.fullmatch(r"id\d+", speaker):
            continue
        above = [part for part in inside[:-3] if part != "wav"]
        found.append(
            Utterance(
                path,
                PurePosixPath(speaker, video, number),
                speaker=speaker,
                split=above[-1] if above else None,
                extra={"video": video, **known.get(speaker, {})},
            )
        )
    if not found:
        raise ManifestError(f"{folder}: expected {_EXPECTED}; no such file is there")
    return found


def _meta(path: Path) -> dict[str, dict[str, str]]:
    """By id, from a table with a head line, its columns apart by tabs."""
    if not path.is_file():
        return {}
    head, *lines = (line.split("\t") for line in lines_of(path))
    columns = {name.strip().lower(): at for at, name in enumerate(head)}
    if "voxceleb1 id" not in columns:
        raise ManifestError(f"{path}: expected a column `VoxCeleb1 ID`, got {head}")
    wanted = {"gender": "gender", "nationality": "nation"}
    found = {}
    for fields in lines:
        if len(fields) < len(head):
            raise ManifestError(f"{path}: expected {len(head)} columns, got {fields}")
        row = {
            new: fields[columns[old]].strip().lower()
            for old, new in wanted.items()
            if old in columns
        }
        found[fields[columns["voxceleb1 id"]].strip()] = row
    return found
