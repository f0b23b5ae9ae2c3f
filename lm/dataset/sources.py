"""What inputs name: manifests, folders, globs, WebDataset tars and Hugging Face audio data sets, as
a stream of `Source`s, so that a list of millions takes little memory.
"""

import glob
import json
import os
import re
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from ...audio.files import SUFFIXES
from ...audio.manifests import MANIFEST_NAME, Utterance, collect, parse_line
from ...errors import DatasetError, ManifestError
from ...filesystem import printable, what_it_is

Kind = Literal["file", "tar", "hf"]

_decode = json.JSONDecoder().decode
_NUMBERS, _TEXT = (float, int), (str, type(None))
#: Columns of Hugging Face data sets, in order of preference.
_HF_TEXT = ("text", "sentence", "transcription", "transcript", "normalized_text")
_HF_SPEAKER = ("speaker", "speaker_id", "client_id")
_HF_LANGUAGE = ("language", "lang", "locale")


class Source(NamedTuple):
    """One utterance, as an input lists it.

    Attributes:
        id: its name without an audio suffix, or the manifest's ``id``.
        kind: ``file``; ``tar``: a member of a tar; ``hf``: a row of a Hugging Face data set.
        path: of the file, the tar, or the data set's folder; bytes, since names need not be UTF-8.
        name: relative to the input that lists it.
        start: of a member: its first byte; of a row: its number; else -1.
        length: of a member, in bytes; else -1.
        duration_s, offset_s: of the segment, or of the file where known; see `Utterance`.
        speaker, text, language, split: where known.
        extra: other fields of its line, as JSON; empty for none.
    """

    id: str
    kind: Kind
    path: bytes
    name: str
    start: int = -1
    length: int = -1
    duration_s: float | None = None
    offset_s: float | None = None
    speaker: str | None = None
    text: str | None = None
    language: str | None = None
    split: str | None = None
    extra: str = ""


def list_sources(inputs: Sequence[str | Path], split: str | None = None) -> Iterator[Source]:
    """Yield the utterances of all inputs, in a fixed order.

    Args:
        inputs: manifests (.jsonl), folders (through their manifest.jsonl if they have one), glob
            patterns, audio files; WebDataset tars (a path, or a pattern that ends in .tar, in which
            ``{000..015}`` counts up); folders that Hugging Face's `save_to_disk` wrote.
        split: keep only this split.

    Raises:
        ManifestError, DatasetError: an input names nothing, or a line is invalid.
    """
    for given in inputs:
        found = False
        there = set()
        for source in _of_input(str(given)):
            if split is not None and source.split != split:
                there.add(source.split)
                continue
            found = True
            yield source
        if not found:
            if split is not None and there:
                splits = sorted(name for name in there if name is not None)
                has = f"it has {', '.join(splits)}" if splits else "it has no splits"
                raise ManifestError(f"{given}: no utterance of split {split!r}; {has}")
            raise ManifestError(f"{given}: names no utterance")


def _of_input(given: str) -> Iterator[Source]:
    path = Path(given)
    if given.endswith(".tar"):
        for tar in _tars(given):
            yield from _of_tar(tar)
    elif path.suffix == ".jsonl":
        yield from _of_manifest(path)
    elif path.is_dir() and is_hugging_face(path):
        yield from _of_hugging_face(path)
    elif path.is_dir() and (path / MANIFEST_NAME).exists():
        yield from _of_manifest(path / MANIFEST_NAME)
    else:
        for item in collect([given]):
            if item.unreadable is not None:
                raise ManifestError(item.unreadable)
            yield _of_utterance(item)


def without_suffix(name: str) -> str:
    """A name without the suffix of an audio file; others, as in ``u.1``, belong to the name."""
    stem, dot, suffix = name.rpartition(".")
    return stem if dot and stem and f".{suffix.lower()}" in SUFFIXES else name


# --- manifests -----------------------------------------------------------------------------------


def _of_manifest(path: Path) -> Iterator[Source]:
    if (what := what_it_is(path)) is not None:
        raise ManifestError(f"{path}: {what}, expected a file")
    home = path.parent
    prefix, number = os.fsencode(home) + b"/", 0
    try:
        with path.open(encoding="utf-8-sig", newline="\n") as file:
            for line in file:
                number += 1
                if not line.isspace():
                    yield _of_line(line, home, prefix)
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"{path}: {error}") from None
    except ManifestError as error:
        raise ManifestError(f"{path}, line {number}: {error}") from None


