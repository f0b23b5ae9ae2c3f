"""Tables for both the page and its Markdown version: columns, rows and formatted cells."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ..results.figures import bitrate
from ..results.schema import EVERYWHERE, Figure, StudyEntry
from .board import BANDS, REFERENCE_BAND, Entry, Section

_MINUS = "\N{MINUS SIGN}"
_ARROWS = {True: "↑", False: "↓", None: ""}
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
    """

    heading: str
    unit: str
    higher_is_better: bool | None
    digits: int
    explanation: str = ""
    count: str = ""
    failed: int = 0

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
        best: best of its band, at the displayed precision.
        best_of_all: best of all bands.
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
    columns = [Column("kbit/s", "", None, 2, "Real bits over real seconds, without containers.")]
    columns += [
        Column(
            column.heading,
            column.metric.unit,
            column.metric.higher_is_better,
            column.metric.digits,
            column.metric.description,
        )
        for column in section.metrics
    ]
    whole = section.data.items if domain == EVERYWHERE else section.data.domains[domain]
    rows = []
    for entry in section.entries:
        cells = [_bitrate(entry, domain)]
        for column in section.metrics:
            metric = column.of.get(entry.name)
            figure = metric.domains.get(domain) if metric else None
            cells.append(_figure(figure, column.metric.digits, whole))
        rows.append(Row(entry, tuple(cells)))
    where = "all domains" if domain == EVERYWHERE else domain
    table = Table(f"quality-{domain}", f"Reconstruction, {where}", tuple(columns), tuple(rows))
    return _with_best(_with_counts(table, f"{whole} of {whole}"))


def study(section: Section, name: str) -> Table:
    """The values of a study."""
    of = section.studies[name]
    columns: dict[str, Column] = {}
    for found in of.values():
        for value in found.values:
            columns.setdefault(
                value.name,
                Column(value.heading, value.unit, value.higher_is_better, value.digits),
            )
    for found in of.values():
        for missing in found.missing:
            columns.setdefault(missing, Column(missing, "", None, 0))
    rows = [
        Row(entry, tuple(_value(of.get(entry.name), key, name) for key in columns))
        for entry in section.entries
        if columns and entry.name in of
    ]
    rows = [row for row in rows if any(cell.value is not None for cell in row.cells)]
    heading = next(iter(of.values())).heading
    table = Table(f"study-{name}", heading, tuple(columns.values()), tuple(rows))
    return _with_best(_with_counts(table, ""))


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
    )


def _value(found: StudyEntry | None, name: str, study_name: str) -> Cell:
    if found is None or found.why_not is not None:
        return Cell("–", why="not measured" if found is None else found.why_not or "")
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


def _with_counts(table: Table, everything: str) -> Table:
    """Move the count shared by most cells of a column to its heading; counts of all items are
    omitted.
    """
    columns, rows = list(table.columns), [list(row.cells) for row in table.rows]
    for place, column in enumerate(columns):
        counts = Counter(
            (cells[place].count, cells[place].failed)
            for cells in rows
            if cells[place].value is not None
        )
        if not counts:
            continue
        usual, failed = counts.most_common(1)[0][0]
        columns[place] = replace(column, count="" if usual == everything else usual, failed=failed)
        for cells in rows:
            if (cells[place].count, cells[place].failed) == (usual, failed):
                cells[place] = replace(cells[place], count="", failed=0)
    return replace(
        table,
        columns=tuple(columns),
        rows=tuple(
            replace(row, cells=tuple(cells)) for row, cells in zip(table.rows, rows, strict=True)
        ),
    )


def _with_best(table: Table) -> Table:
    """Mark the best of each column, references excluded: in each band of several, and of all."""
    rows = list(table.rows)
    for place, column in enumerate(table.columns):
        # Promises that are kept are equally good.
        promise = any(row.cells[place].level for row in rows)
        if column.higher_is_better is None or promise:
            continue
        every = [i for i, row in enumerate(rows) if row.entry.band != REFERENCE_BAND]
        _mark(rows, every, place, column, lambda cell: replace(cell, best_of_all=True))
        for band in range(REFERENCE_BAND):
            within = [i for i in every if rows[i].entry.band == band]
            _mark(rows, within, place, column, lambda cell: replace(cell, best=True))
    return replace(table, rows=tuple(rows))


def _mark(
    rows: list[Row],
    among: Sequence[int],
    place: int,
    column: Column,
    marked: Callable[[Cell], Cell],
) -> None:
    # At the displayed precision, so that equal figures are marked alike.
    shown = {
        index: round(value, column.digits)
        for index in among
        if (value := rows[index].cells[place].value) is not None
    }
    if len(shown) < 2 or len(set(shown.values())) == 1:
        return
    best = max(shown.values()) if column.higher_is_better else min(shown.values())
    for index, value in shown.items():
        if value == best:
            cells = list(rows[index].cells)
            cells[place] = marked(cells[place])
            rows[index] = replace(rows[index], cells=tuple(cells))


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
