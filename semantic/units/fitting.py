"""Fit units: write features to disk, run k-means, and average the spectrum of each unit."""

import hashlib
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ...audio.manifests import Utterance
from ...codecs.dmel.config import DMelConfig
from ...codecs.dmel.phase_retrieval import PhaseRetrievalConfig
from ...errors import ManifestError
from ...quantizers import NearestCode
from ...quantizers.kmeans import KMeans, KMeansConfig, Progress, open_features
from ..encoders.interface import SpeechEncoder
from ..encoders.log_mel import LogMel, LogMelConfig
from ..speaking.mel_table import MelTableConfig
from .feature_shards import Dtype, FeatureShards, Shard
from .tokenizer import UnitTokenizer

_BLOCK = 16384
# Features with fewer dimensions are stored in float32, since float16 would save little.
_SHORT = 128


@dataclass(frozen=True)
class FitProgress:
    """Progress of a fit.

    Attributes:
        stage: `encoding` files, `clustering` their features, or averaging `spectra`.
        done, total: files, or rows of the current pass, or shards.
        detail: text for the user.
    """

    stage: Literal["encoding", "clustering", "spectra"]
    done: int
    total: int
    detail: str = ""


@dataclass(frozen=True)
class FitOutcome:
    """Result of a fit.

    Attributes:
        tokenizer: fitted, with a vocoder if the encoder's frames allow it.
        frames, seconds: of the training data.
        inertias: for each codebook, the mean squared distance of frames to their centroids; empty
            if the centroids were given.
        failures: files that could not be read, each with the reason.
    """

    tokenizer: UnitTokenizer
    frames: int
    seconds: float
    inertias: tuple[float, ...]
    failures: tuple[tuple[str, str], ...]


def fit_units(
    encoder: SpeechEncoder,
    utterances: Sequence[Utterance],
    config: KMeansConfig,
    work: Path,
    *,
    name: str | None = None,
    centroids: Sequence[Tensor] | None = None,
    dtype: Dtype | None = None,
    progress: Callable[[FitProgress], None] | None = None,
) -> FitOutcome:
    """Fit a `UnitTokenizer` to speech, in memory that does not grow with the data.

    The same encoder, files and settings give bit-identical centroids, also if a fit was killed and
    continued from its work folder.

    Args:
        encoder: computes the features.
        utterances: to fit on, in this order.
        config: of k-means, the same for each group of the encoder's features.
        work: folder for features and checkpoints, which later fits of the same features reuse.
        name: of the tokenizer.
        centroids: use these, and compute only their mean spectra.
        dtype: of the features on disk; default: float32 for few dimensions, else float16.
        progress: called regularly.

    Raises:
        QuantizerError: too few frames for the number of clusters, or centroids of another
            dimension.
        SyllabaryError: no file could be read.
    """
    report = progress or (lambda _: None)
    kept: Dtype = dtype or ("float32" if max(encoder.dims) <= _SHORT else "float16")
    mel = mel_beside(encoder)
    # Check given centroids before hours of encoding.
    given = UnitTokenizer.of(encoder, list(centroids), name) if centroids is not None else None
    store = FeatureShards(work, encoder, utterances, mel, kept)

    def encoded(files: int, total: int, seconds: float) -> None:
        report(FitProgress("encoding", files, total, f"{seconds / 3600:.2f} h of audio"))

    shards = store.write(encoded)
    full = [shard for shard in shards if shard.frames]
    frames = sum(shard.frames for shard in full)
    inertias: list[float] = []
    tokenizer = given
    if tokenizer is None:
        tables = []
        for group in range(len(encoder.dims)):
            fitted = _fit(store, full, config, group, report)
            tables.append(fitted.centroids)
            inertias.append((fitted.inertia or 0.0) / frames)
        tokenizer = UnitTokenizer.of(encoder, tables, name)
    if mel is not None:
        table = mel_table(full, tokenizer.centroids[0], mel, report)
        tokenizer = tokenizer.with_mel_table(table, MelTableConfig(mel.config))
    return FitOutcome(
        tokenizer,
        frames,
        sum(shard.seconds for shard in shards),
        tuple(inertias),
        tuple(failure for shard in shards for failure in shard.failures),
    )


