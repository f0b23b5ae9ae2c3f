"""`export`: a data set in another format, in a folder that appears whole or not at all."""

import difflib
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import DatasetError
from ...filesystem import printable
from . import arrow, lhotse_shar, mds, megatron, memmap, moshi, slamkit, webdataset
from .job import Job

if TYPE_CHECKING:
    from ..dataset.stored import StoredDataset
    from ..loading.opening import Packing
    from ..patterns.pattern import Pattern
    from ..vocabulary import Vocabulary


@dataclass(frozen=True)
class Format:
    """A format of another library.

    Attributes:
        write: writes what a `Job` says.
        what: it is, in a few words.
        ids: whether it holds ids of documents, which a pattern and a vocabulary make, and not the
            codes themselves.
    """

    write: Callable[[Job], None]
    what: str
    ids: bool = False


#: By name.
EXPORTS = {
    "webdataset": Format(webdataset.write, "WebDataset's tar files"),
    "megatron": Format(megatron.write, "Megatron's .bin and .idx", ids=True),
    "mds": Format(mds.write, "Mosaic streaming's MDS shards"),
    "arrow": Format(arrow.write, "Arrow files for datasets.load_from_disk"),
    "lhotse": Format(lhotse_shar.write, "lhotse's shar"),
    "slamkit": Format(slamkit.write, "slamkit's JSON lines of units"),
    "moshi": Format(moshi.write, "the manifest and alignments of moshi-finetune"),
    "memmap": Format(memmap.write, "NumPy memory maps of packed rows of ids", ids=True),
}
_OF_IDS = ("pattern", "begin", "end", "scheme", "text", "dtype")


@dataclass(frozen=True)
class Exported:
    """What an export wrote.

    Attributes:
        folder: where.
        items: how many.
        left_out: items that the format can't hold, by id, and why.
    """

    folder: Path
    items: int
    left_out: dict[str, str]


def export(
    data: "str | Path | StoredDataset",
    to: str,
    output: str | Path,
    *,
    split: str | None = None,
    pattern: "Pattern | None" = None,
    vocabulary: "Vocabulary | None" = None,
    begin: str | int | None = None,
    end: str | int | None = None,
    scheme: Any = None,
    text: Any = None,
    context: int = 2048,
    packing: "Packing" = "best-fit",
    dtype: str | None = None,
    shard_bytes: int = 1 << 28,
) -> Exported:
    """Write a data set in another format.

    Args:
        data: a data set, or its folder.
        to: one of `EXPORTS`.
        output: a folder, which must be empty or not there; it appears when all is written.
        split: only this one; default: all, each in files of its own.
        pattern, vocabulary, begin, end, scheme, text: of the formats that hold ids, as for
            `reader`. A vocabulary of another tokenizer is refused for all formats.
        context, packing: of the rows of "memmap".
        dtype: of ids: uint16 or int32 for "megatron"; default: the smaller that holds the
            vocabulary.
        shard_bytes: formats of several files begin the next one after so many bytes.

    Raises:
        DatasetError: no such format, a folder that is not empty, settings that the format doesn't
            have, or items that it can't hold.
        TokenMismatchError, VocabularyError, InterleavingError: as for `reader`.
        OSError: it can't be written.
    """
    from ..dataset.stored import open_dataset
    from ..loading.opening import check_fits

    if to not in EXPORTS:
        near = difflib.get_close_matches(to, EXPORTS, 1, 0.5)
        hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(EXPORTS)}"
        raise DatasetError(f"no format {to!r}; {hint}")
    chosen = EXPORTS[to]
    settings = {
        "pattern": pattern, "begin": begin, "end": end, "scheme": scheme, "text": text,
        "dtype": dtype,
    }  # fmt: skip
    given = [name for name in _OF_IDS if settings[name] is not None]
    if given and not chosen.ids:
        with_ids = ", ".join(name for name, one in EXPORTS.items() if one.ids)
        raise DatasetError(
            f"{to} keeps codes as they are: {', '.join(given)} is of the formats of ids, {with_ids}"
        )
    if shard_bytes < 1:
        raise DatasetError(f"shard_bytes must be 1 or more, got {shard_bytes}")
    dataset = data if not isinstance(data, str | Path) else open_dataset(data, split)
    if split is not None and not isinstance(data, str | Path):
        dataset = open_dataset(dataset.folder, split)
    check_fits(dataset, vocabulary)
    target = Path(output)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise DatasetError(f"{printable(target)}: not an empty folder; nothing is overwritten")
    temporary = target.with_name(f".{target.name}.{os.getpid()}.partial")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        job = Job(
            dataset, temporary, vocabulary=vocabulary, context=context, packing=packing,
            shard_bytes=shard_bytes, **settings,
        )  # fmt: skip
        chosen.write(job)
        job.describe(to)
        if target.exists():
            target.rmdir()
        temporary.rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return Exported(target, len(dataset) - len(job.left_out), job.left_out)
