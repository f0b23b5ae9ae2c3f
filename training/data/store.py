"""A decoded data set: a memory-mapped file of int16 samples, and an index.

A store is a folder with ``samples.i16`` (little-endian, utterance after utterance) and
``index.json``, which is written last: a folder without it is not a store.
"""

import fcntl
import hashlib
import json
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from ...audio.files import Channels
from ...audio.manifests import Utterance, collect
from ...audio.resampling import resampler_name
from ...errors import AudioFileError, TrainingError, WaveError
from ...filesystem import content_digest, printable, remove_leftovers, replacing

SAMPLES_NAME = "samples.i16"
INDEX_NAME = "index.json"
_FORMAT = "syllabary speech store"
_VERSION = 1


@dataclass(frozen=True)
class StoreEntry:
    """An utterance: `length` samples from `offset` on (both in samples)."""

    name: str
    offset: int
    length: int
    speaker: str | None = None
    source: str | None = None


@dataclass(frozen=True)
class StoreFailure:
    """A file that is not in the store, and the reason."""

    name: str
    error: str


class SpeechStore:
    """Decoded utterances, memory-mapped: opening is immediate, and processes share the pages.

    Args:
        folder: written by `build_store`.

    Attributes:
        sample_rate: in Hz.
        entries: the utterances, in the manifest's order.
        failures: files that could not be read.
        clipped: number of samples beyond the range of int16, which were clamped.
        digest: SHA-256 of the inputs: names, contents, segments, speakers, sources, rate,
            resampler.
        samples_digest: SHA-256 of the samples, independent of paths and machines.

    Raises:
        TrainingError: there is no store, or it is damaged.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        index = _read_index(self.folder)
        if index is None:
            raise TrainingError(
                f"{printable(self.folder)}: no {INDEX_NAME} in it; not a store, or its building "
                "was not finished; run build_store"
            )
        try:
            self.sample_rate: int = index["sample_rate"]
            self.entries = tuple(StoreEntry(**entry) for entry in index["utterances"])
            self.failures = tuple(StoreFailure(**failure) for failure in index["failures"])
            self.clipped: int = index["clipped"]
            self.digest: str = index["digest"]
            self.samples_digest: str = index["samples_digest"]
            #: (utterances,) int64, in samples
            self.lengths = np.array([entry.length for entry in self.entries], np.int64)
            ends = np.cumsum(self.lengths)
            if [entry.offset for entry in self.entries] != [0, *ends.tolist()[:-1]]:
                raise ValueError("its utterances do not follow each other")
            if self.lengths.min(initial=1) < 1:
                raise ValueError("an utterance has no samples")
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise TrainingError(
                f"{printable(self.folder / INDEX_NAME)}: damaged: {error!r}; delete it and build "
                "the store again"
            ) from None
        self._path = self.folder / SAMPLES_NAME
        expected = 2 * int(self.lengths.sum())
        size = self._path.stat().st_size if self._path.exists() else 0
        if size != expected or not expected:
            raise TrainingError(
                f"{printable(self._path)}: has {size} bytes and its index says {expected}; delete "
                f"{INDEX_NAME} and build the store again"
            )
        # Not a memmap, whose slices take ten times longer to make.
        self._samples = np.asarray(np.memmap(self._path, "<i2", mode="r"))

    def __len__(self) -> int:
        return len(self.entries)

    def __reduce__(self) -> tuple[type["SpeechStore"], tuple[Path]]:
        # Only the folder's name is sent to another process, not the samples.
        return SpeechStore, (self.folder,)

    def samples(self, index: int) -> np.ndarray:
        """Return the samples (length,) of an utterance: a read-only int16 view of the file."""
        entry = self.entries[index]
        return self._samples[entry.offset : entry.offset + entry.length]

    @property
    def speakers(self) -> tuple[str, ...]:
        """Return the speakers, sorted; utterances without a speaker are ignored."""
        return tuple(sorted({e.speaker for e in self.entries if e.speaker is not None}))

    @property
    def sources(self) -> tuple[str, ...]:
        """Return the sources (corpora), sorted; utterances without a source are ignored."""
        return tuple(sorted({e.source for e in self.entries if e.source is not None}))

    @property
    def hours(self) -> float:
        return self._samples.shape[0] / self.sample_rate / 3600

    def verify(self) -> None:
        """Read every sample and compare with `samples_digest`.

        Raises:
            TrainingError: they have changed since they were written.
        """
        with self._path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != self.samples_digest:
            raise TrainingError(f"{printable(self._path)}: its samples changed since it was built")


def build_store(
    inputs: str | Path | Iterable[Utterance],
    folder: str | Path,
    sample_rate: int = 16000,
    *,
    split: str | None = None,
    exclude_sources: Iterable[str] = (),
    keep: Callable[[Utterance], bool] | None = None,
    channels: Channels = "mono",
    rebuild: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> SpeechStore:
    """Decode every file in constant memory, unless the folder already has the same store.

    Stores are compared by the files' contents. Files whose size and times are unchanged since the
    store was built are not read again.

    The store is written atomically. If several processes ask for the same store, one builds it and
    the others wait. Samples are rounded to int16 without dither, so that 16-bit files at
    `sample_rate` are unchanged.

    Args:
        inputs: a manifest, a folder, a glob pattern, or the utterances.
        folder: of the store; created if it does not exist.
        sample_rate: of the store, in Hz; files at other rates are resampled.
        split: keep only this split of the manifest.
        exclude_sources: leave out utterances whose manifest field ``source`` is one of these.
        keep: leave out utterances for which this is false.
        channels: for files with several channels; by default such files are failures.
        rebuild: replace a different store in the folder; else that is an error.
        progress: called with (files done, files in total), after each file.

    Returns:
        The store; files that could not be read are its `failures`.

    Raises:
        ManifestError: `inputs` can't be read or lists nothing.
        TrainingError: no utterance passes the filters, or none can be read; two
            utterances have the same name; the folder has another store and `rebuild` is false; or
                it
            has an ``index.json`` that is not a store's.
    """
    if sample_rate <= 0:
        raise TrainingError(f"the sample rate must be positive, got {sample_rate}")
    found = collect([inputs]) if isinstance(inputs, str | Path) else list(inputs)
    excluded = frozenset(exclude_sources)
    items = [
        item
        for item in found
        if split in (None, item.split)
        and item.extra.get("source") not in excluded
        and (keep is None or keep(item))
    ]
    if not items:
        splits = ", ".join(sorted({item.split for item in found if item.split})) or "none"
        raise TrainingError(
            f"none of {len(found)} utterances is left of split {split!r} (there are: {splits}), "
            f"without sources {sorted(excluded)}{' and with `keep`' if keep else ''}"
        )
    names: set[str] = set()
    for item in items:
        if utterance_name(item) in names:
            raise TrainingError(
                f"two utterances are named {utterance_name(item)}; put their manifests in "
                "separate stores"
            )
        names.add(utterance_name(item))
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with _only_one(folder):
        there = _read_index(folder)
        stamps = _stamps(items, there)
        digest = _digest_of_inputs(items, stamps, sample_rate, channels)
        if there is not None and there.get("digest") == digest and there.get("files") != stamps:
            # Touched or copied, but the same: save the times, to avoid reading them next time.
            with replacing(folder / INDEX_NAME) as temporary, temporary.open("w") as text:
                json.dump(there | {"files": stamps}, text, indent=0)
        if there is not None and there.get("digest") == digest:
            return SpeechStore(folder)
        if there is not None and not rebuild:
            raise TrainingError(
                f"{printable(folder)}: a store of other files, or of the same before they changed; "
                "choose another folder, or say rebuild=True"
            )
        remove_leftovers([folder / SAMPLES_NAME, folder / INDEX_NAME])
        # From here until the new index is written, the folder is not a store.
        (folder / INDEX_NAME).unlink(missing_ok=True)
        index: dict[str, Any] = {"format": _FORMAT, "version": _VERSION, "digest": digest}
        index["files"] = stamps
        index |= {"sample_rate": sample_rate, "resampler": resampler_name()}
        with replacing(folder / SAMPLES_NAME) as temporary, temporary.open("wb") as file:
            index |= _decode_all(items, file, sample_rate, channels, progress)
        with replacing(folder / INDEX_NAME) as temporary, temporary.open("w") as text:
            json.dump(index, text, indent=0)
        return SpeechStore(folder)


def utterance_name(item: Utterance) -> str:
    """Return the name that an utterance has in stores."""
    return printable(item.name)


def _source(item: Utterance) -> str | None:
    source = item.extra.get("source")
    return None if source is None else str(source)


def _stamps(items: list[Utterance], there: dict[str, Any] | None) -> dict[str, list[Any]]:
    """Return each file's size, times of change and SHA-256, which may be known from an index."""
    known = (there or {}).get("files")
    stamps: dict[str, list[Any]] = {}
    for path in dict.fromkeys(item.path for item in items):
        name = printable(path.absolute())
        held = known.get(name) if isinstance(known, dict) else None
        try:
            status = path.stat()
            # The change time, unlike the modification time, can't be set by programs.
            stamp = [status.st_size, status.st_mtime_ns, status.st_ctime_ns]
            if isinstance(held, list) and held[:3] == stamp and len(held) == 4:
                stamps[name] = held
            elif stat.S_ISREG(status.st_mode):
                stamps[name] = [*stamp, content_digest(path)]
        except OSError:
            continue  # it will be among the failures
    return stamps


