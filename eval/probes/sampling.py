"""Training and test utterances of a task, chosen by hashes of their names, in any order."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...audio.manifests import Utterance
from ..metrics.interface import MetricError
from ..requirements import NotApplicableError
from .characters import normalise
from .task import ProbeTask, field_of, label_of


@dataclass(frozen=True)
class Example:
    """An utterance and its label.

    Attributes:
        utterance: used up to the task's `max_seconds`.
        label: its class, its speaker, or its normalised text.
    """

    utterance: Utterance
    label: str

    @property
    def name(self) -> str:
        return str(self.utterance.name)


@dataclass(frozen=True)
class Parts:
    """The utterances of a task.

    Attributes:
        train, test: in an order by hashes of names.
        trials: names of two test utterances, and whether both have one label; None: all pairs.
        untaught: number of test utterances removed because their label is not in the train part.
    """

    train: tuple[Example, ...]
    test: tuple[Example, ...]
    trials: tuple[tuple[str, str, bool], ...] | None = None
    untaught: int = 0


def choose(task: ProbeTask, utterances: Sequence[Utterance]) -> Parts:
    """Choose the utterances of a task.

    Raises:
        MetricError: too few are left, with the reason.
    """
    examples = []
    for item in _matching(task.where, utterances):
        label = label_of(item, task.label)
        if label is not None and task.kind == "ctc":
            label = normalise(label) if _whole(task, item) else None
        if label:
            examples.append(Example(item, label))
    examples.sort(key=lambda example: _hash(example.name))
    names = {example.name for example in examples}
    if len(names) < len(examples):
        raise MetricError(f"task {task.name}: two utterances have one name")
    train, test = _split(task, examples)
    for name, count in task.keep.items():
        values = sorted({_shown(example, name) for example in train}, key=_hash)[:count]
        train = [example for example in train if _shown(example, name) in values]
    train = _turns(task, train)[: task.max_train]
    trials, before = None, len(test)
    if task.kind == "classification":
        known = {example.label for example in train}
        test = [example for example in test if example.label in known]
    untaught = before - len(test)
    if task.trials is not None:
        trials = read_trials(task.trials, {example.name for example in test})
        paired = {name for first, second, _ in trials for name in (first, second)}
        test = [example for example in test if example.name in paired]
    else:
        test = _turns(task, test)[: task.max_test]
    _check(task, train, test)
    return Parts(tuple(train), tuple(test), trials, untaught)


def read_trials(path: str, known: set[str]) -> tuple[tuple[str, str, bool], ...]:
    """Read a list of verification trials: lines ``1 NAME NAME`` (same) and ``0 NAME NAME``.

    Raises:
        MetricError: it can't be read, or names an unknown utterance.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise MetricError(f"trials: {path}: {error}") from None
    trials = []
    for number, line in enumerate(lines, 1):
        fields = line.split()
        if not fields:
            continue
        if len(fields) != 3 or fields[0] not in ("0", "1"):
            raise MetricError(
                f"{path}, line {number}: expected `1 NAME NAME` or `0 NAME NAME`, got {line!r}"
            )
        for name in fields[1:]:
            if name not in known:
                raise MetricError(f"{path}, line {number}: no test utterance {name!r}")
        trials.append((fields[1], fields[2], fields[0] == "1"))
    return tuple(trials)


def _matching(wanted: Mapping[str, Any], utterances: Iterable[Utterance]) -> list[Utterance]:
    return [item for item in utterances if matches(item, wanted)]


def matches(item: Utterance, wanted: Mapping[str, Any]) -> bool:
    """Whether each field has the wanted value, or one of the wanted values."""
    for name, values in wanted.items():
        allowed = values if isinstance(values, list | tuple) else [values]
        if field_of(item, name) not in allowed:
            return False
    return True


def _whole(task: ProbeTask, item: Utterance) -> bool:
    # An unknown duration is checked when the utterance is read.
    return item.duration_s is None or item.duration_s <= task.max_seconds


def _split(task: ProbeTask, examples: list[Example]) -> tuple[list[Example], list[Example]]:
    train = [example for example in examples if matches(example.utterance, task.train)]
    test = [example for example in examples if matches(example.utterance, task.test)]
    if task.split_by is None:
        common = {example.name for example in train} & {example.name for example in test}
        if common:
            raise MetricError(
                f"task {task.name}: {len(common)} utterances are of both train and test"
            )
        return train, test
    by, share = task.split_by.hash, task.split_by.test_share
    held_out = set()
    if by == "utterance":
        of_label: dict[str, list[Example]] = defaultdict(list)
        for example in examples:
            # Every text is a label of its own.
            of_label["" if task.kind == "ctc" else example.label].append(example)
        for group in of_label.values():
            held_out |= {example.name for example in group[: round(share * len(group))]}
    else:
        values = sorted({_shown(example, by) for example in examples}, key=_hash)
        chosen = set(values[: round(share * len(values))])
        held_out = {example.name for example in examples if _shown(example, by) in chosen}
    train = [example for example in train if example.name not in held_out]
    return train, [example for example in test if example.name in held_out]


def _turns(task: ProbeTask, examples: Sequence[Example]) -> list[Example]:
    """Order examples by turns of labels, so that the first n are balanced; texts keep their
    order.
    """
    if task.kind == "ctc":
        return list(examples)
    seen: dict[str, int] = defaultdict(int)
    placed = []
    for place, example in enumerate(examples):
        placed.append((seen[example.label], place, example))
        seen[example.label] += 1
    return [example for _, _, example in sorted(placed, key=lambda entry: entry[:2])]


def _shown(example: Example, name: str) -> str:
    return str(field_of(example.utterance, name))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def _check(task: ProbeTask, train: Sequence[Example], test: Sequence[Example]) -> None:
    for part, there, least in (("train", train, 10), ("test", test, 4)):
        if len(there) < least:
            raise NotApplicableError(
                f"task {task.name}: {len(there)} utterances to {part} on, at least {least} needed; "
                f"they are those with where={task.where}, {part}={getattr(task, part)} and a "
                f"label {task.label!r}"
            )
    labels = {example.label for example in train}
    if len(labels) < 2:
        raise NotApplicableError(
            f"task {task.name}: all of the train part has the label {labels.pop()!r}"
        )
    if task.kind == "verification":
        tested = {example.label for example in test}
        if common := labels & tested:
            raise NotApplicableError(
                f"task {task.name}: {len(common)} of the labels to verify were trained on, such as "
                f"{min(common)!r}"
            )
