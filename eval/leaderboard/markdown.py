"""The Markdown version of the leaderboard: the same figures, for terminals, diffs and
repositories.
"""

import html
import re
from collections.abc import Iterable, Sequence

from . import contents, tables
from .board import Board, Section
from .curves import multiples
from .failures import Failure, failures
from .tables import Cell, Table


def render_markdown(board: Board, title: str) -> str:
    """GitHub-flavoured Markdown.

    Args:
        board: what to show.
        title: at the top.
    """
    parts = [
        f"# {_text(title)}",
        "An item without a score is counted as failed and named, and the mean is over the rest: "
        "nothing is imputed. In parentheses: 95 % intervals, and the number of items where it is "
        "not all of them. Capped are items with more errors than words, as where a recogniser "
        "falls into a loop: they count as all words wrong. Bold in each bitrate band: the best "
        "and what 95 % intervals do not tell apart from it; nothing that is bad in absolute terms "
        f"({contents.acceptable()}).",
    ]
    if len(board.sections) > 1:
        parts.append("Figures of different data sets do not compare.")
    for section in board.sections:
        parts += _section(section)
    return "\n\n".join(parts) + "\n"


def _section(section: Section) -> list[str]:
    parts = [f"## {_text(contents.title(section))}"]
    parts.append("\n".join(f"- {name}: {_text(fact)}" for name, fact in contents.facts(section)))
    for domain, name in contents.domains(section):
        parts += [f"### Reconstruction: {_text(name)}", _figures(tables.quality(section, domain))]
    found = failures(section)
    if found:
        parts += ["### What failed, and why", "\n".join(map(_failure, found))]
    for study, of in section.studies.items():
        first = next(iter(of.values()))
        parts += [f"### {_text(first.heading)}", _text(first.description)]
        table = tables.study(section, study)
        if table.rows:
            parts.append(_figures(table))
        for curve in multiples(section, study, ""):
            parts.append(f"{_text(curve.heading)}, by {_text(curve.axis)}:")
            lines = [(name, *values) for name, values in curve.rows]
            parts.append(_grid(("System", *curve.points), lines))
        parts += [_text(note) for note in tables.notes(section, study)]
        reasons = [
            f"- {_text(what) + ': ' if what else ''}{_text(why)} ({_text(', '.join(systems))})"
            for what, why, systems in tables.reasons(section, study)
        ]
        if reasons:
            parts += ["Not measured:", "\n".join(reasons)]
    parts += [
        "### What the columns mean",
        _grid(contents.METRIC_HEADINGS, contents.legend(section), numbers=False),
        "### The systems",
        _grid(contents.SYSTEM_HEADINGS, contents.systems(section), numbers=False),
        "### Measure it again",
        f"Data digest `{section.data.digest}`, seed {contents.seeds(section)}.",
    ]
    parts += [
        "\n".join(f"    {line}" for line in command.splitlines())
        for command in contents.commands(section)
    ]
    parts += [_text(environment) for environment in contents.environments(section)]
    return parts


def _figures(table: Table) -> str:
    headings = ["System"]
    for column in table.columns:
        unit = f" ({column.beside})" if column.beside else ""
        headings.append(f"{column.heading} {column.arrow}".strip() + unit)
    lines = []
    for _, band, rows in table.bands:
        lines.append([f"*{_text(band)}*"] + [""] * len(table.columns))
        lines += [[_text(row.entry.name), *map(_cell, row.cells)] for row in rows]
    return _grid(headings, lines, escape=False)


def _cell(cell: Cell) -> str:
    text = f"**{_text(cell.text)}**" if cell.best else _text(cell.text)
    beside = [
        cell.interval,
        cell.count,
        f"{cell.failed} failed" if cell.failed else "",
        f"{cell.capped} capped" if cell.capped else "",
    ]
    shown = "; ".join(filter(None, beside))
    return f"{text} ({shown})" if shown else text


def _failure(failure: Failure) -> str:
    more = f" (and {failure.alike - 1} like it)" if failure.alike > 1 else ""
    lines = [f"- {_text(failure.what or 'Reconstruction')}: {_text(failure.reason)}{more}"]
    lines += [
        f"  - {_text(', '.join(systems))}: {len(items)} of the items: {_text(', '.join(items))}"
        for systems, items in failure.groups
    ]
    return "\n".join(lines)


def _grid(
    headings: Sequence[str],
    lines: Iterable[Sequence[str]],
    numbers: bool = True,
    escape: bool = True,
) -> str:
    right = "---:" if numbers else "---"
    rows = [
        "| " + " | ".join(map(_text, headings)) + " |",
        "| " + " | ".join(["---", *[right] * (len(headings) - 1)]) + " |",
    ]
    rows += ["| " + " | ".join(map(_text, line) if escape else line) + " |" for line in lines]
    return "\n".join(rows)


def _text(text: str) -> str:
    """Escape text for one line of Markdown."""
    text = html.escape(" ".join(text.split()), quote=False)
    text = re.sub(r"([\\`*\[\]|])", r"\\\1", text)
    # Underscores inside words are safe, and frequent in names of data sets.
    return re.sub(r"(?<!\w)_|_(?!\w)", r"\\_", text)
