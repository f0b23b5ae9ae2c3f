"""The leaderboard as a single self-contained HTML page: no network, no fonts, no other files."""

import base64
import hashlib
from importlib.resources import files

from markupsafe import Markup

from ..metrics.requirements import package
from . import contents, tables
from .board import REFERENCE_BAND, Board
from .curves import multiples
from .failures import failures
from .listening import listening
from .plots import rate_quality


def render_page(board: Board, title: str, clip_budget: int) -> str:
    """Render the page.

    Text from result files is escaped, and the page's content security policy forbids other scripts
    than its own, and any request.

    Args:
        board: content.
        title: of the page.
        clip_budget: maximal bytes of audio and pictures.

    Raises:
        ResultError: a clip can't be read.
        MetricError: a package for plots or templates is not installed.
    """
    jinja2 = package("jinja2")
    here = files(__package__)
    texts = {
        name: (here / name).read_text("utf-8") for name in ("page.html", "page.css", "page.js")
    }
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    script = texts["page.js"]
    digest = hashlib.sha256(script.encode()).digest()
    budget = clip_budget // max(1, len(board.sections))
    return environment.from_string(texts["page.html"]).render(
        title=title,
        style=Markup(texts["page.css"]),
        script=Markup(script),
        script_hash=f"sha256-{base64.b64encode(digest).decode()}",
        reference_band=REFERENCE_BAND,
        sections={f"data{place}": section for place, section in enumerate(board.sections, 1)},
        contents=contents,
        tables=tables,
        failures_of=failures,
        curves_of=multiples,
        plots_of=rate_quality,
        listening_to=lambda section: listening(section, budget),
    )
