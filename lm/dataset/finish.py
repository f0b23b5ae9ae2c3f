"""From finished pieces to shards, in the order of the plan: the same bytes, however it went."""

import io
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import DatasetError
from ...filesystem import replacing
from .card import write_card
from .duplicates import PERMUTATIONS, NearDuplicates
from .encoding import DIGEST_COLUMN, MEASURES_COLUMN, SIGNATURE_COLUMN
from .format import (
    DROPS_NAME,
    FAILURES_NAME,
    LEDGER_NAME,
    Header,
    Shard,
    frame_counts,
    shard_name,
    shards_digest,
)
from .ledger import Ledger
from .plan import Plan
from .settings import Settings
from .statistics import Statistics
from .stored import Digested, sync, write_description, write_shard

if TYPE_CHECKING:
    import pyarrow as pa

DUPLICATE = "near-duplicate"


@dataclass(frozen=True)
class _Kept:
    """Of each item in the pieces, in the order of the plan.

    Attributes:
        piece, row: where it is.
        split: number of its split in `splits`.
        frames: positions of its codes.
        digests: of all that it holds.
        splits: names.
    """

    piece: np.ndarray
    row: np.ndarray
    split: np.ndarray
    frames: np.ndarray
    digests: list[bytes]
    splits: list[str]


def finish(folder: Path, plan: Plan, ledger: Ledger, header: Header, settings: Settings) -> None:
    """Write shards, lists, card and description of a data set whose pieces are all there.

    Raises:
        DatasetError: no item is left, or a piece is damaged.
        OSError: something can't be written.
    """
    drops = [
        (number, *drop) for number in range(plan.num_pieces)
        for drop in ledger.records[number]["drops"]
    ]  # fmt: skip
    statistics = Statistics(header, settings.filters)
    kept, signatures = _collect(plan, ledger, header, settings, statistics)
    chosen = np.ones(len(kept.piece), bool)
    if settings.filters.near_duplicates is not None:
        found = NearDuplicates(signatures, settings.filters.near_duplicates).find()
        names = _names(ledger, kept, {*found, *(first for first, _ in found.values())})
        for item, (first, share) in sorted(found.items()):
            chosen[item] = False
            piece = int(kept.piece[item])
            drops.append((piece, names[item], f"{DUPLICATE} of {names[first]}", round(share, 4)))
        drops.sort(key=lambda drop: drop[0])
    if not chosen.any():
        raise DatasetError(_nothing_left(ledger, drops))
    shards = list(_write_shards(folder, ledger, header, kept, chosen, settings, statistics))
    order = _order(kept, chosen)
    digest = shards_digest(header, (kept.digests[item] for item in order.tolist()))
    failures = [f for number in range(plan.num_pieces) for f in ledger.records[number]["failures"]]
    counts = Counter(drop[2].partition(" of ")[0] for drop in drops)
    _write_lines(
        folder / DROPS_NAME,
        ({"id": item, "reason": reason, "value": value} for _, item, reason, value in drops),
    )
    _write_lines(
        folder / FAILURES_NAME,
        ({"id": item, "source": name, "reason": reason} for item, name, reason in failures),
    )
    _write_lines(folder / LEDGER_NAME, _ledger_lines(plan, ledger, kept))
    unaligned = sum(len(record["unaligned"]) for record in ledger.records.values())
    more = {
        "merged": statistics.merged,
        "plan": {"digest": plan.digest, "planned": plan.count, "settings": plan.settings},
        "failures": len(failures),
        "drops": dict(sorted(counts.items())),
        "unaligned": unaligned,
        "given": settings.given(),
    }
    write_card(folder, header, shards, digest, more, statistics)
    write_description(folder, header, shards, digest, **more)


def _collect(
    plan: Plan, ledger: Ledger, header: Header, settings: Settings, statistics: Statistics
) -> tuple[_Kept, np.ndarray]:
    """Read all pieces once, for what has to be known before the first shard is written."""
    pieces, rows, splits, frames, digests = [], [], [], [], []
    signatures = []
    names: dict[str, int] = {}
    signed = settings.filters.near_duplicates is not None
    columns = ["split", "codes", DIGEST_COLUMN] + ([SIGNATURE_COLUMN] if signed else [])
    for number in range(plan.num_pieces):
        if not ledger.records[number]["items"]:
            continue
        table = read_piece(ledger, number, columns)
        count = len(table)
        pieces.append(np.full(count, number, np.int64))
        rows.append(np.arange(count))
        of_piece = table["split"].to_pylist()
        splits.append(np.array([names.setdefault(split, len(names)) for split in of_piece]))
        frames.append(frame_counts(table, header.num_codebooks))
        digests += table[DIGEST_COLUMN].to_pylist()
        if signed:
            packed = b"".join(table[SIGNATURE_COLUMN].to_pylist())
            signatures.append(np.frombuffer(packed, np.uint32).reshape(-1, PERMUTATIONS))

    def joined(parts: list[np.ndarray]) -> np.ndarray:
        return np.concatenate(parts) if parts else np.zeros(0, np.int64)

    kept = _Kept(joined(pieces), joined(rows), joined(splits), joined(frames), digests, list(names))
    empty = np.zeros((0, PERMUTATIONS), np.uint32)
    return kept, np.concatenate(signatures) if signatures else empty


