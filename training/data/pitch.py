"""Pitch of every utterance of a store, computed once, for models with pitch supervision.

By WORLD's DIO and StoneMask (Morise et al., "WORLD", IEICE Trans. Inf. & Syst. E99-D(7), 2016) from
the package pyworld: two minutes for seven hours of speech.
"""

import hashlib
import importlib
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ...errors import TrainingError
from ...filesystem import printable, replacing
from .store import SpeechStore

_VERSION = 1


@dataclass(frozen=True)
class PitchConfig:
    """Settings of the pitch estimation.

    Attributes:
        hop: samples between points.
        pitch_min, pitch_max: Hz.
    """

    hop: int = 80
    pitch_min: float = 60.0
    pitch_max: float = 450.0


class PitchTracks:
    """Pitch tracks of a store, computed on first use and kept in its folder.

    Args:
        store: the utterances.
        config: see `PitchConfig`.
        progress: called with (utterances done, utterances in total).

    Raises:
        TrainingError: the package pyworld is missing, or the file is damaged.
    """

    def __init__(
        self,
        store: SpeechStore,
        config: PitchConfig = PitchConfig(),
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self.config = config
        self._index = {entry.name: n for n, entry in enumerate(store.entries)}
        counts = [entry.length // config.hop + 1 for entry in store.entries]
        self._starts = np.concatenate([[0], np.cumsum(counts)])
        key = repr((_VERSION, store.samples_digest, config)).encode()
        path = store.folder / f"pitch-{hashlib.sha256(key).hexdigest()[:16]}.f32"
        if not path.exists():
            tracks = _find(store, config, counts, progress)
            with replacing(path) as temporary:
                tracks.astype("<f4").tofile(temporary)
        pitch = np.fromfile(path, "<f4")
        if len(pitch) != self._starts[-1]:
            raise TrainingError(
                f"{printable(path)}: {len(pitch)} points of pitch where {self._starts[-1]} belong; "
                "delete the file"
            )
        self._voiced = pitch > 0
        self._pitch = _bridged(pitch, self._starts)

    def crops(
        self, names: Sequence[str], starts: Sequence[int], num_samples: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the pitch at the end of every hop of some crops.

        Args:
            names: utterances.
            starts: first sample of each crop.
            num_samples: of a crop; a multiple of the hop.

        Returns:
            Pitch in Hz (batch, num_samples / hop) float32, log-linearly interpolated over unvoiced
            frames, and voicing, bool. Points after an utterance's end are unvoiced.
        """
        hop, points = self.config.hop, num_samples // self.config.hop
        pitch = torch.full((len(names), points), 150.0)
        voiced = torch.zeros(len(names), points, dtype=torch.bool)
        for row, (name, start) in enumerate(zip(names, starts, strict=True)):
            number = self._index[name]
            first, end = self._starts[number], self._starts[number + 1]
            begin = min(first + (start + hop // 2) // hop + 1, end - 1)
            piece = slice(begin, min(begin + points, end))
            count = piece.stop - piece.start
            pitch[row, :count] = torch.from_numpy(self._pitch[piece])
            pitch[row, count:] = float(self._pitch[end - 1])
            voiced[row, :count] = torch.from_numpy(self._voiced[piece])
        return pitch, voiced


def _find(
    store: SpeechStore,
    config: PitchConfig,
    counts: Sequence[int],
    progress: Callable[[int, int], None] | None,
) -> np.ndarray:
    """Compute the tracks of all utterances, concatenated; 0 where unvoiced."""
    try:
        pyworld = importlib.import_module("pyworld")
    except ImportError:
        raise TrainingError(
            'finding pitch needs the package pyworld; pip install "syllabary[train]"'
        ) from None
    rate = store.sample_rate
    tracks = []
    for number, count in enumerate(counts):
        wave = store.samples(number).astype(np.float64) / 32768
        coarse, times = pyworld.dio(
            wave,
            rate,
            f0_floor=config.pitch_min,
            f0_ceil=config.pitch_max,
            frame_period=1000 * config.hop / rate,
        )
        track = pyworld.stonemask(wave, coarse, times, rate)[:count]
        tracks.append(np.pad(track, (0, count - len(track))))
        if progress:
            progress(number + 1, len(counts))
    return np.concatenate(tracks)


def _bridged(pitch: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Interpolate the pitch log-linearly over unvoiced parts of each utterance."""
    bridged = np.full_like(pitch, 150.0)
    for start, end in itertools.pairwise(starts):
        piece = pitch[start:end]
        voiced = np.flatnonzero(piece > 0)
        if len(voiced):
            logs = np.interp(np.arange(end - start), voiced, np.log(piece[voiced]))
            bridged[start:end] = np.exp(logs)
    return bridged
