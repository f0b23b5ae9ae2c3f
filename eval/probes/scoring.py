"""Scores of probes over several seeds, with bootstrap intervals over the test utterances."""

from dataclasses import dataclass

import numpy as np

from ..bootstrap import interval
from ..requirements import NotApplicableError

_EER_RESAMPLES = 200


@dataclass(frozen=True)
class Score:
    """A score in percent.

    Attributes:
        value: mean over the seeds.
        low, high: 95 % bootstrap interval over the test utterances; seeds are averaged, speakers
            are
            not resampled.
        seeds: the score of each seed.
    """

    value: float
    low: float
    high: float
    seeds: tuple[float, ...]


def rate(numerators: np.ndarray, denominators: np.ndarray, seed: int) -> Score:
    """Score a quotient of totals, such as correct answers or edits over the number of items.

    Args:
        numerators: (seeds, utterances).
        denominators: (utterances,).
        seed: of the bootstrap.

    Raises:
        MetricError: the denominators are 0 in all.
    """
    if not denominators.sum():
        raise NotApplicableError("nothing to count errors in: the test part has no text")
    seeds = 100 * numerators.sum(1) / denominators.sum()
    ends = interval(numerators.mean(0), denominators, seed)
    if ends is None:
        raise NotApplicableError("one test utterance is too few for an interval")
    return Score(float(seeds.mean()), 100 * ends[0], 100 * ends[1], tuple(map(float, seeds)))


def verification(similarity: np.ndarray, pairs: np.ndarray, same: np.ndarray, seed: int) -> Score:
    """Equal error rate of verification trials.

    The bootstrap resamples utterances; the weight of a pair is the product of its utterances'
    counts.

    Args:
        similarity: (seeds, pairs), higher for more similar.
        pairs: (pairs, 2) indices of the utterances.
        same: (pairs,) bool: of one speaker.
        seed: of the bootstrap.

    Raises:
        MetricError: no pair of one speaker, or none of two.
    """
    if same.all() or not same.any():
        raise NotApplicableError("verification needs pairs of one speaker and pairs of two")
    seeds = np.array([equal_error_rate(row, same) for row in similarity])
    utterances = int(pairs.max()) + 1
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(utterances, np.full(utterances, 1 / utterances), size=_EER_RESAMPLES)
    resampled = []
    for count in counts:
        weights = count[pairs].prod(1)
        if weights[same].any() and weights[~same].any():
            resampled.append(np.mean([equal_error_rate(row, same, weights) for row in similarity]))
    if not resampled:
        raise NotApplicableError("too few test utterances for an interval")
    low, high = np.percentile(resampled, [2.5, 97.5])
    return Score(
        100 * float(seeds.mean()),
        100 * float(low),
        100 * float(high),
        tuple((100 * seeds).tolist()),
    )


def equal_error_rate(
    scores: np.ndarray, same: np.ndarray, weights: np.ndarray | None = None
) -> float:
    """The rate at which false rejections equal false acceptances.

    Between two thresholds the curve is interpolated linearly, as the ROC convention is.

    Args:
        scores: (pairs,), higher for more similar.
        same: (pairs,) bool.
        weights: (pairs,) weight of each pair; default: 1.
    """
    weights = np.ones(len(scores)) if weights is None else weights.astype(float)
    order = np.argsort(-scores, kind="stable")
    scores, same, weights = scores[order], same[order], weights[order]
    accepted = np.cumsum(weights * same) / (weights @ same)
    false = np.cumsum(weights * ~same) / (weights @ ~same)
    # Equal scores are accepted together.
    last = np.append(scores[1:] != scores[:-1], True)
    refused = np.concatenate([[1.0], 1 - accepted[last]])
    false = np.concatenate([[0.0], false[last]])
    at = int(np.argmax(false >= refused))
    gap = refused[at - 1] - false[at - 1]
    moved = gap - (refused[at] - false[at])
    return float(false[at - 1] + (false[at] - false[at - 1]) * gap / moved)
