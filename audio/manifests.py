"""Lists of utterances, from JSON-lines manifests, folders, glob patterns and files.

A manifest has one JSON object per line: ``path`` (absolute, or relative to the manifest) and, if
known, ``duration_s`` (seconds), ``speaker``, ``text`` and ``split``; with ``offset`` (seconds) the
utterance is a segment of the file, `duration_s` long or up to the file's end. Other fields are
kept.
"""

import errno
import fnmatch
import glob
import json
import math
import os
import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from ..errors import AudioFileError, ManifestError, SyllabaryError
from ..filesystem import files_below, printable, replacing, what_it_is
from .files import SUFFIXES, AudioReader, Channels, read

#: If a folder holds a file of this name, it lists the folder's utterances.
LIST_SUFFIX = ".txt"
MANIFEST_NAME = "manifest.jsonl"

#: Keys of a line by field of `Utterance`; `offset` is the key that other toolkits use, too.
_FIELDS = {
    "duration_s": "duration_s",
    "offset_s": "offset",
    "speaker": "speaker",
    "text": "text",
    "split": "split",
}


@dataclass(frozen=True)
class Utterance:
    """An audio file, or a segment of one.

    Attributes:
        path: of the file.
        name: path relative to the folder or manifest that listed it; outputs are named after it.
        duration_s: in seconds, if known.
        speaker, text, split: if known.
        extra: other fields of its manifest line.
        offset_s: start of the segment in seconds; None: the start of the file.
        stream: whether a FIFO or socket is accepted, as when the user named it as an input itself.
        unreadable: the reason, if the utterance stands for a folder that could not be searched.
    """

    path: Path
    name: PurePosixPath
    duration_s: float | None = None
    speaker: str | None = None
    text: str | None = None
    split: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    offset_s: float | None = None
    stream: bool = False
    unreadable: str | None = None

    def check_file(self) -> None:
        """Raise `AudioFileError` unless there is a file that can be opened without blocking."""
        if self.unreadable is not None:
            raise AudioFileError(self.unreadable)
        if self.stream:
            return
        if (what := what_it_is(self.path)) is not None:
            raise AudioFileError(f"{printable(self.path)}: {what}, expected a file")

    def open(self, channels: Channels = "mono", name: str | None = None) -> AudioReader:
        """Open the file or segment; arguments and errors are those of `AudioReader`."""
        self.check_file()
        return AudioReader(
            self.path, channels, name, offset_s=self.offset_s, duration_s=self.duration_s
        )

    def read(
        self, sample_rate: int | None = None, channels: Channels = "mono"
    ) -> tuple[np.ndarray, int]:
        """Read samples (samples,) float32 and their rate; see `files.read`."""
        self.check_file()
        return read(
            self.path,
            sample_rate,
            channels,
            offset_s=self.offset_s,
            duration_s=self.duration_s,
        )

    def segment(self) -> tuple[int, int | None] | None:
        """First sample and number of samples of the segment, at the file's rate.

        None if the utterance is the whole file, or the file can't be read.
        """
        if self.offset_s is None and self.duration_s is None:
            return None
        with suppress(SyllabaryError, OSError), self.open("mix") as reader:
            return reader.segment
        return None

    @property
    def language(self) -> str | None:
        """The spoken language, such as ``en`` or ``pt-BR``: the line's `language`, else `lang`."""
        for name in ("language", "lang"):
            said = self.extra.get(name)
            if isinstance(said, str) and said.strip():
                return said.strip()
        return None


def read_manifest(path: str | Path) -> list[Utterance]:
    """Read a manifest.

    If it has several segments of one file, their names tell them apart: `x-1.0-2.5.wav` is the
    segment of `x.wav` from 1 to 2.5 seconds.

    Raises:
        ManifestError: it can't be read, or a line is invalid (the line number is given).
    """
    path = Path(path)
    what = what_it_is(path)
    if what is not None:
        raise ManifestError(f"{path}: {what}, expected a file")
    try:
        # Not splitlines: JSON strings may contain other line separators, such as U+2028.
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"{path}: {error}") from None
    utterances = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                utterances.append(parse_line(line, path.parent))
            except ManifestError as error:
                raise ManifestError(f"{path}, line {number}: {error}") from None
    return _told_apart(utterances)


def parse_line(line: str, home: Path) -> Utterance:
    """Read one line of a manifest in the folder `home`.

    Raises:
        ManifestError: it is invalid.
    """
    try:
        fields = json.loads(line)
    except RecursionError:
        raise ManifestError("not JSON that can be read: it is nested too deep") from None
    except ValueError as error:
        raise ManifestError(f"not JSON: {error}") from None
    if not isinstance(fields, dict) or fields.get("path") in (None, "", ".", ".."):
        raise ManifestError('expected an object with a "path"')
    given = fields.pop("path")
    if not isinstance(given, str):
        raise ManifestError(f"path is {given!r}, expected text")
    if not _can_be_a_name(given):
        raise ManifestError(f"path is {given!r}, which no file can be called")
    if "offset" not in fields and "offset_s" in fields:
        fields["offset"] = fields.pop("offset_s")
    known: dict[str, Any] = {}
    for name, key in _FIELDS.items():
        value = fields.pop(key, None)
        known[name] = (_seconds if name.endswith("_s") else _text)(key, value)
    audio = home / given
    return Utterance(audio, _inside(os.path.relpath(audio, home)), **known, extra=fields)


