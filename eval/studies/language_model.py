"""Modelling tokens by a small language model: bits per second of speech.

A model that codes tokens in few bits captures their regularities; the remaining bits are what a
speech language model would have to predict. Bits per second are comparable across frame rates,
codebooks and alphabets, where perplexities are not. They include all information in the tokens,
also the voice and the room: fewer bits are better only at equal quality.

The model (`eval.token_lm`) is the same for every tokenizer: a causal transformer over frames, then
the codebooks of a frame in their order, each code conditioned on all codes before it, so that the
bits are an exact code length; frequencies of codes, and of pairs of them, are mixed in. The model
and its data are small. Figures compare tokenizers under one budget and are not entropies; a large
codebook has a disadvantage, since most of its codes are never seen.
"""

import hashlib
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ...audio.manifests import Utterance
from ...errors import SyllabaryError
from ..bootstrap import interval
from ..metrics.interface import MetricError
from ..requirements import NotApplicableError
from .clips import frame_codes, needs_tokens, tokenizer_of
from .interface import Bench, Curve, Findings, Study, Value

#: Seconds of speech for training, including those held out for selecting the best state.
TRAIN_S = 900.0
#: One of so many utterances is held out.
HELD_OUT = 10
#: Longer utterances are not used for training: one of them would be a large part of the data.
LONGEST_S = 30.0


@dataclass(frozen=True, eq=False)
class Speech:
    """Training and test utterances.

    Attributes:
        train: in the order in which they are used, until there is enough.
        test: predicted.
        note: where they come from.
    """

    train: list[Utterance]
    test: list[Utterance]
    note: str


def choose_speech(items: Sequence[Utterance], everything: Sequence[Utterance], seed: int) -> Speech:
    """Choose training utterances that differ from the test utterances.

    Those of split ``train``, if there are any; else all that are not items; else a third of the
    items is used for testing and the rest for training, by a digest of their names.

    Args:
        items: test utterances.
        everything: of the data.
        seed: of the order.

    Raises:
        MetricError: there is nothing to train on.
    """
    asked = {(item.path, item.offset_s) for item in items}
    others = [item for item in everything if (item.path, item.offset_s) not in asked]
    train = [item for item in others if item.split == "train"]
    if train:
        return Speech(even_order(train, seed), list(items), "the split `train`")
    if others:
        note = "utterances that are not scored (there is no split `train`)"
        return Speech(even_order(others, seed), list(items), note)
    test = [item for item in items if _digest(f"{item.name}") % 3 == 0]
    train = [item for item in items if _digest(f"{item.name}") % 3 != 0]
    if not train or not test:
        raise NotApplicableError(
            "language model: too few utterances to train on some and predict others"
        )
    note = "two thirds of the utterances, the rest being predicted (there are no others)"
    return Speech(even_order(train, seed), test, note)


def even_order(items: Sequence[Utterance], seed: int) -> list[Utterance]:
    """Order utterances by turns: one of every speaker, then a second one of each that has one, and
    so on.

    Speakers, and the utterances of each, are in a random order that does not depend on the given
    one.
    """
    speakers: dict[str, list[Utterance]] = defaultdict(list)
    for item in items:
        # Utterances of unknown speakers count as one speaker each.
        speakers[item.speaker or f"\0{item.name}"].append(item)
    ranked = []
    for speaker, found in speakers.items():
        found.sort(key=lambda item: _digest(f"{seed}\n{item.name}"))
        place = _digest(f"{seed}\n{speaker}")
        ranked += [(number, place, item) for number, item in enumerate(found)]
    return [item for *_, item in sorted(ranked, key=lambda entry: entry[:2])]


def _digest(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode(errors="replace")).digest()[:8], "big")