def _digest_of_inputs(
    items: list[Utterance], stamps: dict[str, list[Any]], sample_rate: int, channels: Channels
) -> str:
    """Compute the digest of the inputs, without the files' times, which copying changes."""
    settings = [_FORMAT, _VERSION, sample_rate, resampler_name(), channels]
    digest = hashlib.sha256(json.dumps(settings).encode())
    for item in items:
        content = stamps.get(printable(item.path.absolute()), [None])[-1]
        segment = [item.offset_s, item.duration_s]
        fields = [utterance_name(item), content, segment, item.speaker, _source(item)]
        digest.update(json.dumps(fields).encode())
    return digest.hexdigest()


def _read_index(folder: Path) -> dict[str, Any] | None:
    """Read the index, or return None if there is none.

    Raises:
        TrainingError: it can't be read, or is not a store's.
    """
    path = folder / INDEX_NAME
    try:
        index = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise TrainingError(f"{printable(path)}: can't be read: {error}") from None
    if not isinstance(index, dict) or index.get("format") != _FORMAT:
        raise TrainingError(f"{printable(path)}: not the index of a store; choose another folder")
    if index.get("version") != _VERSION:
        raise TrainingError(
            f"{printable(path)}: version {index.get('version')!r} and {_VERSION} was expected; "
            "delete it and build the store again"
        )
    return index


