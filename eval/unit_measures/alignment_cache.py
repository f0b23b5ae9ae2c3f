"""Cached alignments of many utterances: aligning takes a twentieth of real time."""

import hashlib
import json
import operator
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from ...audio.forced_alignment import SAMPLE_RATE
from ...audio.manifests import Utterance
from ...errors import AudioFileError
from ...filesystem import replacing
from .alignment import (
    PHONES,
    AlignmentError,
    PhoneAligner,
    PhoneAlignment,
    sixteen_bits,
)

#: Version, to be changed when alignments of the same samples and text change.
_SCHEME = "2"

_SAVE_EVERY = 50


class AlignmentCache:
    """Alignments, and reasons of failures, by samples and text, in one JSON-lines file.

    The key is a SHA-256 of the 16-bit samples, the text, and the versions of pocketsphinx and of
    this code. The file is replaced whole at `save`, with what other processes have added since;
    a line that can't be read counts as absent.

    Args:
        path: of the file; default: `~/.cache/syllabary/alignments/alignments.jsonl`.
    """

    def __init__(self, path: Path | None = None) -> None:
        home = Path.home() / ".cache" / "syllabary" / "alignments"
        self.path = home / "alignments.jsonl" if path is None else path
        self._entries = self._load()
        self._unsaved: dict[str, dict[str, Any]] = {}
        self._aligner: PhoneAligner | None = None

    def _load(self) -> dict[str, dict[str, Any]]:
        entries = {}
        lines = self.path.read_bytes().split(b"\n") if self.path.exists() else []
        for line in lines:
            try:
                entry = json.loads(line)
                if not isinstance(entry.get("error"), str):
                    _intervals(entry)
                entries[str(entry["key"])] = entry
            except (ValueError, TypeError, KeyError, AttributeError):
                continue  # aligned again
        return entries

    def align(self, wave: np.ndarray, sample_rate: int, text: str) -> PhoneAlignment:
        """Like `PhoneAligner.align`, with caching.

        Raises:
            MetricError: as `PhoneAligner.align`; also from the cache.
        """
        samples = sixteen_bits(wave, sample_rate)
        key = _key(samples, text)
        entry = self._entries.get(key)
        if entry is None:
            entry = {"key": key} | self._compute(wave, sample_rate, text)
            self._entries[key] = self._unsaved[key] = entry
            if len(self._unsaved) >= _SAVE_EVERY:
                self.save()
        if "error" in entry:
            raise AlignmentError(entry["error"])
        phones, frames = _intervals(entry)
        starts = np.cumsum([0, *frames[:-1]])
        return PhoneAlignment(phones, starts, sum(frames), samples.size)

    def _compute(self, wave: np.ndarray, sample_rate: int, text: str) -> dict[str, Any]:
        self._aligner = self._aligner or PhoneAligner()
        try:
            found = self._aligner.align(wave, sample_rate, text)
        except AlignmentError as error:
            return {"error": str(error)}
        names = " ".join(PHONES[index] for index in found.phones)
        return {"phones": names, "frames": (found.ends - found.starts).tolist()}

    def save(self) -> None:
        """Write new alignments to disk, atomically."""
        if not self._unsaved:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        entries = self._load() | self._unsaved
        with replacing(self.path) as temporary, temporary.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(entry) + "\n" for entry in entries.values())
        self._entries |= entries
        self._unsaved = {}


def _intervals(entry: dict[str, Any]) -> tuple[np.ndarray, list[int]]:
    """Phones, as indices, and the number of frames of each.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: the entry is damaged.
    """
    phones = np.array([PHONES.index(name) for name in entry["phones"].split()])
    frames = [operator.index(count) for count in entry["frames"]]
    if len(phones) != len(frames) or not frames or min(frames) < 1:
        raise ValueError("phones and their frames do not fit")
    return phones, frames


def _key(samples: np.ndarray, text: str) -> str:
    try:
        installed = version("pocketsphinx")
    except PackageNotFoundError:
        installed = "none"
    digest = hashlib.sha256(f"{_SCHEME} {installed} {text}\0".encode())
    digest.update(samples.tobytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class AlignedUtterances:
    """Alignments of a list of utterances.

    Attributes:
        found: by name of the utterance.
        missing: by name of the utterance, why it has none.
    """

    found: dict[PurePosixPath, PhoneAlignment] = field(default_factory=dict)
    missing: dict[PurePosixPath, str] = field(default_factory=dict)


def align_utterances(
    utterances: Iterable[Utterance],
    cache: AlignmentCache | None = None,
    progress: Callable[[int], None] | None = None,
) -> AlignedUtterances:
    """Align every utterance that has a transcript; failures are listed with the reason.

    Args:
        utterances: of a manifest; their audio is resampled to 16 kHz if needed.
        cache: default: the user's.
        progress: called with the number of utterances done.

    Raises:
        MetricError: no `pocketsphinx` package, and something not in the cache.
    """
    cache = AlignmentCache() if cache is None else cache
    result = AlignedUtterances()
    try:
        for number, item in enumerate(utterances, 1):
            if item.text is None:
                result.missing[item.name] = "no transcript"
                continue
            try:
                wave, rate = item.read(SAMPLE_RATE, "mix")
                result.found[item.name] = cache.align(wave, rate, item.text)
            except (AudioFileError, AlignmentError) as error:
                result.missing[item.name] = str(error)
            if progress:
                progress(number)
    finally:
        cache.save()
    return result
