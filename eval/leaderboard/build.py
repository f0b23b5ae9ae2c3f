"""Writing the page and its Markdown version, both or neither."""

from pathlib import Path

from ...filesystem import replacing
from .board import Board
from .markdown import render_markdown
from .page import render_page

PAGE, TWIN = "index.html", "leaderboard.md"
CLIP_BUDGET = 24 * 2**20
"""Bytes of a page that clips take at most, if nothing else is said."""


def write_site(
    board: Board,
    folder: Path,
    title: str = "Syllabary leaderboard",
    clip_budget: int = CLIP_BUDGET,
) -> tuple[Path, Path]:
    """Write ``index.html`` and ``leaderboard.md``; the same results give the same bytes.

    Args:
        board: from `syllabary.eval.leaderboard.board.collect`.
        folder: created if needed.
        title: of both.
        clip_budget: maximal bytes of audio; further clips are left out.

    Raises:
        ResultError: a clip can't be read.
        MetricError: a package for plots is not installed.
        OSError: the folder can't be written.
    """
    page, twin = render_page(board, title, clip_budget), render_markdown(board, title)
    folder.mkdir(parents=True, exist_ok=True)
    targets = folder / PAGE, folder / TWIN
    with replacing(targets[0]) as one, replacing(targets[1]) as other:
        one.write_text(page, "utf-8")
        other.write_text(twin, "utf-8")
    return targets
