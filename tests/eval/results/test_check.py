"""A valid result passes; every lie in it is found and named; nothing makes the check fall over."""

import copy
import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syllabary.eval.bootstrap import interval
from syllabary.eval.results.check import load, loads
from syllabary.eval.results.figures import mean
from syllabary.eval.results.files import ResultError, parse_result

from ..leaderboard.imagined import SYSTEMS, result

# Small, for the many changes below.
SMALL = result("codec2-700", "codec", 700, 0.1, items=5)
VALID = result("codec2-700", "codec", 700, 0.1, items=24)


def problems(fields):
    with pytest.raises(ResultError) as caught:
        loads(json.dumps(fields).encode())
    return "\n".join(caught.value.problems)


def changed(path, value):
    """VALID with the field at this path set, or taken away if `value` is Ellipsis."""
    fields = copy.deepcopy(VALID)
    place = fields
    for part in path[:-1]:
        place = place[part]
    if value is ...:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return fields


def paths(value, above=()):
    """Of everything inside."""
    inside = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in inside:
        yield (*above, key)
        if isinstance(item, dict | list):
            yield from paths(item, (*above, key))


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda system: system[0])
def test_valid_results_pass(system):
    checked = loads(json.dumps(result(*system)).encode())
    assert checked.system.name == system[0]
    assert (checked.bitrate is None) == (system[1] == "reference")


PESQ = ("metrics", 0, "domains", "all")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ((*PESQ, "count"), 23, r"metrics[0].domains.all.count: 23, but the items hold 20 scores"),
        ((*PESQ, "failed"), 0, "metrics[0].domains.all.failed: 0, but 3 to 4 of the items failed"),
        ((*PESQ, "value"), 4.5, "metrics[0].domains.all.value: 4.5, but the mean of the items is"),
        ((*PESQ, "value"), None, "metrics[0].domains.all.value: null, but the mean"),
        ((*PESQ, "low"), None, "low and high: both or none"),
        ((*PESQ, "low"), 4.64, "is above high"),
        ((*PESQ, "high"), 1.05, "is above high"),
        (("metrics", 0, "asked"), 10, "metrics[0].asked: 10, but 20 have scores and 4 failed"),
        (("metrics", 0, "digits"), -1, "metrics[0].digits: -1"),
        (
            ("metrics", 0, "bounds"),
            [1],
            "metrics[0].bounds must be tuple[float | None, float | None], got [1]",
        ),
        (("metrics", 0, "bounds"), [1, 1.01], "items[1].scores.pesq-wb"),
        (("metrics", 0, "domains", "all"), ..., "metrics[0].domains: no 'all'"),
        (("metrics", 0, "domains", "mars"), VALID["metrics"][0]["domains"]["all"], "mars: no such"),
        (("metrics", 8, "domains", "all", "value"), 0.5, "metrics[8].domains.all.value: 0.5"),
        (("metrics", 1, "name"), "pesq-wb", "metrics: 'pesq-wb' is there 2 times"),
        (("bitrate",), 600.0, "bitrate: 600, but the items have 70"),
        (("bitrate",), None, "bitrate: null, but the items have"),
        (("items", 1, "bits"), -1, "items[1].bits: -1"),
        (("items", 1, "name"), VALID["items"][2]["name"], "is there 2 times"),
        (("items", 1, "seconds"), -1, "items[1].seconds: -1"),
        (("items", 1, "seconds"), None, "items[1].seconds: null, but there is no error"),
        (("studies", 0, "error"), "?", "a value of a study that was not measured"),
        (("items", 1, "domain"), "mars", "data.domains.mars: 0, but 1 items have it"),
        (("items", 1, "scores", "pesq-wb"), 9.5, "items[1].scores.pesq-wb: 9.5 is outside 1.04 to"),
        (("items", 1, "scores", "pesq-wb"), [1, 2], "some items have a number, others two"),
        (("items", 1, "scores", "magic"), 1, "items[1]: a score of 'magic', which is not among"),
        (("items", 0, "scores", "dwer"), [1, -2], "items[0].scores.dwer: -2 in the denominator"),
        (
            ("items", 1, "scores", "pesq-wb"),
            [1, 2, 3],
            "items[1].scores.pesq-wb must be tuple[float, float], got [1, 2, 3]",
        ),
        (("items", 1, "failures", "stoi"), "no", "items[1].failures.stoi: there is a score too"),
        (("items", 1, "error"), "gone", "items[1]: has both an error and scores"),
        (("items",), [], "items: 0 of data.items, 24: the run is not finished"),
        (("data", "items"), 23, "data.items: 23, but there are 24 items"),
        (("data", "items"), 25, "items: 24 of data.items, 25: the run is not finished"),
        (("data", "seconds"), 1.0, "data.seconds: 1, but the items have"),
        (("data", "digest"), "A" * 64, "data.digest: expected a SHA-256"),
        (("system", "digest"), "12", "system.digest: expected a SHA-256"),
        (
            ("system", "kind"),
            "toy",
            "system.kind must be one of tokenizer, codec, reference, got 'toy'",
        ),
        (("system", "name"), 5, "system.name must be str, got 5"),
        (("system", "name"), " ", "system.name: empty"),
        (("system", "name"), "a\ud800b", "characters that are not text"),
        (("system", "delay"), -1, "system.delay: -1"),
        (("system", "delay"), True, "system.delay must be int, got True"),
        (("system", "digest"), ..., "system: digest missing"),
        (("system", "colour"), "red", "no field 'system.colour' in SystemEntry"),
        (("schema",), "syllabary-result/9", "schema: 'syllabary-result/9', not"),
        (("clips",), [{"item": "x", "text": None, "audio": "a.flac"}], "clips[0].item: no item"),
        (
            ("clips",),
            [{"item": VALID["items"][0]["name"], "text": None, "audio": "../../secret.flac"}],
            "clips[0].audio: expected a file below",
        ),
        (("studies", 0, "values", 0, "count"), -1, "studies[0].values[0].count: -1"),
        (("studies", 0, "missing"), {"length": "?"}, "missing.length: there is a value too"),
        (("studies", 1, "curves", 0, "y"), [1.0], "curves[0].y: 1 points, but x has 5"),
        (("studies", 1, "curves", 0, "x"), [5, 4, 3, 2, 1], "not in ascending order"),
        (("studies", 1, "curves", 1, "name"), "random", "'random' is there 2 times"),
    ],
    ids=lambda value: ".".join(map(str, value)) if isinstance(value, tuple) else None,
)
def test_what_does_not_add_up_is_named(path, value, message):
    assert message in problems(changed(path, value))


