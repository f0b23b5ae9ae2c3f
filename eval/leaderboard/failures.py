"""Missing scores and their reasons, grouped to avoid a line for each of thousands."""

import re
from dataclasses import dataclass

from .board import Section

_NUMBER = re.compile(r"\d+(\.\d+)?")


@dataclass(frozen=True)
class Failure:
    """Items that failed for the same reason.

    Attributes:
        what: heading of the metric; "" if the reconstruction itself failed.
        reason: of one of them; the others differ at most in numbers.
        alike: number of reasons that differ so.
        groups: names of systems, and of the items that failed with each of them.
    """

    what: str
    reason: str
    alike: int
    groups: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]

    @property
    def systems(self) -> int:
        return sum(len(systems) for systems, _ in self.groups)

    @property
    def items(self) -> int:
        """Number of different items."""
        return len({item for _, items in self.groups for item in items})


def failures(section: Section) -> list[Failure]:
    """Group failures: reconstructions first, then metric by metric."""
    # Keyed by metric and reason without its numbers; values are items by system.
    found: dict[tuple[str, str], dict[str, list[str]]] = {}
    reasons: dict[tuple[str, str], dict[str, None]] = {}

    def note(what: str, reason: str, system: str, item: str) -> None:
        key = (what, _NUMBER.sub("#", reason))
        found.setdefault(key, {}).setdefault(system, []).append(item)
        reasons.setdefault(key, {})[reason] = None

    for entry in section.entries:
        for item in entry.result.items:
            if item.error is not None:
                note("", item.error, entry.name, item.name)
    for column in section.metrics:
        for name in column.of:
            entry = next(entry for entry in section.entries if entry.name == name)
            for item in entry.result.items:
                # The reason is listed under the reconstruction already.
                if item.error is None and column.metric.name in item.failures:
                    reason = item.failures[column.metric.name]
                    note(column.heading, reason, name, item.name)
    return [
        Failure(key[0], next(iter(reasons[key])), len(reasons[key]), _groups(of))
        for key, of in found.items()
    ]


def _groups(of: dict[str, list[str]]) -> tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]:
    """Group systems that failed on the same items."""
    systems: dict[tuple[str, ...], list[str]] = {}
    for name, items in of.items():
        systems.setdefault(tuple(items), []).append(name)
    return tuple((tuple(names), items) for items, names in systems.items())
