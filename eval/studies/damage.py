"""Damage: speech quality after loss or corruption of tokens between encoder and decoder.

Two kinds, each at random and in bursts:

- **lost**: frames that did not arrive. Each is replaced by the last frame that did (or the
  next one, if none has arrived yet): the simplest concealment, the same for every tokenizer.
- **flipped**: frames in which every code is replaced by another one of its codebook, uniformly.

A burst is 100 ms, or the rest of the share. Which frames are affected depends only on the seed and
the name of the utterance, and those affected at a small share are a subset of those at a larger
one, so that points of a curve are comparable.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from ...codecs.tokens import Tokens
from .clips import SpeechClip, decode, encode, even_clips, frame_codes, needs_tokens
from .interface import Bench, Findings, Study
from .quality_table import QualityTable

#: Number of clips, and their minimal and maximal seconds.
CLIPS, LEAST_S, MOST_S = 8, 2.5, 3.0
#: % of frames.
SHARES = (1, 3, 10, 30)
#: Shares for which values are reported.
SHOWN = 10
BURST_S = 0.1
METRICS = ("stoi", "mel", "pesq-wb")

Kind = Literal["lost", "flipped"]
Pattern = Literal["random", "burst"]
DAMAGES: tuple[tuple[Kind, Pattern], ...] = (
    ("lost", "random"),
    ("lost", "burst"),
    ("flipped", "random"),
    ("flipped", "burst"),
)


def run(bench: Bench) -> Findings:
    """Decode damaged tokens of clips.

    Raises:
        MetricError: no tokens, or no clip is long enough.
    """
    clips = even_clips(bench, CLIPS, LEAST_S, MOST_S)
    table = QualityTable(METRICS, bench.system.sample_rate)
    for clip in clips:
        tokens = encode(bench, clip.wave)
        waves = [decode(bench, tokens)]
        waves += [decode(bench, damaged) for damaged in _damaged(clip, tokens, bench.seed)]
        table.add(clip, waves)
    findings = Findings(
        notes=[
            f"{len(clips)} clips, the first {LEAST_S:g} to {MOST_S:g} s of utterances spread "
            "evenly over the list, scored against the originals; at 0 % nothing is damaged. At "
            "least one frame of a clip is hit, so the lowest shares are a little more than said. "
            "Lost frames repeat the last one that arrived; flipped ones have other codes in all "
            f"codebooks; bursts are runs of {1000 * BURST_S:g} ms."
        ]
    )
    for metric in table.metrics:
        table.put_value(findings, metric, 0, "intact", "intact")
        for number, (kind, pattern) in enumerate(DAMAGES):
            name, heading = f"{kind}-{pattern}", f"{kind} ({pattern})"
            first = 1 + number * len(SHARES)
            at = first + SHARES.index(SHOWN)
            table.put_value(findings, metric, at, f"{name}-{SHOWN}", f"{SHOWN} % {heading}")
            conditions = (0, *range(first, first + len(SHARES)))
            axis = "frames damaged, %"
            table.put_curve(findings, metric, conditions, name, heading, axis, (0, *SHARES))
    findings.notes += table.notes()
    return findings


def _damaged(clip: SpeechClip, tokens: Tokens, seed: int) -> Iterator[Tokens]:
    """Tokens under each kind of damage at each share, in the order of both."""
    import torch

    codes = frame_codes(tokens)
    sizes = tokens.spec.codebook_sizes[: len(codes)]
    burst = max(1, round(BURST_S * float(tokens.spec.frame_rate)))
    others = other_codes(codes, sizes, clip.random(seed, "flipped"))
    for kind, pattern in DAMAGES:
        order = frame_order(
            codes.shape[1], burst if pattern == "burst" else 1, clip.random(seed, pattern)
        )
        for share in SHARES:
            hit = frames_hit(order, share / 100)
            changed = conceal(codes, hit) if kind == "lost" else np.where(hit, others, codes)
            yield replace(tokens, codes=torch.from_numpy(changed)[None].to(tokens.device))


def frame_order(frames: int, run: int, random: np.random.Generator) -> np.ndarray:
    """Return the order in which frames are damaged: bursts of neighbours, one after the other.

    Args:
        frames: number of frames.
        run: frames of a burst. The grid of bursts begins at a random frame.
        random: random generator.

    Returns:
        (frames,) int64, each frame once.
    """
    offset = int(random.integers(run))
    # Shorter bursts at the two ends are damaged last.
    edges = np.arange(offset, frames + 1, run) if offset <= frames else np.zeros(0, int)
    whole = [np.arange(start, start + run) for start in edges if start + run <= frames]
    mixed = [whole[number] for number in random.permutation(len(whole))]
    left = np.setdiff1d(np.arange(frames), np.concatenate(whole) if whole else [])
    return np.concatenate([*mixed, left]).astype(np.int64)


def frames_hit(order: np.ndarray, share: float) -> np.ndarray:
    """Return the first `share` of an order as (frames,) bool: at least one frame, and never all."""
    count = min(max(1, round(share * len(order))), len(order) - 1)
    hit = np.zeros(len(order), bool)
    hit[order[: max(0, count)]] = True
    return hit


def conceal(codes: np.ndarray, lost: np.ndarray) -> np.ndarray:
    """Replace lost frames of codes (codebooks, frames) by the last frame that is not lost.

    Args:
        codes: (codebooks, frames).
        lost: (frames,) bool, not all of them.
    """
    source = np.where(lost, -1, np.arange(len(lost)))
    source = np.maximum.accumulate(source)
    source[source < 0] = np.argmin(lost)
    return codes[:, source]


def other_codes(codes: np.ndarray, sizes: Sequence[int], random: np.random.Generator) -> np.ndarray:
    """Replace each code by another one of its codebook, uniformly: (codebooks, frames)."""
    bounds = np.array(sizes)[:, None]
    return (codes + random.integers(1, bounds, codes.shape)) % bounds


STUDY = Study(
    name="damage",
    heading="Damaged tokens",
    run=run,
    description=(
        "How decoded speech suffers when frames of tokens are lost (the last one is repeated) or "
        "changed to others, at random and in bursts of 100 ms."
    ),
    unsuitable=needs_tokens,
)
