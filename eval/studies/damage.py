"""Damage: speech quality after loss of frames or flipped bits between encoder and decoder.

- **concealed**: frames that did not arrive, at random or in bursts of 60 ms, concealed by the
  decoder: `decode(tokens, lost=…)`, and what other codecs have for it (packet loss concealment).
- **silenced**: the same frames, with the codes of silence in their place. Tokenizers only.
- **bits**: flipped bits of the packed codes, all codes arrive; as NeuCodec's authors compared FSQ
  with residual codebooks (arXiv 2509.09550). Tokenizers only.

What is hit depends only on the seed and the name of the utterance, and what is hit at a small share
is also hit at a larger one, so that points of a curve are comparable.
"""

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...codecs.streaming.concealment import silence_of
from ..recognition import ASR, default_recognizer
from ..systems.interface import System
from .clips import SpeechClip, decode, encode, even_clips, frame_codes, needs_tokens, tokenizer_of
from .interface import Bench, Findings, Study
from .losses import flip_bits, frame_order, frames_hit
from .quality_table import QualityTable

#: Number of clips, and their minimal and maximal seconds.
CLIPS, LEAST_S, MOST_S = 8, 2.5, 3.0
#: % of frames that are lost, and % of bits that are flipped.
SHARES, BIT_SHARES = (1, 3, 10, 30), (0.01, 0.1, 1, 10)
#: Shares for which values are reported.
SHOWN, SHOWN_BITS = 10, 1
BURST_S = 0.06
PATTERNS = ("random", "burst")
METRICS = ("stoi", "mel", "pesq-wb")


@dataclass(frozen=True)
class Damage:
    """One kind of damage, at several shares.

    Attributes:
        name, heading: of its values.
        shares: %, of what `axis` names.
        shown: the share whose value is reported.
        axis: of its curve.
        logarithmic: whether the curve is over the logarithm of the share, which has no 0.
    """

    name: str
    heading: str
    shares: tuple[float, ...]
    shown: float
    axis: str
    logarithmic: bool = False


def damages(system: System) -> list[Damage]:
    """Return the kinds of damage that a system can be given."""
    found = [
        Damage(f"{how}-{pattern}", f"lost ({pattern}), {how}", SHARES, SHOWN, "frames lost, %")
        for how in ("concealed", "silenced")
        for pattern in PATTERNS
    ]
    axis = "bit error rate, power of ten"
    bits = Damage("bits", "bits flipped", BIT_SHARES, SHOWN_BITS, axis, logarithmic=True)
    return [*found, bits] if system.tokenizer is not None else found[: len(PATTERNS)]


def run(bench: Bench) -> Findings:
    """Decode damaged tokens of clips.

    Raises:
        MetricError: no clip is long enough, or nothing can be damaged.
    """
    clips = even_clips(bench, CLIPS, LEAST_S, MOST_S)
    kinds = damages(bench.system)
    table = measure(bench, clips, kinds)
    findings = Findings(
        notes=[
            f"{len(clips)} clips, the first {LEAST_S:g} to {MOST_S:g} s of utterances spread "
            "evenly over the list, scored against the originals; at 0 % nothing is damaged. At "
            "least one frame of a clip is lost, so the lowest shares are a little more than said. "
            "Concealed frames are made of the last one that arrived; silenced ones are the codes "
            f"of silence; bursts are {1000 * BURST_S:g} ms. Flipped bits are those of packed codes."
        ]
    )
    if bench.system.tokenizer is None:
        findings.notes.append("Packets are lost by the codec's own decoder, which conceals them.")
    if os.environ.get(ASR):
        findings.notes.append(f"Words are those of {default_recognizer().name}.")
    for metric in table.metrics:
        table.put_value(findings, metric, 0, "intact", "intact")
        first = 1
        for damage in kinds:
            at = first + damage.shares.index(damage.shown)
            table.put_value(
                findings,
                metric,
                at,
                f"{damage.name}-{damage.shown:g}",
                f"{damage.shown:g} % {damage.heading}",
            )
            conditions = [*range(first, first + len(damage.shares))]
            x = [math.log10(share / 100) for share in damage.shares]
            if not damage.logarithmic:
                conditions, x = [0, *conditions], [0, *damage.shares]
            table.put_curve(
                findings,
                metric,
                conditions,
                damage.name,
                damage.heading,
                damage.axis,
                x,
            )
            first += len(damage.shares)
    findings.notes += table.notes()
    return findings