def _seconds(key: str, value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ManifestError(f"{key} is {value!r}, expected seconds")
    if not 0 <= value < math.inf:
        raise ManifestError(f"{key} is {value!r}, expected seconds, 0 or more")
    return value


def _text(key: str, value: Any) -> str | None:
    """Return text, also from a whole number, since corpora number their speakers."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # tables with missing values store integers as floats
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if value is not None and not isinstance(value, str):
        raise ManifestError(f"{key} is {value!r}, expected text")
    return value


def _can_be_a_name(text: str) -> bool:
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


def _told_apart(items: list[Utterance]) -> list[Utterance]:
    """Return the items, with the segment's times in the names of repeated files."""
    for with_offset in (True, False):
        counts = Counter(item.name for item in items)
        items = [
            _named_by_place(item)
            if counts[item.name] > 1 and (item.offset_s is not None or not with_offset)
            else item
            for item in items
        ]
    return items


def _named_by_place(item: Utterance) -> Utterance:
    if item.offset_s is None and item.duration_s is None:
        return item
    start = float(item.offset_s or 0)
    stop = "end" if item.duration_s is None else repr(round(start + item.duration_s, 6))
    place = f"{item.name.stem}-{round(start, 6)!r}-{stop}{item.name.suffix}"
    return replace(item, name=item.name.with_name(place))


def _inside(relative: str) -> PurePosixPath:
    """Return the path without parts that would lead out of its folder."""
    parts = [part for part in Path(relative).parts if part not in ("..", "/", ".")]
    return PurePosixPath(*parts)


def write_manifest(path: str | Path, utterances: Iterable[Utterance]) -> None:
    """Write a manifest, whole or not at all, with paths relative to it where possible."""
    path = Path(path)
    home = path.parent.resolve()
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for item in utterances:
            audio = item.path.resolve()
            where = audio.relative_to(home) if audio.is_relative_to(home) else audio
            fields = {"path": where.as_posix()}
            fields |= {key: v for n, key in _FIELDS.items() if (v := getattr(item, n)) is not None}
            file.write(json.dumps(fields | item.extra, ensure_ascii=False) + "\n")


def collect(
    inputs: Sequence[str | Path],
    split: str | None = None,
    suffixes: frozenset[str] = SUFFIXES,
) -> list[Utterance]:
    """Return the utterances of the inputs, in a fixed order.

    An unreadable subfolder becomes an utterance with `unreadable` set, so that reading it raises an
    error with its name while the other utterances are processed.

    Args:
        inputs: files, manifests (.jsonl), lists of paths (.txt, one a line), folders (through their
            manifest.jsonl if they have one, else searched for `suffixes`, subfolders included) and
            glob patterns.
        split: keep only this split of the manifests.
        suffixes: of the files to find in folders.

    Raises:
        ManifestError: an input names nothing, or `split` is given and an input has no splits.
    """
    found: list[Utterance] = []
    for given in inputs:
        if not str(given):
            raise ManifestError(
                "an input is an empty text, expected a file or folder; is a variable of the shell "
                "not set?"
            )
        items = _named_by(given, suffixes)
        if split is not None:
            splits = sorted({item.split for item in items if item.split is not None})
            items = [item for item in items if item.split == split or item.unreadable]
            if not any(item.split == split for item in items):
                there = f"it has {', '.join(splits)}" if splits else "it has no splits"
                raise ManifestError(f"{given}: no utterance of split {split!r}; {there}")
        found += items
    return found


def _named_by(given: str | Path, suffixes: frozenset[str]) -> list[Utterance]:
    path = Path(given)
    if path.is_dir():
        manifest = path / MANIFEST_NAME
        if suffixes == SUFFIXES and manifest.exists():
            return _listed(manifest)
        items = _search(path, suffixes)
        if not items:
            raise ManifestError(f"{path}: no file in it that ends in {' '.join(sorted(suffixes))}")
        return items
    if path.suffix == ".jsonl":
        return _listed(path)
    if path.suffix == LIST_SUFFIX and path.is_file():
        return _read_list(path)
    if path.exists():
        is_stream = stat.S_ISFIFO(path.stat().st_mode) or stat.S_ISSOCK(path.stat().st_mode)
        return [Utterance(path, PurePosixPath(path.name), stream=is_stream)]
    if not glob.has_magic(str(given)):
        raise ManifestError(f"{path}: no such file or folder")
    items = _expand(str(given))
    if not items:
        raise ManifestError(f"{given}: matches no file")
    return items


def _read_list(path: Path) -> list[Utterance]:
    """Read a text file of paths, one a line, relative to its folder like those of manifests."""
    try:
        text = path.read_text(encoding="utf-8-sig", errors="surrogateescape")
    except OSError as error:
        raise ManifestError(f"{path}: {error.strerror}") from None
    names = [line.rstrip("\r") for line in text.split("\n") if line.strip()]
    if not names:
        raise ManifestError(f"{path}: it is empty, expected a path in each line")
    for number, name in enumerate(names, 1):
        if not _can_be_a_name(name):
            raise ManifestError(f"{path}, path {number}: {name!r}, which no file can be called")
    first = Path(names[0])
    if not (path.parent / first).exists() and first.exists():
        raise ManifestError(
            f"{path}: {first} is not in {path.parent}: paths in a list are relative to the list's "
            "folder; put the list where they begin, or write whole paths"
        )
    return [
        Utterance(path.parent / name, _inside(os.path.relpath(path.parent / name, path.parent)))
        for name in names
    ]


def without(items: Sequence[Utterance], patterns: Sequence[str]) -> list[Utterance]:
    """Leave out utterances that match a glob pattern, by their names in the inputs.

    Args:
        items: from `collect`.
        patterns: ``*.tmp.wav`` for the last part of a name, ``test/*`` for the whole name.

    Raises:
        ManifestError: a pattern matches nothing, or nothing is left.
    """
    left = list(items)
    for pattern in patterns:
        kept = [item for item in left if not _matches(item.name, pattern)]
        if len(kept) == len(left):
            raise ManifestError(f"--exclude {pattern}: matches none of the inputs")
        left = kept
    if not left:
        raise ManifestError(f"--exclude {' '.join(patterns)}: nothing is left of the inputs")
    return left


def _matches(name: PurePosixPath, pattern: str) -> bool:
    return fnmatch.fnmatchcase(str(name), pattern) or fnmatch.fnmatchcase(name.name, pattern)


def _listed(manifest: Path) -> list[Utterance]:
    items = read_manifest(manifest)
    if not items:
        raise ManifestError(f"{manifest}: it is empty, expected a line for each utterance")
    return items


def _unreadable(folder: Path, home: Path, error: OSError) -> Utterance:
    reason = f"{printable(folder)}: this folder can't be read: {error.strerror or error}"
    return Utterance(folder, PurePosixPath(folder.relative_to(home)), unreadable=reason)


def _search(folder: Path, suffixes: frozenset[str]) -> list[Utterance]:
    unreadable: list[Utterance] = []

    def note(place: Path, error: OSError) -> None:
        if place == folder:
            raise ManifestError(f"{folder}: can't be read: {error.strerror or error}")
        unreadable.append(_unreadable(place, folder, error))

    found = [
        Utterance(path, PurePosixPath(path.relative_to(folder)))
        for path in files_below(folder, note)
        if path.suffix.lower() in suffixes and not path.name.startswith(".")
    ]
    return found + unreadable


def _expand(pattern: str) -> list[Utterance]:
    """Return the matches of a glob pattern, and the folders that could not be searched."""
    parts = Path(pattern).parts
    fixed = 0
    while fixed < len(parts) - 1 and not glob.has_magic(parts[fixed]):
        fixed += 1
    home = Path(*parts[:fixed])
    unreadable: dict[Path, Utterance] = {}
    # A dictionary, since patterns with several ** match a file in several ways.
    paths = dict.fromkeys(_matching(home, parts[fixed:], home, unreadable))
    found = [
        Utterance(path, PurePosixPath(path.relative_to(home)))
        for path in sorted(paths, key=str)
        if not os.path.isdir(path)  # noqa: PTH112
    ]
    return found + list(unreadable.values())


def _matching(
    folder: Path, parts: Sequence[str], home: Path, unreadable: dict[Path, Utterance]
) -> Iterator[Path]:
    """Match like `glob.glob`, but record unreadable folders instead of skipping them silently."""
    first, rest = parts[0], parts[1:]
    if not glob.has_magic(first):
        if rest:
            yield from _matching(folder / first, rest, home, unreadable)
        elif os.path.lexists(folder / first):
            yield folder / first
        elif not os.access(folder, os.X_OK) and os.path.isdir(folder):  # noqa: PTH112
            error = OSError(errno.EACCES, os.strerror(errno.EACCES))
            unreadable[folder] = _unreadable(folder, home, error)
        return
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries)
    except (NotADirectoryError, FileNotFoundError):
        return
    except OSError as error:
        unreadable[folder] = _unreadable(folder, home, error)
        return
    if first == "**" and rest:
        yield from _matching(folder, rest, home, unreadable)
    for name in names:
        path = folder / name
        if name.startswith(".") and not first.startswith("."):
            continue
        if first == "**":
            circle = path.is_symlink() and folder.resolve().is_relative_to(path.resolve())
            if os.path.isdir(path) and not circle:  # noqa: PTH112
                yield from _matching(path, parts, home, unreadable)
            elif not rest:
                yield path
        elif fnmatch.fnmatchcase(name, first):
            if not rest:
                yield path
            elif os.path.isdir(path):  # noqa: PTH112
                yield from _matching(path, rest, home, unreadable)
