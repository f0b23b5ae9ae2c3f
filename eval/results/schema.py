"""`Result`: what ``result.json`` has in it, written by the harness or by a submission.

Every figure that can be recomputed from `Result.items` is checked by `.check`: a file can't claim a
mean that its own items don't have.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

SCHEMA = "syllabary-result/1"
"""First field of every file of this form; a change of meaning changes the number."""

EVERYWHERE = "all"
"""The domain that is the whole of a data set."""

Score = float | tuple[float, float]
"""Of one item: a number, or a numerator and a denominator, to be summed apart."""


@dataclass(frozen=True)
class SystemEntry:
    """The system measured; see `syllabary.eval.systems.interface.System`.

    Attributes:
        name: in tables.
        kind: a reference has no bitrate, and is separate in tables.
        setting: how it was run.
        digest: SHA-256 (hex) of everything that determines its output.
        sample_rate: Hz.
        delay: samples that were removed from the start of its output.
        license, source: of the weights or the program.
        versions: of the programs and packages behind it.
        num_codebooks: used; None where there are none.
        tokenizer: its specification, if it is one.
        delay_ms: `delay` in milliseconds.
    """

    name: str
    kind: Literal["tokenizer", "codec", "reference"]
    setting: str
    digest: str
    sample_rate: int
    delay: int
    license: str
    source: str
    versions: Mapping[str, str] = field(default_factory=dict)
    num_codebooks: int | None = None
    tokenizer: Mapping[str, Any] | None = None
    delay_ms: float | None = None


@dataclass(frozen=True)
class DataEntry:
    """The data.

    Attributes:
        name, split: of the data set.
        digest: SHA-256 (hex) of the items; results are comparable if it is equal.
        items: their number.
        seconds: of the items that were reconstructed.
        domains: number of items of each.
    """

    name: str
    split: str | None
    digest: str
    items: int
    seconds: float
    domains: Mapping[str, int]


@dataclass(frozen=True)
class Environment:
    """The environment of the measurement: versions, and a description of the machine."""

    syllabary: str
    python: str
    machine: str
    torch: str | None = None
    packages: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Figure:
    """A metric's mean over a domain.

    Attributes:
        value: None where there is no score.
        low, high: its 95 % interval.
        count: items in the mean.
        failed: items without a score though one was requested.
        capped: items whose numerator was capped at their denominator.
    """

    value: float | None
    low: float | None
    high: float | None
    count: int
    failed: int
    capped: int = 0


@dataclass(frozen=True)
class MetricEntry:
    """A metric and its figures; see `syllabary.eval.metrics.interface.Metric`.

    Attributes:
        version: of `package`.
        asked: items for which it was requested; fewer than all for a slow metric.
        domains: figures by domain, including ``all``.
        variant: the recogniser or model used, if there is a choice.
    """

    name: str
    heading: str
    description: str
    unit: str
    digits: int
    higher_is_better: bool | None
    bounds: tuple[float | None, float | None]
    needs: tuple[str, ...]
    paper: str
    package: str | None
    version: str | None
    asked: int
    domains: Mapping[str, Figure]
    variant: str = ""

    @property
    def maker(self) -> str | None:
        """What figures must share to be comparable: the model, or the package."""
        return self.variant or self.package


@dataclass(frozen=True)
class Value:
    """One figure of a study.

    Attributes:
        name: short, lower case, unique in its study: ``entropy``.
        heading: in tables.
        value: never NaN: unmeasured values are in `StudyEntry.missing`.
        higher_is_better: None if neither direction is better.
        unit: such as ``bit/s``, ``%``.
        digits: after the point, in tables.
        low, high: a 95 % interval, if there is one.
        count: number of items of a mean, if relevant.
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
        axis: label of x, with its unit.
        x, y: (points,) each.
        unit: of y.
    """

    name: str
    heading: str
    axis: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    unit: str = ""


@dataclass(frozen=True)
class StudyEntry:
    """The results of a study; see `syllabary.eval.studies.interface.Findings`.

    Attributes:
        missing: reasons, by the name of a value that could not be measured.
        error: why nothing could be measured at all.
        unsuitable: why the study does not apply to the system, or to the data.
    """

    name: str
    heading: str
    description: str
    paper: str = ""
    values: tuple[Value, ...] = ()
    curves: tuple[Curve, ...] = ()
    missing: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    error: str | None = None
    unsuitable: str | None = None

    @property
    def why_not(self) -> str | None:
        """The reason why nothing was measured, if so."""
        return self.unsuitable if self.error is None else self.error


@dataclass(frozen=True)
class ItemEntry:
    """An utterance.

    Attributes:
        name: unique in its data set.
        domain: of the utterance.
        seconds: duration; None only with an error, as for a file that can't be read.
        bits: of its encoding; None for a reference, or if the reconstruction failed.
        scores: by metric.
        failures: by metric, why there is no score.
        error: why there is no reconstruction, and so no score at all.
        capped: by metric, the numerator of the score before it was capped at its
            denominator, as for word errors.
    """

    name: str
    domain: str
    seconds: float | None
    bits: float | None
    scores: Mapping[str, Score] = field(default_factory=dict)
    failures: Mapping[str, str] = field(default_factory=dict)
    error: str | None = None
    capped: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class ClipEntry:
    """A clip for listening.

    Attributes:
        item: the name of its utterance.
        text: its transcript.
        audio: file, relative to the folder of the result file and inside it.
        original: path of the original in the harness's folder; the page uses the system
            ``original``'s.
    """

    item: str
    text: str | None
    audio: str
    original: str | None = None


@dataclass(frozen=True)
class Result:
    """The result of a system on a data set: one ``result.json``.

    Attributes:
        schema: `SCHEMA`.
        command: for reproduction.
        seed: of all random choices.
        bitrate: bits per second over all items; None for a reference.
    """

    schema: str
    system: SystemEntry
    data: DataEntry
    command: str
    seed: int
    bitrate: float | None
    environment: Environment
    metrics: tuple[MetricEntry, ...]
    studies: tuple[StudyEntry, ...]
    items: tuple[ItemEntry, ...]
    clips: tuple[ClipEntry, ...] = ()