def _decode_all(
    items: list[Utterance],
    file: IO[bytes],
    sample_rate: int,
    channels: Channels,
    progress: Callable[[int, int], None] | None,
) -> dict[str, Any]:
    entries: list[StoreEntry] = []
    failures: list[StoreFailure] = []
    clipped = offset = 0
    digest = hashlib.sha256()
    for done, item in enumerate(items, 1):
        # Counted separately, since a file may turn out to be damaged at its end.
        length = beyond = 0
        digest_with_it = digest.copy()
        try:
            for block in _blocks(item, channels, sample_rate):
                data, too_large = _to_int16(block)
                file.write(data.data)
                digest_with_it.update(data.data)
                length += data.shape[0]
                beyond += too_large
            if not length:
                raise AudioFileError(f"{item.path}: has no samples")
        except (AudioFileError, WaveError) as error:
            failures.append(StoreFailure(utterance_name(item), printable(str(error))))
            file.seek(2 * offset)
            file.truncate()
        else:
            entries.append(
                StoreEntry(utterance_name(item), offset, length, item.speaker, _source(item))
            )
            digest = digest_with_it
            offset += length
            clipped += beyond
        if progress is not None:
            progress(done, len(items))
    if not entries:
        raise TrainingError(
            f"none of {len(items)} files can be read; the first: {failures[0].error}"
        )
    return {
        "clipped": clipped,
        "samples_digest": digest.hexdigest(),
        "failures": [asdict(failure) for failure in failures],
        "utterances": [asdict(entry) for entry in entries],
    }


def _blocks(item: Utterance, channels: Channels, sample_rate: int) -> Iterator[np.ndarray]:
    # A generator, to distinguish errors of reading from errors of writing, as on a full disk.
    try:
        with item.open(channels) as reader:
            yield from reader.resampled_blocks(sample_rate)
    except OSError as error:
        raise AudioFileError(str(error)) from None


def _to_int16(block: np.ndarray) -> tuple[np.ndarray, int]:
    """Round to multiples of 2^-15; also return the number of clamped samples."""
    scaled = np.rint(block * np.float32(32768))
    if not np.isfinite(scaled).all():
        raise WaveError("the samples hold NaN or infinity")
    clamped = np.clip(scaled, -32768, 32767)
    return clamped.astype("<i2"), int(np.count_nonzero(clamped != scaled))


@contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    """Hold a lock while building here; the system releases a dead process's lock."""
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