def _fit(
    store: FeatureShards,
    shards: Sequence[Shard],
    config: KMeansConfig,
    group: int,
    report: Callable[[FitProgress], None],
) -> KMeans:
    def passed(step: Progress) -> None:
        detail = step.stage if step.stage != "passing" else f"pass {step.passes + 1}"
        if step.inertia is not None:
            detail += f", inertia {step.inertia:.6g}"
        report(FitProgress("clustering", step.rows, step.num_rows or 0, detail))

    settings = json.dumps([group, config.to_dict()], sort_keys=True)
    key = hashlib.sha256(settings.encode()).hexdigest()[:16]
    return KMeans(config).fit(
        [shard.features[group] for shard in shards],
        checkpoint=store.folder / f"kmeans-{key}.safetensors",
        device=store.encoder.device,
        progress=passed,
    )


def mel_beside(encoder: SpeechEncoder) -> LogMel | None:
    """Return the log-mel analysis for the training-free vocoder; None if its hop is unsuitable."""
    try:
        config = LogMelConfig(sample_rate=encoder.sample_rate, hop=encoder.hop)
        PhaseRetrievalConfig.for_dmel(
            DMelConfig(
                sample_rate=config.sample_rate,
                hop_length=config.hop,
                window_length=config.window_length,
                n_fft=config.n_fft,
            )
        )
        return LogMel(config).eval()
    except ValueError:
        return None


def mel_table(
    shards: Sequence[Shard],
    centroids: Tensor,
    mel: LogMel,
    report: Callable[[FitProgress], None] = lambda _: None,
) -> Tensor:
    """Compute the mean log10 mel spectrum (K, channels) float32 of the frames of each unit.

    A unit without frames, possible with imported centroids, gets that of the nearest unit with
    some.

    Args:
        shards: with mels.
        centroids: (K, dim) of the first group of features.
        mel: the analysis of the mels in the shards.
        report: called after each shard.
    """
    size = len(centroids)
    search = NearestCode(centroids)
    sums, counts = np.zeros((mel.dim, size)), np.zeros(size)
    for number, shard in enumerate(shards, 1):
        assert shard.mel is not None
        features = open_features(shard.features[0]).blocks(_BLOCK)
        mels = open_features(shard.mel).blocks(_BLOCK)
        for rows, spectra in zip(features, mels, strict=True):
            codes = search(rows.to(centroids.device)).cpu().numpy()
            counts += np.bincount(codes, minlength=size)
            for channel, values in enumerate(spectra.double().numpy().T):  # sums in a fixed order
                sums[channel] += np.bincount(codes, values, size)
        report(FitProgress("spectra", number, len(shards)))
    used = counts > 0
    table = torch.from_numpy((sums / np.maximum(counts, 1)).T.astype(np.float32))
    if not used.all():
        known = torch.from_numpy(used)
        nearest = NearestCode(centroids.cpu()[known])(centroids.cpu()[~known])
        table[~known] = table[known][nearest]
    return table


def choose(
    utterances: Sequence[Utterance],
    max_hours: float | None,
    exclude_sources: Sequence[str] = (),
    seed: int = 0,
) -> list[Utterance]:
    """Choose utterances to fit on: a random part of a given duration, in the original order.

    Args:
        utterances: to choose from.
        max_hours: maximum amount of audio; None takes all.
        exclude_sources: omit manifest lines whose `source` is one of these.
        seed: for the choice.

    Raises:
        ManifestError: nothing is left, a source is in no line, or a file's length is unknown.
        ManifestError: nothing is left, a source is in no line, or a file does not say its length.
    """
    sources = {item.extra.get("source") for item in utterances}
    for source in exclude_sources:
        if source not in sources:
            known = ", ".join(sorted(str(each) for each in sources if each)) or "none"
            raise ManifestError(f"no utterance of source {source!r}; there are: {known}")
    kept = [item for item in utterances if item.extra.get("source") not in exclude_sources]
    if max_hours is not None:
        order = list(range(len(kept)))
        random.Random(seed).shuffle(order)
        left, chosen = max_hours * 3600, []
        for index in order:
            duration = _duration(kept[index])
            if duration <= left:
                chosen.append(index)
                left -= duration
        kept = [kept[index] for index in sorted(chosen)]
    if not kept:
        raise ManifestError("no utterance is left to fit on")
    return kept


def _duration(item: Utterance) -> float:
    """Return the duration in seconds, from the manifest or else from the file's header."""
    if item.duration_s is not None:
        return item.duration_s
    with item.open("mix") as reader:
        if reader.num_samples is None:
            raise ManifestError(
                f"{item.path}: its header has no length, which max_hours needs; give a manifest "
                "with duration_s"
            )
        return reader.num_samples / reader.sample_rate
