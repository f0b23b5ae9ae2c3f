"""Texts around the tables: facts, legend, systems, and commands for reproduction."""

from collections.abc import Iterable, Sequence

from ..results.schema import EVERYWHERE, Environment, MetricEntry
from .board import BANDS, REFERENCE_BAND, Entry, Section
from .tables import ACCEPTABLE

METRIC_HEADINGS = ("Metric", "What it is", "Range", "Better", "Needs", "Paper", "Computed by")
SYSTEM_HEADINGS = (
    "System", "Setting", "Sample rate", "Delay taken off", "Licence", "Source", "Versions",
    "Digest",
)  # fmt: skip


def title(section: Section) -> str:
    """Name of the data set and its split."""
    split = f", {section.data.split}" if section.data.split else ""
    return f"{section.data.name}{split}"


def facts(section: Section) -> list[tuple[str, str]]:
    """Facts about the measured data, in figures."""
    data = section.data
    references = sum(entry.is_reference for entry in section.entries)
    return [
        ("Systems", f"{len(section.entries) - references} and {references} references"),
        ("Items", f"{data.items}"),
        ("Speech", f"{data.seconds / 60:.1f} min"),
        ("Domains", ", ".join(f"{name} ({data.domains[name]})" for name in section.domains)),
    ]


def domains(section: Section) -> list[tuple[str, str]]:
    """All domains together, and each, with their displayed names."""
    one = [(name, f"{name} ({section.data.domains[name]})") for name in section.domains]
    return [(EVERYWHERE, "All domains"), *(one if len(one) > 1 else [])]


def bands(section: Section) -> list[tuple[int, str]]:
    """The bitrate bands that contain a system."""
    found = {entry.band for entry in section.entries} - {REFERENCE_BAND}
    return [(place, BANDS[place]) for place in sorted(found)]


def acceptable() -> str:
    """The values beyond which a metric is bad in absolute terms."""
    groups: dict[float, list[str]] = {}
    for name, limit in ACCEPTABLE.items():
        groups.setdefault(limit, []).append(name)
    return "; ".join(f"{', '.join(names)}: {limit:g}" for limit, names in groups.items())


def legend(section: Section) -> list[tuple[str, ...]]:
    """One row per metric, with columns `METRIC_HEADINGS`."""
    lines: list[tuple[str, ...]] = []
    for column in section.metrics:
        metric = column.metric
        asked = sorted({found.asked for found in column.of.values()})
        part = "" if asked == [section.data.items] else f" Asked of {_numbers(asked)} items."
        versions = " and ".join(column.versions)
        lines.append(
            (
                column.heading,
                metric.description + part,
                _range(metric),
                {True: "higher ↑", False: "lower ↓", None: "neither"}[metric.higher_is_better],
                ", ".join(metric.needs) or "nothing",
                metric.paper or "–",
                metric.variant or f"{metric.package or 'syllabary'} {versions}".strip(),
            )
        )
    return lines


def systems(section: Section) -> list[tuple[str, ...]]:
    """One row per system, with columns `SYSTEM_HEADINGS`."""
    return [
        (
            entry.name,
            system.setting,
            f"{system.sample_rate} Hz",
            f"{system.delay} samples",
            system.license or "–",
            system.source or "–",
            _versions(system.versions.items()) or "–",
            f"{system.digest[:12]}…",
        )
        for entry in section.entries
        for system in (entry.result.system,)
    ]


def commands(section: Section) -> list[str]:
    """Commands of the results, each once."""
    return list(dict.fromkeys(entry.result.command for entry in section.entries))


def seeds(section: Section) -> str:
    """Seeds of all results, usually one."""
    return _numbers(sorted({entry.result.seed for entry in section.entries}))


def environments(section: Section) -> list[str]:
    """Each environment, with the systems that were measured in it if there are several."""
    found: dict[str, list[str]] = {}
    for entry in section.entries:
        found.setdefault(_environment(entry.result.environment), []).append(entry.name)
    if len(found) == 1:
        return [f"Measured with {next(iter(found))}."]
    return [f"{', '.join(names)}: {text}." for text, names in found.items()]


def rate(entry: Entry) -> str:
    """The bitrate as text."""
    if entry.is_reference or entry.result.bitrate is None:
        return "reference"
    return f"{entry.result.bitrate / 1000:.2f} kbit/s"


def _range(metric: MetricEntry) -> str:
    low, high = (None if bound is None else f"{bound:g}" for bound in metric.bounds)
    unit = f" {metric.unit}" if metric.unit else ""
    if low is None and high is None:
        return f"any{unit}"
    if low is None or high is None:
        return f"{low} or more{unit}" if high is None else f"{high} or less{unit}"
    return f"{low} to {high}{unit}".replace("-", "\N{MINUS SIGN}")


def _environment(environment: Environment) -> str:
    packages = _versions(sorted(environment.packages.items()))
    return (
        f"syllabary {environment.syllabary}, Python {environment.python}"
        + (f", torch {environment.torch}" if environment.torch else "")
        + f", on {environment.machine}"
        + (f"; {packages}" if packages else "")
    )


def _versions(pairs: Iterable[tuple[str, str]]) -> str:
    return ", ".join(f"{name} {version}" for name, version in pairs)


def _numbers(values: Sequence[int]) -> str:
    return " or ".join(map(str, values))
