"""Grouping of results: one section per data set, systems by bitrate."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from ...filesystem import files_below
from ..results.check import load
from ..results.files import RESULT_NAME, ResultError
from ..results.schema import DataEntry, MetricEntry, StudyEntry
from .entry import BANDS, ORIGINAL, REFERENCE_BAND, Entry
from .merging import merged

__all__ = [
    "BANDS",
    "ORIGINAL",
    "REFERENCE_BAND",
    "Board",
    "Entry",
    "MetricColumn",
    "Section",
    "collect",
    "find",
]


@dataclass(frozen=True)
class MetricColumn:
    """A metric in one or several results: the same method by the same package.

    Attributes:
        metric: as described by the first of them.
        versions: of the package, if there are several.
        place: index of its `MetricEntry` in each system's result, by the system's name.
    """

    metric: MetricEntry
    heading: str
    versions: tuple[str, ...]
    of: dict[str, MetricEntry]


@dataclass(frozen=True)
class Section:
    """Results on the same items.

    Attributes:
        data: the data set.
        entries: by bitrate, references last.
    """

    data: DataEntry
    entries: tuple[Entry, ...]

    @cached_property
    def domains(self) -> tuple[str, ...]:
        """Return the domains, those with the most items first."""
        return tuple(sorted(self.data.domains, key=lambda name: (-self.data.domains[name], name)))

    @cached_property
    def metrics(self) -> tuple[MetricColumn, ...]:
        """Return the columns; figures of different methods are never in one column, even with the
        same name.
        """
        found: dict[tuple[str, str, str | None], dict[str, MetricEntry]] = {}
        for entry in self.entries:
            for metric in entry.result.metrics:
                key = (metric.name, metric.description, metric.maker)
                found.setdefault(key, {})[entry.name] = metric
        names = [name for name, _, _ in found]
        columns = []
        for (name, _, maker), of in found.items():
            first = next(iter(of.values()))
            heading = first.heading
            if names.count(name) > 1:
                alike = [key for key in found if key[0] == name and key[2] == maker]
                heading += f" ({maker or 'syllabary'})"
                if len(alike) > 1:
                    heading += f" {1 + alike.index((name, first.description, maker))}"
            versions = sorted({metric.version for metric in of.values() if metric.version})
            columns.append(MetricColumn(first, heading, tuple(versions), of))
        return tuple(columns)

    @cached_property
    def studies(self) -> dict[str, dict[str, StudyEntry]]:
        """Return study results, by name of the study, then of the system."""
        found: dict[str, dict[str, StudyEntry]] = {}
        for entry in self.entries:
            for study in entry.result.studies:
                found.setdefault(study.name, {})[entry.name] = study
        return found


@dataclass(frozen=True)
class Board:
    """The content of the leaderboard."""

    sections: tuple[Section, ...]
    sources: tuple[Path, ...] = field(default=(), compare=False)


def collect(places: Sequence[Path]) -> Board:
    """Collect the results in these files, or anywhere below these folders.

    Raises:
        ResultError: one is invalid, there is none, or two contradict or repeat each other.
    """
    paths = find(places)
    if not paths:
        shown = ", ".join(map(str, places))
        raise ResultError(shown, [f"no {RESULT_NAME} there"])
    entries = []
    wrong: list[str] = []
    for path in paths:
        try:
            entries.append(Entry(load(path), path.parent))
        except ResultError as error:
            wrong += [f"{path}: {problem}" for problem in error.problems]
    if wrong:
        raise ResultError(f"{len(paths)} results", wrong)
    return Board(_sections(entries), tuple(paths))


def find(places: Iterable[Path]) -> list[Path]:
    """Find result files, each once, in a deterministic order."""
    found: dict[Path, Path] = {}
    for place in places:
        below = [place]
        if place.is_dir():
            below = sorted(path for path in files_below(place) if path.name == RESULT_NAME)
        for path in below:
            found.setdefault(path.resolve(), path)
    return [found[resolved] for resolved in sorted(found)]


def _sections(entries: Sequence[Entry]) -> tuple[Section, ...]:
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(entry.result.data.digest, []).append(entry)
    sections = []
    for group in groups.values():
        ordered = sorted(
            merged(group), key=lambda entry: (entry.band, entry.result.bitrate or 0, entry.name)
        )
        items = {item.name: item.domain for item in ordered[0].result.items}
        for entry in ordered[1:]:
            if {item.name: item.domain for item in entry.result.items} != items:
                problem = f"other items than {ordered[0].name}'s, but the same data.digest"
                raise ResultError(f"{entry.folder}: {entry.name}", [problem])
        sections.append(Section(ordered[0].result.data, tuple(ordered)))
    return tuple(
        sorted(
            sections,
            key=lambda s: (-len(s.entries), s.data.name, s.data.split or "", s.data.digest),
        )
    )
