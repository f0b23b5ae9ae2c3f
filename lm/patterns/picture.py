"""Pictures of patterns, drawn from the same table that lays codes out."""

from .pattern import Pattern

_COLOURS = ("#4269d0", "#efb118", "#3ca951", "#ff725c", "#a463f2", "#6cc5b0", "#9c6b4e", "#ff8ab7")
_CELL, _LEFT, _TOP = 26, 64, 24


def draw_text(pattern: Pattern, frames: int) -> str:
    """A row a stream, a column a step: ``q.t`` is frame t of codebook q, S special, E an end."""
    cells = _cells(pattern, frames)
    texts = [[_label(cell) for cell in row] for row in cells]
    width = max((len(text) for row in texts for text in row), default=1)
    return "".join(" ".join(text.rjust(width) for text in row) + "\n" for row in texts)


def draw_svg(pattern: Pattern, frames: int) -> str:
    """The same as a picture: a colour for each codebook, the number of the frame inside."""
    cells = _cells(pattern, frames)
    steps = len(cells[0])
    width, height = _LEFT + _CELL * steps + 8, _TOP + _CELL * len(cells) + 8
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="11">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    for step in range(steps):
        x = _LEFT + _CELL * step + _CELL / 2
        parts.append(f'<text x="{x:g}" y="16" text-anchor="middle" fill="#777777">{step}</text>')
    for stream, row in enumerate(cells):
        y = _TOP + _CELL * stream
        parts.append(f'<text x="8" y="{y + 17}" fill="#777777">stream {stream}</text>')
        for step, (codebook, frame) in enumerate(row):
            x = _LEFT + _CELL * step
            colour = _COLOURS[codebook % len(_COLOURS)] if codebook >= 0 else "#e6e6e6"
            ink = "#ffffff" if codebook >= 0 else "#777777"
            inside = str(frame) if codebook >= 0 else _label((codebook, frame))
            parts.append(
                f'<rect x="{x + 1}" y="{y + 1}" width="{_CELL - 2}" height="{_CELL - 2}" rx="3" '
                f'fill="{colour}"/><text x="{x + _CELL / 2:g}" y="{y + 17}" text-anchor="middle" '
                f'fill="{ink}">{inside}</text>'
            )
    return "\n".join([*parts, "</svg>\n"])


def _cells(pattern: Pattern, frames: int) -> list[list[tuple[int, int]]]:
    """Codebook and frame of each; (-1, -1) where it is special, (-2, -1) at an end."""
    codebooks, times = pattern.layout(frames)
    for mark in pattern.marks:
        codebooks[mark.stream, mark.start + mark.after * frames] = -2
    return [
        list(zip(row, when, strict=True))
        for row, when in zip(codebooks.tolist(), times.tolist(), strict=True)
    ]


def _label(cell: tuple[int, int]) -> str:
    codebook, frame = cell
    if codebook < 0:
        return "E" if codebook == -2 else "S"
    return f"{codebook}.{frame}"