def _of_line(line: str, home: Path, prefix: bytes) -> Source:
    """Read the usual kind of line quickly; anything else as `parse_line` does."""
    try:
        fields = _decode(line)
        given, pop = fields.pop("path"), fields.pop
        duration, offset = pop("duration_s", None), pop("offset", None)
        speaker, text, split = pop("speaker", None), pop("text", None), pop("split", None)
        plain = (
            given.isascii()
            and given[0] not in "./"
            and "/." not in given
            and "//" not in given
            and "\0" not in given
            and (duration is None or (type(duration) in _NUMBERS and 0 <= duration < 1e9))
            and (offset is None or (type(offset) in _NUMBERS and 0 <= offset < 1e9))
            and type(speaker) in _TEXT
            and type(text) in _TEXT
            and type(split) in _TEXT
            and "offset_s" not in fields
        )
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
        plain = False
    if not plain:
        return _of_utterance(parse_line(line, home))
    item, language, lang = pop("id", None), pop("language", None), pop("lang", None)
    return _in_unicode(
        Source(
            _id(item, given, offset, duration),
            "file",
            prefix + given.encode(),
            given,
            -1,
            -1,
            duration,
            offset,
            speaker,
            text,
            _text_or_none(language) or _text_or_none(lang),
            split,
            _json(fields) if fields else "",
        )
    )


def _in_unicode(source: Source) -> Source:
    """Return the source, if all that it says can be written.

    Raises:
        ManifestError: there is half of a character, as of an emoji that was cut.
    """
    said = (source.id, source.speaker, source.text, source.language, source.split, source.extra)
    try:
        "".join(filter(None, said)).encode()
    except UnicodeEncodeError as error:
        half = error.object[error.start : error.end]
        raise ManifestError(
            f"half of a character, {half!r}, such as of an emoji that was cut"
        ) from None
    return source


def _text_or_none(language: Any) -> str | None:
    return (language.strip() or None) if type(language) is str else None


def _id(given: Any, name: str, offset: float | None, duration: float | None) -> str:
    if isinstance(given, str) and given:
        return given
    stem = without_suffix(name)
    if offset is None:
        return stem
    start = float(offset)
    stop = "end" if duration is None else repr(round(start + duration, 6))
    return f"{stem}-{round(start, 6)!r}-{stop}"


def _json(extra: dict[str, Any]) -> str:
    kept = {name: value for name, value in extra.items() if value is not None}
    return json.dumps(kept, sort_keys=True, ensure_ascii=False) if kept else ""


def _of_utterance(item: Utterance) -> Source:
    name = printable(item.name)
    extra = {k: v for k, v in item.extra.items() if k not in ("id", "language", "lang")}
    return _in_unicode(
        Source(
            _id(item.extra.get("id"), name, item.offset_s, item.duration_s),
            "file",
            os.fsencode(item.path),
            name,
            duration_s=item.duration_s,
            offset_s=item.offset_s,
            speaker=item.speaker,
            text=item.text,
            language=item.language,
            split=item.split,
            extra=_json(extra),
        )
    )


# --- WebDataset ----------------------------------------------------------------------------------


def _tars(given: str) -> list[Path]:
    patterns = [given]
    while (match := re.search(r"\{(\d+)\.\.(\d+)\}", patterns[0])) is not None:
        first, last = match[1], match[2]
        patterns = [
            pattern.replace(match[0], f"{number:0{len(first)}}", 1)
            for pattern in patterns
            for number in range(int(first), int(last) + 1)
        ]
    found = []
    for pattern in patterns:
        paths = sorted(glob.glob(pattern)) if glob.has_magic(pattern) else [pattern]  # noqa: PTH207
        found += [Path(path) for path in paths]
    return found


def _of_tar(path: Path) -> Iterator[Source]:
    """Samples of a tar: members that share the name up to the first dot of the basename."""
    try:
        with tarfile.open(path, "r:") as tar:
            members: dict[str, tarfile.TarInfo] = {}
            key: str | None = None
            for member in tar:
                if not member.isfile():
                    continue
                folder, slash, base = member.name.rpartition("/")
                stem, _, field = base.partition(".")
                if not stem:
                    continue
                if key not in (None, folder + slash + stem):
                    yield from _of_sample(path, tar, str(key), members)
                    members = {}
                key = folder + slash + stem
                members[field.lower()] = member
            if key is not None:
                yield from _of_sample(path, tar, key, members)
    except (OSError, tarfile.TarError) as error:
        raise DatasetError(
            f"{printable(path)}: no tar that can be read at random ({error}); unpack compressed "
            "ones first"
        ) from None


