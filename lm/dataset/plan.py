"""The plan of a build: a table of all utterances on disk, and the pieces of work it is cut into.

The plan is an Arrow file that is mapped into memory, not loaded: a list of a million utterances
takes neither memory nor time when a build goes on. Its digest covers what the inputs list and the
settings; sizes and times of files are beside that, to notice a file that changes while the data set
is built.
"""

import hashlib
import json
import os
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ...errors import DatasetError
from ...filesystem import printable, replacing
from .items import canonical_json
from .sources import Source
from .splits import Splits, check_split_name

if TYPE_CHECKING:
    import pyarrow as pa

PLAN_NAME = "plan.arrow"
PLAN_FACTS = "plan.json"
_ROWS_A_BATCH = 1 << 14
#: The most that a piece of work holds: utterances, and seconds of audio as far as known.
PIECE_ITEMS = 256
PIECE_SECONDS = 900.0
#: Bytes of an audio file a second, where its duration is not known: 16 kHz, 16 bits.
_BYTES_A_SECOND = 32_000


class Planned(NamedTuple):
    """A planned utterance: its `Source`, its split, and its file when the plan was made.

    Attributes:
        source: as the input lists it, with the split that it gets.
        words: its alignment as JSON where one file has all alignments; empty for none.
        file_size, mtime_ns: of the file, or the tar that it is in; -1 if there was none.
    """

    source: Source
    words: str
    file_size: int
    mtime_ns: int


@dataclass(frozen=True)
class Plan:
    """A plan on disk.

    Attributes:
        folder: that it is in.
        digest: of the list and the settings.
        count: utterances.
        starts: (pieces + 1,) the first utterance of each piece, and the number of all.
        settings: that the data set is built with.
    """

    folder: Path
    digest: str
    count: int
    starts: np.ndarray
    settings: dict[str, Any]

    @property
    def num_pieces(self) -> int:
        return len(self.starts) - 1

    def piece(self, number: int) -> list[Planned]:
        """The utterances of a piece of work."""
        return self.rows(int(self.starts[number]), int(self.starts[number + 1]))

    def rows(self, start: int, stop: int) -> list[Planned]:
        """The utterances from one number to another."""
        found: list[Planned] = []
        while start < stop:
            batch, row = divmod(start, _ROWS_A_BATCH)
            count = min(stop - start, _ROWS_A_BATCH - row)
            found += _planned(self._reader.get_batch(batch).slice(row, count))
            start += count
        return found

    def column(self, name: str) -> Iterator[Any]:
        """The values of one column, a batch in memory at a time."""
        for number in range(self._reader.num_record_batches):
            yield from self._reader.get_batch(number).column(name).to_pylist()

    @cached_property
    def _reader(self) -> "pa.ipc.RecordBatchFileReader":
        import pyarrow as pa

        return pa.ipc.open_file(pa.memory_map(str(self.folder / PLAN_NAME)))

    @cached_property
    def seconds(self) -> np.ndarray:
        """(count,) estimated seconds of each utterance."""
        parts = [
            _seconds(self._reader.get_batch(number))
            for number in range(self._reader.num_record_batches)
        ]
        return np.concatenate(parts) if parts else np.zeros(0)


def make_plan(
    sources: Iterator[Source],
    folder: Path,
    settings: dict[str, Any],
    splits: Splits | None = None,
    words: dict[str, str] | None = None,
) -> Plan:
    """Write a plan, whole or not at all.

    Args:
        sources: the utterances.
        folder: gets the plan.
        settings: of the build, as JSON values; they are part of the digest.
        splits: by speaker; default: the splits of the inputs, else ``train``.
        words: JSON of the alignment of each id, see `Planned.words`.

    Raises:
        DatasetError: two utterances have the same id, or a split can't name a file.
        ManifestError: from `sources`.
    """
    import pyarrow as pa

    sha = _start(settings)
    identities = array("Q")
    seconds: list[np.ndarray] = []
    with replacing(folder / PLAN_NAME) as temporary:
        with pa.OSFile(str(temporary), "wb") as file, pa.ipc.new_file(file, _schema()) as writer:
            for batch in _batches(sources, splits, words, identities):
                sha.update(batch.serialize())
                whole = _with_status(batch)
                seconds.append(_seconds(whole))
                writer.write_batch(whole)
        _check_distinct(identities, temporary)
    lengths = np.concatenate(seconds) if seconds else np.zeros(0)
    starts = _cut(lengths)
    plan = Plan(folder, sha.hexdigest(), len(lengths), starts, settings)
    facts = {"digest": plan.digest, "count": plan.count, "settings": settings}
    with replacing(folder / PLAN_FACTS) as temporary:
        temporary.write_text(json.dumps(facts, indent=1) + "\n")
    return plan


def read_plan(folder: Path) -> Plan | None:
    """The plan that a folder has; None if it has no whole one."""
    try:
        facts = json.loads((folder / PLAN_FACTS).read_text())
        plan = Plan(folder, facts["digest"], facts["count"], np.zeros(1), facts["settings"])
        seconds = plan.seconds
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if len(seconds) != plan.count:
        return None
    return Plan(folder, plan.digest, plan.count, _cut(seconds), plan.settings)


def digest_of(
    sources: Iterator[Source],
    settings: dict[str, Any],
    splits: Splits | None = None,
    words: dict[str, str] | None = None,
) -> str:
    """The digest that `make_plan` would give, without looking at the files."""
    sha = _start(settings)
    for batch in _batches(sources, splits, words, array("Q")):
        sha.update(batch.serialize())
    return sha.hexdigest()


