"""Elements of SVG, with everything escaped, and the axis of values that plots and curves share."""

from collections.abc import Iterable

from markupsafe import Markup, escape

from .axes import Scale, linear_ticks
from .tables import number


def element(name: str, *inside: str, **attributes: str | float) -> Markup:
    """Return an element.

    Args:
        name: of the element.
        inside: elements and texts; texts are escaped.
        attributes: numbers get one decimal. ``class_`` is ``class``, ``text_anchor`` is
            ``text-anchor``.
    """
    shown = Markup("").join(
        Markup(' {}="{}"').format(
            key.rstrip("_").replace("_", "-"), f"{v:.1f}" if isinstance(v, float) else v
        )
        for key, v in attributes.items()
    )
    if not inside:
        return Markup("<{}{}/>").format(name, shown)
    return Markup("<{0}{1}>{2}</{0}>").format(name, shown, Markup("").join(map(escape, inside)))


def drawing(width: float, height: float, label: str, *inside: Markup) -> Markup:
    """Return a whole drawing.

    Args:
        width, height: of its coordinates; it is as large as its place on the page.
        label: what it shows, for those who don't see it.
        inside: its elements.
    """
    return element(
        "svg", *inside, viewBox=f"0 0 {width:.0f} {height:.0f}", role="img", aria_label=label
    )


def points(path: Iterable[tuple[float, float]]) -> str:
    """Return points as a polyline takes them."""
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in path)


def value_axis(up: Scale, left: float, right: float, gap: float, most: int = 6) -> Markup:
    """Draw horizontal lines at round values, and the values left of them.

    Args:
        up: scale of the values.
        left, right: ends of the lines, px.
        gap: between a value and its line, px.
        most: so many values at most.
    """
    ticks = linear_ticks(up.low, up.high, most)
    step = ticks[1] - ticks[0] if len(ticks) > 1 else 1.0
    digits = next((n for n in range(7) if abs(round(step, n) - step) < step * 1e-6), 7)
    parts = []
    for tick in ticks:
        y = up(tick)
        parts.append(element("line", class_="grid", x1=left, x2=right, y1=y, y2=y))
        parts.append(tick_text(number(tick, digits), left - gap, y + 4, "end"))
    return Markup("").join(parts)


def tick_text(text: str, x: float, y: float, anchor: str) -> Markup:
    """Write a value at an axis; the text ends or is centred at x."""
    return element("text", text, class_="tick", text_anchor=anchor, x=x, y=y)
