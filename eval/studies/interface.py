"""`Study`: what is measured of a system as a whole, and not of one reconstruction."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ...audio.manifests import Utterance
from ...codecs.tokens import Tokens
from ..systems.interface import System


@dataclass(frozen=True)
class Value:
    """One figure of a study.

    Attributes:
        name: short, lower case, unique in its study: ``entropy``.
        heading: in tables.
        value: NaN is never one: what could not be measured is in `Findings.missing`.
        higher_is_better: None where neither is.
        unit: such as ``bit/s``, ``%``.
        digits: after the point, in tables.
        low, high: a 95 % interval, where there is one.
        count: what it is a mean over, where that is to be known.
    """

    name: str
    heading: str
    value: float
    higher_is_better: bool | None = None
    unit: str = ""
    digits: int = 3
    low: float | None = None
    high: float | None = None
    count: int | None = None


@dataclass(frozen=True)
class Curve:
    """Figures along an axis: quality by generation, word errors by share of lost tokens.

    Attributes:
        name, heading: as of a `Value`.
        axis: what x is, with its unit.
        x, y: (points,) each.
        unit: of y.
    """

    name: str
    heading: str
    axis: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    unit: str = ""


@dataclass
class Findings:
    """What a study found.

    Attributes:
        values: in the order of a table's columns.
        curves: for plots.
        missing: by name of a value, why it could not be measured.
        notes: sentences that a reader must know.
    """

    values: list[Value] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class Bench:
    """What a study works with.

    Attributes:
        system: measured.
        items: the utterances that reconstructions are scored on.
        everything: all utterances of the data, every split: what probes learn from.
        wave: (samples,) float32 of an utterance, at the system's sample rate.
        reconstruction: (samples,) float32 of an utterance, at the system's rate, from the cache.
        tokens: of an utterance, batch of one, from the cache; raises `SyllabaryError` for a system
            that gives none.
        folder: that is kept between runs, for what is dear to compute.
        seed: of everything random.
        shared: kept between runs and common to all systems, for what depends on none of them;
            default: `folder`.
    """

    system: System
    items: Sequence[Utterance]
    everything: Sequence[Utterance]
    wave: Callable[[Utterance], np.ndarray]
    reconstruction: Callable[[Utterance], np.ndarray]
    tokens: Callable[[Utterance], Tokens]
    folder: Path
    seed: int = 0
    shared: Path | None = None


@dataclass(frozen=True)
class Study:
    """A measurement of a system.

    Attributes:
        name: as the command line has it: ``damage``, ``probe:digits``.
        heading: of its table.
        run: measures. Raises `MetricError` where nothing can be measured.
        description: what is measured, and how, in a sentence or two; for the page.
        unsuitable: why a system can't have it (a reference has no tokens), or None.
        paper: source of the method.
        alone: nothing else may run beside it, as it measures time.
        form: of what is measured, where one name may mean several things: results of another form
            are not gone on with.
    """

    name: str
    heading: str
    run: Callable[[Bench], Findings]
    description: str
    unsuitable: Callable[[System], str | None] = lambda system: None
    paper: str = ""
    alone: bool = False
    form: str = ""
