import dataclasses
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syllabary.audio.manifests import Utterance
from syllabary.eval.harness.plan import Plan, PlanError, even_sample, read_data
from syllabary.eval.metrics import catalogue as metrics

from .outside import write_speech


@given(
    seconds=st.lists(st.one_of(st.none(), st.floats(0.1, 30)), min_size=1, max_size=40),
    count=st.integers(1, 50),
)
def test_an_even_sample_is_of_the_items_in_their_order(seconds, count):
    items = [
        Utterance(Path(f"{n}.wav"), PurePosixPath(f"{n}.wav"), duration_s=length)
        for n, length in enumerate(seconds)
    ]
    found = even_sample(items, count)
    places = [items.index(item) for item in found]
    assert len(found) == min(count, len(items))
    assert places == sorted(set(places))


def test_a_sample_is_even_over_the_audio():
    lengths = [0.5] * 100 + [10.0] * 10
    items = [
        Utterance(Path(f"{n}"), PurePosixPath(f"{n}"), duration_s=length)
        for n, length in enumerate(lengths)
    ]
    long = [item for item in even_sample(items, 12) if item.duration_s == 10.0]
    assert len(long) == 8  # of 150 s, 100 are in long items
    assert len(even_sample(items, None)) == 110


def test_data(tmp_path):
    manifest = write_speech(tmp_path, {"a/1": 4000, "a/2": 5000, "b/1": 6000})
    data = read_data([str(manifest)], "test")
    assert data.name == tmp_path.name
    assert data.to_json()["domains"] == {"a": 2, "b": 1}
    assert [str(i.name) for i in read_data([str(manifest)], "test", 2).items] == [
        "a/1.wav",
        "a/2.wav",
    ]
    before = data.digest
    assert read_data([str(manifest)], "test").digest == before
    (tmp_path / "b/1.wav").write_bytes((tmp_path / "a/1.wav").read_bytes())
    assert read_data([str(manifest)], "test").digest != before
    with pytest.raises(PlanError, match=r"1\.wav"):
        read_data([str(tmp_path / "a/1.wav"), str(tmp_path / "b/1.wav")], None)


def test_metrics_that_need_text_count_items_that_have_none_nowhere(tmp_path):
    data = read_data([str(write_speech(tmp_path, {"a/1": 4000}))], "test")
    chosen = (metrics.find("wer"), metrics.find("stoi"))
    plan = Plan(data, chosen, (), 0, "")
    assert plan.asked == {"wer": frozenset(), "stoi": {"a/1.wav"}}
    assert plan.metrics_of(data.items[0]) == ["stoi"]


def test_a_sample_is_of_items_with_text_where_those_are_enough(tmp_path):
    data = read_data([str(write_speech(tmp_path, {f"a/{n}": 4000 for n in range(6)}))], "test")
    items = [
        dataclasses.replace(item, text="a" if n < 2 else None) for n, item in enumerate(data.items)
    ]
    data = dataclasses.replace(data, items=tuple(items))
    for count, expected in ((2, {"a/0.wav", "a/1.wav"}), (4, 4)):
        metric = dataclasses.replace(metrics.find("dwer"), max_items=count)
        asked = Plan(data, (metric,), (), 0, "").asked["dwer"]
        assert asked == expected if count == 2 else len(asked) == expected


def test_durations_come_from_the_files_where_nobody_says(tmp_path):
    write_speech(tmp_path, {"a/1": 4000})
    (tmp_path / "manifest.jsonl").unlink()
    (tmp_path / "a/2.wav").write_bytes(b"nonsense")
    found = {str(i.name): i.duration_s for i in read_data([str(tmp_path)], None).items}
    assert found == {"a/1.wav": 0.25, "a/2.wav": None}


def test_a_folder_holds_one_plan(tmp_path):
    manifest = str(write_speech(tmp_path / "data", {"a/1": 4000, "a/2": 4100}))
    plan = Plan(read_data([manifest], "test"), (metrics.find("stoi"),), (), 0, "")
    plan.hold(tmp_path / "results")
    plan.hold(tmp_path / "results")
    other = dataclasses.replace(plan, metrics=(metrics.find("pesq-wb"),), studies=("cost",))
    everything = other.hold(tmp_path / "results")
    assert [metric.name for metric in everything.metrics] == ["stoi", "pesq-wb"]
    assert everything.studies == ("cost",) == plan.hold(tmp_path / "results").studies
    with pytest.raises(PlanError, match="seed was 0, now 1"):
        dataclasses.replace(plan, seed=1).hold(tmp_path / "results")
    other = dataclasses.replace(plan, data=read_data([manifest], "test", 1))
    with pytest.raises(PlanError, match=r"data.*--fresh"):
        other.hold(tmp_path / "results")
    for variant in ("model A", "model B"):
        metric = dataclasses.replace(plan.metrics[0], variant=lambda variant=variant: variant)
        changed = dataclasses.replace(plan, metrics=(metric,))
        if variant == "model A":
            changed.hold(tmp_path / "results")
            continue
        with pytest.raises(PlanError, match=r"variants\.stoi was 'model A', now 'model B'"):
            changed.hold(tmp_path / "results")
    # Whoever adds something else does not say which model the others used.
    more = dataclasses.replace(plan, metrics=(metrics.find("mel"),)).hold(tmp_path / "results")
    assert more.variant(plan.metrics[0]) == "model A" and more.variant(metrics.find("mel")) == ""
    (tmp_path / "results" / "plan.json").write_text("{")
    with pytest.raises(PlanError, match="not a plan"):
        plan.hold(tmp_path / "results")
