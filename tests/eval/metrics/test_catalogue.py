"""Names, outside metrics, and what becomes of failures."""

import dataclasses
import importlib.metadata
import subprocess
import sys

import numpy as np
import pytest

from syllabary.audio.resampling import resample
from syllabary.errors import SyllabaryError
from syllabary.eval.metrics import catalogue
from syllabary.eval.metrics.catalogue import (
    BUNDLED,
    DEFAULT,
    UnknownMetricError,
    describe,
    find,
    names,
    parse,
    register,
)
from syllabary.eval.metrics.interface import Clip, Metric, MetricError, Ratio
from syllabary.eval.metrics.scoring import mean, score, value

from ...conftest import synthetic_speech


def metric(name="outside", compute=lambda clip: 1.0, **fields):
    fields = {"description": "Made up.", "higher_is_better": True, "bounds": (0, 1)} | fields
    return Metric(name, name.upper(), compute, **fields)


@pytest.fixture
def registered(monkeypatch):
    monkeypatch.setattr(catalogue.METRICS, "_added", {})
    return register


def test_names():
    assert parse("stoi, pesq,stoi") == ("stoi", "pesq-wb")
    assert parse("all") == names() and parse("default") == DEFAULT
    assert parse("lag,default")[0] == "lag" and parse("lag,default").count("lag") == 1
    assert set(DEFAULT) < set(BUNDLED)
    assert len({one.heading for one in BUNDLED.values()}) == len(BUNDLED)
    for wrong in ("", " , "):
        with pytest.raises(UnknownMetricError, match="no metric named; there are all, default, pe"):
            parse(wrong)
    with pytest.raises(UnknownMetricError, match="no metric 'pesk', did you mean pesq"):
        parse("stoi,pesk")
    with pytest.raises(SyllabaryError, match="no metric 'xyzzy'; there are pesq-wb"):
        find("xyzzy")


@pytest.mark.parametrize("one", BUNDLED.values(), ids=BUNDLED)
def test_what_is_said_of_a_metric(one):
    low, high = one.bounds
    assert low is None or high is None or low < high
    assert one.description.endswith(".") and one.name == one.name.lower()
    assert one.package is None or importlib.metadata.version(one.package)
    assert find(one.name) is one
    row = describe([one.name])[0]
    assert row.name == one.name and "not installed" not in row.package


def test_descriptions():
    rows = {row.name: row for row in describe()}
    assert tuple(rows) == names()
    assert rows["pesq-wb"].range == "0.999 … 4.644" and rows["pesq-wb"].better == "higher"
    assert rows["mel"].range == "0 … ∞ dB" and rows["mel"].package.startswith("syllabary ")
    assert rows["lag"].better == "" and rows["wer"].needs == "text"


def test_importing_the_catalogue_loads_nothing_heavy():
    heavy = {"torch", "scipy", "librosa", "transformers", "pesq", "pystoi", "pyworld", "jiwer"}
    code = f"import syllabary.eval.metrics.scoring, sys; assert not {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_metric_of_this_process(registered):
    registered(metric())
    assert find("outside").heading == "OUTSIDE" and parse("outside") == ("outside",)
    assert names()[-1] == "outside"
    registered(metric(compute=lambda clip: 2.0))
    wave = synthetic_speech(1600)
    assert score(Clip(wave, wave, 16000), ["outside"]) == ({"outside": 2.0}, {})
    for wrong in ("stoi", "pesq", "", "a,b", "a b", "all"):
        with pytest.raises(MetricError):
            registered(metric(wrong))


