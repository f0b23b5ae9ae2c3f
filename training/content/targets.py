"""The target units of a content encoder: k-means of earlier features.

As in HuBERT (Hsu et al., arXiv 2106.07447): at first of cepstra, then of a layer of the network
trained on those, and so on. The features' mean over the utterance is subtracted, which removes much
of the speaker (van Niekerk et al., "Analyzing Speaker Information in Self-Supervised Models to
Improve Zero-Resource Speech Processing", Interspeech 2021): targets may use the whole utterance,
while the encoder that predicts them streams.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...audio.mel import MelSpectrogram
from ...errors import TrainingError
from ...quantizers.kmeans import KMeans, KMeansConfig
from ...semantic.encoders.interface import SpeechEncoder
from ..data.draws import draws
from ..data.store import SpeechStore
from ..data.utterance_units import frame_starts
from ..losses.content import without_outliers
from ..precision import in_bfloat16

_MOST_CLUSTERS = 1 << 15
_BATCH_FRAMES = 6000
_SILENT_FRAMES = 4
# Whisper has positions for 30 s.
_PIECE_SECONDS = 30

#: Maps waves (batch, samples) float32, padded with zeros, to features (batch, frames, dim), where a
#: wave of n samples has ceil(n / hop) frames.
FeaturesFunction = Callable[[Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class TargetsConfig:
    """The target units.

    Attributes:
        teacher: folder of a content encoder's run, or its state file; "" uses cepstra, unless
            there is an `encoder`.
        encoder: another kind of encoder, such as Whisper's: see `ContentLossConfig`. Its path may
            change when a run is resumed.
        layer: of the teacher, from 1; the norm behind it has no gains. 0: the output after its
            last layer, for which the teacher must be a unit tokenizer: a run's own state
            has no projection (see `projection.py`).
        smooth: frames on either side over which features are averaged, by a Hann window: units
            then change less often.
        clusters: sizes of the clusterings, each of which is a target.
        rows: frames for fitting k-means, chosen at random.
    """

    teacher: str = ""
    encoder: str = ""
    layer: int = 5
    smooth: int = 0
    clusters: tuple[int, ...] = (500,)
    rows: int = 300_000

    def __post_init__(self) -> None:
        most = min(_MOST_CLUSTERS, self.rows)
        if self.layer < 0 or self.smooth < 0:
            raise TrainingError(f"layer and smooth can't be negative: {self}")
        if self.teacher and self.encoder:
            raise TrainingError(f"a teacher or an encoder, not both: {self}")
        if not self.clusters or not all(2 <= k <= most for k in self.clusters):
            raise TrainingError(f"clusters must be from 2 to {_MOST_CLUSTERS}, rows more: {self}")


def find_targets(
    store: SpeechStore, config: TargetsConfig, features: FeaturesFunction, hop: int
) -> np.ndarray:
    """Compute units (clusterings, frames) of all utterances of a store, concatenated.

    Within an utterance, features are normalised to mean 0, and cepstra to variance 1; those of an
    `encoder`, which ignores speakers already, are not, but see `without_outliers`.

    Args:
        store: the utterances.
        config: see `TargetsConfig`.
        features: a function of waves.
        hop: samples of a frame.
    """
    starts = frame_starts(store, hop)
    counts = np.diff(starts)
    found: np.ndarray | None = None
    order = np.argsort(store.lengths, kind="stable")
    for numbers in _batches(order, counts):
        # Zeros after every utterance, so that its end does not depend on its batch.
        longest = int(store.lengths[numbers].max()) + _SILENT_FRAMES * hop
        waves = np.zeros((len(numbers), longest), np.float32)
        for row, number in enumerate(numbers):
            samples = store.samples(int(number))
            np.multiply(samples, np.float32(2**-15), out=waves[row, : len(samples)])
        with torch.no_grad():
            values = features(torch.from_numpy(waves)).float().cpu().numpy()
        if found is None:
            found = np.empty((int(starts[-1]), values.shape[2]), np.float16)
        for row, number in enumerate(numbers):
            own = smoothed(values[row, : counts[number]], config.smooth)
            if not config.encoder:
                own = own - own.mean(0)
            if not config.teacher and not config.encoder:
                own = own / np.maximum(own.std(0), 1e-3)
            found[starts[number] : starts[number + 1]] = own
    assert found is not None
    chosen = np.argsort(draws("targets", (0,), len(found)))[: config.rows]
    rows = found[np.sort(chosen)].astype(np.float32)
    scale = without_outliers(rows) if config.encoder else np.float32(1)
    units = []
    for clusters in config.clusters:
        # Every rank computes the same result.
        kmeans = KMeans(KMeansConfig(clusters, iterations=12)).fit(rows * scale, alone=True)
        parts = [
            kmeans(torch.from_numpy(found[start : start + 65_536] * scale)).numpy()
            for start in range(0, len(found), 65_536)
        ]
        units.append(np.concatenate(parts))
    return np.stack(units)


def smoothed(values: np.ndarray, reach: int) -> np.ndarray:
    """Average features (frames, dim) over `reach` frames on either side, repeating the end
    frames.
    """
    weights = np.hanning(2 * reach + 3)[1:-1]
    padded = np.pad(values, ((reach, reach), (0, 0)), mode="edge")
    parts = [weight * padded[n : n + len(values)] for n, weight in enumerate(weights)]
    return np.sum(parts, axis=0) / weights.sum()


def _batches(order: np.ndarray, counts: np.ndarray) -> list[np.ndarray]:
    """Group utterances of similar length into batches with a limited number of frames."""
    batches, first = [], 0
    for end in range(1, len(order) + 1):
        longest = counts[order[end]] if end < len(order) else _BATCH_FRAMES
        if end == len(order) or longest * (end + 1 - first) > _BATCH_FRAMES:
            batches.append(order[first:end])
            first = end
    return batches


class EncoderFeatures:
    """A layer of a speech encoder, applied in pieces if its length is limited.

    Args:
        encoder: the encoder.
        layer: from 1.
        hop: samples of a frame, the encoder's.

    Raises:
        TrainingError: the encoder has another frame rate.
    """

    def __init__(self, encoder: SpeechEncoder, layer: int, hop: int) -> None:
        if encoder.hop != hop:
            raise TrainingError(f"frames of {encoder.hop} samples, and the model's have {hop}")
        self.encoder, self.layer, self.hop = encoder, layer, hop

    def __call__(self, waves: Tensor) -> Tensor:
        """Features (batch, frames, width) of waves (batch, samples)."""
        found = []
        with in_bfloat16(waves.device.type):
            for piece in waves.split(_PIECE_SECONDS * self.encoder.sample_rate, 1):
                states = self.encoder.hidden_states(piece)[self.layer].float()
                missing = -(-piece.shape[1] // self.hop) - states.shape[1]
                found.append(torch.cat([states, states[:, -1:].expand(-1, max(0, missing), -1)], 1))
        return torch.cat(found, 1)


class Cepstra:
    """Thirteen cepstra and their deltas over 40 and 80 ms, as HuBERT's first targets.

    Args:
        sample_rate: Hz.
        hop: samples of a frame.
    """

    def __init__(self, sample_rate: int, hop: int) -> None:
        self.step = hop // 2
        self.mel = MelSpectrogram(sample_rate, 512, 400, self.step, 40, 20.0, sample_rate / 2)
        n = torch.arange(40) + 0.5
        self.cosines = torch.cos(torch.pi / 40 * torch.outer(n, torch.arange(13))) * (2 / 40) ** 0.5

    def __call__(self, waves: Tensor) -> Tensor:
        """Features (batch, frames, 39) of waves (batch, samples)."""
        frames = -(-waves.shape[1] // (2 * self.step))
        # Two analysis frames per frame, at a quarter and at three quarters of it.
        before = 200 - self.step // 2
        after = (2 * frames - 1) * self.step + 400 - before - waves.shape[1]
        pieces = torch.nn.functional.pad(waves, (before, after)).unfold(1, 400, self.step)
        cepstra = self.mel.frames(pieces).clamp_min(1e-5).log() @ self.cosines
        slopes = _slopes(cepstra, 2)
        every = torch.cat([cepstra, slopes, _slopes(slopes, 2)], 2)
        every = every.unflatten(1, (frames, 2)).mean(2)
        return every


def _slopes(x: Tensor, reach: int) -> Tensor:
    """Regression slopes over time (HTK's deltas) of (batch, time, channels)."""
    padded = torch.nn.functional.pad(x.mT, (reach, reach), mode="replicate").mT
    steps = range(-reach, reach + 1)
    parts = [n * padded[:, reach + n : reach + n + x.shape[1]] for n in steps if n]
    return torch.stack(parts).sum(0) / sum(n * n for n in steps)
