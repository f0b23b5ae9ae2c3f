"""Times of words from CTM, Praat TextGrid and JSON."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ....errors import DatasetError
from ....filesystem import printable
from ..items import AlignedWord
from ..sources import without_suffix

#: Names of the tier of words in TextGrids, in order of preference, in lower case.
_TIERS = ("words", "word", "wrd", "orthography", "ort-mau")
#: What aligners write for silence.
_SILENCE = frozenset(("", "<eps>", "sil", "sp", "spn", "<sil>", "<p:>", "<unk-sil>"))


def read_ctm(path: Path) -> dict[str, list[AlignedWord]]:
    """Words of each utterance of a CTM file: ``id channel start duration word [confidence]``.

    Raises:
        DatasetError: it can't be read, or a line is invalid (its number is given).
    """
    found: dict[str, list[AlignedWord]] = {}
    for number, line in enumerate(_text(path).split("\n"), 1):
        parts = line.split()
        if not parts or line.startswith(";;"):
            continue
        try:
            start, lasting = float(parts[2]), float(parts[3])
            word = parts[4]
        except (IndexError, ValueError):
            raise DatasetError(
                f"{printable(path)}, line {number}: expected id, channel, start, duration and word"
            ) from None
        if word.lower() not in _SILENCE:
            end = round(start + lasting, 6)
            found.setdefault(parts[0], []).append(AlignedWord(word, start, end))
    for name, words in found.items():
        found[name] = list(checked(words, f"{printable(path)}, {name}"))
    return found


def read_text_grid(path: Path) -> list[AlignedWord]:
    """Words of a Praat TextGrid: of the tier called words, or of its only interval tier.

    Raises:
        DatasetError: no such package, or no such tier.
    """
    try:
        from praatio import textgrid
    except ImportError:
        raise DatasetError("TextGrids are read by praatio: pip install 'syllabary[lm]'") from None
    try:
        grid = textgrid.openTextgrid(str(path), includeEmptyIntervals=False)
        tiers = {
            name: grid.getTier(name)
            for name in grid.tierNames
            if isinstance(grid.getTier(name), textgrid.IntervalTier)
        }
    except Exception as error:  # the library raises many kinds for damaged files
        raise DatasetError(f"{printable(path)}: no TextGrid that can be read: {error}") from None
    lower = {name.lower(): name for name in tiers}
    names = [lower[name] for name in _TIERS if name in lower] or list(tiers)
    if not names or (len(names) > 1 and not any(name in lower for name in _TIERS)):
        raise DatasetError(
            f"{printable(path)}: no tier called words, among {', '.join(tiers) or 'none'}"
        )
    words = [
        AlignedWord(entry.label, float(entry.start), float(entry.end))
        for entry in tiers[names[0]].entries
        if entry.label.strip().lower() not in _SILENCE
    ]
    return checked(words, printable(path))


def read_json(path: Path) -> list[AlignedWord]:
    """Words of a JSON file; see `words_of_json`."""
    try:
        return words_of_json(json.loads(_text(path)), printable(path))
    except ValueError as error:
        if isinstance(error, DatasetError):
            raise
        raise DatasetError(f"{printable(path)}: not JSON: {error}") from None


def words_of_json(value: Any, where: str) -> list[AlignedWord]:
    """Words of JSON values: a list, or an object with one as ``words`` or ``alignments``.

    Each is ``[word, start, end]``, ``[word, [start, end], …]`` as moshi-finetune has it, or an
    object with ``word`` (or ``text``), ``start`` and ``end``; seconds.

    Raises:
        DatasetError: something else.
    """
    if isinstance(value, dict):
        value = next((value[n] for n in ("words", "alignments", "alignment") if n in value), None)
    if not isinstance(value, list):
        raise DatasetError(f"{where}: expected a list of words with times")
    words = []
    for entry in value:
        try:
            if isinstance(entry, dict):
                word = entry["word"] if "word" in entry else entry["text"]
                start, end = entry["start"], entry["end"]
            elif isinstance(entry[1], list):
                word, (start, end) = entry[0], entry[1]
            else:
                word, start, end = entry[:3]
            words.append(AlignedWord(str(word).strip(), float(start), float(end)))
        except (KeyError, IndexError, TypeError, ValueError):
            raise DatasetError(
                f"{where}: {entry!r}; expected a word, its start and its end in seconds"
            ) from None
    return checked([word for word in words if word.word.lower() not in _SILENCE], where)


def checked(words: list[AlignedWord], where: str) -> list[AlignedWord]:
    """The words, in order of their starts.

    Raises:
        DatasetError: a time is negative or not finite, or a word ends before it begins.
    """
    for word in words:
        if not 0 <= word.start <= word.end < 1e9:
            raise DatasetError(f"{where}: {word.word!r} from {word.start} to {word.end} s")
    return sorted(words, key=lambda word: word.start)


def packed(words: list[AlignedWord]) -> str:
    """JSON for the plan; `words_of_json` reads it."""
    rows = [[word.word, word.start, word.end] for word in words]
    return json.dumps(rows, ensure_ascii=False)


def words_beside(folder: Path, item: str, name: str) -> list[AlignedWord] | None:
    """Words of an item from a folder of files that are called like it; None if there is none.

    Args:
        folder: with ``ID.TextGrid``, ``ID.json`` or ``ID.ctm`` for each.
        item: its id.
        name: of its audio, which is tried, too.
    """
    for stem in dict.fromkeys((item, without_suffix(name), without_suffix(Path(name).name))):
        for path in _places(folder, stem):
            if not path.is_file():
                continue
            if path.suffix == ".json":
                return read_json(path)
            if path.suffix == ".ctm":
                return [word for words in read_ctm(path).values() for word in words]
            return read_text_grid(path)
    return None


def _places(folder: Path, stem: str) -> Iterator[Path]:
    for suffix in (".TextGrid", ".textgrid", ".json", ".ctm"):
        path = folder / f"{stem}{suffix}"
        if ".." not in path.parts:
            yield path


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{printable(path)}: {error}") from None
