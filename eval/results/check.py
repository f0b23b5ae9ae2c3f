"""Consistency checks of a result: every mean, interval, count and bitrate is recomputed from its
items.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from ..bootstrap import interval
from .figures import bitrate, mean, seconds_of
from .files import Problems, ResultError, parse_result, read_result
from .schema import EVERYWHERE, Figure, ItemEntry, MetricEntry, Result, Score, StudyEntry

_DIGEST = re.compile(r"[0-9a-f]{64}")
_PRECISION = 1e-5
"""Relative, and absolute below 1: items may have been written with six digits."""
_DRAWS = 0.25
"""Share of an interval by which its ends may differ when they are drawn anew."""


def load(path: Path) -> Result:
    """Load a valid and consistent result file.

    Raises:
        ResultError: with every problem found.
    """
    return _checked(read_result(path), str(path))


def loads(content: bytes, source: str = "result") -> Result:
    """Like `load`, from a file's bytes.

    Raises:
        ResultError: with every problem found.
    """
    return _checked(parse_result(content, source), source)


def _checked(result: Result, source: str) -> Result:
    problems = Problems(source)
    if len(result.items) < result.data.items:
        # An unfinished evaluation. All other problems would follow from this.
        said = f"{len(result.items)} of data.items, {result.data.items}: the run is not finished"
        raise ResultError(source, [f"items: {said}"])
    _check_system(result, problems)
    _check_items(result, problems)
    _check_data(result, problems)
    _check_equal(result.bitrate, bitrate(result.items), "bitrate", "the items have", problems)
    _check_names(result, problems)
    for place, metric in enumerate(result.metrics):
        _check_metric(metric, result, f"metrics[{place}]", problems)
    for place, study in enumerate(result.studies):
        _check_study(study, f"studies[{place}]", problems)
    _check_clips(result, problems)
    problems.raise_any()
    return result


def _check_system(result: Result, problems: Problems) -> None:
    system = result.system
    for where, digest in (("system.digest", system.digest), ("data.digest", result.data.digest)):
        if not _DIGEST.fullmatch(digest):
            problems.add(where, "expected a SHA-256: 64 digits of 0–9 and a–f")
    for where, number, least in (
        ("system.sample_rate", system.sample_rate, 1),
        ("system.delay", system.delay, 0),
    ):
        if number < least:
            problems.add(where, f"{number}, but at least {least} is expected")
    if not system.name.strip():
        problems.add("system.name", "empty")


def _check_items(result: Result, problems: Problems) -> None:
    if not result.items:
        problems.add("items", "empty")
    for place, item in enumerate(result.items):
        where = f"items[{place}]"
        for name, number in (("seconds", item.seconds), ("bits", item.bits)):
            if number is not None and number < 0:
                problems.add(f"{where}.{name}", f"{number:g}")
        if item.seconds is None and item.error is None:
            problems.add(f"{where}.seconds", "null, but there is no error")
        if item.error is not None and item.scores:
            problems.add(where, "has both an error and scores")
        for name in item.scores.keys() & item.failures.keys():
            problems.add(f"{where}.failures.{name}", "there is a score too")


def _check_data(result: Result, problems: Problems) -> None:
    data, items = result.data, result.items
    if data.items != len(items):
        problems.add("data.items", f"{data.items}, but there are {len(items)} items")
    _check_equal(data.seconds, seconds_of(items), "data.seconds", "the items have", problems)
    found = Counter(item.domain for item in items)
    for domain in sorted(found.keys() | data.domains.keys()):
        if domain == EVERYWHERE:
            problems.add(f"data.domains.{domain}", "the name of the whole")
        said = data.domains.get(domain, 0)
        if said != found[domain]:
            problems.add(f"data.domains.{domain}", f"{said}, but {found[domain]} items have it")


def _check_names(result: Result, problems: Problems) -> None:
    known = [metric.name for metric in result.metrics]
    for where, names in (
        ("metrics", known),
        ("studies", [study.name for study in result.studies]),
        ("items", [item.name for item in result.items]),
        ("clips", [clip.item for clip in result.clips]),
    ):
        _check_unique(names, where, problems)
    for place, item in enumerate(result.items):
        said = item.scores.keys() | item.failures.keys() | item.capped.keys()
        for name in sorted(said - set(known)):
            problems.add(f"items[{place}]", f"a score of {name!r}, which is not among the metrics")


def _check_metric(metric: MetricEntry, result: Result, where: str, problems: Problems) -> None:
    _check_digits(metric.digits, where, problems)
    least, greatest = metric.bounds
    if least is not None and greatest is not None and least > greatest:
        problems.add(f"{where}.bounds", f"{least:g} is above {greatest:g}")
    if EVERYWHERE not in metric.domains:
        problems.add(f"{where}.domains", f"no {EVERYWHERE!r}")
    for place, item in enumerate(result.items):
        whole, score = item.capped.get(metric.name), item.scores.get(metric.name)
        here = f"items[{place}].scores.{metric.name}"
        if isinstance(score, tuple) and score[1] < 0:
            problems.add(here, f"{score[1]:g} in the denominator")
        elif isinstance(score, float) and not _within(score, metric.bounds):
            problems.add(here, f"{score:g} is outside {_range(metric)}")
        here = f"items[{place}].capped.{metric.name}"
        if whole is None:
            continue
        if not isinstance(score, tuple) or score[0] != score[1]:
            problems.add(here, "its score is no pair of equal numbers, as one that is capped is")
        elif whole <= score[1]:
            problems.add(here, f"{whole:g} is no more than its denominator, {score[1]:g}")
    kinds = {type(item.scores[metric.name]) for item in result.items if metric.name in item.scores}
    if len(kinds) > 1:
        problems.add(f"{where}.name", "some items have a number, others two")
        return
    for domain, figure in metric.domains.items():
        here = f"{where}.domains.{domain}"
        if domain != EVERYWHERE and domain not in result.data.domains:
            problems.add(here, "no such domain in data.domains")
            continue
        items = [item for item in result.items if domain in (EVERYWHERE, item.domain)]
        _check_figure(figure, metric, items, result.seed, here, problems)
    everywhere = metric.domains.get(EVERYWHERE)
    if everywhere and everywhere.count + everywhere.failed != metric.asked:
        problems.add(
            f"{where}.asked",
            f"{metric.asked}, but {everywhere.count} have scores and {everywhere.failed} failed",
        )


def _check_figure(
    figure: Figure,
    metric: MetricEntry,
    items: Sequence[ItemEntry],
    seed: int,
    where: str,
    problems: Problems,
) -> None:
    scores = [item.scores[metric.name] for item in items if metric.name in item.scores]
    if figure.count != len(scores):
        problems.add(f"{where}.count", f"{figure.count}, but the items hold {len(scores)} scores")
    # An item that could not be reconstructed fails every metric that was requested for it; if only
    # a subset is scored, the file doesn't say which metrics those were.
    least = sum(metric.name in item.failures for item in items)
    most = least + sum(
        item.error is not None and metric.name not in item.failures for item in items
    )
    if not least <= figure.failed <= most:
        expected = f"{least}" if least == most else f"{least} to {most}"
        problems.add(f"{where}.failed", f"{figure.failed}, but {expected} of the items failed")
    capped = sum(metric.name in item.capped for item in items)
    if figure.capped != capped:
        problems.add(f"{where}.capped", f"{figure.capped}, but the items hold {capped}")
    agrees = _check_equal(
        figure.value, mean(scores), f"{where}.value", "the mean of the items is", problems
    )
    if agrees and figure.value is not None and not _within(figure.value, metric.bounds):
        problems.add(f"{where}.value", f"{figure.value:g} is outside {_range(metric)}")
    _check_interval(figure.low, figure.high, where, problems)
    if figure.value is None and figure.low is not None:
        problems.add(f"{where}.low", "an interval of nothing")
    elif figure.value is not None and not _within(figure.value, (figure.low, figure.high)):
        problems.add(where, f"{figure.value:g} is outside its interval")
    elif agrees and not {type(score) for score in scores} - {float, tuple}:
        _check_drawn(figure, scores, seed, where, problems)


def _check_drawn(
    figure: Figure, scores: Sequence[Score], seed: int, where: str, problems: Problems
) -> None:
    """Check an interval against one that is drawn here: the same but for the random draws."""
    pairs = [score if isinstance(score, tuple) else (score, 1.0) for score in scores]
    found = interval([pair[0] for pair in pairs], [pair[1] for pair in pairs], seed)
    said = None if figure.low is None or figure.high is None else (figure.low, figure.high)
    if said is None or found is None:
        agrees = said is found
    else:
        slack = _DRAWS * (found[1] - found[0])
        slack += _PRECISION * max(1.0, *map(abs, found))
        agrees = all(abs(one - other) <= slack for one, other in zip(said, found, strict=True))
    if not agrees:
        one, other = ("none" if ends is None else f"{ends[0]:g} to {ends[1]:g}"
                      for ends in (said, found))  # fmt: skip
        problems.add(where, f"an interval of {one}, but that of the items is {other}")


def _check_interval(low: float | None, high: float | None, where: str, problems: Problems) -> None:
    if (low is None) != (high is None):
        problems.add(where, "low and high: both or none")
    elif low is not None and high is not None and low > high:
        problems.add(f"{where}.low", f"{low:g} is above high, {high:g}")


def _check_study(study: StudyEntry, where: str, problems: Problems) -> None:
    for place, value in enumerate(study.values):
        here = f"{where}.values[{place}]"
        _check_interval(value.low, value.high, here, problems)
        _check_digits(value.digits, here, problems)
        if value.count is not None and value.count < 0:
            problems.add(f"{here}.count", f"{value.count}")
        if study.why_not is not None:
            problems.add(here, "a value of a study that was not measured")
        if value.name in study.missing:
            problems.add(f"{where}.missing.{value.name}", "there is a value too")
    for place, curve in enumerate(study.curves):
        if len(curve.x) != len(curve.y):
            problems.add(
                f"{where}.curves[{place}].y", f"{len(curve.y)} points, but x has {len(curve.x)}"
            )
        if list(curve.x) != sorted(curve.x):
            problems.add(f"{where}.curves[{place}].x", "not in ascending order")
    _check_unique((value.name for value in study.values), f"{where}.values", problems)
    _check_unique((curve.name for curve in study.curves), f"{where}.curves", problems)


def _check_clips(result: Result, problems: Problems) -> None:
    names = {item.name for item in result.items}
    for place, clip in enumerate(result.clips):
        if clip.item not in names:
            problems.add(f"clips[{place}].item", f"no item {clip.item!r}")
        path = PurePosixPath(clip.audio)
        if path.is_absolute() or ".." in path.parts or "\\" in clip.audio or not path.parts:
            problems.add(f"clips[{place}].audio", "expected a file below the result's folder")


def _check_equal(
    said: float | None, found: float | None, where: str, of: str, problems: Problems
) -> bool:
    """Check a figure against that of the items, and return whether they are equal."""
    if said is None or found is None:
        equal = said is found
    else:
        equal = abs(said - found) <= _PRECISION * max(1.0, abs(said), abs(found))
    if not equal:
        one, other = ("null" if value is None else f"{value:g}" for value in (said, found))
        problems.add(where, f"{one}, but {of} {other}")
    return equal


def _check_digits(digits: int, where: str, problems: Problems) -> None:
    if not 0 <= digits <= 12:
        problems.add(f"{where}.digits", f"{digits}, but 0 to 12 are expected")


def _check_unique(names: Iterable[str], where: str, problems: Problems) -> None:
    for name, count in Counter(names).items():
        if count > 1:
            problems.add(where, f"{name!r} is there {count} times")


def _within(value: float, bounds: tuple[float | None, float | None]) -> bool:
    low, high = bounds
    slack = _PRECISION * max(1.0, abs(value))
    return (low is None or value >= low - slack) and (high is None or value <= high + slack)


def _range(metric: MetricEntry) -> str:
    low, high = ("…" if bound is None else f"{bound:g}" for bound in metric.bounds)
    return f"{low} to {high}"