def run(bench: Bench) -> Findings:
    """Train the model and predict the items.

    Raises:
        MetricError: nothing to train on or to predict, or training diverged.
    """
    from ..token_lm.fitting import Budget, train

    speech = choose_speech(bench.items, bench.everything, bench.seed)
    learnt = _codes(bench, speech.train, TRAIN_S)
    predicted = _codes(bench, sorted(speech.test, key=lambda item: str(item.name)))
    rows, asked = learnt.codes, predicted.codes
    seconds = sum(predicted.seconds)
    if len(rows) < HELD_OUT or not asked or not seconds:
        kind = MetricError if learnt.failed or predicted.failed else NotApplicableError
        raise kind(
            f"language model: {len(rows)} utterances to train on and {len(asked)} to predict; "
            f"expected at least {HELD_OUT} and 1"
        )
    spec = tokenizer_of(bench).spec.tokens
    sizes = spec.codebook_sizes[: len(asked[0])]
    held_out = rows[::HELD_OUT]
    shown = [codes for number, codes in enumerate(rows) if number % HELD_OUT]
    budget = Budget()
    model = train(shown, held_out, sizes, budget, seed=bench.seed)
    bits = model.bits(asked)
    findings = Findings()
    _values(findings, bits, asked, sizes, predicted.seconds, bench.seed)
    checks = np.linspace(0, budget.steps * budget.frames_a_step, len(model.held_out))
    per_second = float(spec.frame_rate)
    findings.curves.append(
        Curve(
            "held-out",
            "held-out utterances in training",
            "frames shown",
            tuple(checks.round().tolist()),
            tuple(per_second * bits_a_frame for bits_a_frame in model.held_out),
            "bit/s",
        )
    )
    findings.notes += [
        f"Trained on {sum(learnt.seconds):.0f} s of {speech.note}, spread evenly over speakers; "
        f"{budget.steps * budget.frames_a_step} frames shown in all, "
        f"{sum(codes.shape[1] for codes in shown)} different ones. State kept: check {model.kept} "
        f"of {budget.checks}, the best on {len(held_out)} utterances held out. Predicted: "
        f"{len(asked)} utterances, {seconds:.0f} s, each from its first frame, the number of "
        "frames not coded.",
        "Bits are an exact code length, codebooks one after the other in each frame. The network "
        "is mixed with frequencies of codes, of codes after the last frame's and after the code "
        f"just before; its own mean weight is {model.weights[0].mean():.2f}. Of a large "
        "codebook most codes are never seen in so little speech: figures compare tokenizers under "
        "one budget and are no entropies.",
    ]
    if float(bits.sum()) > seconds * _even_rate(asked, sizes, seconds):
        findings.notes.append(
            "More bits than even guessing: what was trained on is too little, or too unlike what "
            "was predicted, for these tokens."
        )
    failed = learnt.failed | predicted.failed
    if failed:
        findings.notes.append(
            f"{len(failed)} utterances have no tokens and are left out: "
            + "; ".join(f"{name}: {reason}" for name, reason in list(failed.items())[:3])
        )
    return findings


@dataclass
class _Coded:
    """Codes (codebooks, frames) of utterances, the seconds of each, and why others have none."""

    codes: list[np.ndarray] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


def _codes(bench: Bench, items: Sequence[Utterance], enough_s: float = math.inf) -> _Coded:
    """Encode utterances in order, until there are so many seconds."""
    found, seconds = _Coded(), 0.0
    for item in items:
        if seconds >= enough_s:
            break
        if enough_s < math.inf and (item.duration_s or 0) > LONGEST_S:
            continue
        try:
            tokens = bench.tokens(item)
        except SyllabaryError as error:
            found.failed[str(item.name)] = str(error)
            continue
        codes = frame_codes(tokens)
        if codes.shape[1]:
            seconds += tokens.duration()
            found.codes.append(codes)
            found.seconds.append(tokens.duration())
    return found


def _values(
    findings: Findings,
    bits: np.ndarray,
    codes: Sequence[np.ndarray],
    sizes: Sequence[int],
    lengths: Sequence[float],
    seed: int,
) -> None:
    seconds, frames = sum(lengths), sum(row.shape[1] for row in codes)
    total = float(bits.sum())
    a_token = total / (frames * len(sizes))
    # Uniform distribution: the exact logarithm, not that of whole bits.
    even = seconds * _even_rate(codes, sizes, seconds)
    low, high = interval(bits, lengths, seed) or (None, None)
    count = len(bits)
    findings.values += [
        Value("bits", "bits a second", total / seconds, False, "bit/s", 0, low, high, count),
        Value("share", "share of even guessing", 100 * total / even, False, "%", 1, count=count),
        Value("bits-token", "bits a token", a_token, None, "bit", 3, count=count),
        Value("perplexity", "perplexity of a token", 2.0**a_token, None, "", 1, count=count),
        Value("even", "even guessing", even / seconds, None, "bit/s", 0, count=count),
    ]


def _even_rate(codes: Sequence[np.ndarray], sizes: Sequence[int], seconds: float) -> float:
    """Bits per second of codes that are all equally likely."""
    return sum(row.shape[1] for row in codes) * sum(map(math.log2, sizes)) / seconds


STUDY = Study(
    name="language-model",
    heading="Language model",
    run=run,
    description=(
        "Bits in which a small causal transformer, mixed with bigrams and trained on tokens of a "
        "quarter of an hour of other speech, codes the tokens of these utterances."
    ),
    unsuitable=needs_tokens,
)
