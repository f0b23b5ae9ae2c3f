"""A system's `Result`: means, intervals and failures, from the lines of its results."""

from collections.abc import Mapping, Sequence
from typing import Any

from ...errors import ConfigError, SyllabaryError
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
from .plan import Plan, version_of


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
    known = merged(lines)
    metrics = [m for m in plan.metrics if _progress(m, plan, known)[1] == 0]
    items = _items(plan, metrics, known)
    commands = dict.fromkeys(line["command"] for line in lines if "command" in line)
    return Result(
        schema=SCHEMA,
        system=system,
        data=DataEntry(seconds=seconds_of(items), **plan.data.to_json()),
        command="; ".join(commands) or plan.command,
        seed=plan.seed,
        bitrate=bitrate(items),
        environment=environment,
        metrics=tuple(_metric(metric, plan, items) for metric in metrics),
        studies=_studies(plan, lines),
        items=items,
        clips=tuple(clips),
    )


def unfinished(plan: Plan, lines: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Return, by name of a metric that only some items have, how many are left."""
    known = merged(lines)
    counts = {metric.name: _progress(metric, plan, known) for metric in plan.metrics}
    return {name: left for name, (done, left) in counts.items() if done and left}


def _items(
    plan: Plan, metrics: Sequence[Metric], known: Mapping[str, Mapping[str, Any]]
) -> tuple[ItemEntry, ...]:
    names = [metric.name for metric in metrics]
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


def _progress(
    metric: Metric, plan: Plan, known: Mapping[str, Mapping[str, Any]]
) -> tuple[int, int]:
    """Return for how many items a metric was computed, and how many are left.

    None are left if no item could be reconstructed. A metric that was requested only for other
    systems in the folder, or for no item, counts as if all were left.
    """
    items = [(item, known.get(printable(item.name))) for item in plan.data.items]
    whole = [(item, held) for item, held in items if held is not None and "error" not in held]
    if not whole:
        return 0, 0
    asked = [held for item, held in whole if str(item.name) in plan.asked[metric.name]]
    done = sum(metric.name in {*held["scores"], *held["failures"]} for held in asked)
    return done, (len(asked) - done) if asked else 1


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
        variant=plan.variant(metric),
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
    found = (_study(last[name]) for name in plan.studies if name in last)
    return tuple(entry for entry in found if entry is not None)


def _study(line: Mapping[str, Any]) -> StudyEntry | None:
    """Describe a study as it was when it was made; None if nobody knows any more."""
    about, findings, error = line, Findings(), line.get("error")
    if "heading" not in line:  # of an earlier release, or it failed before it began
        try:
            study = studies.find(line["study"])
        except SyllabaryError:
            return None
        if "form" in line and not study.is_done_by(line["form"]):
            return None
        about = study.about
    try:
        findings = from_json(Findings, line.get("findings", {}), "findings")
    except ConfigError as problem:  # written by hand, or by another version
        error = str(problem)
    return StudyEntry(
        name=about["name"],
        heading=about["heading"],
        description=about["description"],
        paper=about["paper"],
        values=tuple(findings.values),
        curves=tuple(findings.curves),
        missing=findings.missing,
        notes=tuple(findings.notes),
        error=error,
        unsuitable=line.get("unsuitable"),
    )
