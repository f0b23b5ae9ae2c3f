"""Check a data set: its shards, and a sample of its items encoded again from the sources."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ...errors import DatasetError
from ...filesystem import content_digest, printable
from .encoding import Piece, PieceEncoder, items_of
from .format import RowFormat, shards_digest
from .items import Item
from .plan import Planned, status_of
from .settings import Settings, changed_settings
from .sources import Source, list_sources
from .stored import StoredDataset, open_dataset

_DEFAULT_SAMPLE = 100


@dataclass
class Verification:
    """What was found.

    Attributes:
        shards: that were read.
        items: in them.
        encoded: items of the sample that were encoded again.
        problems: what is wrong, each with its place; empty if nothing is.
    """

    shards: int = 0
    items: int = 0
    encoded: int = 0
    problems: list[str] = field(default_factory=list)


def verify_shards(folder: str | Path) -> Verification:
    """Check the shards of a data set, and its digest, without its sources.

    Raises:
        DatasetError: it can't be opened at all.
    """
    dataset = open_dataset(folder)
    found = Verification()
    digests: list[bytes] = []
    seen: set[str] = set()
    for number, shard in enumerate(dataset.shards):
        path = dataset.folder / shard.name
        found.shards += 1
        if content_digest(path) != shard.sha256:
            found.problems.append(f"{printable(path)}: its bytes are not those that were written")
        try:
            of_shard = _check_items(dataset, number, seen, found)
        except DatasetError as error:
            found.problems.append(str(error))
            continue
        digests += of_shard
        if hashlib.sha256(b"".join(of_shard)).hexdigest() != shard.items_digest:
            found.problems.append(f"{printable(path)}: its items are not those that were written")
    if not found.problems and shards_digest(dataset.header, digests) != dataset.digest:
        found.problems.append(f"{printable(folder)}: the digest in dataset.json is another")
    return found


def _check_items(
    dataset: StoredDataset, number: int, seen: set[str], found: Verification
) -> list[bytes]:
    digests = []
    for item in dataset.shard_items(number):
        found.items += 1
        try:
            item.check(dataset.spec, dataset.num_codebooks)
        except DatasetError as error:
            found.problems.append(str(error))
        if item.id in seen:
            found.problems.append(f"{item.id}: is in the data set twice")
        seen.add(item.id)
        digests.append(item.digest())
    return digests


def verify_sample(
    folder: str | Path,
    inputs: Sequence[str | Path],
    settings: Settings,
    *,
    sample: int = _DEFAULT_SAMPLE,
    seed: int = 0,
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> Verification:
    """Encode a sample of a data set again, from the inputs that it was built from, and compare.

    Args:
        folder: of the data set.
        inputs, settings: those that it was built with.
        sample: how many items.
        seed: draws the sample.
        device: to encode on.
        progress: called with items done and of all.

    Raises:
        DatasetError: the settings are others, or the data set can't be opened.
        TokenMismatchError: the tokenizer here is another.
    """
    dataset = open_dataset(folder)
    recipe = settings.recipe(device)
    held = dataset.description["plan"]["settings"]
    changed = [
        line for line in changed_settings(held, settings.to_json(recipe))
        if not line.startswith("codes_a_shard")
    ]  # fmt: skip
    if changed:
        raise DatasetError(f"{printable(folder)}: built with other settings: {'; '.join(changed)}")
    found = Verification()
    numbers = np.random.default_rng(seed).permutation(len(dataset))[:sample]
    items = {item.id: item for item in (dataset[int(n)] for n in np.sort(numbers))}
    words = settings.listed_words() or {}
    left = dict(items)
    encoder = PieceEncoder(recipe)
    for source in list_sources(inputs, settings.split):
        item = left.pop(source.id, None)
        if item is None:
            continue
        if settings.splits is not None:
            source = source._replace(split=settings.splits.of(source.speaker, source.id))
        source = source._replace(split=source.split or "train")
        planned = _planned(source, words.get(source.id, ""))
        problem = _compare(item, encoder.encode([planned]), RowFormat(dataset.header))
        if problem is not None:
            found.problems.append(f"{item.id}: {problem}")
        found.encoded += 1
        if progress:
            progress(found.encoded, len(items))
    found.problems += [f"{name}: not in the inputs" for name in left]
    return found


def _planned(source: Source, words: str) -> Planned:
    size, time = status_of(source.path)
    return Planned(source, words, size, time)


def _compare(item: Item, piece: Piece, row_format: RowFormat) -> str | None:
    """What differs between an item and the same encoded again; None if nothing does."""
    record = piece.record
    if record["failures"]:
        return f"can't be encoded again: {record['failures'][0][2]}"
    if record["drops"]:
        return f"would be left out now: {record['drops'][0][1]}"
    again = items_of(row_format, piece)[0]
    if again.digest() == item.digest():
        return None
    if again.source_sha256 != item.source_sha256:
        return (
            f"its source has changed: {item.source_sha256[:12]} then, "
            f"{again.source_sha256[:12]} now"
        )
    if again.codes.shape != item.codes.shape:
        return f"codes of shape {again.codes.shape}, not {item.codes.shape}"
    if (wrong := again.codes != item.codes).any():
        book, frame = np.argwhere(wrong)[0].tolist()
        return (
            f"{int(wrong.sum())} of {wrong.size} codes differ, the first in codebook {book} at "
            f"frame {frame}"
        )
    names = [
        name for name, value in vars(item).items()
        if not isinstance(value, np.ndarray) and value != getattr(again, name)
    ]  # fmt: skip
    return f"differs in {', '.join(names) or 'durations or global codes'}"
