"""`Metric`: a score of one reconstruction, and its description."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..requirements import MetricError

__all__ = ["Clip", "Metric", "MetricError", "Ratio"]


@dataclass(frozen=True, eq=False)
class Clip:
    """The input of a metric.

    Attributes:
        reference: (samples,) float32, full scale at 1.
        estimate: (samples,) float32 of the same length, aligned by the system's fixed delay.
        sample_rate: of both, Hz.
        text: reference transcript, if known.
        language: spoken language in ISO 639-1, if known.
    """

    reference: np.ndarray
    estimate: np.ndarray
    sample_rate: int
    text: str | None = None
    language: str | None = None


@dataclass(frozen=True)
class Ratio:
    """A score whose mean is a quotient of totals, such as word errors over words.

    Attributes:
        numerator, denominator: of this clip.
        uncapped: the numerator before it was capped at the denominator; None: it was not capped.
    """

    numerator: float
    denominator: float
    uncapped: float | None = None


@dataclass(frozen=True)
class Metric:
    """A score of a reconstruction.

    Attributes:
        name: short, lower case, as on the command line: ``pesq-wb``.
        heading: in tables: ``PESQ-wb``.
        compute: computes the score of a clip at one of `sample_rates`; a `Ratio` if the mean over
            clips is a quotient of totals. Raises `MetricError` if there is no score: nothing is
            imputed.
        description: one sentence: what it measures, and how.
        higher_is_better: None if neither direction is better.
        bounds: least and greatest value; None where there is none.
        unit: such as ``dB``; empty for a plain number.
        digits: after the point, in tables.
        needs: required inputs besides the estimate.
        sample_rates: supported rates in Hz, the preferred one first; empty: any. Clips at
            another rate are resampled to the first.
        paper: source of the method.
        package: distribution that computes it, whose version is in results; None: this one.
        max_items: default number of items for a slow metric, evenly spaced; None: all.
        prefers: input that the items of such a subset should have if possible, though it is not
            required: so word errors against the original are computed on items with a text.
        variant: returns the model used on this machine, if there is a choice, such as the
            recogniser
            for word errors or an embedding model. Results contain it, and scores of different
            variants don't compare. Empty: there is no choice. Raises `MetricError` if no model is
            available.
    """

    name: str
    heading: str
    compute: Callable[[Clip], float | Ratio]
    description: str
    higher_is_better: bool | None
    bounds: tuple[float | None, float | None]
    unit: str = ""
    digits: int = 3
    needs: tuple[Literal["reference", "text", "gpu"], ...] = ("reference",)
    sample_rates: tuple[int, ...] = ()
    paper: str = ""
    package: str | None = None
    max_items: int | None = None
    prefers: tuple[Literal["text"], ...] = ()
    variant: Callable[[], str] = lambda: ""
