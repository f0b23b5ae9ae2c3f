"""Idempotence: changes of codes and of speech over repeated decoding and encoding.

The consistency of codes is the share of equal codes between encode(decode(encode(x))) and
encode(x). Ten generations, with the drift of codes and of sound, are studied by O'Reilly et al.
("Code drift: towards idempotent neural audio codecs", arXiv 2410.11025); metrics and data differ
here.
"""

from collections.abc import Sequence

import numpy as np

from ..bootstrap import interval
from ..metrics.interface import MetricError
from .clips import decode, encode, even_clips, frame_codes, needs_tokens
from .interface import Bench, Curve, Findings, Study, Value
from .quality_table import QualityTable

#: Number of clips, and their minimal and maximal seconds.
CLIPS, LEAST_S, MOST_S = 8, 2.0, 3.0
GENERATIONS = 10
#: Largest shift in frames, in either direction, for the best alignment.
MOST_SHIFT = 2
METRICS = ("stoi", "mel")


def run(bench: Bench) -> Findings:
    """Encode and decode clips repeatedly.

    Raises:
        MetricError: no tokens, or no clip is long enough.
    """
    clips = even_clips(bench, CLIPS, LEAST_S, MOST_S)
    table = QualityTable(METRICS, bench.system.sample_rate)
    generations: list[list[np.ndarray]] = []
    for clip in clips:
        tokens = encode(bench, clip.wave)
        codes = [frame_codes(tokens)]
        waves = [decode(bench, tokens)]
        while len(waves) < GENERATIONS:
            tokens = encode(bench, waves[-1])
            codes.append(frame_codes(tokens))
            waves.append(decode(bench, tokens))
        generations.append(codes)
        table.add(clip, waves)
    findings = Findings(
        notes=[
            f"{len(clips)} clips, the first {LEAST_S:g} to {MOST_S:g} s of utterances spread "
            "evenly over the list. Generation 1 codes the original, each later one what the one "
            "before gave. Codes are compared at the same frame and codebook, without alignment, "
            "unless said otherwise."
        ]
    )
    _consistency(findings, generations, bench.seed)
    _drift(findings, generations)
    for metric in table.metrics:
        for number in (1, GENERATIONS):
            table.put_value(findings, metric, number - 1, str(number), f"generation {number}")
        numbers = range(1, GENERATIONS + 1)
        table.put_curve(
            findings, metric, range(GENERATIONS), "", "by generation", "generation", numbers
        )
    findings.notes += table.notes()
    return findings


def equal_codes(first: np.ndarray, second: np.ndarray, shift: int = 0) -> np.ndarray:
    """Count equal codes of each codebook, and compared frames.

    Args:
        first, second: codes (codebooks, frames).
        shift: frame t of `first` is compared with frame t + shift of `second`; frames without
            counterpart are left out.

    Returns:
        (codebooks + 1,) int64: equal codes of each codebook, then the frames.
    """
    first, second = first[:, max(0, -shift) :], second[:, max(0, shift) :]
    frames = min(first.shape[1], second.shape[1])
    equal = (first[:, :frames] == second[:, :frames]).sum(1)
    return np.append(equal, frames).astype(np.int64)


def _percent(counts: np.ndarray, codebooks: int) -> float:
    """Percentage of equal codes in the first codebooks, from `equal_codes` summed over clips."""
    return 100.0 * int(counts[:codebooks].sum()) / (codebooks * int(counts[-1]))


def _consistency(
    findings: Findings, generations: Sequence[Sequence[np.ndarray]], seed: int
) -> None:
    pairs = [(codes[0], codes[1]) for codes in generations]
    codebooks = len(pairs[0][0])
    each = np.stack([equal_codes(*pair) for pair in pairs])
    if not each[:, -1].all():
        raise MetricError("idempotence: a clip has no frames")
    for name, heading, kept in (
        ("consistency", "same codes", codebooks),
        ("consistency-first", "same codes, first codebook", 1),
    ):
        ends = interval(100 * each[:, :kept].sum(1), kept * each[:, -1], seed)
        low, high = ends or (None, None)
        share = _percent(each.sum(0), kept)
        findings.values.append(Value(name, heading, share, True, "%", 1, low, high, len(pairs)))
    shifts = sorted(range(-MOST_SHIFT, MOST_SHIFT + 1), key=abs)
    counts = {shift: sum(equal_codes(*pair, shift) for pair in pairs) for shift in shifts}
    shares = {
        shift: _percent(np.asarray(found), codebooks)
        for shift, found in counts.items()
        if np.asarray(found)[-1]
    }
    best = max(shares, key=shares.__getitem__)  # the smallest shift among ties
    heading = f"same codes, best of ±{MOST_SHIFT} frames"
    findings.values.append(
        Value("consistency-shifted", heading, shares[best], True, "%", 1, count=len(pairs))
    )
    if best:
        frames = f"{abs(best)} frame{'s' * (abs(best) > 1)}"
        findings.notes.append(
            f"Codes agree best where the second coding is read {frames} "
            f"{'later' if best > 0 else 'earlier'}: {shares[best]:.1f} %, against "
            f"{shares[0]:.1f} % at the same frame."
        )
    if codebooks > 1:
        total = each.sum(0)
        numbers = tuple(float(number) for number in range(1, codebooks + 1))
        share_of_each = tuple((100.0 * total[:-1] / total[-1]).tolist())
        findings.curves.append(
            Curve("consistency", "same codes by codebook", "codebook", numbers, share_of_each, "%")
        )


def _drift(findings: Findings, generations: Sequence[Sequence[np.ndarray]]) -> None:
    codebooks, numbers = len(generations[0][0]), range(2, GENERATIONS + 1)
    shares = []
    for number in numbers:
        counts = [equal_codes(codes[0], codes[number - 1]) for codes in generations]
        shares.append(_percent(np.sum(counts, axis=0), codebooks))
    findings.values.append(
        Value(
            f"same-{GENERATIONS}",
            f"same codes, generation {GENERATIONS}",
            shares[-1],
            True,
            "%",
            1,
            count=len(generations),
        )
    )
    findings.curves.append(
        Curve(
            "drift",
            "codes equal to generation 1",
            "generation",
            tuple(map(float, numbers)),
            tuple(shares),
            "%",
        )
    )


STUDY = Study(
    name="idempotence",
    heading="Idempotence",
    run=run,
    description=(
        "How many codes stay as they are when decoded speech is encoded again, and how codes and "
        f"sound drift over {GENERATIONS} generations of it."
    ),
    unsuitable=needs_tokens,
    paper="https://arxiv.org/abs/2410.11025",
)
