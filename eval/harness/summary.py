"""A system's `Result`: means, intervals and failures, from the lines of its results."""

from collections.abc import Mapping, Sequence
from typing import Any

from ...errors import ConfigError
from ...filesystem import printable
from ...typed_fields import from_json
from ..bootstrap import interval
from ..metrics.interface import Metric
from ..results.figures import bitrate, mean, seconds_of
from ..results.schema import (
    EVERYWHERE,
    SCHEMA,
    ClipEntry,
    DataEntry,
    Environment,
    Figure,
    ItemEntry,
    MetricEntry,
    Result,
    Score,
    StudyEntry,
    SystemEntry,
)
from ..studies import catalogue as studies
from ..studies.interface import Findings
from .plan import Plan, variant_of, version_of


def merged(lines: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Merge the lines of each item, by its name: later lines add to earlier ones."""
    found: dict[str, dict[str, Any]] = {}
    for line in lines:
        if "item" not in line:
            continue
        held = found.setdefault(line["item"], {"scores": {}, "failures": {}})
        if "error" in line:
            found[line["item"]] = {**dict(line), "scores": {}, "failures": {}}
            continue
        held.pop("error", None)
        held |= {key: line[key] for key in ("item", "seconds", "bits") if key in line}
        for name, value in line["scores"].items():
            held["scores"][name] = value
            held["failures"].pop(name, None)
            held.get("capped", {}).pop(name, None)
        if "capped" in line:
            held["capped"] = held.get("capped", {}) | line["capped"]
        for name, reason in line["failures"].items():
            held["failures"][name] = reason
            held["scores"].pop(name, None)
    return found


def result(
    plan: Plan,
    system: SystemEntry,
    lines: Sequence[Mapping[str, Any]],
    clips: Sequence[ClipEntry],
    environment: Environment,
) -> Result:
    """Build a system's result.

    Args:
        plan: see `Plan`.
        system: its description.
        lines: of its results.
        clips: for listening.
        environment: versions.
    """
    items = _items(plan, merged(lines))
    return Result(
        schema=SCHEMA,
        system=system,
        data=DataEntry(seconds=seconds_of(items), **plan.data.to_json()),
        command=plan.command,
        seed=plan.seed,
        bitrate=bitrate(items),
        environment=environment,
        metrics=tuple(_metric(m, plan, items) for m in plan.metrics if _was_asked(m, items)),
        studies=_studies(plan, lines),
        items=items,
        clips=tuple(clips),
    )


def _items(plan: Plan, known: Mapping[str, Mapping[str, Any]]) -> tuple[ItemEntry, ...]:
    names = [metric.name for metric in plan.metrics]
    entries = []
    for item in plan.data.items:
        found = known.get(printable(item.name))
        if found is None:
            continue
        scores, failures, capped = (
            {name: found[what][name] for name in names if name in found.get(what, {})}
            for what in ("scores", "failures", "capped")
        )
        entries.append(
            ItemEntry(
                name=printable(item.name),
                domain=plan.data.domains[str(item.name)],
                seconds=found.get("seconds"),
                bits=found.get("bits"),
                scores={name: _score(score) for name, score in scores.items()},
                failures=failures,
                error=found.get("error"),
                capped=capped,
            )
        )
    return tuple(entries)


def _score(value: float | Sequence[float]) -> Score:
    return (value[0], value[1]) if isinstance(value, Sequence) else value


def _was_asked(metric: Metric, items: Sequence[ItemEntry]) -> bool:
    """Whether a metric was requested for this system, and not only for others in the folder."""
    whole = [item for item in items if item.error is None]
    return not whole or any(metric.name in {*i.scores, *i.failures} for i in whole)


def _metric(metric: Metric, plan: Plan, items: Sequence[ItemEntry]) -> MetricEntry:
    asked = {
        printable(item.name)
        for item in plan.data.items
        if str(item.name) in plan.asked[metric.name]
    }
    chosen = [item for item in items if item.name in asked]
    domains = {EVERYWHERE: chosen}
    for item in chosen:
        domains.setdefault(item.domain, []).append(item)
    return MetricEntry(
        name=metric.name,
        heading=metric.heading,
        description=metric.description,
        unit=metric.unit,
        digits=metric.digits,
        higher_is_better=metric.higher_is_better,
        bounds=metric.bounds,
        needs=metric.needs,
        paper=metric.paper,
        package=metric.package,
        version=version_of(metric.package),
        variant=variant_of(metric),
        asked=len(asked),
        domains={
            name: figure_of(
                [item.scores.get(metric.name) for item in found],
                plan.seed,
                capped=sum(metric.name in item.capped for item in found),
            )
            for name, found in sorted(domains.items())
        },
    )


def figure_of(scores: Sequence[Score | None], seed: int, capped: int = 0) -> Figure:
    """Return mean, interval and counts.

    Args:
        scores: numbers, pairs of numerator and denominator, or None for a missing score, which is
            counted as failed and excluded from the mean.
        seed: of the interval's draws.
        capped: number of scores that were capped.
    """
    there = [score for score in scores if score is not None]
    pairs = [score if isinstance(score, tuple) else (score, 1.0) for score in there]
    value = mean(there)
    ends = None
    if value is not None:
        ends = interval([pair[0] for pair in pairs], [pair[1] for pair in pairs], seed)
    low, high = ends or (None, None)
    return Figure(value, low, high, len(there), len(scores) - len(there), capped)


def _studies(plan: Plan, lines: Sequence[Mapping[str, Any]]) -> tuple[StudyEntry, ...]:
    last = {line["study"]: line for line in lines if "study" in line}
    return tuple(_study(name, last[name]) for name in plan.studies if name in last)


def _study(name: str, line: Mapping[str, Any]) -> StudyEntry:
    study, findings, error = studies.find(name), Findings(), line.get("error")
    try:
        findings = from_json(Findings, line.get("findings", {}), "findings")
    except ConfigError as problem:  # written by hand, or by another version
        error = str(problem)
    return StudyEntry(
        name=study.name,
        heading=study.heading,
        description=study.description,
        paper=study.paper,
        values=tuple(findings.values),
        curves=tuple(findings.curves),
        missing=findings.missing,
        notes=tuple(findings.notes),
        error=error,
        unsuitable=line.get("unsuitable"),
    )
