"""Published recognisers other than Whisper, such as wav2vec 2.0 with CTC, by `transformers`."""

from importlib.metadata import version
from typing import Any

import numpy as np

from .metrics.cache import remembered
from .metrics.interface import MetricError
from .metrics.requirements import package
from .recogniser_folders import ModelFolder
from .transcripts import words_of
from .unit_measures.alignment import SAMPLE_RATE


class PretrainedRecognizer:
    """A CTC or sequence-to-sequence model with its tokenizer and feature extractor.

    Text is the most likely one at each step, no beam search and nothing drawn, on the CPU in
    float32. Utterances are taken whole. Words of samples that were heard before are remembered.

    Args:
        model: see `find_model`.

    Raises:
        MetricError: it can't be loaded, it works at another rate than 16 kHz, or no `transformers`
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
        except (OSError, ValueError, KeyError) as error:
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
        """The words heard, as `words_of` writes them; there may be none.

        Args:
            wave: (samples,), full scale at 1.
            sample_rate: 16000 Hz.
            language: it hears what it was trained on whatever this says.

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
            # The pipeline's own default is five beams: slower, and other words.
            options["generate_kwargs"] = {"do_sample": False, "num_beams": 1}
        try:
            found = self._pipeline({"raw": wave, "sampling_rate": sample_rate}, **options)
        except RuntimeError as error:
            # A convolution that is longer than what it is given.
            raise MetricError(f"recognition of {wave.size} samples: {error}") from None
        text = found["text"]
        # Of a CTC model's text the pipeline takes off the blank only.
        for special in self._pipeline.tokenizer.all_special_tokens:
            text = text.replace(special, "")
        return tuple(words_of(text))
