"""Units of every utterance of a store, computed once: targets or inputs of a model."""

import hashlib
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from ...errors import TrainingError
from ...filesystem import printable, replacing
from .store import SpeechStore

_VERSION = 1


class UtteranceUnits:
    """Units of a store's utterances, computed on first use and kept in its folder.

    Args:
        store: the utterances; one of n samples has ceil(n / hop) frames.
        hop: samples of a frame.
        tracks: units per frame.
        find: computes units (tracks, frames) from 0 to 2^31 - 1 of all utterances, concatenated.
        key: identifies these units.

    Raises:
        TrainingError: the file is damaged.
    """

    def __init__(
        self, store: SpeechStore, hop: int, tracks: int, find: Callable[[], np.ndarray], key: str
    ) -> None:
        self.hop = hop
        self._index = {entry.name: n for n, entry in enumerate(store.entries)}
        self._starts = frame_starts(store, hop)
        frames = int(self._starts[-1])
        told = repr((_VERSION, store.samples_digest, hop, tracks, key)).encode()
        path = store.folder / f"units-{hashlib.sha256(told).hexdigest()[:16]}.i32"
        if not path.exists():
            found = find()
            assert found.shape == (tracks, frames)
            with replacing(path) as temporary:
                found.astype("<i4").tofile(temporary)
        units = np.fromfile(path, "<i4")
        if units.size != tracks * frames:
            raise TrainingError(
                f"{printable(path)}: {units.size} units where {tracks} × {frames} belong; delete it"
            )
        self._units = units.reshape(tracks, frames).astype(np.int64)

    def at(self, names: Sequence[str], samples: Tensor) -> tuple[Tensor, Tensor]:
        """Return the units at given samples.

        Args:
            names: of utterances.
            samples: (batch, points) int64, positions in each utterance.

        Returns:
            (batch, tracks, points) int64 on the CPU, 0 outside an utterance, and whether the
                position
            is inside, (batch, points) bool.
        """
        number = np.array([self._index[name] for name in names])
        place = self._starts[number, None] + samples.cpu().numpy() // self.hop
        there = (samples.cpu().numpy() >= 0) & (place < self._starts[number + 1, None])
        units = self._units[:, np.where(there, place, 0)].transpose(1, 0, 2)
        return torch.from_numpy(units * there[:, None]), torch.from_numpy(there)


def frame_starts(store: SpeechStore, hop: int) -> np.ndarray:
    """Return the first frame of each utterance, and the total: (utterances + 1,)."""
    return np.concatenate([[0], np.cumsum(-(-store.lengths // hop))])