def read_piece(ledger: Ledger, number: int, columns: list[str] | None = None) -> "pa.Table":
    """The table of a finished piece."""
    import pyarrow.parquet as pq

    return pq.read_table(io.BytesIO(ledger.data(number)), columns=columns, use_threads=False)


def _order(kept: _Kept, chosen: np.ndarray) -> np.ndarray:
    """Numbers of the chosen items: by split, whose names are sorted, and then as planned."""
    by_name = np.argsort(np.argsort(kept.splits)) if kept.splits else np.zeros(0, np.int64)
    items = np.flatnonzero(chosen)
    return items[np.argsort(by_name[kept.split[items]], kind="stable")]


def _write_shards(
    folder: Path,
    ledger: Ledger,
    header: Header,
    kept: _Kept,
    chosen: np.ndarray,
    settings: Settings,
    statistics: Statistics,
) -> Iterator[Shard]:
    order = _order(kept, chosen)
    for split in sorted(kept.splits):
        items = order[kept.split[order] == kept.splits.index(split)]
        if not len(items):
            continue
        codes = np.cumsum(kept.frames[items]) * header.num_codebooks
        parts = _cut(codes, settings.codes_a_shard)
        for number, (start, stop) in enumerate(parts):
            name = shard_name(split, number, len(parts))
            tables = _tables(ledger, kept, items[start:stop], statistics)
            yield write_shard(folder, name, split, header, tables)


def _cut(codes: np.ndarray, codes_a_shard: int) -> list[tuple[int, int]]:
    """Cut by the running count of codes: a part ends with the item that reaches the number."""
    parts, start, before = [], 0, 0
    while start < len(codes):
        stop = int(np.searchsorted(codes, before + codes_a_shard, "left")) + 1
        stop = min(max(stop, start + 1), len(codes))
        parts.append((start, stop))
        start, before = stop, int(codes[stop - 1])
    return parts


def _tables(
    ledger: Ledger, kept: _Kept, items: np.ndarray, statistics: Statistics
) -> Iterator[Digested]:
    """The rows of these items, piece by piece."""
    pieces = kept.piece[items]
    starts = np.flatnonzero(np.diff(pieces, prepend=-1))
    for start, stop in zip(starts, [*starts[1:], len(items)], strict=True):
        number = int(pieces[start])
        whole = read_piece(ledger, number)
        table = whole.take(kept.row[items[start:stop]])
        statistics.add(table, table[MEASURES_COLUMN].to_pylist())
        digests = table[DIGEST_COLUMN].to_pylist()
        beside = {DIGEST_COLUMN, MEASURES_COLUMN, SIGNATURE_COLUMN} & set(table.column_names)
        yield table.drop_columns(sorted(beside)), digests


def _names(ledger: Ledger, kept: _Kept, items: set[int]) -> dict[int, str]:
    """Ids of some items."""
    found: dict[int, str] = {}
    last, ids = -1, []
    for item in sorted(items):
        piece = int(kept.piece[item])
        if piece != last:
            last, ids = piece, read_piece(ledger, piece, ["id"])["id"].to_pylist()
        found[item] = ids[int(kept.row[item])]
    return found


def _ledger_lines(plan: Plan, ledger: Ledger, kept: _Kept) -> Iterator[dict[str, Any]]:
    """A line for each piece: which utterances of the list it has, and what became of them."""
    for number in range(plan.num_pieces):
        record = ledger.records[number]
        start, stop = np.searchsorted(kept.piece, [number, number + 1]).tolist()
        yield {
            "piece": number,
            "first": int(plan.starts[number]),
            "planned": record["planned"],
            "items": record["items"],
            "failed": len(record["failures"]),
            "dropped": len(record["drops"]),
            "digest": shards_digest_of(kept.digests[start:stop]),
        }


def shards_digest_of(digests: Sequence[bytes]) -> str:
    """SHA-256 of some items' digests, as `Shard.items_digest`."""
    import hashlib

    return hashlib.sha256(b"".join(digests)).hexdigest()


def _write_lines(path: Path, lines: Iterator[dict[str, Any]] | Any) -> None:
    with replacing(path) as temporary:
        with temporary.open("w", encoding="utf-8") as file:
            for line in lines:
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
        sync(temporary)


def _nothing_left(ledger: Ledger, drops: Sequence[Any]) -> str:
    failures = [f for record in ledger.records.values() for f in record["failures"]]
    reasons = Counter(drop[2] for drop in drops).most_common(3)
    parts = [f"{count} × {reason}" for reason, count in reasons]
    if failures:
        parts.append(f"{len(failures)} failed, the first: {failures[0][2]}")
    return f"no item is left: {'; '.join(parts) or 'the list is empty'}"