def _of_sample(
    path: Path, tar: tarfile.TarFile, key: str, members: dict[str, tarfile.TarInfo]
) -> Iterator[Source]:
    audio = [field for field in members if f".{field.rpartition('.')[2]}" in SUFFIXES]
    if not audio:
        return
    if len(audio) > 1:
        raise DatasetError(f"{printable(path)}: sample {key} has several sounds: {sorted(audio)}")
    fields: dict[str, Any] = {}
    if "json" in members:
        try:
            read = json.loads(_bytes(tar, members["json"]))
        except ValueError as error:
            raise DatasetError(f"{printable(path)}: {key}.json: {error}") from None
        fields = read if isinstance(read, dict) else {}
    if "txt" in members:
        fields["text"] = _bytes(tar, members["txt"]).decode("utf-8", "replace").strip()
    member = members[audio[0]]
    parsed = parse_line(json.dumps({**fields, "path": member.name}), Path())
    source = _of_utterance(parsed)
    return_id = fields.get("id") if isinstance(fields.get("id"), str) else None
    yield source._replace(
        # Keys are often numbers that begin anew in each tar.
        id=return_id or f"{path.stem}/{key}",
        kind="tar",
        path=os.fsencode(path),
        name=f"{path.name}/{printable(member.name)}",
        start=member.offset_data,
        length=member.size,
    )


def _bytes(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    assert file is not None
    return file.read()


# --- Hugging Face --------------------------------------------------------------------------------


def is_hugging_face(folder: Path) -> bool:
    """Whether Hugging Face's `save_to_disk` wrote this folder."""
    return (folder / "dataset_dict.json").exists() or (
        (folder / "state.json").exists() and (folder / "dataset_info.json").exists()
    )


def open_hugging_face(folder: Path) -> tuple[Any, str]:
    """A data set that was saved to disk, with undecoded audio, and the name of its audio column.

    Raises:
        DatasetError: no `datasets` package, or the folder is damaged or has no audio.
    """
    try:
        from datasets import Audio, load_from_disk
    except ImportError:
        raise DatasetError(
            f"{printable(folder)}: a Hugging Face data set, which the package `datasets` reads: "
            "pip install datasets"
        ) from None
    try:
        found = load_from_disk(str(folder))
    except Exception as error:  # any error of the library
        raise DatasetError(f"{printable(folder)}: can't be read: {error}") from None
    columns = [name for name, kind in found.features.items() if isinstance(kind, Audio)]
    if len(columns) != 1:
        raise DatasetError(
            f"{printable(folder)}: expected one audio column, found {columns or 'none'} among "
            f"{list(found.features)}"
        )
    return found.cast_column(columns[0], Audio(decode=False)), columns[0]


def _of_hugging_face(folder: Path) -> Iterator[Source]:
    if (folder / "dataset_dict.json").exists():
        path = folder / "dataset_dict.json"
        try:
            splits = list(map(str, json.loads(path.read_text(encoding="utf-8"))["splits"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DatasetError(f"{printable(path)}: no list of splits: {error}") from None
        for split in splits:
            for source in _of_hugging_face(folder / split):
                yield source._replace(split=source.split or split, id=f"{split}/{source.id}")
        return
    found, column = open_hugging_face(folder)
    rest = found.remove_columns(column)
    plain = [name for name, kind in rest.features.items() if hasattr(kind, "dtype")]
    rest = rest.select_columns(plain)

    def first(row: dict[str, Any], names: Sequence[str]) -> str | None:
        values = [row[name] for name in names if row.get(name) is not None]
        return str(values[0]) if values else None

    for number in range(len(found)):
        row = rest[number] if plain else {}
        used = {"id", "split", *_HF_TEXT, *_HF_SPEAKER, *_HF_LANGUAGE}
        extra = {
            name: value
            for name, value in row.items()
            if name not in used and isinstance(value, str | int | float | bool)
        }
        yield Source(
            str(row["id"]) if row.get("id") is not None else f"{number:08}",
            "hf",
            os.fsencode(folder),
            f"{folder.name}/{number:08}",
            start=number,
            speaker=first(row, _HF_SPEAKER),
            text=first(row, _HF_TEXT),
            language=first(row, _HF_LANGUAGE),
            split=first(row, ["split"]),
            extra=_json(extra),
        )
