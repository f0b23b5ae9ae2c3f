"""A few short clips for expensive studies, encoded and decoded one by one."""

import hashlib
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ...audio.manifests import Utterance
from ...codecs.interface import AudioTokenizer
from ...codecs.tokens import Tokens
from ...errors import SyllabaryError
from ..metrics.interface import MetricError
from ..requirements import NotApplicableError
from ..systems.interface import System
from .interface import Bench


@dataclass(frozen=True, eq=False)
class SpeechClip:
    """The beginning of an utterance.

    Attributes:
        item: the utterance.
        wave: (samples,) float32 at the system's sample rate.
    """

    item: Utterance
    wave: np.ndarray

    @property
    def name(self) -> str:
        return str(self.item.name)

    def random(self, seed: int, purpose: str) -> np.random.Generator:
        """Return random numbers for this clip, independent of other clips."""
        digest = hashlib.sha256(f"{seed}\n{purpose}\n{self.name}".encode(errors="replace")).digest()
        return np.random.default_rng(int.from_bytes(digest[:8], "little"))


def even_clips(bench: Bench, count: int, least_s: float, most_s: float) -> list[SpeechClip]:
    """Return the beginnings of evenly spaced utterances.

    Args:
        bench: whose items they are.
        count: number of clips.
        least_s: minimal duration in seconds; shorter utterances are skipped. If fewer than `count`
            are left, all of those are used.
        most_s: clips are truncated to this duration in seconds.

    Raises:
        MetricError: no readable utterance is long enough.
    """
    rate = bench.system.sample_rate
    items = [item for item in bench.items if item.duration_s is None or item.duration_s >= least_s]
    # Utterances with an unknown or wrong duration may be too short: then the next one is tried, up
    # to the position of the following clip.
    starts = [len(items) * number // count for number in range(count + 1)]
    clips: list[SpeechClip] = []
    for start, stop in pairwise(starts):
        for item in items[start:stop]:
            try:
                wave = bench.wave(item)
            except (SyllabaryError, OSError):
                continue  # reported in its own line; a neighbour is used instead
            if len(wave) >= round(least_s * rate) and wave[: round(most_s * rate)].any():
                clips.append(SpeechClip(item, wave[: round(most_s * rate)]))
                break
    if not clips:
        raise NotApplicableError(f"no utterance of at least {least_s:g} s that is not silent")
    return clips


def needs_tokens(system: System) -> str | None:
    """Return why a study of tokens can't be applied to this system, or None."""
    return None if system.tokenizer is not None else "it gives no tokens"


def tokenizer_of(bench: Bench) -> AudioTokenizer:
    """Return the system's tokenizer.

    Raises:
        MetricError: there is none.
    """
    if bench.system.tokenizer is None:
        raise MetricError(f"{bench.system.name} gives no tokens")
    return bench.system.tokenizer


def encode(bench: Bench, wave: np.ndarray) -> Tokens:
    """Encode (samples,) float32 with the system's codebooks, with one position per frame."""
    tokenizer = tokenizer_of(bench)
    kept = bench.system.num_codebooks
    return tokenizer.encode(wave, bench.system.sample_rate, num_codebooks=kept).restore()


def decode(bench: Bench, tokens: Tokens) -> np.ndarray:
    """Decode a batch of one to (samples,) float32."""
    return tokenizer_of(bench).decode(tokens)[0].cpu().numpy()


def frame_codes(tokens: Tokens) -> np.ndarray:
    """Return codes (codebooks, frames) int64 of a batch of one, restored to one position
    per frame.
    """
    tokens = tokens.restore()
    return tokens.codes[0, :, : int(tokens.lengths[0])].cpu().numpy()
