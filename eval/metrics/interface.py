"""`Metric`: a score of one reconstruction, and what to know of it before reading it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ...errors import SyllabaryError


class MetricError(SyllabaryError):
    """A metric can't be computed, and why."""


@dataclass(frozen=True, eq=False)
class Clip:
    """What a metric may look at.

    Attributes:
        reference: (samples,) float32, full scale at 1.
        estimate: (samples,) float32 of the same length, time-aligned as far as the system says.
        sample_rate: of both, Hz.
        text: what was said, if known.
        language: that it was said in, as ISO 639-1 has it, if known.
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
        uncapped: what the numerator was before it was capped at the denominator; None: it was not.
    """

    numerator: float
    denominator: float
    uncapped: float | None = None


@dataclass(frozen=True)
class Metric:
    """A score of a reconstruction.

    Attributes:
        name: short, lower case, as the command line has it: ``pesq-wb``.
        heading: in tables: ``PESQ-wb``.
        compute: of a clip at one of `sample_rates`. A `Ratio` where the mean over clips is a
            quotient of totals. Raises `MetricError` where there is no score: nothing is imputed.
        description: one sentence: what it measures, and how.
        higher_is_better: None where neither is.
        bounds: least and greatest value; None where there is none.
        unit: such as ``dB``; empty for a plain number.
        digits: after the point, in tables.
        needs: what it can't do without, beside the estimate.
        sample_rates: that it is defined for, Hz, the preferred one first; empty: any. Clips at
            another rate are resampled to the first before it sees them.
        paper: source of the method.
        package: distribution that computes it, whose version results carry; None: this one.
        max_items: of a data set, by default, as it is slow: an even sample of so many; None: all.
        prefers: what the items of such a sample should have, if any do, though it is not needed: so
            word errors against the original are of the items that have a text to compare too.
        variant: what computes it on this machine, where that can differ: the recogniser behind
            word errors, the model behind an embedding. Results carry it, and scores of different
            variants don't compare. Empty: there is but one. Raises `MetricError` where there is
            none.
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
