"""The page and its twin: the same figures, the same bytes, and nothing of a result runs."""

import json
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest
import soundfile

from syllabary.eval.leaderboard.board import BANDS, REFERENCE_BAND, collect, find
from syllabary.eval.leaderboard.build import write_site
from syllabary.eval.leaderboard.failures import failures
from syllabary.eval.leaderboard.listening import draw, listening
from syllabary.eval.leaderboard.tables import (
    Cell,
    Column,
    _with_best,
    interval,
    number,
    quality,
    reasons,
    study,
)
from syllabary.eval.results.files import ResultError

from .imagined import SYSTEMS, result, write_results

NAMES = ["rvq-16k:2", "rvq-16k:4", "ts3-16k:2", "codec2-700", "opus-6", "original", "noise"]
FEW = [system for system in SYSTEMS if system[0] in NAMES]
HOSTILE = "<script>alert(1)</script>\"'&|`*<img src=x onerror=alert(2)>"


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return write_results(tmp_path_factory.mktemp("results"), FEW, seconds=1.0)


@pytest.fixture(scope="module")
def board(results):
    return collect([results])


@pytest.fixture(scope="module")
def site(board, tmp_path_factory):
    page, twin = write_site(board, tmp_path_factory.mktemp("site"))
    return page.read_text(), twin.read_text()


