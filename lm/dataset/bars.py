"""Bar charts as SVG: the same bytes everywhere, and no package to draw them."""

from collections.abc import Sequence
from html import escape

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 640, 260, 56, 44, 34
_BAR, _INK, _GRID = "#4477aa", "#333333", "#dddddd"


def bar_chart(title: str, labels: Sequence[str], values: Sequence[float], unit: str) -> str:
    """An SVG picture of bars.

    Args:
        title: above.
        labels: below each bar.
        values: heights, 0 or more.
        unit: of the heights.
    """
    top = max([*values, 1e-12])
    high = _HEIGHT - _TOP - _BOTTOM
    step = (_WIDTH - _LEFT - 12) / max(1, len(values))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}" '
        f'viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" font-size="11" '
        f'fill="{_INK}">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        f'<text x="{_LEFT}" y="20" font-size="14">{escape(title)}</text>',
    ]
    for share in (0.0, 0.5, 1.0):
        y = _TOP + high * (1 - share)
        parts.append(
            f'<line x1="{_LEFT}" x2="{_WIDTH - 12}" y1="{y:.1f}" y2="{y:.1f}" stroke="{_GRID}"/>'
            f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{top * share:.4g}</text>'
        )
    for number, (label, value) in enumerate(zip(labels, values, strict=True)):
        x, tall = _LEFT + number * step, high * value / top
        parts.append(
            f'<rect x="{x + step * 0.08:.1f}" y="{_TOP + high - tall:.1f}" '
            f'width="{step * 0.84:.1f}" height="{tall:.1f}" fill="{_BAR}">'
            f"<title>{escape(label)}: {value:g} {escape(unit)}</title></rect>"
            f'<text x="{x + step / 2:.1f}" y="{_HEIGHT - 26}" text-anchor="middle">'
            f"{escape(label)}</text>"
        )
    parts.append(
        f'<text x="{_WIDTH - 12}" y="{_HEIGHT - 8}" text-anchor="end">{escape(unit)}</text></svg>'
    )
    return "\n".join(parts) + "\n"
