"""Lists of utterances: JSON-lines manifests, and folders, globs and files in their place.

A manifest has one JSON object a line: ``path`` (relative to the manifest, or absolute) and, where
known, ``duration_s`` (seconds), ``speaker``, ``text`` and ``split``; other fields are kept.
"""

import glob
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from ..errors import ManifestError
from ..filesystem import replacing
from .files import SUFFIXES

#: A folder that holds a file of this name is read through it.
MANIFEST_NAME = "manifest.jsonl"

_FIELDS: dict[str, type | tuple[type, ...]] = {
    "path": str,
    "duration_s": (int, float),
    "speaker": str,
    "text": str,
    "split": str,
}


@dataclass(frozen=True)
class Utterance:
    """One audio file.

    Attributes:
        path: where it is.
        name: path relative to the folder or manifest that it came from; outputs are named by it.
        duration_s: in seconds, if known.
        speaker, text, split: if known.
        extra: other fields of its manifest line.
    """

    path: Path
    name: PurePosixPath
    duration_s: float | None = None
    speaker: str | None = None
    text: str | None = None
    split: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def language(self) -> str | None:
        """The one spoken, such as ``en`` or ``pt-BR``: its manifest's `language`, else `lang`."""
        for name in ("language", "lang"):
            said = self.extra.get(name)
            if isinstance(said, str) and said.strip():
                return said.strip()
        return None


def read_manifest(path: str | Path) -> list[Utterance]:
    """Read a manifest.

    Raises:
        ManifestError: it can't be read, or a line is not as expected (its number is named).
    """
    path = Path(path)
    try:
        # Not splitlines: JSON text may hold other separators, such as U+2028.
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"{path}: {error}") from None
    utterances = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
        except ValueError as error:
            raise ManifestError(f"{path}, line {number}: not JSON: {error}") from None
        if not isinstance(fields, dict) or fields.get("path") in (None, "", ".", ".."):
            raise ManifestError(f'{path}, line {number}: expected an object with a "path"')
        for name, kind in _FIELDS.items():
            value = fields.get(name)
            if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
                raise ManifestError(f"{path}, line {number}: {name} is {value!r}")
        known = {name: fields.pop(name, None) for name in _FIELDS}
        audio = path.parent / known.pop("path")
        utterances.append(
            Utterance(audio, _inside(os.path.relpath(audio, path.parent)), **known, extra=fields)
        )
    return utterances


def _inside(relative: str) -> PurePosixPath:
    """A path that can't lead out of the folder that it is put under."""
    parts = [part for part in Path(relative).parts if part not in ("..", "/", ".")]
    return PurePosixPath(*parts)


def write_manifest(path: str | Path, utterances: Iterable[Utterance]) -> None:
    """Write a manifest, whole or not at all, with paths relative to it where that is possible."""
    path = Path(path)
    home = path.parent.resolve()
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for item in utterances:
            audio = item.path.resolve()
            where = audio.relative_to(home) if audio.is_relative_to(home) else audio
            fields = {"path": where.as_posix()}
            fields |= {n: v for n in list(_FIELDS)[1:] if (v := getattr(item, n)) is not None}
            file.write(json.dumps(fields | item.extra, ensure_ascii=False) + "\n")


def collect(
    inputs: Sequence[str | Path],
    split: str | None = None,
    suffixes: frozenset[str] = SUFFIXES,
) -> list[Utterance]:
    """The utterances that the inputs name, in a fixed order.

    Args:
        inputs: files, manifests (.jsonl), folders (through their manifest.jsonl if they have one,
            else searched for `suffixes`, subfolders included) and glob patterns.
        split: keep only this split of the manifests.
        suffixes: what to look for in folders.

    Raises:
        ManifestError: an input names nothing, or `split` is given and an input has no splits.
    """
    found: list[Utterance] = []
    for given in inputs:
        path = Path(given)
        if path.is_dir():
            manifest = path / MANIFEST_NAME
            through = suffixes == SUFFIXES and manifest.exists()
            items = read_manifest(manifest) if through else _search(path, suffixes)
            if not items:
                raise ManifestError(
                    f"{path}: no file in it that ends in {' '.join(sorted(suffixes))}"
                )
        elif path.suffix == ".jsonl":
            items = read_manifest(path)
        elif not path.exists() and glob.has_magic(str(given)):
            items = _expand(str(given))
            if not items:
                raise ManifestError(f"{given}: matches no file")
        elif path.exists():
            items = [Utterance(path, PurePosixPath(path.name))]
        else:
            raise ManifestError(f"{path}: no such file or folder")
        if split is not None:
            splits = sorted({item.split for item in items if item.split is not None})
            items = [item for item in items if item.split == split]
            if not items:
                there = f"it has {', '.join(splits)}" if splits else "it has no splits"
                raise ManifestError(f"{given}: no utterance of split {split!r}; {there}")
        found += items
    return found


def _search(folder: Path, suffixes: frozenset[str]) -> list[Utterance]:
    found = []
    seen = set()
    for parent, folders, files in os.walk(folder, followlinks=True):
        # A corpus may be a farm of links, and links may lead in circles.
        status = Path(parent).stat()
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders.sort()
        for name in sorted(files):
            path = Path(parent, name)
            if path.suffix.lower() in suffixes and not name.startswith("."):
                found.append(Utterance(path, PurePosixPath(path.relative_to(folder))))
    return found


def _expand(pattern: str) -> list[Utterance]:
    fixed = []
    for part in Path(pattern).parts[:-1]:
        if glob.has_magic(part):
            break
        fixed.append(part)
    home = Path(*fixed)
    paths = [Path(name) for name in sorted(glob.glob(pattern, recursive=True))]  # noqa: PTH207
    return [
        Utterance(path, PurePosixPath(path.relative_to(home))) for path in paths if path.is_file()
    ]
