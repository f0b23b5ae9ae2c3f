"""The scores that a reconstruction can be given, by the names that the command line knows."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from ..errors import SyllabaryError
from .perception import dnsmos_overall, speaker_similarity
from .reconstruction import MetricError, estoi, log_mel_distance, pesq_wb, stoi


@dataclass(frozen=True)
class Score:
    """A metric of a reconstruction beside its reference.

    Attributes:
        heading: what tables and JSON call it.
        compute: (reference, estimate, sample_rate) to a number; raises `MetricError`.
        digits: after the point, in tables.
    """

    heading: str
    compute: Callable[[np.ndarray, np.ndarray, int], float]
    digits: int = 3


SCORES = {
    "pesq": Score("PESQ-wb", pesq_wb),
    "stoi": Score("STOI", stoi),
    "estoi": Score("ESTOI", estoi),
    "mel": Score("mel dB", log_mel_distance, 2),
    "dnsmos": Score("DNSMOS", dnsmos_overall, 2),
    "speaker": Score("speaker", speaker_similarity),
}

DEFAULT_SCORES = ("pesq", "stoi")


def parse_scores(text: str) -> tuple[str, ...]:
    """Names of scores from a list with commas; `all` stands for every one.

    Raises:
        SyllabaryError: a name that there is not, or none.
    """
    if text.strip() == "all":
        return tuple(SCORES)
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    unknown = [name for name in names if name not in SCORES]
    if unknown or not names:
        what = f"no score {unknown[0]!r}" if unknown else "no score named"
        raise SyllabaryError(f"{what}; expected all, or some of {','.join(SCORES)}")
    return names


def score(
    reference: np.ndarray, estimate: np.ndarray, sample_rate: int, names: Iterable[str]
) -> tuple[dict[str, float], dict[str, str]]:
    """Score a reconstruction.

    Args:
        reference, estimate: (samples,) of equal length, time-aligned.
        sample_rate: Hz.
        names: keys of `SCORES`.

    Returns:
        By heading, the scores that could be computed; and by heading, why the others could not.
    """
    scores: dict[str, float] = {}
    missing: dict[str, str] = {}
    for name in names:
        metric = SCORES[name]
        try:
            scores[metric.heading] = metric.compute(reference, estimate, sample_rate)
        except MetricError as error:
            missing[metric.heading] = str(error)
    return scores, missing