def test_a_metric_of_another_package(tmp_path, monkeypatch):
    """As pip would have installed it: a module, and entry points in its dist-info."""
    source = (
        "from syllabary.eval.metrics.interface import Metric\n"
        "LOUDNESS = Metric('peak', 'peak', lambda clip: float(abs(clip.estimate).max()),\n"
        "    'Largest sample.', None, (0, None), needs=())\n"
        "WRONG = 3\n"
    )
    (tmp_path / "outside_metrics.py").write_text(source)
    info = tmp_path / "outside_metrics-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: outside-metrics\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[syllabary.metrics]\npeak = outside_metrics:LOUDNESS\nother = outside_metrics:LOUDNESS\n"
        "number = outside_metrics:WRONG\ngone = no_such_module:X\nstoi = outside_metrics:LOUDNESS\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(catalogue.METRICS, "_loaded", {})
    assert set(names()) - set(BUNDLED) >= {"peak", "other", "number", "gone"}
    assert find("stoi") is BUNDLED["stoi"] and "peak" in parse("all")
    wave = synthetic_speech(1600)
    scores, missing = score(Clip(wave, wave, 16000), ["peak", "other", "number", "gone"])
    assert scores == {"peak": pytest.approx(np.abs(wave).max())}
    assert "calls itself 'peak'" in missing["other"]
    assert "expected a Metric, got int" in missing["number"]
    assert "can't be loaded: ModuleNotFoundError" in missing["gone"]
    rows = {row.name: row.description for row in describe(["peak", "gone"])}
    assert rows["peak"] == "peak: Largest sample." and "can't be loaded" in rows["gone"]


def test_failures_are_named_and_never_scores(registered):
    def broken(clip):
        raise IndexError("list index\nout of range")

    def refuses(clip):
        raise MetricError("too short")

    registered(metric("broken", broken))
    registered(metric("refuses", refuses))
    registered(metric("nan", lambda clip: float("nan")))
    registered(metric("empty", lambda clip: Ratio(0, 0)))
    registered(metric("needs-text", needs=("text",)))
    wave = synthetic_speech(1600)
    chosen = ["broken", "refuses", "nan", "empty", "needs-text", "mel"]
    scores, missing = score(Clip(wave, wave, 16000, " "), chosen)
    assert scores == {"mel": pytest.approx(0, abs=1e-9)}
    assert missing == {
        "broken": "IndexError: list index out of range",
        "refuses": "too short",
        "nan": "nan gave nan",
        "empty": "empty gave 0.0 over 0.0",
        "needs-text": "no text to compare with",
    }
    with pytest.raises(UnknownMetricError):
        score(Clip(wave, wave, 16000), ["mel", "mle"])


def test_a_silent_reference_fails_everything_that_has_one():
    wave = synthetic_speech(16000)
    chosen = [name for name, one in BUNDLED.items() if "reference" in one.needs]
    scores, missing = score(Clip(0 * wave, wave, 16000), chosen)
    assert not scores and missing == dict.fromkeys(chosen, "the reference is silent")


def test_signals_are_resampled_once_for_each_rate(registered, monkeypatch):
    seen, calls = {}, []

    def keep(name):
        return lambda clip: seen.setdefault(name, clip) is None or 1.0

    monkeypatch.setattr(
        "syllabary.eval.metrics.scoring.resample",
        lambda *arguments: calls.append(arguments) or resample(*arguments),
    )
    registered(metric("any", keep("any")))
    registered(metric("narrow", keep("narrow"), sample_rates=(8000, 16000)))
    registered(metric("wide", keep("wide"), sample_rates=(16000,)))
    registered(metric("wide-too", keep("wide-too"), sample_rates=(16000, 8000)))
    wave = synthetic_speech(24000, sample_rate=24000)
    clip = Clip(wave, wave / 2, 24000, "text", "en")
    assert len(score(clip, ["any", "narrow", "wide", "wide-too"])[0]) == 4
    assert seen["any"] is clip and seen["wide"] is seen["wide-too"] and len(calls) == 4
    assert seen["wide"].text == "text" and seen["wide"].sample_rate == 16000
    assert np.array_equal(seen["narrow"].estimate, resample(wave / 2, 24000, 8000))
    assert seen["narrow"].sample_rate == 8000
    seen.clear()
    narrow = dataclasses.replace(clip, sample_rate=8000)
    score(narrow, ["narrow", "wide-too"])
    assert seen["narrow"] is seen["wide-too"] is narrow and len(calls) == 4


def test_means():
    assert mean([1.0, 2.0]) == 1.5 and value(Ratio(1, 4)) == 0.25 and value(3.0) == 3.0
    assert mean([Ratio(1, 2), Ratio(0, 8)]) == 0.1
    with pytest.raises(MetricError, match="no scores"):
        mean([])
