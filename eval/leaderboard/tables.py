"""Tables for both the page and its Markdown version: columns, rows and formatted cells."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..results.figures import bitrate
from ..results.schema import EVERYWHERE, Figure, StudyEntry
from .board import BANDS, REFERENCE_BAND, Entry, Section

_MINUS = "\N{MINUS SIGN}"
_ARROWS = {True: "↑", False: "↓", None: ""}
#: The worst values that are marked as best: below them even the best system fails its listeners.
#: - Opinion scores (PESQ's is mapped to that scale by ITU-T P.862.2) nearer to 1, "bad", than to 2,
#:   "poor" (ITU-T P.800).
#: - Half of the words lost, as in a speech reception threshold: to the recogniser, or to listeners,
#:   which is an STOI of .554 for English sentences, the middle of the logistic curve of Taal et al.
#:   (2011).
#: - A voice that verification would take for another person's: the GE2E cosine at which same and
#:   different speakers are confused equally often (`benchmarks/speaker_threshold.py`: 2.4 % each,
#:   48 sentences of LibriSpeech).
#: Metrics without such a source have no bound; word errors against a text have none since a weak
#: recogniser exceeds it with any codec.
ACCEPTABLE = {
    **dict.fromkeys(("pesq-wb", "pesq-nb", "dnsmos", "plcmos"), 1.5),
    "stoi": 0.554,
    "speaker": 0.775,
    "dwer": 0.5,
}
PROMISES = "promises"
"""The study whose shares are coloured as well."""


@dataclass(frozen=True)
class Column:
    """A column.

    Attributes:
        arrow: direction of better values: up, down, or none.
        higher_is_better: None if neither direction is better.
        explanation: in a sentence.
        count: items in most of its means, if not all items.
        failed: items without a score, for systems with that count.
        limit: the worst value that may be marked as best; None: any.
    """

    heading: str
    unit: str
    higher_is_better: bool | None
    digits: int
    explanation: str = ""
    count: str = ""
    failed: int = 0
    limit: float | None = None

    @property
    def width(self) -> int:
        """Characters in the longer of two lines of the heading and of the line below it."""
        longest = max(map(len, self.heading.split()), default=0)
        half = math.ceil((len(self.heading) + len(self.arrow)) / 2) + 2
        return max(7, half, longest + 2)

    @property
    def arrow(self) -> str:
        return _ARROWS[self.higher_is_better]

    @property
    def beside(self) -> str:
        """Unit, count and failures, in a line."""
        failed = f"{self.failed} failed" if self.failed else ""
        return ", ".join(filter(None, (self.unit, self.count, failed)))


@dataclass(frozen=True)
class Cell:
    """A formatted figure.

    Attributes:
        text: the figure, or a dash.
        value: for sorting; None sorts last.
        interval: 95 %, or empty.
        count: items in the mean, if different from its column's.
        failed: items without a score, if different from its column's.
        capped: items whose errors were capped.
        why: why there is no figure, or empty.
        low, high: ends of the interval.
        best: best of its band, or not told apart from the best by the intervals; never for what is
            bad in absolute terms, see `ACCEPTABLE`.
        best_of_all: the same among all bands.
        level: of a promise: ``kept``, ``nearly`` or ``broken``; else empty.
    """

    text: str
    value: float | None = None
    interval: str = ""
    count: str = ""
    failed: int = 0
    capped: int = 0
    why: str = ""
    best: bool = False
    best_of_all: bool = False
    level: str = ""
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Row:
    """A system's figures."""

    entry: Entry
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Table:
    """Rows by bitrate, references last.

    Attributes:
        name: unique on the page.
        caption: of the table.
    """

    name: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]

    @property
    def bands(self) -> list[tuple[int, str, list[Row]]]:
        """Return index, name and rows of each non-empty bitrate band."""
        groups = [
            (place, name, [row for row in self.rows if row.entry.band == place])
            for place, name in enumerate(BANDS)
        ]
        return [group for group in groups if group[2]]


def number(value: float, digits: int) -> str:
    """Format with a true minus sign and so many decimals, without a minus before zero."""
    if abs(value) >= 1e9:
        return f"{value:.3e}".replace("-", _MINUS)
    text = f"{value:,.{digits}f}" if abs(value) >= 10000 else f"{value:.{digits}f}"
    if not text.strip("-0.,"):
        text = text.lstrip("-")
    return text.replace("-", _MINUS).replace(",", "\N{NARROW NO-BREAK SPACE}")


