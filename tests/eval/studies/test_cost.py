import dataclasses
import sys
from pathlib import PurePosixPath

import numpy as np
import pytest
import torch

from syllabary.audio.manifests import Utterance
from syllabary.eval.metrics.interface import MetricError
from syllabary.eval.studies import cost, peak_memory
from syllabary.eval.studies.interface import Bench
from syllabary.eval.systems import catalogue
from syllabary.eval.systems.interface import MissingSystemError
from syllabary.eval.systems.tokenizers import TokenizerSystem

from ... import tiny_codecs
from ...conftest import synthetic_speech

ITEMS = [
    Utterance(PurePosixPath(f"{n}.wav"), PurePosixPath(f"{n}.wav"), duration_s=0.5 + n / 4)
    for n in range(6)
]


def bench(system, folder, items=ITEMS):
    def wave(item):
        return synthetic_speech(round(item.duration_s * 16000), int(item.path.stem))

    return Bench(system, items, items, wave, None, None, folder)


@pytest.fixture
def quick(monkeypatch):
    """Clips of a second."""
    monkeypatch.setattr(cost, "CLIP", 1.0)
    monkeypatch.setattr(cost, "ROW", 0.5)
    monkeypatch.setattr(cost, "STREAM", 0.6)


TIMES = {
    "encode", "decode", "batch",
    *(f"stream-{way}-p{share}" for way in ("encode", "decode") for share in (50, 99)),
}  # fmt: skip


def test_a_tokenizer(quick, tmp_path):
    tokenizer = tiny_codecs.rvq()
    threads = torch.get_num_threads()
    found = cost.run(bench(TokenizerSystem("no-such-name", tokenizer), tmp_path))
    assert torch.get_num_threads() == threads
    values = {value.name: value for value in found.values}
    assert set(values) == {"parameters", "macs", "latency", *TIMES}
    assert values["parameters"].value == tokenizer.spec.parameters / 1e6
    assert values["macs"].value == tokenizer.spec.macs_per_second / 1e9
    assert values["latency"].value == tokenizer.spec.latency_ms
    assert all(values[name].value > 0 for name in TIMES)
    assert all(values[name].count in (cost.ROUNDS, cost.FEWER) for name in ("encode", "batch"))
    assert values["encode"].higher_is_better and values["latency"].higher_is_better is False
    assert values["stream-encode-p50"].value <= values["stream-encode-p99"].value
    assert values["stream-encode-p50"].count == 29
    # Another process knows nothing of a tokenizer that was made here.
    assert "no tokenizer 'no-such-name'" in found.missing["memory"]
    assert any("1 thread(s) of PyTorch" in note for note in found.notes)


def test_what_is_unknown_is_missing(quick, tmp_path, monkeypatch):
    def stream(**options):
        raise RuntimeError("no")

    tokenizer = tiny_codecs.fsq()
    spec = dataclasses.replace(tokenizer.describe(), macs_per_second=None, decoder_latency=None)
    monkeypatch.setattr(tokenizer, "describe", lambda: spec)
    monkeypatch.setattr(tokenizer, "stream", stream)
    monkeypatch.setattr(cost, "peak_memory", lambda name, clip: len(name) + len(clip))
    found = cost.run(bench(TokenizerSystem("x", tokenizer), tmp_path))
    assert found.missing["macs"] == "not counted for this tokenizer"
    assert found.missing["latency"] == "unbounded: it needs whole utterances"
    assert found.missing["stream-encode"] == found.missing["stream-decode"] == "RuntimeError: no"
    values = {value.name: value.value for value in found.values}
    assert not {"macs", "latency"} & set(values) and values["memory"] == 16001


def test_the_time_of_programs_counts(quick, tmp_path):
    try:
        system = catalogue.find("opus-6")
    except MissingSystemError as reason:
        pytest.skip(str(reason))
    found = cost.run(bench(system, tmp_path))
    (value,) = found.values
    assert value.name == "both" and 0.5 < value.value < 2000
    assert list(found.missing) == ["memory"]


def test_references_cost_nothing(tmp_path):
    for name in catalogue.REFERENCES:
        system = catalogue.find(name)
        assert cost.STUDY.unsuitable(system) == "a reference, not a codec"
        with pytest.raises(MetricError, match="a reference"):
            cost.run(bench(system, tmp_path))
    assert cost.STUDY.alone


def test_medians_of_turns(monkeypatch):
    order, lasting = [], {"a": [9, 1, 2, 30, 4, 5], "b": [9, 7, 7, 7, 7, 7]}
    now = 0.0

    def call(name):
        def run():
            nonlocal now
            now += lasting[name][order.count(name)] / 100
            order.append(name)

        return run

    times, rounds = cost.median_times({"a": call("a"), "b": call("b")}, lambda: now)
    assert rounds == cost.ROUNDS and order == ["a", "b"] * 6
    assert times == {"a": pytest.approx(0.04), "b": pytest.approx(0.07)}

    lasting = {"a": [900, 100, 300, 200]}
    order.clear()
    times, rounds = cost.median_times({"a": call("a")}, lambda: now)
    assert rounds == cost.FEWER and times == {"a": pytest.approx(2)} and len(order) == 4


def test_the_clip(tmp_path):
    one = bench(catalogue.find("noise"), tmp_path)
    clip = cost.clip_of(one, 1.0, start=3)
    first = one.wave(ITEMS[3])
    assert clip.shape == (16000,) and np.array_equal(clip, first[:16000])
    clip = cost.clip_of(one, 60.0, start=5)
    assert clip.shape == (960000,)
    assert np.array_equal(clip[:28000], one.wave(ITEMS[5]))
    assert np.array_equal(clip[28000:36000], one.wave(ITEMS[0]))
    assert cost._nearest(one, 1.01) == 2
    with pytest.raises(MetricError, match="no samples"):
        cost.clip_of(bench(one.system, tmp_path, []), 1.0)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
def test_peak_memory():
    large = peak_memory.peak_memory("noise", np.ones(10_000_000, np.float32))
    # 80 MB of float64 noise, and its squares.
    assert 150 < large < 500
