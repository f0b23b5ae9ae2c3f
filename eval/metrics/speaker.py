"""Speaker similarity: cosines of speaker embeddings."""

import os
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ..analysis_cache import remembered
from ..model_files import folder_digest
from .interface import Clip, Metric, MetricError
from .requirements import check_pair, package

#: Environment variable: a directory or hub id of an x-vector model, such as
#: ``microsoft/wavlm-base-plus-sv``.
WAVLM_SV = "SYLLABARY_WAVLM_SV"

_RATE = 16000


def speaker_similarity(clip: Clip) -> float:
    """Cosine of two speaker embeddings by `resemblyzer`, from 0 to 1.

    GE2E embeddings (Wan et al., arXiv 1710.10467), with the package's preprocessing: signals are
    raised to −30 dBFS if softer, and long pauses are cut where webrtcvad detects no voice. Each
    signal's own pauses are cut, so a codec that turns speech into noise is penalised. Figures
    without this preprocessing don't compare.

    Raises:
        MetricError: another rate than 16000 Hz, the two can't be compared, no voice in one of
            them, or no `resemblyzer` package.
    """
    _check(clip)
    embeddings = []
    for name, signal in (("reference", clip.reference), ("reconstruction", clip.estimate)):
        embedding = _ge2e(signal, clip.sample_rate)
        if embedding is None:
            raise MetricError(f"speaker similarity: no voice in the {name}")
        embeddings.append(embedding)
    return float(np.dot(*embeddings))


def wavlm_similarity(clip: Clip) -> float:
    """Cosine of two x-vectors by a published model, from −1 to 1.

    The model is a `transformers` one with an x-vector head, of the directory or hub id in the
    environment variable SYLLABARY_WAVLM_SV; the signals are whole, pauses included.

    Raises:
        MetricError: another rate than 16000 Hz, the two can't be compared or are too short for the
            model, no model is given or it can't be loaded, or no `transformers` package.
    """
    _check(clip)
    where = _wavlm_sv()
    vectors = []
    for signal in (clip.reference, clip.estimate):
        vectors.append(_x_vector(where)(signal, clip.sample_rate))
    return float(np.clip(np.dot(*vectors), -1, 1))


def _check(clip: Clip) -> None:
    check_pair(clip)
    if clip.sample_rate != _RATE:
        raise MetricError(f"speaker similarity needs {_RATE} Hz, got {clip.sample_rate}")


@remembered
def _ge2e(signal: np.ndarray, sample_rate: int) -> np.ndarray | None:
    """Speaker embedding (256,) float32 of length 1; None where there is no voice."""
    resemblyzer = package("resemblyzer")
    if not signal.any():  # the gain for digital silence is infinite
        return None
    # Samples beyond [-1, 1] would overflow in the package's 16 bits.
    voiced = resemblyzer.preprocess_wav(np.clip(signal, -1, 1))
    if not voiced.size:
        return None
    embedding: np.ndarray = _voice_encoder().embed_utterance(voiced)
    return embedding


@cache
def _voice_encoder() -> Any:
    """Return the encoder, one per process, on the CPU: loading takes longer than using it."""
    return package("resemblyzer").VoiceEncoder("cpu", verbose=False)


def _wavlm_sv() -> str:
    where = os.environ.get(WAVLM_SV)
    if not where:
        raise MetricError(
            f"no x-vector model: set {WAVLM_SV} to a directory or hub id, such as "
            "microsoft/wavlm-base-plus-sv"
        )
    return where


@cache
def _x_vector(where: str) -> Any:
    """Return a function from (samples, rate) to (dimensions,) float64 of length 1, by the model in
    `where`.
    """
    transformers = package("transformers", "ssl")
    import torch

    try:
        extractor = transformers.AutoFeatureExtractor.from_pretrained(where)
        model = transformers.AutoModelForAudioXVector.from_pretrained(where).eval()
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise MetricError(f"{WAVLM_SV}={where}: {reason}") from None
    if extractor.sampling_rate != _RATE:
        raise MetricError(f"{WAVLM_SV}={where}: a model at {extractor.sampling_rate} Hz")

    @remembered
    def embed(signal: np.ndarray, sample_rate: int) -> np.ndarray:
        inputs = extractor(signal, sampling_rate=sample_rate, return_tensors="pt")
        try:
            with torch.inference_mode():
                vector = model(**inputs).embeddings[0].double().numpy()
        except RuntimeError as error:
            # A convolution is longer than its input.
            raise MetricError(f"x-vector of {signal.size} samples: {error}") from None
        norm = np.linalg.norm(vector)
        if not norm > 0:
            raise MetricError("x-vector: it is zero")
        found: np.ndarray = vector / norm
        return found

    return embed


def _wavlm_variant() -> str:
    return _named(_wavlm_sv())


@cache
def _named(where: str) -> str:
    """Name of a model; a folder's name has its digest added, since names may be reused."""
    folder = Path(where)
    return f"{folder.resolve().name} {folder_digest(folder)[:12]}" if folder.is_dir() else where


SPEAKER = Metric(
    name="speaker",
    heading="speaker",
    compute=speaker_similarity,
    description="Same speaker: cosine of GE2E voice embeddings.",
    higher_is_better=True,
    bounds=(0, 1),
    sample_rates=(_RATE,),
    paper="Wan et al., arXiv 1710.10467",
    package="resemblyzer",
    max_items=64,
)

WAVLM_SPEAKER = Metric(
    name="wavlm-sv",
    heading="WavLM-SV",
    compute=wavlm_similarity,
    description=f"Same speaker: cosine of x-vectors of the model that {WAVLM_SV} names.",
    higher_is_better=True,
    bounds=(-1, 1),
    sample_rates=(_RATE,),
    paper="Chen et al., arXiv 2110.13900",
    package="transformers",
    max_items=64,
    variant=_wavlm_variant,
)