def interval(low: float | None, high: float | None, digits: int) -> str:
    """Format both ends of an interval, or nothing."""
    if low is None or high is None:
        return ""
    between = "–" if low >= 0 else " … "
    return f"{number(low, digits)}{between}{number(high, digits)}"


def quality(section: Section, domain: str = EVERYWHERE) -> Table:
    """The metrics over a domain, or over all items."""
    whole = section.data.items if domain == EVERYWHERE else section.data.domains[domain]
    entries = section.entries
    rate = Column("kbit/s", "", None, 2, "Real bits over real seconds, without containers.")
    columns = [(rate, [_bitrate(entry, domain) for entry in entries])]
    for found in section.metrics:
        metric = found.metric
        column = Column(
            found.heading,
            metric.unit,
            metric.higher_is_better,
            metric.digits,
            metric.description,
            limit=ACCEPTABLE.get(metric.name),
        )
        cells = []
        for entry in entries:
            of = found.of.get(entry.name)
            figure = of.domains.get(domain) if of else None
            cells.append(_figure(figure, metric.digits, whole))
        columns.append((column, cells))
    where = "all domains" if domain == EVERYWHERE else domain
    caption = f"Reconstruction, {where}"
    return _table(f"quality-{domain}", caption, entries, columns, f"{whole} of {whole}")


def study(section: Section, name: str) -> Table:
    """The values of a study."""
    of = section.studies[name]
    headings: dict[str, Column] = {}
    for found in of.values():
        for value in found.values:
            headings.setdefault(
                value.name,
                Column(value.heading, value.unit, value.higher_is_better, value.digits),
            )
    for found in of.values():
        for missing in found.missing:
            headings.setdefault(missing, Column(missing, "", None, 0))
    entries = [entry for entry in section.entries if entry.name in of and of[entry.name].values]
    columns = [
        (column, [_value(of[entry.name], key, name) for entry in entries])
        for key, column in headings.items()
    ]
    heading = next(iter(of.values())).heading
    return _table(f"study-{name}", heading, entries, columns, "")


def reasons(section: Section, name: str) -> list[tuple[str, str, list[str]]]:
    """Reasons for unmeasured values of a study, with their systems; "" stands for the whole
    study.
    """
    found: dict[tuple[str, str], list[str]] = {}
    headings = {
        value.name: value.heading
        for result in section.studies[name].values()
        for value in result.values
    }
    for entry in section.entries:
        result = section.studies[name].get(entry.name)
        if result is None:
            continue
        if result.why_not is not None:
            found.setdefault(("", result.why_not), []).append(entry.name)
        for missing, reason in result.missing.items():
            found.setdefault((headings.get(missing, missing), reason), []).append(entry.name)
    return [(what, why, systems) for (what, why), systems in found.items()]


def _bitrate(entry: Entry, domain: str) -> Cell:
    items = [item for item in entry.result.items if domain in (EVERYWHERE, item.domain)]
    rate = bitrate(items)
    if rate is None or entry.is_reference:
        why = "a reference spends no bits" if entry.is_reference else "no item came back"
        return Cell("–", why=why)
    return Cell(number(rate / 1000, 2), rate / 1000)


def _figure(figure: Figure | None, digits: int, whole: int) -> Cell:
    if figure is None:
        return Cell("–", why="not measured")
    if figure.value is None:
        why = "no item has a score" if figure.failed else "not asked for here"
        return Cell("–", failed=figure.failed, why=why)
    return Cell(
        number(figure.value, digits),
        figure.value,
        interval(figure.low, figure.high, digits),
        f"{figure.count} of {whole}",
        figure.failed,
        figure.capped,
        low=figure.low,
        high=figure.high,
    )


def _value(found: StudyEntry, name: str, study_name: str) -> Cell:
    for value in found.values:
        if value.name == name:
            level = ""
            if study_name == PROMISES and value.unit == "%":
                level = (
                    "kept" if value.value >= 100 else "nearly" if value.value >= 99 else "broken"
                )
            return Cell(
                _share(value.value, value.digits) if level else number(value.value, value.digits),
                value.value,
                interval(value.low, value.high, value.digits),
                "" if value.count is None else f"n = {value.count}",
                level=level,
                low=value.low,
                high=value.high,
            )
    return Cell("–", why=found.missing.get(name, "not measured"))


