"""Rate–quality plots: each metric against the bitrate, as SVG with the page's colours."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup

from ..results.schema import EVERYWHERE
from . import svg
from .axes import CHARACTER, LINE, Box, Scale, decade_ticks, overlap, place_labels, widened
from .board import Entry, MetricColumn, Section
from .svg import element
from .tables import number

HUES = 10
"""Colours that the style sheet has; more families share them, and labels tell them apart."""


@dataclass(frozen=True)
class Frame:
    """The size of a plot, and the room of its axes in it, in px."""

    width: float
    height: float
    left: float
    top: float
    right: float
    bottom: float


#: On a desk, and on a phone: text has the same size on both, so a plot is drawn for each.
WIDE = Frame(600.0, 380.0, 54.0, 14.0, 588.0, 338.0)
NARROW = Frame(350.0, 330.0, 44.0, 14.0, 340.0, 288.0)


@dataclass(frozen=True)
class Plot:
    """A plot.

    Attributes:
        heading: above it.
        arrow: direction of better values.
        wide, narrow: the drawing, by the width of the page.
    """

    heading: str
    arrow: str
    wide: Markup
    narrow: Markup


@dataclass(frozen=True)
class _Point:
    entry: Entry
    rate: float
    value: float


def hues(section: Section) -> dict[str, int]:
    """Assign a colour to each family, in order of appearance."""
    found: dict[str, int] = {}
    for entry in section.entries:
        if not entry.is_reference:
            found.setdefault(entry.family, len(found) % HUES)
    return found


def rate_quality(section: Section) -> list[Plot]:
    """Return a plot for each metric that has a better direction and values for two systems
    or more.
    """
    colours = hues(section)
    plots = []
    for column in section.metrics:
        if column.metric.higher_is_better is None:
            continue
        points, references = [], []
        for entry in section.entries:
            metric = column.of.get(entry.name)
            value = metric.domains[EVERYWHERE].value if metric else None
            if value is None:
                continue
            if entry.is_reference:
                references.append((entry.name, value))
            elif entry.result.bitrate:
                points.append(_Point(entry, entry.result.bitrate / 1000, value))
        if len(points) > 1:
            unit = f" ({column.metric.unit})" if column.metric.unit else ""
            plots.append(
                Plot(
                    column.heading + unit,
                    "↑" if column.metric.higher_is_better else "↓",
                    _draw(column, points, references, colours, WIDE),
                    _draw(column, points, references, colours, NARROW),
                )
            )
    return plots


def _draw(
    column: MetricColumn,
    points: Sequence[_Point],
    references: Sequence[tuple[str, float]],
    colours: dict[str, int],
    frame: Frame,
) -> Markup:
    digits = column.metric.digits
    low, high = widened([point.value for point in points])
    # A reference may extend the axis by two thirds; one farther away would flatten the rest.
    room = (high - low) * 0.66
    near = [value for _, value in references if low - room <= value <= high + room]
    low, high = widened([low, high, *near], 0.03) if near else (low, high)
    rates = [point.rate for point in points]
    across = Scale(min(rates) / 1.25, max(rates) * 1.6, frame.left, frame.right, logarithmic=True)
    up = Scale(low, high, frame.bottom, frame.top)
    places = [(across(point.rate), up(point.value)) for point in points]
    parts = [_grid(across, up, frame)]
    marked, boxes = _references(references, up, digits, places, frame)
    parts += marked
    for family, members in _families(points).items():
        path = [(across(point.rate), up(point.value)) for point in members]
        boxes += _along(path)
        hue = colours[family]
        parts.append(element("polyline", class_=f"family c{hue}", points=svg.points(path)))
    room_for_names = (frame.left + 2, frame.top, frame.right + 8, frame.bottom - 2)
    labels = place_labels(places, _names(points), room_for_names, boxes)
    for label in labels:
        x, y = places[label.point]
        hue = colours[points[label.point].entry.family]
        if label.far:
            end = min(max(x, label.x), label.x + CHARACTER * len(label.text))
            below = label.y - (4 if y > label.y else 8)
            parts.append(element("line", class_=f"lead c{hue}", x1=x, y1=y, x2=end, y2=below))
        parts.append(element("text", label.text, class_=f"name c{hue}", x=label.x, y=label.y))
    for (x, y), point in zip(places, points, strict=True):
        title = f"{point.entry.name}: {number(point.value, digits)} at {point.rate:.2f} kbit/s"
        mark = _mark(x, y, point.entry, colours[point.entry.family])
        parts.append(element("g", element("title", title), mark))
    said = f"{column.heading} of {len(points)} systems against their bitrates, as in the tables"
    return svg.drawing(frame.width, frame.height, said, *parts)


def _grid(across: Scale, up: Scale, frame: Frame) -> Markup:
    parts = [svg.value_axis(up, frame.left, frame.right, 6)]
    for tick in decade_ticks(across.low, across.high):
        x = across(tick)
        parts.append(element("line", class_="grid", x1=x, x2=x, y1=frame.top, y2=frame.bottom))
        parts.append(svg.tick_text(f"{tick:g}", x, frame.bottom + 17, "middle"))
    parts.append(svg.tick_text("kbit/s", frame.right, frame.bottom + 34, "end"))
    return Markup("").join(parts)


def _references(
    references: Sequence[tuple[str, float]],
    up: Scale,
    digits: int,
    places: Sequence[tuple[float, float]],
    frame: Frame,
) -> tuple[list[Markup], list[Box]]:
    """Draw dashed lines with their names if there is room; off the scale, name and value only."""
    parts: list[Markup] = []
    boxes: list[Box] = []
    taken = [(x - 8, y - 8, x + 8, y + 8) for x, y in places]
    for name, value in sorted(references, key=lambda pair: (-pair[1], pair[0])):
        text = name
        if up.low <= value <= up.high:
            y = up(value)
            parts.append(
                element("line", class_="reference", x1=frame.left, x2=frame.right, y1=y, y2=y)
            )
            baseline = y - 3 if y - LINE > frame.top else y + LINE
        else:
            above = value > up.high
            text = f"{'▲' if above else '▼'} {name} {number(value, digits)}"
            baseline = frame.top + LINE if above else frame.bottom - 4
        width = CHARACTER * len(text)
        lefts = [
            frame.left + 6 + 12 * step
            for step in range(int((frame.right - frame.left - width) / 12))
        ]
        left = min(
            lefts or [frame.left + 6],
            key=lambda x: sum(
                overlap((x, baseline - LINE + 2, x + width + 4, baseline + 1), other)
                for other in taken
            ),
        )
        boxes.append((left, baseline - LINE + 2, left + width, baseline + 2))
        taken.append(boxes[-1])
        parts.append(element("text", text, class_="tick", x=left, y=baseline))
    return parts, boxes


def _families(points: Sequence[_Point]) -> dict[str, list[_Point]]:
    """The settings of each family that has several, by bitrate."""
    found: dict[str, list[_Point]] = {}
    for point in sorted(points, key=lambda point: point.rate):
        found.setdefault(point.entry.family, []).append(point)
    return {family: members for family, members in found.items() if len(members) > 1}


def _along(path: Sequence[tuple[float, float]]) -> list[Box]:
    """Small boxes along a line, so that labels avoid it."""
    boxes = []
    for (x0, y0), (x1, y1) in pairwise(path):
        steps = max(1, int(math.hypot(x1 - x0, y1 - y0) / 6))
        for step in range(1, steps):
            x, y = x0 + (x1 - x0) * step / steps, y0 + (y1 - y0) * step / steps
            boxes.append((x - 1.5, y - 1.5, x + 1.5, y + 1.5))
    return boxes


def _names(points: Sequence[_Point]) -> list[str]:
    """Full names for the last system of each family; only the setting for the others."""
    last = {point.entry.family: point for point in sorted(points, key=lambda point: point.rate)}
    return [
        point.entry.name
        if last[point.entry.family] is point or point.entry.name == point.entry.family
        else point.entry.name[len(point.entry.family) :].lstrip("-")
        for point in points
    ]


def _mark(x: float, y: float, entry: Entry, hue: int) -> Markup:
    """A disc for a tokenizer, a square for another codec."""
    if entry.result.system.kind == "tokenizer":
        return element("circle", class_=f"mark c{hue}", cx=x, cy=y, r="4.5")
    return element("rect", class_=f"mark c{hue}", x=x - 4, y=y - 4, width="8", height="8")
