"""Consistency checks of a result: every mean, count and bitrate is recomputed from its items."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from .reading import Problems, ResultError, parse_result, read_result
from .schema import EVERYWHERE, Figure, ItemEntry, MetricEntry, Result, Score, StudyEntry

_DIGEST = re.compile(r"[0-9a-f]{64}")
_PRECISION = 1e-5
"""Relative, and absolute below 1: items may have been written with six digits."""


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


def bitrate(items: Iterable[ItemEntry]) -> float | None:
    """Return bits per second over the items that have bits; None if none has."""
    spent = [
        (item.bits, item.seconds)
        for item in items
        if item.bits is not None and item.seconds is not None and item.error is None
    ]
    seconds = sum(length for _, length in spent)
    return sum(bits for bits, _ in spent) / seconds if seconds else None


def mean(scores: Sequence[Score]) -> float | None:
    """Return the mean of numbers, or the quotient of totals of pairs; None if there are none."""
    pairs = [score for score in scores if isinstance(score, tuple)]
    if pairs:
        below = sum(denominator for _, denominator in pairs)
        return sum(numerator for numerator, _ in pairs) / below if below else None
    numbers = [score for score in scores if not isinstance(score, tuple)]
    return sum(numbers) / len(numbers) if numbers else None


def _checked(result: Result, source: str) -> Result:
    problems = Problems()
    if len(result.items) < result.data.items:
        # An unfinished evaluation. All other problems would follow from this.
        said = f"{len(result.items)} of data.items, {result.data.items}: the run is not finished"
        raise ResultError(source, [f"items: {said}"])
    _check_digests(result, problems)
    _check_data(result, problems)
    _check_bitrate(result, problems)
    _check_names(result, problems)
    for place, metric in enumerate(result.metrics):
        _check_metric(metric, result, f"metrics[{place}]", problems)
    for place, study in enumerate(result.studies):
        _check_study(study, f"studies[{place}]", problems)
    _check_clips(result, problems)
    if problems:
        raise ResultError(source, problems)
    return result


def _check_digests(result: Result, problems: Problems) -> None:
    for where, digest in (
        ("system.digest", result.system.digest),
        ("data.digest", result.data.digest),
    ):
        if not _DIGEST.fullmatch(digest):
            problems.add(where, "expected a SHA-256: 64 digits of 0–9 and a–f")
    for where, number, least in (
        ("system.sample_rate", result.system.sample_rate, 1),
        ("system.delay", result.system.delay, 0),
    ):
        if number < least:
            problems.add(where, f"{number}, but at least {least} is expected")
    if not result.system.name.strip():
        problems.add("system.name", "empty")


def _check_data(result: Result, problems: Problems) -> None:
    data, items = result.data, result.items
    if not items:
        problems.add("items", "empty")
    for place, item in enumerate(items):
        if item.seconds is not None and item.seconds < 0:
            problems.add(f"items[{place}].seconds", f"{item.seconds:g}")
        if item.seconds is None and item.error is None:
            problems.add(f"items[{place}].seconds", "null, but there is no error")
        if item.bits is not None and item.bits < 0:
            problems.add(f"items[{place}].bits", f"{item.bits:g}")
        if item.error is not None and item.scores:
            problems.add(f"items[{place}]", "has both an error and scores")
        for name in item.scores.keys() & item.failures.keys():
            problems.add(f"items[{place}].failures.{name}", "there is a score too")
    if data.items != len(items):
        problems.add("data.items", f"{data.items}, but there are {len(items)} items")
    seconds = sum(item.seconds or 0.0 for item in items if item.error is None)
    if not _close(data.seconds, seconds):
        problems.add("data.seconds", f"{data.seconds:g}, but the items have {seconds:g}")
    found = Counter(item.domain for item in items)
    for domain in sorted(found.keys() | data.domains.keys()):
        if domain == EVERYWHERE:
            problems.add(f"data.domains.{domain}", "the name of the whole")
        said = data.domains.get(domain, 0)
        if said != found[domain]:
            problems.add(f"data.domains.{domain}", f"{said}, but {found[domain]} items have it")


def _check_bitrate(result: Result, problems: Problems) -> None:
    found = bitrate(result.items)
    if (result.bitrate is None) != (found is None) or (
        result.bitrate is not None and found is not None and not _close(result.bitrate, found)
    ):
        said = "null" if result.bitrate is None else f"{result.bitrate:g}"
        of_items = "no bits" if found is None else f"{found:g}"
        problems.add("bitrate", f"{said}, but the items have {of_items}")


def _check_names(result: Result, problems: Problems) -> None:
    known = [metric.name for metric in result.metrics]
    for where, names in (
        ("metrics", known),
        ("studies", [study.name for study in result.studies]),
        ("items", [item.name for item in result.items]),
        ("clips", [clip.item for clip in result.clips]),
    ):
        for name, count in Counter(names).items():
            if count > 1:
                problems.add(where, f"{name!r} is there {count} times")
    for place, item in enumerate(result.items):
        said = item.scores.keys() | item.failures.keys() | item.capped.keys()
        for name in sorted(said - set(known)):
            problems.add(f"items[{place}]", f"a score of {name!r}, which is not among the metrics")


def _check_metric(metric: MetricEntry, result: Result, where: str, problems: Problems) -> None:
    if not 0 <= metric.digits <= 12:
        problems.add(f"{where}.digits", f"{metric.digits}, but 0 to 12 are expected")
    least, greatest = metric.bounds
    if least is not None and greatest is not None and least > greatest:
        problems.add(f"{where}.bounds", f"{least:g} is above {greatest:g}")
    if EVERYWHERE not in metric.domains:
        problems.add(f"{where}.domains", f"no {EVERYWHERE!r}")
    for place, item in enumerate(result.items):
        score = item.scores.get(metric.name)
        if isinstance(score, tuple) and score[1] < 0:
            problems.add(f"items[{place}].scores.{metric.name}", f"{score[1]:g} in the denominator")
        elif isinstance(score, float) and not _within(score, metric.bounds):
            problems.add(
                f"items[{place}].scores.{metric.name}", f"{score:g} is outside {_range(metric)}"
            )
    for place, item in enumerate(result.items):
        whole, score = item.capped.get(metric.name), item.scores.get(metric.name)
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
        _check_figure(figure, metric, items, here, problems)
    everywhere = metric.domains.get(EVERYWHERE)
    if everywhere and everywhere.count + everywhere.failed != metric.asked:
        problems.add(
            f"{where}.asked",
            f"{metric.asked}, but {everywhere.count} have scores and {everywhere.failed} failed",
        )


def _check_figure(
    figure: Figure, metric: MetricEntry, items: Sequence[ItemEntry], where: str, problems: Problems
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
    value = mean(scores)
    if (figure.value is None) != (value is None) or (
        figure.value is not None and value is not None and not _close(figure.value, value)
    ):
        said = "null" if figure.value is None else f"{figure.value:g}"
        of_items = "null" if value is None else f"{value:g}"
        problems.add(f"{where}.value", f"{said}, but the mean of the items is {of_items}")
    elif figure.value is not None and not _within(figure.value, metric.bounds):
        problems.add(f"{where}.value", f"{figure.value:g} is outside {_range(metric)}")
    _check_interval(figure.low, figure.high, where, problems)
    if figure.value is None and figure.low is not None:
        problems.add(f"{where}.low", "an interval of nothing")
    elif (
        figure.value is not None
        and figure.low is not None
        and figure.high is not None
        and not _within(figure.value, (figure.low, figure.high))
    ):
        problems.add(where, f"{figure.value:g} is outside its interval")


def _check_interval(low: float | None, high: float | None, where: str, problems: Problems) -> None:
    if (low is None) != (high is None):
        problems.add(where, "low and high: both or none")
    elif low is not None and high is not None and low > high:
        problems.add(f"{where}.low", f"{low:g} is above high, {high:g}")


def _check_study(study: StudyEntry, where: str, problems: Problems) -> None:
    for place, value in enumerate(study.values):
        here = f"{where}.values[{place}]"
        _check_interval(value.low, value.high, here, problems)
        if not 0 <= value.digits <= 12:
            problems.add(f"{here}.digits", f"{value.digits}, but 0 to 12 are expected")
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
    for what, names in (
        ("values", [value.name for value in study.values]),
        ("curves", [curve.name for curve in study.curves]),
    ):
        for name, count in Counter(names).items():
            if count > 1:
                problems.add(f"{where}.{what}", f"{name!r} is there {count} times")


def _check_clips(result: Result, problems: Problems) -> None:
    names = {item.name for item in result.items}
    for place, clip in enumerate(result.clips):
        if clip.item not in names:
            problems.add(f"clips[{place}].item", f"no item {clip.item!r}")
        path = PurePosixPath(clip.audio)
        if path.is_absolute() or ".." in path.parts or "\\" in clip.audio or not path.parts:
            problems.add(f"clips[{place}].audio", "expected a file below the result's folder")


def _close(one: float, other: float) -> bool:
    return abs(one - other) <= _PRECISION * max(1.0, abs(one), abs(other))


def _within(value: float, bounds: tuple[float | None, float | None]) -> bool:
    low, high = bounds
    slack = _PRECISION * max(1.0, abs(value))
    return (low is None or value >= low - slack) and (high is None or value <= high + slack)


def _range(metric: MetricEntry) -> str:
    low, high = ("…" if bound is None else f"{bound:g}" for bound in metric.bounds)
    return f"{low} to {high}"
