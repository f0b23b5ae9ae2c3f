"""Curves of studies as small multiples: one panel per system, with the other systems in grey."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from ..results.schema import Curve
from . import svg
from .axes import Scale, linear_ticks, widened
from .board import Entry, Section
from .plots import hues
from .svg import element
from .tables import number

_WIDTH, _HEIGHT = 200.0, 130.0
_LEFT, _TOP, _RIGHT, _BOTTOM = 38.0, 10.0, 192.0, 108.0


@dataclass(frozen=True)
class Panel:
    """One system's curve: its name, and the drawing."""

    name: str
    svg: Markup


@dataclass(frozen=True)
class Multiples:
    """A curve of every system that has it.

    Attributes:
        heading: with its unit.
        axis: label of x.
        behind: the drawing of all curves, to which all panels refer.
        panels: by bitrate.
        points: all x values.
        rows: by system, y at each of `points`, as text, for a table.
    """

    heading: str
    axis: str
    behind: Markup
    panels: tuple[Panel, ...]
    points: tuple[str, ...]
    rows: tuple[tuple[str, tuple[str, ...]], ...]


def multiples(section: Section, study: str, prefix: str) -> list[Multiples]:
    """Return all curves of a study.

    Args:
        prefix: of ids in the page; unique to this study and section.
    """
    found: dict[str, list[tuple[Entry, Curve]]] = {}
    for entry in section.entries:
        result = section.studies[study].get(entry.name)
        for curve in result.curves if result else ():
            if curve.x:
                found.setdefault(curve.name, []).append((entry, curve))
    return [
        _multiples(curves, hues(section), f"{prefix}-{place}")
        for place, curves in enumerate(found.values())
    ]


def _multiples(
    curves: Sequence[tuple[Entry, Curve]], colours: dict[str, int], name: str
) -> Multiples:
    first = curves[0][1]
    xs = sorted({x for _, curve in curves for x in curve.x})
    ys = [y for _, curve in curves for y in curve.y]
    low, high = (min(xs), max(xs)) if len(xs) > 1 else widened(xs)
    across = Scale(low, high, _LEFT, _RIGHT)
    up = Scale(*widened(ys, 0.05), _BOTTOM, _TOP)
    paths = [
        [(across(x), up(y)) for x, y in zip(curve.x, curve.y, strict=True)] for _, curve in curves
    ]
    grey = [element("polyline", points=svg.points(path)) for path in paths]
    # Drawn once; every panel refers to it.
    behind = element("g", _grid(across, up), element("g", *grey, class_="others"), id=name)
    panels = []
    for (entry, _), path in zip(curves, paths, strict=True):
        hue = "ref" if entry.is_reference else f"c{colours[entry.family]}"
        dots = (element("circle", class_=f"mark {hue}", cx=x, cy=y, r="2") for x, y in path)
        drawn = svg.drawing(
            _WIDTH,
            _HEIGHT,
            f"{first.heading}, {entry.name}",
            element("use", href=f"#{name}"),
            element("polyline", class_=f"curve {hue}", points=svg.points(path)),
            *dots,
        )
        panels.append(Panel(entry.name, drawn))
    unit = f" ({first.unit})" if first.unit else ""
    digits = _digits(up)
    rows = []
    for entry, curve in curves:
        at = dict(zip(curve.x, curve.y, strict=True))
        figures = tuple(number(at[x], digits) if x in at else "–" for x in xs)
        rows.append((entry.name, figures))
    return Multiples(
        first.heading + unit,
        first.axis,
        element(
            "svg",
            element("defs", behind),
            class_="store",
            aria_hidden="true",
            width="0",
            height="0",
        ),
        tuple(panels),
        tuple(f"{x:g}" for x in xs),
        tuple(rows),
    )


def _digits(up: Scale) -> int:
    """Number of digits that resolve a hundredth of the range."""
    span = up.high - up.low
    return next((n for n in range(7) if span / 100 >= 10.0**-n), 7)


def _grid(across: Scale, up: Scale) -> Markup:
    parts = [svg.value_axis(up, _LEFT, _RIGHT, 4, most=4)]
    for tick in linear_ticks(across.low, across.high, 5):
        shown = f"{round(tick, 9):g}"
        parts.append(svg.tick_text(shown, across(tick), _BOTTOM + 15, "middle"))
    return Markup("").join(parts)
