"""The table of published models, and the page that shows it."""

import re
import subprocess
import sys

import pytest

import syllabary
from syllabary.codecs.pretrained.architectures import LYRA, PACKAGED, TRANSFORMERS, published
from syllabary.errors import UnknownTokenizerError

from ...conftest import ROOT


def rows() -> dict[str, list[str]]:
    """The cells of the page's table, by id."""
    page = (ROOT / "docs" / "published-models.md").read_text(encoding="utf-8")
    found = {}
    for line in page.splitlines():
        if match := re.match(r"\| `([\w./-]+/[\w.-]+)` \|", line):
            found[match[1]] = [cell.strip() for cell in line.split("|")[2:-1]]
    return found


def test_the_page_has_the_tables_models_and_figures():
    found = rows()
    assert list(found) == [model.id for _, model in published()]
    for architecture, model in published():
        name, khz, frames, codebooks, kbps, license_, extra = found[model.id]
        tokens = model.tokens
        assert name == architecture.name and license_ == model.license
        assert float(khz.split()[0]) * 1000 == model.sample_rate
        if model.native_rate:
            assert khz.endswith(f"(decodes to {model.native_rate / 1000:g})")
        assert frames == f"{float(tokens.frame_rate):.4g}"
        if model.channels is None:
            runs = " + ".join(f"{count} × {size}" for size, count in model.codebooks)
            assert codebooks == runs and kbps == f"{tokens.bitrate() / 1000:.4g}"
        else:
            assert codebooks == f"{model.channels} channels" and kbps == "–"
        needs = "ssl" if architecture.library == "transformers" else "published"
        assert extra == f"`{needs}`"


def test_ids_are_known_once():
    ids = [model.id for _, model in published()]
    assert len(set(ids)) == len(ids) >= 18
    architectures = [*TRANSFORMERS.values(), *PACKAGED.values(), LYRA]
    assert len({architecture.name for architecture in architectures}) == len(architectures) >= 13


@pytest.mark.parametrize("name", ["google/lyra", "fnlp/SpeechTokenizer"])
def test_models_that_are_folders_say_where_those_come_from(name):
    with pytest.raises(UnknownTokenizerError, match=r"download it from .*, and load that folder"):
        syllabary.load(name)


def test_the_table_loads_no_torch():
    code = (
        "import sys, syllabary.codecs.pretrained.architectures as a\n"
        "assert list(a.published()) and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
