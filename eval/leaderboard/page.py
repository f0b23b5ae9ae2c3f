"""The leaderboard as a single self-contained HTML page: no network, no fonts, no other files."""

import base64
import hashlib
from importlib.resources import files
from typing import Any

from markupsafe import Markup

from ..metrics.requirements import package
from . import contents, tables
from .board import REFERENCE_BAND, Board, Section
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
        sections=[
            _section(section, f"data{place}", budget)
            for place, section in enumerate(board.sections, start=1)
        ],
    )


def _section(section: Section, name: str, budget: int) -> dict[str, Any]:
    plots = rate_quality(section)
    studies = [
        _study(section, study, f"{name}-study{place}")
        for place, study in enumerate(section.studies)
    ]
    sounds = listening(section, budget)
    headings = [(f"{name}-quality", "Reconstruction")]
    failed = failures(section)
    headings += [(f"{name}-failures", "What failed")] * bool(failed)
    headings += [(f"{name}-rate", "Rate and quality")] * bool(plots)
    headings += [(study["id"], study["heading"]) for study in studies]
    headings += [(f"{name}-listen", "Listen")] * bool(sounds.rows)
    headings += [
        (f"{name}-columns", "What the columns mean"),
        (f"{name}-systems", "The systems"),
        (f"{name}-again", "Measure it again"),
    ]
    return {
        "id": name,
        "title": contents.title(section),
        "facts": contents.facts(section),
        "contents": headings,
        "domains": contents.domains(section),
        "bands": contents.bands(section),
        "quality": [
            (domain, shown, tables.quality(section, domain))
            for domain, shown in contents.domains(section)
        ],
        "failures": failed,
        "plots": plots,
        "studies": studies,
        "listening": {
            "clips": sounds.clips,
            "left_out": sounds.left_out,
            "rows": [
                ({"name": entry.name, "rate": contents.rate(entry)}, row)
                for entry, row in sounds.rows
            ],
        },
        "legend": contents.legend(section),
        "systems": contents.systems(section),
        "digest": section.data.digest,
        "seeds": contents.seeds(section),
        "commands": contents.commands(section),
        "environments": contents.environments(section),
    }


def _study(section: Section, name: str, identifier: str) -> dict[str, Any]:
    of = section.studies[name]
    first = next(iter(of.values()))
    return {
        "id": identifier,
        "heading": first.heading,
        "description": first.description,
        "paper": first.paper,
        "table": tables.study(section, name),
        "curves": multiples(section, name, identifier),
        "notes": tables.notes(section, name),
        "reasons": tables.reasons(section, name),
    }