def test_every_problem_is_told_at_once():
    fields = changed(("system", "digest"), "12")
    fields["bitrate"] = 5.0
    fields["metrics"][0]["asked"] = 1
    found = problems(fields)
    assert all(name in found for name in ("system.digest", "bitrate", "metrics[0].asked"))
    many = copy.deepcopy(VALID)
    for item in many["items"]:
        item |= {"a": 1, "b": 2, "c": 3}
    assert problems(many).endswith("… and more")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"{", "not JSON"),
        (b"[]", "Result: expected fields by name, got []"),
        (b'"text"', "expected fields by name"),
        (b"{}", "schema: null, not"),
        (b"[" * 100_000, "nested too deeply"),
        (b"9" * 100_000, "a number of 100000 digits"),
        (b'{"schema": NaN}', "NaN is not a number"),
        (b'{"schema": -Infinity}', "-Infinity is not a number"),
        (b'{"seed": 1, "seed": 2}', "the field 'seed' stands there twice"),
    ],
)
def test_what_is_no_result_at_all(content, message, tmp_path):
    (tmp_path / "result.json").write_bytes(content)
    with pytest.raises(ResultError) as caught:
        load(tmp_path / "result.json")
    assert message in str(caught.value) and str(tmp_path) in str(caught.value)


def test_numbers_beyond_doubles_and_files_beyond_the_cap(tmp_path, monkeypatch):
    text = json.dumps(VALID).replace('"seed": 0', '"seed": 0, "x": 1e999')
    assert "no field 'x' in Result" in "".join(_problems_of(text))
    for huge in ("1e999", "9" * 350):
        text = json.dumps(changed(("bitrate",), "HERE")).replace('"HERE"', huge)
        assert "bitrate: too large a number" in _problems_of(text)
    deep = '{"a":' * 60 + "1" + "}" * 60
    text = json.dumps(changed(("system", "tokenizer"), "HERE")).replace('"HERE"', deep)
    assert "nested too deeply" in "".join(_problems_of(text))
    with pytest.raises(ResultError, match="No such file"):
        load(tmp_path / "none.json")
    with pytest.raises(ResultError, match="directory"):
        load(tmp_path)
    monkeypatch.setattr("syllabary.eval.results.files.LARGEST", 1000)
    with pytest.raises(ResultError, match="more than"):
        loads(json.dumps(VALID).encode())


