"""Results of one system on one data set from several folders, and systems of one name."""

from collections.abc import Sequence
from dataclasses import replace

from ..results.files import ResultError
from ..results.schema import ItemEntry
from .entry import Entry


def merged(entries: Sequence[Entry]) -> list[Entry]:
    """Join results of the same system, which were measured by different metrics or studies.

    Systems are the same if their digests are. Different systems of one name, such as two trainings
    or two releases, get the beginning of their digests after it.

    Args:
        entries: on the same data.

    Raises:
        ResultError: two results of a system contradict each other, or one only repeats the other.
    """
    found: dict[tuple[str, str], Entry] = {}
    for entry in entries:
        key = entry.name, entry.result.system.digest
        found[key] = _joined(found[key], entry) if key in found else entry
    names = [name for name, _ in found]
    return [
        _renamed(entry, f"{name}@{digest[:8]}") if names.count(name) > 1 else entry
        for (name, digest), entry in found.items()
    ]


def _renamed(entry: Entry, name: str) -> Entry:
    system = replace(entry.result.system, name=name)
    return replace(entry, result=replace(entry.result, system=system))


def _joined(first: Entry, second: Entry) -> Entry:
    one, two = first.result, second.result
    known = {metric.name: metric for metric in one.metrics}
    for metric in two.metrics:
        before = known.get(metric.name, metric).variant
        if before != metric.variant:
            raise _problem(
                first,
                second,
                f"its {metric.name} is by {metric.variant}, and in {{}} by {before}; on one page, "
                "a metric of a system is by one model",
            )
    new = tuple(metric for metric in two.metrics if metric.name not in known)
    studied = {study.name for study in one.studies}
    studies = tuple(study for study in two.studies if study.name not in studied)
    if not new and not studies:
        raise _problem(first, second, "also in {}, on the same data")
    twice = [m.name for m in two.metrics if m.name in known and m != known[m.name]]
    if twice:
        raise _problem(first, second, f"its {', '.join(twice)} differ from those in {{}}")
    items = {item.name: item for item in two.items}
    if items.keys() != {item.name for item in one.items}:
        raise _problem(first, second, "other items than in {}, but the same data.digest")
    joined = tuple(_item(first, second, item, items[item.name]) for item in one.items)
    result = replace(
        one,
        metrics=one.metrics + new,
        studies=one.studies + studies,
        items=joined,
        command=f"{one.command}; {two.command}",
    )
    return replace(first, result=result)


def _item(first: Entry, second: Entry, one: ItemEntry, two: ItemEntry) -> ItemEntry:
    if (one.seconds, one.bits, one.error) != (two.seconds, two.bits, two.error):
        raise _problem(first, second, f"{one.name} has other bits or seconds than in {{}}")
    return replace(
        one,
        scores={**two.scores, **one.scores},
        failures={**two.failures, **one.failures},
        capped={**two.capped, **one.capped},
    )


def _problem(first: Entry, second: Entry, what: str) -> ResultError:
    return ResultError(f"{second.folder}: {second.name}", [what.format(first.folder)])