def _share(value: float, digits: int) -> str:
    """Format a promise's share: 100 only if exact, since a single broken frame in a million
    matters.
    """
    text = number(value, digits)
    if value < 100 and text == number(100, digits):
        return f"> {number(100 - 10.0**-digits, digits)}"
    return text


def _table(
    name: str,
    caption: str,
    entries: Sequence[Entry],
    columns: Sequence[tuple[Column, list[Cell]]],
    everything: str,
) -> Table:
    """Make a table of columns, with common counts in the headings, and the best marked.

    Args:
        name, caption: of the table.
        entries: one for each row.
        columns: with a cell for each row.
        everything: the count of a mean over all items, which is not shown.
    """
    bands = [entry.band for entry in entries]
    done = []
    for column, cells in columns:
        column, cells = _with_counts(column, cells, everything)
        done.append((column, _with_best(column, cells, bands)))
    rows = tuple(
        Row(entry, tuple(cells[place] for _, cells in done)) for place, entry in enumerate(entries)
    )
    return Table(name, caption, tuple(column for column, _ in done), rows)


def _with_counts(column: Column, cells: list[Cell], everything: str) -> tuple[Column, list[Cell]]:
    """Move the count that most cells share to the heading; counts of all items are omitted."""
    counts = Counter((cell.count, cell.failed) for cell in cells if cell.value is not None)
    if not counts:
        return column, cells
    usual = count, failed = counts.most_common(1)[0][0]
    column = replace(column, count="" if count == everything else count, failed=failed)
    plain = [
        replace(cell, count="", failed=0) if (cell.count, cell.failed) == usual else cell
        for cell in cells
    ]
    return column, plain


def _with_best(column: Column, cells: list[Cell], bands: Sequence[int]) -> list[Cell]:
    """Mark the best, references excluded: of each band of several, and of all.

    Promises that are kept are equally good.
    """
    if column.higher_is_better is None or any(cell.level for cell in cells):
        return cells
    everywhere = [place for place, band in enumerate(bands) if band != REFERENCE_BAND]
    of_all = _best(column, cells, everywhere)
    of_band: set[int] = set()
    for band in range(REFERENCE_BAND):
        of_band |= _best(column, cells, [place for place in everywhere if bands[place] == band])
    return [
        replace(cell, best=place in of_band, best_of_all=place in of_all)
        for place, cell in enumerate(cells)
    ]


def _best(column: Column, cells: Sequence[Cell], among: Sequence[int]) -> set[int]:
    """Return the places of the best cell and of those that intervals don't tell apart from it.

    None, if that would be all of several, or the best is bad in absolute terms.
    """
    there = {place: value for place in among if (value := cells[place].value) is not None}
    if len(there) < 2:
        return set()
    sign = 1 if column.higher_is_better else -1
    top = max(there, key=lambda place: sign * there[place])
    if column.limit is not None and sign * there[top] < sign * column.limit:
        return set()
    found = {place for place in there if _alike(cells[top], cells[place], column.digits)}
    if column.limit is not None:
        found = {place for place in found if sign * there[place] >= sign * column.limit}
    return set() if len(found) == len(there) else found


def _alike(one: Cell, other: Cell, digits: int) -> bool:
    """Whether two figures are equal as displayed, or their intervals overlap."""
    assert one.value is not None and other.value is not None
    if round(one.value, digits) == round(other.value, digits):
        return True
    ends = one.low, one.high, other.low, other.high
    if any(end is None for end in ends):
        return False
    low, high, other_low, other_high = (end for end in ends if end is not None)
    return low <= other_high and other_low <= high


def notes(section: Section, name: str) -> list[str]:
    """Notes of a study, with the systems that they apply to, if not all."""
    found: dict[str, list[str]] = {}
    for system, result in section.studies[name].items():
        for note in result.notes:
            found.setdefault(note, []).append(system)
    measured = sum(result.why_not is None for result in section.studies[name].values())
    return [
        note if len(systems) >= measured else f"{note} ({', '.join(systems)})"
        for note, systems in found.items()
    ]
