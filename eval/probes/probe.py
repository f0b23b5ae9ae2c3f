"""`probe`: train and score the heads of a task on some inputs, over three seeds."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ...typed_fields import from_json, to_json
from ..metrics.interface import MetricError
from .characters import Alphabet, edits, frames_needed
from .inputs import Front, Inputs, failures
from .sampling import Example, Parts
from .scoring import Score, rate, verification
from .task import ProbeTask
from .training import DIM, Budget, Margin, Probe, answers, learn, make_head, seeded

#: Version, to be increased when the same task and inputs would give other scores: cached results
#: are then not used.
PROTOCOL = 1
SEEDS = 3
BUDGETS = {
    "classification": Budget(),
    "verification": Budget(),
    "ctc": Budget(crop=0),
}


@dataclass(frozen=True)
class Result:
    """The result of a task.

    Attributes:
        heads: the score of each, in percent.
        best: the head with the best mean over seeds, on the test part itself (as DASB reports).
        train, test: utterances used.
        classes: labels, or characters of the alphabet.
        majority: percentage of the most frequent label in the test part; None for texts.
        notes: for the reader.
    """

    heads: dict[str, Score]
    best: str
    train: int
    test: int
    classes: int
    majority: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def mean(self) -> float:
        """Mean over the heads, in percent."""
        return sum(score.value for score in self.heads.values()) / len(self.heads)

    def to_json(self) -> dict[str, Any]:
        return to_json(self)

    @staticmethod
    def from_json(fields: dict[str, Any]) -> "Result":
        return from_json(Result, fields)


def head_names(task: ProbeTask) -> tuple[str, str]:
    """The two heads of a task."""
    if task.kind == "ctc":
        return "CTC linear", "CTC BiLSTM"
    return "linear", "BiLSTM" if task.heads == "sequence" else "ECAPA-like"


def probe(
    task: ProbeTask, parts: Parts, inputs: Inputs, seed: int = 0, budget: Budget | None = None
) -> Result:
    """Train both heads with each seed, and score them on the test part.

    Args:
        task: to be learned.
        parts: train and test utterances.
        inputs: their codes or features.
        seed: the first of the seeds.
        budget: of training; default: by the task's kind.

    Raises:
        MetricError: too few utterances have inputs.
    """
    train = [example for example in parts.train if example.name in inputs.rows]
    test = [example for example in parts.test if example.name in inputs.rows]
    if len(train) < len(parts.train) / 2 or len(test) < len(parts.test) / 2:
        everyone = [example.name for example in parts.train + parts.test]
        raise MetricError(f"task {task.name}: {failures(inputs, everyone)}")
    notes = [
        f"{part}: {sentence}"
        for part, examples in (("train", parts.train), ("test", parts.test))
        if (sentence := failures(inputs, [example.name for example in examples]))
    ]
    scoring = {"classification": _classify, "verification": _verify, "ctc": _recognise}[task.kind]
    budget = budget or BUDGETS[task.kind]
    work = _Work(task, parts, inputs, train, test, budget, seed)
    heads = {}
    for name in head_names(task):
        heads[name] = scoring(work, name)
    sign = 1 if task.higher_is_better else -1
    best = max(heads, key=lambda name: sign * heads[name].value)
    labels = {example.label for example in train}
    classes, majority = len(labels), None
    if task.kind == "ctc":
        classes = len(Alphabet(labels)) - 1
    elif task.kind == "classification":
        most = Counter(example.label for example in test).most_common(1)[0][1]
        majority = 100 * most / len(test)
    return Result(heads, best, len(train), len(test), classes, majority, tuple(notes))


@dataclass(frozen=True, eq=False)
class _Work:
    task: ProbeTask
    parts: Parts
    inputs: Inputs
    train: Sequence[Example]
    test: Sequence[Example]
    budget: Budget
    seed: int

    def start(self, head: str, outputs: int) -> tuple[Probe, list[Tensor], list[Tensor]]:
        """Return a new probe, and the prepared rows of both parts; used within `seeded`."""
        front = self._front()
        made = make_head(head, outputs, self.inputs.frame_rate)
        return Probe(front, made, self.budget.dropout), *self._rows

    @cached_property
    def _rows(self) -> tuple[list[Tensor], list[Tensor]]:
        """Prepare the rows of both parts once, since every new front would prepare the same."""
        with torch.random.fork_rng(devices=[]):
            front = self._front()
        train, test = (
            [front.prepare(self.inputs.rows[example.name]) for example in part]
            for part in (self.train, self.test)
        )
        return train, test

    def _front(self) -> Front:
        return self.inputs.front([example.name for example in self.train], DIM)

    @property
    def seeds(self) -> range:
        return range(self.seed, self.seed + SEEDS)


def _classify(work: _Work, head: str) -> Score:
    labels = sorted({example.label for example in work.train})
    number = {label: at for at, label in enumerate(labels)}
    targets = torch.tensor([number[example.label] for example in work.train])
    wanted = np.array([number.get(example.label, -1) for example in work.test])
    correct = []
    for seed in work.seeds:
        with seeded(seed):
            network, rows, test = work.start(head, len(labels))
            learn(
                network,
                rows,
                lambda logits, chosen: F.cross_entropy(logits, targets[chosen]),
                work.budget,
                work.inputs.frame_rate,
            )
            best = torch.stack(answers(network, test)).argmax(1).numpy()
        correct.append(best == wanted)
    return rate(np.array(correct, float), np.ones(len(wanted)), work.seed)


def _verify(work: _Work, head: str) -> Score:
    labels = sorted({example.label for example in work.train})
    number = {label: at for at, label in enumerate(labels)}
    targets = torch.tensor([number[example.label] for example in work.train])
    pairs, same = _pairs(work)
    similarity = []
    for seed in work.seeds:
        with seeded(seed):
            network, rows, test = work.start(head, DIM)
            margin = Margin(DIM, len(labels))
            learn(
                network,
                rows,
                partial(_margin_loss, margin, targets),
                work.budget,
                work.inputs.frame_rate,
                (margin,),
            )
            embeddings = F.normalize(torch.stack(answers(network, test))).double().numpy()
        similarity.append((embeddings[pairs[:, 0]] * embeddings[pairs[:, 1]]).sum(1))
    return verification(np.array(similarity), pairs, same, work.seed)


def _margin_loss(margin: Margin, targets: Tensor, embeddings: Tensor, chosen: list[int]) -> Tensor:
    return margin(embeddings, targets[chosen])


def _pairs(work: _Work) -> tuple[np.ndarray, np.ndarray]:
    """Return (pairs, 2) indices of the test utterances of each trial, and whether both have one
    label.
    """
    if work.parts.trials is None:
        first, second = np.triu_indices(len(work.test), 1)
        labels = np.array([example.label for example in work.test])
        return np.stack([first, second], 1), labels[first] == labels[second]
    place = {example.name: at for at, example in enumerate(work.test)}
    usable = [trial for trial in work.parts.trials if trial[0] in place and trial[1] in place]
    if not usable:
        raise MetricError(f"task {work.task.name}: no trial of which both utterances were usable")
    pairs = [(place[first], place[second]) for first, second, _ in usable]
    return np.array(pairs), np.array([same for *_, same in usable])


def _recognise(work: _Work, head: str) -> Score:
    alphabet = Alphabet(example.label for example in work.train)
    numbers = [alphabet.numbers(example.label) for example in work.train]
    needed = [frames_needed(row) for row in numbers]

    def loss_of(answer: tuple[Tensor, Tensor], chosen: list[int]) -> Tensor:
        outputs, lengths = answer
        # An utterance with more characters than frames can't be written by CTC, and is not used.
        fits = [at for at, row in enumerate(chosen) if needed[row] <= int(lengths[at])]
        if not fits:
            return 0 * outputs.sum()
        texts = [torch.tensor(numbers[chosen[at]]) for at in fits]
        return F.ctc_loss(
            outputs[fits].log_softmax(2).transpose(0, 1),
            torch.cat(texts),
            lengths[fits],
            torch.tensor([len(text) for text in texts]),
        )

    errors = []
    for seed in work.seeds:
        with seeded(seed):
            network, rows, test = work.start(head, len(alphabet))
            learn(network, rows, loss_of, work.budget, work.inputs.frame_rate)
            best = [answer.argmax(1).tolist() for answer in answers(network, test)]
        texts = [alphabet.decode(row) for row in best]
        errors.append(
            [edits(example.label, text) for example, text in zip(work.test, texts, strict=True)]
        )
    lengths = np.array([len(example.label) for example in work.test], float)
    return rate(np.array(errors, float), lengths, work.seed)