class Elements(HTMLParser):
    """Every tag with its attributes, and the text of cells."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "img", "br", "use", "line", "circle", "rect", "polyline"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_sections_bands_and_order(board):
    (section,) = board.sections
    names = [entry.name for entry in section.entries]
    assert names == [
        "codec2-700",
        "ts3-16k:2",
        "rvq-16k:2",
        "rvq-16k:4",
        "opus-6",
        "noise",
        "original",
    ]
    bands = [entry.band for entry in section.entries]
    assert bands == [1, 1, 1, 2, 4, REFERENCE_BAND, REFERENCE_BAND]
    assert BANDS[1] == "0.6–1.2 kbit/s" and len(BANDS) == REFERENCE_BAND + 1
    families = [entry.family for entry in section.entries]
    assert families == ["codec2", "ts3-16k", "rvq-16k", "rvq-16k", "opus", "noise", "original"]


def test_tables_have_the_figures_of_the_files(results, board):
    (section,) = board.sections
    files = {path.parent.name: json.loads(path.read_text()) for path in find([results])}
    for domain in ("all", "digits"):
        table = quality(section, domain)
        for row in table.rows:
            fields = files[row.entry.name.replace(":", "_")]
            for cell, column, metric in zip(
                row.cells[1:], table.columns[1:], fields["metrics"], strict=True
            ):
                figure = metric["domains"][domain]
                assert column.heading == metric["heading"] and cell.value == figure["value"]
                usual = cell.value is not None and not cell.count
                assert (column.failed if usual else cell.failed) == figure["failed"]
                assert cell.interval == interval(figure["low"], figure["high"], metric["digits"])


def test_the_best_of_a_band_is_marked_and_references_never_are(board):
    (section,) = board.sections
    table = quality(section)
    pesq = next(i for i, column in enumerate(table.columns) if column.heading == "PESQ-wb")
    cells = {row.entry.name: row.cells[pesq] for row in table.rows}
    within = ("codec2-700", "ts3-16k:2", "rvq-16k:2")
    best = max(within, key=lambda name: cells[name].value)
    alike = [name for name in within if cells[name].high >= cells[best].low]
    assert len(alike) < len(within)
    assert [name for name in within if cells[name].best] == alike
    assert not cells["opus-6"].best, "alone in its band"
    assert cells["opus-6"].best_of_all and not cells["original"].best_of_all
    dwer = next(i for i, column in enumerate(table.columns) if column.heading == "dWER")
    found = {row.entry.name: row.cells[dwer] for row in table.rows}
    lowest = min(within, key=lambda name: found[name].value)
    assert found[lowest].best == (found[lowest].value <= 0.5)


@pytest.mark.parametrize(
    ("figures", "marked"),
    [
        ([(2.0, 1.9, 2.1), (3.0, 2.9, 3.1)], [1]),
        ([(2.95, 2.85, 3.05), (3.0, 2.9, 3.1), (2.0, 1.9, 2.1)], [0, 1]),  # a tie
        ([(2.95, 2.85, 3.05), (3.0, 2.9, 3.1)], []),  # all are alike
        ([(2.95, None, None), (3.0, None, None)], [1]),  # nothing says that they are
        ([(1.1, 1.0, 1.2), (1.4, 1.3, 1.5)], []),  # both are bad
        ([(1.45, 1.35, 1.65), (1.6, 1.5, 1.7), (1.1, 1.0, 1.2)], [1]),  # one of the tie is
    ],
)
def test_ties_go_by_intervals_and_nothing_bad_is_best(figures, marked):
    column = Column("PESQ-wb", "", True, 2, limit=1.5)
    cells = [Cell(f"{v:.2f}", v, low=low, high=high) for v, low, high in figures]
    found = _with_best(column, cells, [1] * len(cells))
    assert [place for place, cell in enumerate(found) if cell.best] == marked


def test_counts_and_failures_stand_beside_the_mean(board, site):
    (section,) = board.sections
    table = quality(section)
    pesq = next(i for i, column in enumerate(table.columns) if column.heading == "PESQ-wb")
    assert (table.columns[pesq].count, table.columns[pesq].failed) == ("21 of 24", 3)
    assert table.columns[pesq].beside == "21 of 24, 3 failed"
    broken = next(row for row in table.rows if row.entry.name == "codec2-700").cells
    assert broken[pesq].count == "20 of 24" and broken[pesq].failed == 4
    assert broken[2].count == "23 of 24" and broken[2].failed == 1
    whole = failures(section)
    assert whole[0].what == "" and whole[0].items == 1 and "c2enc ended" in whole[0].reason
    assert whole[1].what == "PESQ-wb" and whole[1].items == 3 and whole[1].systems == 7
    assert whole[1].alike == 3, "reasons that differ in a number only are one line"
    for text in site:
        assert "4 failed" in text and "c2enc ended with 1" in text and "and 2 like it" in text
        assert all(item in text for item in whole[1].groups[0][1])


def test_studies_say_what_is_missing(board, site):
    (section,) = board.sections
    table = study(section, "promises")
    assert "original" not in [row.entry.name for row in table.rows]
    codec = next(row for row in table.rows if row.entry.name == "opus-6")
    kept = dict(zip([column.heading for column in table.columns], codec.cells, strict=True))
    assert kept["Streaming"].value is None and "whole files" in kept["Streaming"].why
    why = reasons(section, "promises")
    assert ("", "a reference has no tokens", ["noise", "original"]) in why
    assert any(
        what == "Streaming" and systems == ["codec2-700", "opus-6"] for what, _, systems in why
    )
    assert all("a program that takes whole files" in text for text in site)


def test_a_promise_that_is_nearly_kept_is_not_rounded_up(tmp_path):
    write_results(tmp_path, FEW[:1], clips=0)
    path = next(tmp_path.rglob("result.json"))
    fields = json.loads(path.read_text())
    values = fields["studies"][0]["values"]
    values[0]["value"], values[1]["value"], values[2]["value"] = 99.9999, 100.0, 98.0
    path.write_text(json.dumps(fields))
    (row,) = study(collect([tmp_path]).sections[0], "promises").rows
    shown = [(cell.text, cell.level) for cell in row.cells[:3]]
    assert shown == [("> 99.99", "nearly"), ("100.00", "kept"), ("98.00", "broken")]


def test_both_files_have_the_same_figures(board, site):
    (section,) = board.sections
    page, twin = site
    for table in [quality(section), quality(section, "learners"), study(section, "damage")]:
        for row in table.rows:
            for cell in row.cells:
                assert f">{cell.text}<" in page and cell.text in twin
                assert cell.interval in page and cell.interval in twin


def test_the_page_is_well_formed_and_asks_for_nothing(site):
    elements = Elements(site[0])
    assert not elements.open
    for tag, attributes in elements.tags:
        for name in ("src", "href"):
            if name in attributes:
                assert re.match(r"data:|#", attributes[name]), (tag, attributes)
        assert not any(name.startswith("on") for name in attributes)
    assert "@import" not in site[0] and "url(" not in site[0]
    identifiers = [attributes["id"] for _, attributes in elements.tags if "id" in attributes]
    assert len(identifiers) == len(set(identifiers))
    links = {a["href"][1:] for _, a in elements.tags if a.get("href", "").startswith("#")}
    assert links <= set(identifiers)
    policy = next(a["content"] for tag, a in elements.tags if tag == "meta" and "http-equiv" in a)
    assert policy.startswith("default-src 'none'")
    headings = [a for tag, a in elements.tags if tag == "th" and "aria-sort" in a]
    assert headings and all(a["scope"] == "col" for a in headings)


def test_the_same_results_give_the_same_bytes(results, site, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(results, copy)
    again = write_site(collect(sorted(copy.iterdir(), reverse=True)), tmp_path / "site")
    assert [path.read_text() for path in again] == list(site)


def hostile(fields):
    """Every free text of a result, hostile."""
    if isinstance(fields, dict):
        return {
            key: value if key in ("kind", "schema", "digest", "domain", "domains", "scores",
                                  "failures", "missing", "tokenizer", "needs", "axis")
            else hostile(value)
            for key, value in fields.items()
        }  # fmt: skip
    if isinstance(fields, list):
        return [hostile(value) for value in fields]
    return HOSTILE if isinstance(fields, str) else fields


def test_nothing_of_a_result_runs(tmp_path):
    fields = result(*SYSTEMS[0], metrics=[])
    fields = hostile(fields)
    for place, item in enumerate(fields["items"]):
        item |= {"name": f"{HOSTILE}{place}", "scores": {}, "failures": {}}
    for place, one in enumerate(fields["studies"]):
        one["name"] = f"{HOSTILE}{place}"
        for number_, value in enumerate(one["values"]):
            value["name"] = f"{HOSTILE}{number_}"
        for number_, curve in enumerate(one["curves"]):
            curve |= {"name": f"{HOSTILE}{number_}", "axis": HOSTILE}
        one["missing"] = {"x" + HOSTILE: HOSTILE}
        one["notes"] = [HOSTILE]
    fields["items"][0] |= {"error": HOSTILE}
    rest = fields["items"][1:]
    fields["data"]["seconds"] = sum(item["seconds"] for item in rest)
    fields["bitrate"] = sum(item["bits"] for item in rest) / fields["data"]["seconds"]
    domain = f"{HOSTILE} domain"
    first = fields["items"][0]["domain"]
    for item in fields["items"]:
        if item["domain"] == first:
            item["domain"] = domain
    fields["data"]["domains"][domain] = fields["data"]["domains"].pop(first)
    fields["metrics"] = [
        {"name": "m", "heading": HOSTILE, "description": HOSTILE, "unit": HOSTILE, "digits": 2,
         "higher_is_better": True, "bounds": [None, None], "needs": [HOSTILE], "paper": HOSTILE,
         "package": HOSTILE, "version": HOSTILE, "asked": 2,
         "domains": {"all": {"value": 1.0, "low": None, "high": None, "count": 1, "failed": 1}}}
    ]  # fmt: skip
    fields["items"][1]["scores"] = {"m": 1.0}
    other = json.loads(json.dumps(fields))
    other["system"]["name"] += "2"
    for place, one in enumerate((fields, other)):
        (tmp_path / str(place)).mkdir()
        (tmp_path / str(place) / "result.json").write_text(json.dumps(one))
    page, twin = write_site(collect([tmp_path]), tmp_path / "site", title=HOSTILE)
    text = page.read_text()
    elements = Elements(text)
    assert not elements.open
    assert [tag for tag, _ in elements.tags].count("script") == 1
    assert not any("onerror" in attributes for _, attributes in elements.tags)
    assert "img" not in [tag for tag, _ in elements.tags]
    assert text.count("&lt;script&gt;") > 30
    for line in twin.read_text().splitlines():
        assert "<" not in line or line.startswith("    "), line
    # A bar in a name does not make another column.
    table = [line for line in twin.read_text().splitlines() if line.startswith("| ")]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table[:4]}) == 1


def test_results_that_do_not_belong_together(tmp_path):
    write_results(tmp_path / "a", FEW[:2], clips=0)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    with pytest.raises(ResultError, match="also in"):
        collect([tmp_path])
    shutil.rmtree(tmp_path / "b")
    write_results(tmp_path / "b", FEW[2:4], clips=0, seed=1)
    board = collect([tmp_path, tmp_path / "a"])
    assert [len(section.entries) for section in board.sections] == [2, 2]
    page, _ = write_site(board, tmp_path / "site")
    assert "do not compare" in page.read_text() and page.read_text().count('class="data"') == 2
    # The same digest over other items: somebody's mistake.
    path = next((tmp_path / "b").rglob("result.json"))
    fields = json.loads(path.read_text())
    fields["data"]["digest"] = board.sections[0].data.digest
    path.write_text(json.dumps(fields))
    with pytest.raises(ResultError, match="other items than"):
        collect([tmp_path])
    with pytest.raises(ResultError, match=r"no result\.json"):
        collect([tmp_path / "site"])


def test_folders_measured_by_different_metrics_are_joined(tmp_path):
    """As one evaluation by all of the metrics."""
    write_results(tmp_path / "whole", FEW[:3], clips=0)
    for folder, kept in (("a", {"stoi", "dwer"}), ("b", {"pesq-wb", "mel"})):
        for path in (tmp_path / "whole").rglob("result.json"):
            fields = json.loads(path.read_text())
            fields["metrics"] = [m for m in fields["metrics"] if m["name"] in kept]
            fields["studies"] = [s for s in fields["studies"] if folder == "a"]
            for item in fields["items"]:
                for what in ("scores", "failures", "capped"):
                    held = item.get(what, {})
                    item[what] = {name: value for name, value in held.items() if name in kept}
            copy = tmp_path / folder / path.parent.name / path.name
            copy.parent.mkdir(parents=True)
            copy.write_text(json.dumps(fields))
    board = collect([tmp_path / "a", tmp_path / "b"])
    whole = collect([tmp_path / "whole"])
    tables = [quality(b.sections[0]) for b in (board, whole)]
    rows = [{column.heading: [row.cells[place].text for row in table.rows]
             for place, column in enumerate(table.columns)} for table in tables]  # fmt: skip
    assert set(rows[0]) == {"kbit/s", "STOI", "dWER", "PESQ-wb", "Mel"}
    assert rows[0].items() <= rows[1].items()
    # Figures that contradict each other are refused.
    path = next((tmp_path / "b").rglob("result.json"))
    fields = json.loads(path.read_text())
    fields["items"][0]["bits"] = 1 + (fields["items"][0]["bits"] or 0)
    seconds = sum(item["seconds"] for item in fields["items"])
    fields["bitrate"] = sum(item["bits"] for item in fields["items"]) / seconds
    path.write_text(json.dumps(fields))
    with pytest.raises(ResultError, match="other bits or seconds"):
        collect([tmp_path / "a", tmp_path / "b"])


def test_metrics_of_different_methods_never_share_a_column(tmp_path):
    write_results(tmp_path, FEW[:2], clips=0)
    path = sorted(tmp_path.rglob("result.json"))[0]
    fields = json.loads(path.read_text())
    words = next(metric for metric in fields["metrics"] if metric["name"] == "dwer")
    words |= {"package": "whisper", "version": "3", "description": "By another recogniser."}
    path.write_text(json.dumps(fields))
    table = quality(collect([tmp_path]).sections[0])
    headings = [column.heading for column in table.columns]
    assert "dWER (syllabary)" in headings and "dWER (whisper)" in headings
    for heading in ("dWER (syllabary)", "dWER (whisper)"):
        column = headings.index(heading)
        assert sum(row.cells[column].value is not None for row in table.rows) == 1


def test_nothing_is_written_if_a_clip_is_missing_or_foreign(results, tmp_path):
    copy = tmp_path / "results"
    shutil.copytree(results / "opus-6", copy / "opus-6")
    board = collect([copy])
    clip = copy / "opus-6" / "clips" / "01.flac"
    for content, message in ((None, "No such file"), (b"no sound", "not audio")):
        clip.unlink(missing_ok=True)
        if content:
            clip.write_bytes(content)
        with pytest.raises(ResultError, match=message):
            write_site(board, tmp_path / "site")
    soundfile.write(clip, np.zeros(31 * 8000), 8000)
    with pytest.raises(ResultError, match="31 s, but clips have at most 30 s"):
        write_site(board, tmp_path / "site")
    clip.unlink()
    soundfile.write(tmp_path / "secret.flac", np.zeros(800), 8000)
    clip.symlink_to(tmp_path / "secret.flac")
    with pytest.raises(ResultError, match="not below"):
        write_site(board, tmp_path / "site")
    assert not (tmp_path / "site").exists()


def test_clips_keep_to_their_budget(board, site):
    (section,) = board.sections
    assert site[0].count("<audio") == 3 * len(FEW)
    whole = sum(map(len, re.findall(r'"(data:[^"]+)"', site[0])))
    some = listening(section, whole * 2 // 3 + 1000)
    assert len(some.clips) in (1, 2) and some.left_out == 3 - len(some.clips)
    assert sum(len(sounds) for _, sounds in some.rows) == len(some.clips) * len(FEW)
    none = listening(section, 0)
    assert not none.rows and none.left_out == 3


def test_other_formats_become_flac(tmp_path):
    write_results(tmp_path, FEW[:1], clips=1)
    path = next(tmp_path.rglob("result.json"))
    fields = json.loads(path.read_text())
    fields["clips"][0]["audio"] = "x.wav"
    soundfile.write(path.parent / "x.wav", np.zeros((4000, 2)), 8000)
    path.write_text(json.dumps(fields))
    page, _ = write_site(collect([tmp_path]), tmp_path / "site")
    assert "data:audio/flac;base64,ZkxhQ" in page.read_text()


@pytest.mark.parametrize("samples", [1, 100, 5000, 200_000])
def test_pictures_of_any_length(samples):
    picture = draw(np.sin(np.arange(samples)))
    assert picture.startswith(b"\x89PNG") and len(picture) < 25_000


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (1.2345, 2, "1.23"),
        (-0.001, 2, "0.00"),
        (-3, 1, "−3.0"),
        (12345.6, 0, "12\u202f346"),
        (2e12, 1, "2.000e+12"),
    ],
)
def test_numbers(value, digits, text):
    assert number(value, digits) == text
