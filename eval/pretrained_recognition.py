"""Pretrained recognisers other than Whisper, such as wav2vec 2.0 with CTC, by `transformers`."""

from importlib.metadata import version
from typing import Any

import numpy as np

from ..audio.forced_alignment import SAMPLE_RATE
from ..audio.transcripts import words_of
from .analysis_cache import remembered
from .recogniser_folders import ModelFolder
from .requirements import MetricError, package


class PretrainedRecognizer:
    """A CTC or sequence-to-sequence model with its tokenizer and feature extractor.

    Decoding is greedy, on the CPU in float32. Utterances are processed whole. Transcripts are
    cached by the samples.

    Args:
        model: see `find_model`.

    Raises:
        MetricError: it can't be loaded, it has another sample rate than 16 kHz, or no
            `transformers`
            package.
    """

    languages: frozenset[str] | None = None

    def __init__(self, model: ModelFolder) -> None:
        transformers = package("transformers", "ssl")
        try:
            self._pipeline: Any = transformers.pipeline(
                "automatic-speech-recognition",
                model=str(model.path),
                device="cpu",
                dtype="float32",
            )
        except Exception as error:  # damaged files raise anything
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise MetricError(f"recogniser {model.label}: {reason}") from None
        rate = self._pipeline.feature_extractor.sampling_rate
        if rate != SAMPLE_RATE:
            raise MetricError(
                f"recogniser {model.label}: expected a model at {SAMPLE_RATE} Hz, got {rate}"
            )
        self.name = f"{model.label} {model.digest[:12]}, transformers {version('transformers')}"
        self._recall = remembered(self._listen)

    def words(self, wave: np.ndarray, sample_rate: int, language: str | None = None) -> list[str]:
        """Recognise speech; return the words as `words_of` writes them, possibly none.

        Args:
            wave: (samples,), full scale at 1.
            sample_rate: 16000 Hz.
            language: ignored; the model's language is fixed.

        Raises:
            MetricError: another rate or shape, NaN, or too short for the model.
        """
        if sample_rate != SAMPLE_RATE:
            raise MetricError(f"recognition needs {SAMPLE_RATE} Hz, got {sample_rate}")
        if wave.ndim != 1 or not wave.size or not np.isfinite(wave).all():
            raise MetricError(f"recognition: expected finite (samples,), got shape {wave.shape}")
        return list(self._recall(wave, sample_rate))

    def language_of(self, wave: np.ndarray, sample_rate: int) -> str | None:
        return None

    def _listen(self, wave: np.ndarray, sample_rate: int) -> tuple[str, ...]:
        options: dict[str, Any] = {}
        if self._pipeline.type != "ctc":
            # The pipeline's default is a beam search with five beams: slower, and different words.
            options["generate_kwargs"] = {"do_sample": False, "num_beams": 1}
        try:
            found = self._pipeline({"raw": wave, "sampling_rate": sample_rate}, **options)
        except RuntimeError as error:
            # A convolution is longer than its input.
            raise MetricError(f"recognition of {wave.size} samples: {error}") from None
        text = found["text"]
        # The pipeline removes only the blank from a CTC model's text.
        for special in self._pipeline.tokenizer.all_special_tokens:
            text = text.replace(special, "")
        return tuple(words_of(text))