def measure(bench: Bench, clips: Sequence[SpeechClip], kinds: Sequence[Damage]) -> QualityTable:
    """Score clips without damage, and then under each of some kinds, at each of its shares.

    Word errors are scored, too, if a recogniser was named (see `eval.recognition.ASR`): the default
    one is too weak to tell.

    Raises:
        MetricError: the system can neither give tokens nor lose packets.
    """
    table = QualityTable(
        (*METRICS, *(("dwer",) if os.environ.get(ASR) else ())), bench.system.sample_rate
    )
    waves = _damaged_tokens if bench.system.tokenizer is not None else _lost_packets
    for clip in clips:
        table.add(clip, list(waves(bench, clip, kinds)))
    return table


def _damaged_tokens(
    bench: Bench, clip: SpeechClip, kinds: Sequence[Damage]
) -> Iterator[np.ndarray]:
    """The waves of a clip for `measure`, of a tokenizer."""
    import torch

    tokenizer, tokens = tokenizer_of(bench), encode(bench, clip.wave)
    yield decode(bench, tokens)
    codes = frame_codes(tokens)
    sizes = tokens.spec.codebook_sizes[: len(codes)]
    silence = silence_of(tokenizer)[: len(codes), None].cpu().numpy()

    def changed(codes: np.ndarray) -> np.ndarray:
        found = torch.from_numpy(codes)[None].to(tokens.device)
        return decode(bench, replace(tokens, codes=found))

    for kind in kinds:
        how, _, pattern = kind.name.partition("-")
        if how == "bits":
            for share in kind.shares:
                yield changed(flip_bits(codes, sizes, share / 100, clip.random(bench.seed, how)))
            continue
        burst = round(BURST_S * float(tokens.spec.frame_rate)) if pattern == "burst" else 1
        order = frame_order(codes.shape[1], max(1, burst), clip.random(bench.seed, pattern))
        for share in kind.shares:
            lost = frames_hit(order, share / 100)
            if how == "silenced":
                yield changed(np.where(lost, silence, codes))
            else:
                yield tokenizer.decode(tokens, lost=lost[None])[0].cpu().numpy()


def _lost_packets(bench: Bench, clip: SpeechClip, kinds: Sequence[Damage]) -> Iterator[np.ndarray]:
    """The waves of a clip for `measure`, of a codec that can lose packets."""
    yield bench.system.reconstruct(clip.wave).wave
    for kind in kinds:
        burst_s = BURST_S if kind.name.endswith("burst") else None
        for share in kind.shares:
            losing = bench.system.with_packet_loss(share, burst_s)  # type: ignore[attr-defined]
            yield losing.reconstruct(clip.wave).wave


def _unsuitable(system: System) -> str | None:
    return None if hasattr(system, "with_packet_loss") else needs_tokens(system)


def _recogniser() -> str:
    return default_recognizer().name if os.environ.get(ASR) else ""


STUDY = Study(
    name="damage",
    heading="Lost frames and flipped bits",
    run=run,
    description=(
        "How decoded speech suffers when frames are lost, at random and in bursts of 60 ms, with "
        "concealment and with silence in their place, and when bits of the codes are flipped."
    ),
    unsuitable=_unsuitable,
    paper="arXiv 2509.09550",
    form="losses of 60 ms, bits",
    variant=_recogniser,
)
