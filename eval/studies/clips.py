"""The few short clips that dear studies look at, coded and decoded by themselves."""

import hashlib
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ...audio.manifests import Utterance
from ...codecs.interface import AudioTokenizer
from ...codecs.tokens import Tokens
from ...errors import SyllabaryError
from ..metrics.interface import MetricError
from ..systems.interface import System
from .interface import Bench


@dataclass(frozen=True, eq=False)
class SpeechClip:
    """The beginning of an utterance.

    Attributes:
        item: that it is from.
        wave: (samples,) float32 at the system's sample rate.
    """

    item: Utterance
    wave: np.ndarray

    @property
    def name(self) -> str:
        return str(self.item.name)

    def random(self, seed: int, purpose: str) -> np.random.Generator:
        """Random numbers of this clip, whatever the other clips are."""
        digest = hashlib.sha256(f"{seed}\n{purpose}\n{self.name}".encode(errors="replace")).digest()
        return np.random.default_rng(int.from_bytes(digest[:8], "little"))


def even_clips(bench: Bench, count: int, least_s: float, most_s: float) -> list[SpeechClip]:
    """The beginnings of utterances that lie evenly in the list.

    Args:
        bench: whose items they are.
        count: wanted.
        least_s: seconds of the shortest; shorter utterances are passed over. If fewer than `count`
            are left, all of those are taken.
        most_s: seconds after which a clip is cut.

    Raises:
        MetricError: no utterance that can be read is long enough.
    """
    rate = bench.system.sample_rate
    items = [item for item in bench.items if item.duration_s is None or item.duration_s >= least_s]
    # Utterances whose duration is not known, or is wrong, may prove too short: then the next one
    # is tried, up to where the following clip is looked for.
    starts = [len(items) * number // count for number in range(count + 1)]
    clips: list[SpeechClip] = []
    for start, stop in pairwise(starts):
        for item in items[start:stop]:
            try:
                wave = bench.wave(item)
            except (SyllabaryError, OSError):
                continue  # its own line says why; another one of like length does
            if len(wave) >= round(least_s * rate) and wave[: round(most_s * rate)].any():
                clips.append(SpeechClip(item, wave[: round(most_s * rate)]))
                break
    if not clips:
        raise MetricError(f"no utterance of at least {least_s:g} s that is not silent")
    return clips


def needs_tokens(system: System) -> str | None:
    """Why a study of tokens can't have this system, or None."""
    return None if system.tokenizer is not None else "it gives no tokens"


def tokenizer_of(bench: Bench) -> AudioTokenizer:
    """The tokenizer behind the system.

    Raises:
        MetricError: there is none.
    """
    if bench.system.tokenizer is None:
        raise MetricError(f"{bench.system.name} gives no tokens")
    return bench.system.tokenizer


def encode(bench: Bench, wave: np.ndarray) -> Tokens:
    """Tokens of (samples,) float32, a position a frame, with the system's codebooks."""
    tokenizer = tokenizer_of(bench)
    kept = bench.system.num_codebooks
    return tokenizer.encode(wave, bench.system.sample_rate, num_codebooks=kept).restore()


def decode(bench: Bench, tokens: Tokens) -> np.ndarray:
    """(samples,) float32 of a batch of one."""
    return tokenizer_of(bench).decode(tokens)[0].cpu().numpy()


def frame_codes(tokens: Tokens) -> np.ndarray:
    """Codes (codebooks, frames) int64 of a batch of one, a position a frame."""
    tokens = tokens.restore()
    return tokens.codes[0, :, : int(tokens.lengths[0])].cpu().numpy()
