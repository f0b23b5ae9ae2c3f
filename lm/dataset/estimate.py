"""`estimate`: what a build will take and give, from a sample of its list."""

import io
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from .duplicates import NearDuplicates, signature
from .encoding import Piece, PieceEncoder, items_of
from .format import RowFormat
from .plan import Plan, make_plan
from .settings import Settings
from .sources import list_sources
from .stored import PARQUET

#: Similarity from which the report calls two utterances near-duplicates.
SIMILAR = 0.5


@dataclass(frozen=True)
class Estimate:
    """Of a whole build; figures come from a sample, scaled up.

    Attributes:
        planned: utterances in the list.
        sampled: of these, that were encoded.
        hours: of audio in the data set, without what fails or is left out.
        frames: of tokens.
        tokens: of all codebooks.
        bytes: of the shards; a build needs twice as many for a while.
        core_hours: of work.
        speed: seconds of audio a second of one worker.
        failed, dropped: shares of the list; `reasons` by name.
        splits: utterances of each, in the list.
        speakers: in the list; None if none is known.
        speakers_in_several: speakers that are in several splits.
        repeated_sources: utterances whose file another split has, too.
        similar: pairs of near-duplicates in the sample, and of these, in different splits.
    """

    planned: int
    sampled: int
    hours: float
    frames: int
    tokens: int
    bytes: int
    core_hours: float
    speed: float
    failed: float
    dropped: float
    reasons: dict[str, int]
    splits: dict[str, int]
    speakers: int | None
    speakers_in_several: tuple[str, ...]
    repeated_sources: int
    similar: tuple[int, int]

    def hours_for(self, workers: int) -> float:
        """Hours that so many workers need, each on a core of its own."""
        return self.core_hours / workers


def estimate(
    inputs: Sequence[str | Path],
    settings: Settings,
    *,
    share: float = 0.01,
    least: int = 20,
    seed: int = 0,
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> Estimate:
    """Plan a build, encode a sample, and scale up by the estimated seconds of audio.

    Args:
        inputs, settings: of the build.
        share: of the utterances to encode.
        least: encode at least so many.
        seed: draws the sample.
        device: to encode on.
        progress: called with utterances done and of all.

    Raises:
        SyllabaryError: an input or a setting is wrong.
    """
    recipe = settings.recipe(device)
    with TemporaryDirectory(prefix="syllabary-") as place:
        plan = make_plan(
            list_sources(inputs, settings.split),
            Path(place),
            settings.to_json(recipe),
            settings.splits,
            settings.listed_words(),
        )
        count = min(plan.count, max(least, round(plan.count * share)))
        chosen = np.sort(np.random.default_rng(seed).permutation(plan.count)[:count])
        encoder = PieceEncoder(recipe)
        # The first call loads and compiles, which a long build does once.
        encoder.encode(plan.rows(int(chosen[0]), int(chosen[0]) + 1))
        pieces = []
        began = time.perf_counter()
        for done, number in enumerate(chosen.tolist(), 1):
            pieces.append(encoder.encode(plan.rows(number, number + 1)))
            if progress:
                progress(done, count)
        spent = time.perf_counter() - began
        scale = _scale(plan, chosen)
        return _estimate(plan, pieces, RowFormat(recipe.header), scale, spent)


def _scale(plan: Plan, chosen: np.ndarray) -> float:
    sampled, whole = float(plan.seconds[chosen].sum()), float(plan.seconds.sum())
    return whole / sampled if sampled > 0 else plan.count / len(chosen)


def _estimate(
    plan: Plan, pieces: Sequence[Piece], row_format: RowFormat, scale: float, spent: float
) -> Estimate:
    items = [item for piece in pieces for item in items_of(row_format, piece)]
    books, rate = row_format.header.num_codebooks, row_format.header.spec.sample_rate
    seconds = sum(item.num_samples for item in items) / rate
    frames = sum(item.frames for item in items)
    failures = [f for piece in pieces for f in piece.record["failures"]]
    drops = [d for piece in pieces for d in piece.record["drops"]]
    reasons: dict[str, int] = {}
    for _, reason, _ in drops:
        reasons[reason] = reasons.get(reason, 0) + 1
    facts = _list_facts(plan)
    return Estimate(
        planned=plan.count,
        sampled=len(pieces),
        hours=seconds * scale / 3600,
        frames=round(frames * scale),
        tokens=round(frames * scale) * books,
        bytes=round(_shard_bytes(row_format, items) * scale),
        core_hours=spent * scale / 3600,
        speed=seconds / spent if spent else 0.0,
        failed=len(failures) / len(pieces),
        dropped=len(drops) / len(pieces),
        reasons=reasons,
        similar=_similar(row_format, items),
        **facts,
    )


def _shard_bytes(row_format: RowFormat, items: Sequence[Any]) -> int:
    """Size of the items as a shard, less what a shard of none takes."""
    import pyarrow.parquet as pq

    sizes = []
    for rows in (items, []):
        file = io.BytesIO()
        pq.write_table(row_format.table(rows), file, **PARQUET)
        sizes.append(file.tell())
    return sizes[0] - sizes[1]


def _list_facts(plan: Plan) -> dict[str, Any]:
    """Of the whole list: splits, speakers in several of them, and files in several of them."""
    splits: dict[str, int] = {}
    speakers: dict[str, set[str]] = {}
    places: dict[int, str] = {}
    repeated = 0
    columns = [plan.column(name) for name in ("split", "speaker", "path", "start")]
    for split, speaker, path, start in zip(*columns, strict=True):
        splits[split] = splits.get(split, 0) + 1
        if speaker is not None:
            speakers.setdefault(speaker, set()).add(split)
        # Segments of one recording in two splits share its room and voice.
        place = hash((path, start))
        repeated += places.setdefault(place, split) != split
    several = tuple(sorted(name for name, found in speakers.items() if len(found) > 1))
    return {
        "splits": dict(sorted(splits.items())),
        "speakers": len(speakers) or None,
        "speakers_in_several": several,
        "repeated_sources": repeated,
    }


def _similar(row_format: RowFormat, items: Sequence[Any]) -> tuple[int, int]:
    if not items:
        return 0, 0
    header = row_format.header
    sizes = header.spec.codebook_sizes[: header.num_codebooks]
    signatures = np.stack([signature(item.codes, sizes) for item in items])
    found = NearDuplicates(signatures, SIMILAR).find()
    across = sum(items[item].split != items[first].split for item, (first, _) in found.items())
    return len(found), across
