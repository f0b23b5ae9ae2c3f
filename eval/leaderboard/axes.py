"""Elements of plots: scales, round ticks, and labels that do not overlap."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

CHARACTER = 6.0
"""Width of a character of a label, px, on the wide side for system fonts."""

LINE = 12.0
"""Height of a label, px."""


Box = tuple[float, float, float, float]
"""Left, top, right and bottom, px."""


@dataclass(frozen=True)
class Scale:
    """A mapping from values to pixels.

    Attributes:
        low, high: values at the ends.
        start, stop: pixels at the ends.
        logarithmic: whether the scale is logarithmic.
    """

    low: float
    high: float
    start: float
    stop: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        low, high = self.low, self.high
        if self.logarithmic:
            value, low, high = math.log(value), math.log(low), math.log(high)
        return self.start + (value - low) / (high - low) * (self.stop - self.start)


def linear_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Return round values from `low` to `high`, at most so many."""
    span = high - low
    if not span > 0 or not math.isfinite(span):
        return [low]
    step = 10 ** math.floor(math.log10(span / most))
    for factor in (1, 2, 5, 10, 20):
        if span / (step * factor) < most:
            step *= factor
            break
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [place * step for place in range(first, last + 1)]


def decade_ticks(low: float, high: float) -> list[float]:
    """Return 1, 2 and 5 times powers of ten."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [factor * 10.0**decade for decade in decades for factor in (1, 2, 5)]
    return [tick for tick in ticks if low <= tick * (1 + 1e-9) and tick <= high * (1 + 1e-9)]


def widened(values: Sequence[float], margin: float = 0.08) -> tuple[float, float]:
    """Return a range that contains the values with a margin, and is never empty."""
    low, high = min(values), max(values)
    room = (high - low) * margin or max(abs(high), 1.0) * margin
    return low - room, high + room


@dataclass(frozen=True)
class Label:
    """A label at a point.

    Attributes:
        x, y: of its left end and its baseline, px.
        text: of the label.
        point: index of its point.
        far: far enough from its point to need a leader line.
    """

    x: float
    y: float
    text: str
    point: int
    far: bool


def place_labels(
    points: Sequence[tuple[float, float]],
    texts: Sequence[str],
    box: Box,
    blocked: Sequence[Box] = (),
) -> list[Label]:
    """Place labels near their points, avoiding points and other labels as far as possible.

    Each label in turn takes the position of least overlap among candidates around its point, moved
    into the box if needed: greedy, and deterministic.

    Args:
        points: x and y of each, px.
        texts: of each; empty ones are skipped.
        box: left, top, right, bottom, px, that labels stay in.
        blocked: boxes to avoid.
    """
    taken = [(x - 4.5, y - 4.5, x + 4.5, y + 4.5) for x, y in points] + list(blocked)
    labels = []
    # Labels in crowded places choose first.
    order = sorted(
        (place for place, text in enumerate(texts) if text),
        key=lambda i: (-_neighbours(points, i), points[i][0], points[i][1], i),
    )
    for place in order:
        width = CHARACTER * len(texts[place])
        best: tuple[float, float, float, bool] | None = None
        for cost, x, y in _candidates(points[place], width):
            x = max(box[0], min(x, box[2] - width))
            y = max(box[1] + LINE - 2, min(y, box[3] - 2))
            rectangle = (x, y - LINE + 2, x + width, y + 2)
            total = cost + sum(overlap(rectangle, other) for other in taken)
            if best is None or total < best[0]:
                best = (total, x, y, cost >= 30)
        assert best is not None
        _, x, y, far = best
        taken.append((x, y - LINE + 2, x + width, y + 2))
        labels.append(Label(x, y, texts[place], place, far))
    return sorted(labels, key=lambda label: label.point)


def _candidates(point: tuple[float, float], width: float) -> list[tuple[float, float, float]]:
    """Cost, x and y of candidates: right of the point first, then around it, then in
    farther rings.
    """
    x, y = point
    places = [
        (0.0, x + 7, y + 4),
        (2.0, x - width / 2, y - 8),
        (3.0, x - width / 2, y + 17),
        (4.0, x - 7 - width, y + 4),
        (5.0, x + 5, y - 6),
        (5.0, x + 5, y + 14),
        (6.0, x - 5 - width, y - 6),
        (6.0, x - 5 - width, y + 14),
    ]
    for ring, radius in enumerate((20, 32, 44, 58, 72), start=1):
        for turn in range(12):
            angle = turn * math.pi / 6
            dx, dy = radius * math.cos(angle), radius * math.sin(angle)
            left = x + dx - (width if dx < -1 else width / 2 if abs(dx) <= 1 else 0)
            places.append((30.0 * ring + 1, left, y + dy + 4))
    return places


def _neighbours(points: Sequence[tuple[float, float]], place: int) -> int:
    x, y = points[place]
    return sum(abs(px - x) < 60 and abs(py - y) < 24 for px, py in points)


def overlap(one: Box, other: Box) -> float:
    """Return the overlapping area of two boxes."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return width * height if width > 0 and height > 0 else 0.0