def _start(settings: dict[str, Any]) -> "hashlib._Hash":
    return hashlib.sha256(canonical_json(["syllabary-plan/1", settings]))


def _listed_fields() -> list[tuple[str, Any]]:
    import pyarrow as pa

    text, number, real = pa.string(), pa.int64(), pa.float64()
    kinds = {"path": pa.binary(), "start": number, "length": number}
    kinds |= {"duration_s": real, "offset_s": real}
    return [(name, kinds.get(name, text)) for name in (*Source._fields, "words")]


def _schema() -> "pa.Schema":
    import pyarrow as pa

    return pa.schema([*_listed_fields(), ("file_size", pa.int64()), ("mtime_ns", pa.int64())])


def _batches(
    sources: Iterator[Source],
    splits: Splits | None,
    words: dict[str, str] | None,
    identities: array,
) -> Iterator["pa.RecordBatch"]:
    """Arrow batches of what the inputs list; a hash of each id is added to `identities`."""
    import pyarrow as pa

    schema = pa.schema(_listed_fields())
    place = Source._fields.index("split")
    known: set[str] = set()

    def batch(rows: list[Source]) -> "pa.RecordBatch":
        columns = [list(column) for column in zip(*rows, strict=True)]
        ids, speakers = columns[0], columns[Source._fields.index("speaker")]
        if splits is not None:
            pairs = zip(speakers, ids, strict=True)
            columns[place] = [splits.of(speaker, item) for speaker, item in pairs]
        else:
            columns[place] = [split or "train" for split in columns[place]]
        for split in set(columns[place]) - known:
            check_split_name(split)
            known.add(split)
        aligned = words or {}
        columns.append([aligned.get(item, "") for item in ids])
        for item in ids:
            identities.append(_hash(item))
        arrays = [
            pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)
        ]
        return pa.RecordBatch.from_arrays(arrays, schema=schema)

    rows: list[Source] = []
    for source in sources:
        rows.append(source)
        if len(rows) == _ROWS_A_BATCH:
            yield batch(rows)
            rows = []
    if rows:
        yield batch(rows)


def _hash(item: str) -> int:
    return int.from_bytes(hashlib.blake2b(item.encode(), digest_size=8).digest(), "little")


def _check_distinct(identities: array, plan: Path) -> None:
    import pyarrow as pa

    found, counts = np.unique(np.frombuffer(identities, np.uint64), return_counts=True)
    suspects = set(found[counts > 1].tolist())
    if not suspects:
        return
    seen: dict[str, str] = {}
    with pa.memory_map(str(plan)) as file:
        reader = pa.ipc.open_file(file)
        for number in range(reader.num_record_batches):
            batch = reader.get_batch(number)
            pairs = zip(
                batch.column("id").to_pylist(), batch.column("name").to_pylist(), strict=True
            )
            for item, name in pairs:
                if _hash(item) not in suspects:
                    continue
                if item in seen:
                    raise DatasetError(
                        f"{seen[item]} and {name} would both have the id {item!r}; give each an "
                        '"id" in a manifest, or build two data sets'
                    )
                seen[item] = name


def _with_status(batch: "pa.RecordBatch") -> "pa.RecordBatch":
    """Add the size and the modification time of each file."""
    import pyarrow as pa

    sizes, times = [], []
    last, status = None, (-1, -1)
    for path in batch.column("path").to_pylist():
        if path != last:
            last, status = path, status_of(path)
        sizes.append(status[0])
        times.append(status[1])
    arrays = [*batch.columns, pa.array(sizes, pa.int64()), pa.array(times, pa.int64())]
    return pa.RecordBatch.from_arrays(arrays, schema=_schema())


def status_of(path: bytes) -> tuple[int, int]:
    """Size and modification time in ns; -1 and -1 if there is none."""
    try:
        status = os.stat(path)  # noqa: PTH116
    except OSError:
        return -1, -1
    return status.st_size, status.st_mtime_ns


def _seconds(batch: "pa.RecordBatch") -> np.ndarray:
    def numbers(name: str) -> np.ndarray:
        return batch.column(name).to_numpy(zero_copy_only=False).astype(np.float64)

    lengths, sizes = numbers("length"), numbers("file_size")
    by_size = np.maximum(0, np.where(lengths >= 0, lengths, sizes)) / _BYTES_A_SECOND
    known = numbers("duration_s")
    return np.where(np.isnan(known), by_size, known)


def _cut(seconds: np.ndarray) -> np.ndarray:
    """Cut the list into pieces: (pieces + 1,) int64."""
    starts, held, since = [0], 0.0, 0
    for number, length in enumerate(seconds.tolist()):
        held += length
        if number + 1 - since >= PIECE_ITEMS or held >= PIECE_SECONDS:
            starts.append(number + 1)
            held, since = 0.0, number + 1
    if since < len(seconds):
        starts.append(len(seconds))
    return np.array(starts, np.int64)


def _planned(batch: "pa.RecordBatch") -> list[Planned]:
    count = len(Source._fields)
    columns = [column.to_pylist() for column in batch.columns]
    return [Planned(Source(*row[:count]), *row[count:]) for row in zip(*columns, strict=True)]


def shown_path(source: Source) -> str:
    """The path of a source for messages."""
    return printable(os.fsdecode(source.path))
