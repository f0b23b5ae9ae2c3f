"""A system's `result.json`: means, intervals and failures, from the lines of its results."""

from collections.abc import Mapping, Sequence
from typing import Any

from ...filesystem import printable
from ..bootstrap import interval
from ..metrics.interface import Metric
from ..studies import catalogue as studies
from .plan import Plan, variant_of, version_of

SCHEMA = "syllabary-result/1"


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
    system: Mapping[str, Any],
    lines: Sequence[Mapping[str, Any]],
    clips: Sequence[Mapping[str, Any]],
    environment: Mapping[str, Any],
) -> dict[str, Any]:
    """Build a system's result.

    Args:
        plan: see `Plan`.
        system: `System.to_json()`.
        lines: of its results.
        clips: for listening.
        environment: versions.
    """
    known = merged(lines)
    names = [metric.name for metric in plan.metrics]
    items: list[dict[str, Any]] = []
    for item in plan.data.items:
        found = known.get(printable(item.name))
        if found is None:
            continue
        line = {
            "name": printable(item.name),
            "domain": plan.data.domains[str(item.name)],
            "seconds": found.get("seconds"),
            "bits": found.get("bits"),
            "scores": {name: found["scores"][name] for name in names if name in found["scores"]},
            "failures": {name: why for name in names if (why := found["failures"].get(name))},
            "error": found.get("error"),
        }
        capped = {n: found["capped"][n] for n in names if n in found.get("capped", {})}
        if capped:
            line["capped"] = capped
        items.append(line)
    whole = [item for item in items if item["error"] is None]
    seconds = sum(item["seconds"] for item in whole)
    counted = [item for item in whole if item["bits"] is not None]
    length = sum(item["seconds"] for item in counted)
    return {
        "schema": SCHEMA,
        "system": dict(system),
        "data": plan.data.to_json() | {"seconds": seconds},
        "command": plan.command,
        "seed": plan.seed,
        "bitrate": sum(item["bits"] for item in counted) / length if length else None,
        "environment": dict(environment),
        "metrics": [_metric(m, plan, items) for m in plan.metrics if _was_asked(m, items)],
        "studies": _studies(plan, lines),
        "items": items,
        "clips": list(clips),
    }


def _was_asked(metric: Metric, items: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a metric was requested for this system, and not only for others in the folder."""
    whole = [item for item in items if item["error"] is None]
    return not whole or any(metric.name in {*i["scores"], *i["failures"]} for i in whole)


def _metric(metric: Metric, plan: Plan, items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    asked = {
        printable(item.name)
        for item in plan.data.items
        if str(item.name) in plan.asked[metric.name]
    }
    chosen = [item for item in items if item["name"] in asked]
    domains = {"all": chosen}
    for item in chosen:
        domains.setdefault(item["domain"], []).append(item)
    return {
        "name": metric.name,
        "heading": metric.heading,
        "description": metric.description,
        "unit": metric.unit,
        "digits": metric.digits,
        "higher_is_better": metric.higher_is_better,
        "bounds": list(metric.bounds),
        "needs": list(metric.needs),
        "paper": metric.paper,
        "package": metric.package,
        "version": version_of(metric.package),
        "variant": variant_of(metric),
        "asked": len(asked),
        "domains": {
            name: mean_of([item["scores"].get(metric.name) for item in found], plan.seed)
            | _capped(metric, found)
            for name, found in sorted(domains.items())
        },
    }


def _capped(metric: Metric, items: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Return the number of capped scores, if any."""
    count = sum(metric.name in item.get("capped", {}) for item in items)
    return {"capped": count} if count else {}


def mean_of(scores: Sequence[float | Sequence[float] | None], seed: int) -> dict[str, Any]:
    """Return mean, interval and counts.

    Args:
        scores: numbers, pairs of numerator and denominator, or None for a missing score, which is
            counted as failed and excluded from the mean.
        seed: of the interval's draws.
    """
    there = [score for score in scores if score is not None]
    pairs = [score if isinstance(score, Sequence) else (score, 1.0) for score in there]
    numerators = [pair[0] for pair in pairs]
    denominators = [pair[1] for pair in pairs]
    total = sum(denominators)
    ends = interval(numerators, denominators, seed) if total else None
    return {
        "value": sum(numerators) / total if total else None,
        "low": ends[0] if ends else None,
        "high": ends[1] if ends else None,
        "count": len(there),
        "failed": len(scores) - len(there),
    }


def _studies(plan: Plan, lines: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    last = {line["study"]: line for line in lines if "study" in line}
    found = []
    for name in plan.studies:
        if name not in last:
            continue
        study, line = studies.find(name), last[name]
        findings = line.get("findings", {"values": [], "curves": [], "missing": {}, "notes": []})
        found.append(
            {
                "name": study.name,
                "heading": study.heading,
                "description": study.description,
                "paper": study.paper,
                **findings,
                "error": line.get("error"),
                "unsuitable": line.get("unsuitable"),
            }
        )
    return found