def _problems_of(text):
    with pytest.raises(ResultError) as caught:
        loads(text.encode())
    return caught.value.problems


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(), max_size=8)
    | st.sampled_from([10**320, -1, "all", "pesq-wb", "\ud800", "../x"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)
PATHS = list(paths(SMALL))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(PATHS), VALUES | st.just(...)), min_size=1, max_size=3))
def test_no_change_makes_the_check_fall_over(changes):
    fields = copy.deepcopy(SMALL)
    for path, value in changes:
        place = fields
        try:
            for part in path[:-1]:
                place = place[part]
            if value is ...:
                del place[path[-1]]
            else:
                place[path[-1]] = value
        except (KeyError, IndexError, TypeError):
            continue
    try:
        loads(json.dumps(fields).encode())
    except ResultError as error:
        str(error).encode()  # can be printed


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32), st.binary(min_size=1, max_size=4))
def test_no_damaged_byte_makes_it_fall_over(seed, junk):
    content = bytearray(json.dumps(SMALL).encode())
    place = random.Random(seed).randrange(len(content))
    content[place : place + len(junk)] = junk
    try:
        loads(bytes(content))
    except ResultError as error:
        str(error).encode()


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 50)), min_size=1))
def test_ratios_are_pooled_and_numbers_averaged(pairs):
    pooled = mean([(float(a), float(b)) for a, b in pairs])
    assert pooled == sum(a for a, _ in pairs) / sum(b for _, b in pairs)
    numbers = [a / b for a, b in pairs]
    assert mean(numbers) == pytest.approx(sum(numbers) / len(numbers))
    assert mean([]) is None and mean([(3.0, 0.0)]) is None


def test_control_characters_become_signs():
    parsed = parse_result(json.dumps(changed(("command",), "\x1b[31mred\x00\n")).encode())
    assert parsed.command == "\N{REPLACEMENT CHARACTER}[31mred\N{REPLACEMENT CHARACTER}\n"


def test_the_fields_survive():
    parsed = parse_result(json.dumps(VALID).encode())
    assert parsed.items[1].scores["pesq-wb"] == VALID["items"][1]["scores"]["pesq-wb"]
    assert parsed.items[0].scores["dwer"] == tuple(VALID["items"][0]["scores"]["dwer"])
    assert parsed.metrics[0].bounds == (1.04, 4.64)
    assert parsed.studies[1].curves[0].y == tuple(VALID["studies"][1]["curves"][0]["y"])


def test_intervals_are_those_of_the_items():
    """But for the draws, which another release of numpy may make differently."""
    place = PESQ
    figure = copy.deepcopy(VALID)
    for name in place:
        figure = figure[name]
    low, high = figure["low"], figure["high"]
    loads(json.dumps(changed((*place, "low"), low - 0.2 * (high - low))).encode())
    for name, value in (("low", 1.05), ("high", 4.6), ("low", low - 0.3 * (high - low))):
        assert "but that of the items is" in problems(changed((*place, name), value))


def test_what_was_capped_adds_up():
    fields = copy.deepcopy(VALID)
    place = next(i for i, metric in enumerate(fields["metrics"]) if metric["name"] == "dwer")
    item = next(i for i, item in enumerate(fields["items"]) if "dwer" in item["scores"])
    figure = fields["metrics"][place]["domains"]["all"]
    before, words = fields["items"][item]["scores"]["dwer"]
    figure["value"] += (words - before) / sum(
        i["scores"]["dwer"][1] for i in fields["items"] if "dwer" in i["scores"]
    )
    fields["items"][item]["scores"]["dwer"] = [words, words]
    pairs = [i["scores"]["dwer"] for i in fields["items"] if "dwer" in i["scores"]]
    figure["low"], figure["high"] = interval(*zip(*pairs, strict=True))
    own = fields["metrics"][place]["domains"][fields["items"][item]["domain"]]
    within = [i for i in fields["items"] if i["domain"] == fields["items"][item]["domain"]]
    pairs = [i["scores"]["dwer"] for i in within if "dwer" in i["scores"]]
    own["value"] = sum(p[0] for p in pairs) / sum(p[1] for p in pairs)
    own["low"], own["high"] = interval(*zip(*pairs, strict=True))
    loads(json.dumps(fields).encode())  # all wrong, and not capped
    fields["items"][item]["capped"] = {"dwer": words + 70}
    assert f"metrics[{place}].domains.all.capped: 0, but the items hold 1" in problems(fields)
    figure["capped"] = own["capped"] = 1
    assert loads(json.dumps(fields).encode()).items[item].capped == {"dwer": words + 70}
    fields["items"][item]["capped"] = {"dwer": words}
    assert f"items[{item}].capped.dwer: {words:g} is no more than its denom" in problems(fields)
    fields["items"][item]["capped"] = {"dwer": words + 70, "magic": 3}
    assert f"items[{item}]: a score of 'magic'" in problems(fields)
    fields["items"][item]["capped"] = {"dwer": words + 70, "stoi": 3}
    assert f"items[{item}].capped.stoi: its score is no pair of equal" in problems(fields)
