"""Robustness of codes to changes of the recording, or of the speaker, with the same words.

These are our own definitions (`eval.unit_measures.robustness`, `eval.unit_measures.invariance`),
after Gat et al., arXiv 2209.15483; they are not STAB's scores (Vashishth et al., arXiv 2409.02384),
which measure similar properties on other data.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np

from ...audio.manifests import Utterance
from ...errors import SyllabaryError
from ..bootstrap import interval
from ..unit_measures.invariance import parallel_sentences, speaker_invariance
from ..unit_measures.perturbations import PERTURBATIONS
from ..unit_measures.robustness import CodeChange, code_robustness
from .clips import encode, even_clips, frame_codes, needs_tokens
from .interface import Bench, Curve, Findings, Study, Value

#: Number of clips, and their minimal and maximal seconds.
CLIPS, LEAST_S, MOST_S = 12, 2.0, 4.0
#: The perturbation without changes in time, for which codes are compared frame by frame.
ALIGNED = "noise 10 dB"
#: Minimal number of words of a parallel sentence: single words have too few units.
LEAST_WORDS = 3
#: Maximal number of parallel sentences, and of speakers of each.
MOST_SENTENCES, MOST_SPEAKERS = 20, 3

_NAMES = {
    "tempo ×0.9": "slow",
    "tempo ×1.1": "fast",
    "pitch −2 st": "low",
    "pitch +2 st": "high",
    "room 0.5 s": "room",
    "noise 10 dB": "noise",
}


def run(bench: Bench) -> Findings:
    """Compare the codes of clips with those of perturbed clips.

    Raises:
        MetricError: no tokens, or no clip is long enough.
    """
    clips = even_clips(bench, CLIPS, LEAST_S, MOST_S)

    def codes(wave: np.ndarray) -> np.ndarray:
        return frame_codes(encode(bench, wave))

    changes = code_robustness(
        codes, (clip.wave for clip in clips), bench.system.sample_rate, PERTURBATIONS
    )
    findings = Findings(
        notes=[
            f"{len(clips)} clips, the first {LEAST_S:g} to {MOST_S:g} s of utterances spread "
            "evenly over the list. UED: edits between the first codebook's codes of the original "
            "and of the changed recording, both without repetitions, over the length of the "
            "original's; it may exceed 100 %. Our own definition, not a STAB score."
        ]
    )
    _distances(findings, changes, bench.seed)
    _kept(findings, changes[ALIGNED], len(clips))
    try:
        _speakers(findings, bench)
    except SyllabaryError as error:
        findings.missing["speakers"] = str(error)
    return findings


def _distances(findings: Findings, changes: dict[str, CodeChange], seed: int) -> None:
    # The mean over perturbations has no meaning of its own: for sorting only.
    rates = [change.first.rate for change in changes.values()]
    count = len(next(iter(changes.values())).per_recording)
    add = findings.values.append
    add(Value("ued", "UED, mean", 100 * float(np.mean(rates)), False, "%", 1, count=count))
    for name, change in changes.items():
        edits, lengths = change.per_recording.T
        low, high = interval(100 * edits, lengths, seed) or (None, None)
        add(
            Value(
                f"ued-{_NAMES.get(name, name)}",
                f"UED, {name}",
                100 * change.first.rate,
                False,
                "%",
                1,
                low,
                high,
                count,
            )
        )


def _kept(findings: Findings, change: CodeChange, count: int) -> None:
    kept = 100 * change.kept
    findings.values.append(
        Value(
            "kept-noise",
            f"same codes, {ALIGNED}",
            float(kept.mean()),
            True,
            "%",
            1,
            count=count,
        )
    )
    if len(kept) > 1:
        numbers = tuple(float(number) for number in range(1, len(kept) + 1))
        findings.curves.append(
            Curve(
                "kept-noise",
                f"same codes by codebook, {ALIGNED}",
                "codebook",
                numbers,
                tuple(kept.tolist()),
                "%",
            )
        )


def _speakers(findings: Findings, bench: Bench) -> None:
    # Nothing is trained here, so sentences of any split may be used if the items have none.
    groups = parallel_sentences(bench.items, LEAST_WORDS)
    elsewhere = len(groups) < 2
    sentences = _chosen(parallel_sentences(bench.everything, LEAST_WORDS) if elsewhere else groups)
    units = {item.name: frame_codes(bench.tokens(item))[0] for group in sentences for item in group}
    found = speaker_invariance(sentences, units)
    add = partial(Value, higher_is_better=False, count=found.same.num_pairs)
    findings.values.append(
        add("speakers", "speakers, normalised", 100 * found.normalised, unit="%", digits=1)
    )
    findings.values.append(
        add("ued-speakers", "UED, other speaker", 100 * found.same.rate, unit="%", digits=1)
    )
    findings.notes.append(
        f"Speakers: {found.num_sentences} sentences of at least {LEAST_WORDS} words that several "
        f"speakers said{', from all splits' * elsewhere}, {found.same.num_pairs} ordered pairs. "
        "UED of the same sentence, and normalised by that of other sentences of about the same "
        "length by other speakers: 0 % knows nothing of the speaker, 100 % nothing of the words."
    )


def _chosen(sentences: Sequence[list[Utterance]]) -> list[list[Utterance]]:
    """An evenly spaced choice, so that a large corpus takes no longer than a small one."""
    count = min(len(sentences), MOST_SENTENCES)
    kept = [sentences[len(sentences) * number // count] for number in range(count)]
    return [group[:MOST_SPEAKERS] for group in kept]


STUDY = Study(
    name="robustness",
    heading="Robustness",
    run=run,
    description=(
        "Unit edit distance under changes of tempo, pitch, room and noise, codes that noise leaves "
        "as they are, and how alike a sentence's codes are when another speaker says it."
    ),
    unsuitable=needs_tokens,
    paper="https://arxiv.org/abs/2209.15483",
)
