"""ABX discriminability: how often a segment is nearer to one with another phone than to one with
its own.

The task of the ZeroSpeech challenges (Schatz et al., Interspeech 2013; Nguyen et al., arXiv
2011.11588): A and X are triphones with the same phones, B differs from them in the middle one, and
an error is counted where d(X, A) > d(X, B), half of one where they are equal. Within speakers all
three are of one speaker; across speakers X is of another one. Chance is 0.5.

As there, errors are averaged first in each cell (two phones, context, speaker of A and B), then
over the cells of two phones, then over the ordered pairs of phones: a frequent word does not
outweigh the rest. d is the mean distance along the best path of dynamic time warping.

Differences from the official scores: phones come from forced alignment by pocketsphinx; no item has
silence in it; X of all other speakers are in one cell.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..requirements import MetricError
from .alignment import PhoneAlignment
from .discrimination import Item, Items, Triples, choose_triples, find_items
from .time_warping import Distance, warped_distances


@dataclass(frozen=True)
class ABXScore:
    """One error rate.

    Attributes:
        error: from 0 to 1.
        interval: 95 % bootstrap interval over the pairs of phones; it shows the influence of the
            choice of phones, not of speakers.
        num_triples: compared triples.
        available: number of existing triples.
        num_pairs: of phones, ordered.
    """

    error: float
    interval: tuple[float, float]
    num_triples: int
    available: int
    num_pairs: int


@dataclass(frozen=True)
class ABX:
    """Error rates within and across speakers; None where there are no triples."""

    within: ABXScore | None
    across: ABXScore | None


def abx(
    features: Sequence[np.ndarray],
    alignments: Sequence[PhoneAlignment],
    speakers: Sequence[str],
    frame_rate: float,
    centre: float | None = None,
    distance: Distance = "angular",
    items: Items = "triphone",
    max_triples: int = 20_000,
    seed: int = 0,
) -> ABX:
    """ABX errors of continuous features.

    Args:
        features: for each utterance (frames, dim).
        alignments: of the same utterances.
        speakers: of the same utterances.
        frame_rate: frames a second.
        centre: seconds from the start of the audio to the centre of frame 0; default: half a frame.
        distance: of frames.
        items: kind of items. With little speech few triphones occur twice; single phones, whose
            contexts may differ, are a harder task with far more triples.
        max_triples: maximal number of triples, each within and across speakers; see
            `choose_triples`.
        seed: of the sample of triples and of the bootstrap.

    Raises:
        MetricError: counts or dimensions don't agree, or an utterance has no frames or has NaN.
    """
    spans, frames, found = _stretches(features, alignments, speakers, frame_rate, centre, items)
    scores = [
        _score(frames, spans, choose_triples(found, across, max_triples, seed), distance, seed)
        for across in (False, True)
    ]
    return ABX(*scores)


def unit_abx(
    units: Sequence[np.ndarray],
    alignments: Sequence[PhoneAlignment],
    speakers: Sequence[str],
    frame_rate: float,
    centroids: np.ndarray | None = None,
    centre: float | None = None,
    items: Items = "triphone",
    max_triples: int = 20_000,
    seed: int = 0,
) -> ABX:
    """ABX errors of units, one per frame.

    Args:
        units: for each utterance (frames,) integers.
        centroids: (units, dim): the distance of frames is the angle between their centroids;
            default: 0 for equal units and 1 for different ones, as for one-hot vectors.

    Other arguments and errors are as in `abx`.
    """
    if centroids is None:
        vectors: list[np.ndarray] = [codes[:, None] for codes in units]
        return abx(
            vectors, alignments, speakers, frame_rate, centre, "equal", items, max_triples, seed
        )
    for codes in units:
        if codes.size and (codes.min() < 0 or codes.max() >= len(centroids)):
            raise MetricError(f"ABX: a unit is out of range: there are {len(centroids)} centroids")
    vectors = [centroids[codes] for codes in units]
    return abx(
        vectors, alignments, speakers, frame_rate, centre, "angular", items, max_triples, seed
    )


def _stretches(
    features: Sequence[np.ndarray],
    alignments: Sequence[PhoneAlignment],
    speakers: Sequence[str],
    frame_rate: float,
    centre: float | None,
    kind: Items,
) -> tuple[np.ndarray, np.ndarray, list[Item]]:
    """Spans (items, 2) into frames (frames, dim), and the items."""
    if not len(features) == len(alignments) == len(speakers):
        raise MetricError(
            f"ABX: {len(features)} utterances with features, {len(alignments)} with alignments, "
            f"{len(speakers)} with speakers"
        )
    if not frame_rate > 0:
        raise MetricError(f"ABX: frame rate {frame_rate}: expected more than 0 Hz")
    for index, matrix in enumerate(features):
        if matrix.ndim != 2 or not len(matrix) or matrix.shape[1] != features[0].shape[1]:
            raise MetricError(
                f"ABX: utterance {index}: shape {matrix.shape}; expected (frames, dim), at least "
                "one frame, the same dim everywhere"
            )
        if not np.isfinite(matrix).all():
            raise MetricError(f"ABX: utterance {index} has NaN or infinity")
    found = find_items(alignments, speakers, kind)
    offsets = np.cumsum([0, *(len(matrix) for matrix in features)])
    first = 0.5 / frame_rate if centre is None else centre
    spans = np.zeros((len(found), 2), np.int64)
    for index, item in enumerate(found):
        # Frames centred within the item; if there are none, the one nearest to its middle.
        start, end = (int(np.ceil((t - first) * frame_rate)) for t in (item.start, item.end))
        if end <= start:
            start = round(((item.start + item.end) / 2 - first) * frame_rate)
            end = start + 1
        length = len(features[item.utterance])
        start = min(max(start, 0), length - 1)
        end = min(max(end, start + 1), length)
        spans[index] = offsets[item.utterance] + np.array([start, end])
    frames = np.concatenate(features) if features else np.zeros((0, 1))
    return spans, frames, found


def _score(
    frames: np.ndarray, spans: np.ndarray, triples: Triples, distance: Distance, seed: int
) -> ABXScore | None:
    if not len(triples.indices):
        return None
    a, b, x = triples.indices.T
    wanted = np.concatenate([np.stack([x, a], 1), np.stack([x, b], 1)])
    unique, inverse = np.unique(wanted, axis=0, return_inverse=True)
    near, far = warped_distances(frames, spans, unique, distance)[inverse.ravel()].reshape(2, -1)
    wrong = (near > far) + 0.5 * (near == far)
    cells = np.bincount(triples.cells, wrong) / np.bincount(triples.cells)
    _, pair = np.unique(triples.pairs, axis=0, return_inverse=True)
    pair = pair.ravel()
    errors = np.bincount(pair, cells) / np.bincount(pair)
    random = np.random.default_rng(seed)
    resampled = errors[random.integers(len(errors), size=(1000, len(errors)))].mean(1)
    low, high = np.quantile(resampled, [0.025, 0.975])
    return ABXScore(
        float(errors.mean()),
        (float(low), float(high)),
        len(triples.indices),
        triples.available,
        len(errors),
    )
