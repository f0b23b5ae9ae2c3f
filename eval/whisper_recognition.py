"""Whisper (Radford et al., arXiv 2212.04356), run by faster-whisper and CTranslate2."""

import json
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from ..audio.forced_alignment import SAMPLE_RATE
from ..audio.transcripts import words_of
from .analysis_cache import remembered
from .model_files import folder_digest
from .recogniser_folders import ModelFolder, as_ctranslate2
from .requirements import MetricError, package

#: Whisper's window in seconds: shorter audio needs no time stamps.
WINDOW_S = 30.0

#: Time stamp tokens: every 20 ms of a window, both ends included, at the end of the vocabulary.
_TIME_STAMPS = 1501

#: Languages that Whisper names differently.
_CALLED = {"jv": "jw", "nb": "no", "fil": "tl", "cmn": "zh", "iw": "he", "in": "id"}


class WhisperRecognizer:
    """A Whisper model, with 8-bit weights and products, on one thread of the CPU.

    Decoding is greedy, without retries at a higher temperature, and without the text of the window
    before as a prompt. So words depend only on the samples, the language and the processor's
    kernels. Longer audio than 30 s is decoded window by window, by its time stamps. Transcripts are
    cached by the samples.

    Args:
        model: see `find_model`; one in transformers' format is converted first.

    Attributes:
        name: with the digest of the model, for results.
        languages: supported languages in ISO 639-1, with Whisper's names for them.

    Raises:
        MetricError: it can't be loaded, or no `faster-whisper` package.
    """

    def __init__(self, model: ModelFolder) -> None:
        whisper = package("faster_whisper", "asr")
        folder = as_ctranslate2(model)
        for name in ("model.bin", "tokenizer.json"):
            if not (folder / name).is_file():
                raise MetricError(f"recogniser {model.label}: no {name} in {folder}")
        try:
            self._model: Any = whisper.WhisperModel(
                str(folder), device="cpu", compute_type="int8", cpu_threads=1, num_workers=1
            )
        except Exception as error:  # tokenizers raises no more specific error
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise MetricError(f"recogniser {model.label}: {reason}") from None
        rate = self._model.feature_extractor.sampling_rate
        if rate != SAMPLE_RATE:
            raise MetricError(
                f"recogniser {model.label}: expected a model at {SAMPLE_RATE} Hz, got {rate}"
            )
        self._multilingual = bool(self._model.model.is_multilingual)
        # Older models lack some of Whisper's languages.
        token = self._model.hf_tokenizer.token_to_id
        self._codes = frozenset(
            code
            for code in self._model.supported_languages
            if not self._multilingual or token(f"<|{code}|>") is not None
        )
        self.languages: frozenset[str] | None = self._codes | {
            code for code, called in _CALLED.items() if called in self._codes
        }
        packages = (
            f"faster-whisper {version('faster-whisper')}, CTranslate2 {version('ctranslate2')}"
        )
        self.name = f"{model.label} {folder_digest(folder)[:12]}, {packages}, int8, greedy"
        self._tells_languages = bool(self._checked_config(folder, model.label).get("lang_ids"))
        self._recall: dict[str | None, Callable[[np.ndarray, int], tuple[str, ...]]] = {}
        self._detect = remembered(self._detected)

    def _checked_config(self, folder: Path, label: str) -> dict[str, Any]:
        """Return CTranslate2's configuration; missing tokens would make it write outside its
        memory.

        Raises:
            MetricError: it names tokens that the model does not have.
        """
        config: dict[str, Any] = json.loads((folder / "config.json").read_text("utf-8"))
        last = (self._model.hf_tokenizer.token_to_id("<|notimestamps|>") or 0) + _TIME_STAMPS
        for name in ("suppress_ids", "suppress_ids_begin", "lang_ids"):
            for number in config.get(name) or ():
                if not isinstance(number, int) or number > last:
                    raise MetricError(
                        f"recogniser {label}: config.json: {name} has {number}, but the last token "
                        f"is {last}"
                    )
        return config

    def words(self, wave: np.ndarray, sample_rate: int, language: str | None = None) -> list[str]:
        """Recognise speech; return words in lower case and without punctuation, possibly none.

        Args:
            wave: (samples,), full scale at 1.
            sample_rate: 16000 Hz.
            language: one of `languages`; None: the model identifies it.

        Raises:
            MetricError: another rate or shape, NaN, an unsupported language, or none is
                given and the model can't identify it.
        """
        _check(wave, sample_rate)
        if language is not None:
            language = _CALLED.get(language, language)
            if language not in self._codes:
                raise MetricError(f"{self.name} does not know the language {language}")
        if language not in self._recall:
            self._recall[language] = remembered(partial(self._listen, language=language))
        return list(self._recall[language](wave, sample_rate))

    def language_of(self, wave: np.ndarray, sample_rate: int) -> str | None:
        """Identify the language of the first 30 s.

        Raises:
            MetricError: another rate or shape, NaN, or the model can't identify it.
        """
        _check(wave, sample_rate)
        return self._detect(wave, sample_rate)

    def _detected(self, wave: np.ndarray, sample_rate: int) -> str:
        if not self._multilingual:
            return "en"
        if not self._tells_languages:
            raise MetricError(
                f"{self.name}: its config.json has no lang_ids, so it can't tell languages; the "
                "manifest has to say them"
            )
        with threadpool_limits(1):
            return str(self._run(wave, lambda: self._model.detect_language(wave))[0])

    def _listen(
        self, wave: np.ndarray, sample_rate: int, language: str | None = None
    ) -> tuple[str, ...]:
        if language is None:
            language = self._detect(wave, sample_rate)

        def transcribed() -> str:
            segments, _ = self._model.transcribe(
                wave,
                language=language,
                beam_size=1,
                temperature=0.0,
                condition_on_previous_text=False,
                without_timestamps=wave.size <= WINDOW_S * SAMPLE_RATE,
            )
            return "".join(segment.text for segment in segments)

        # Sums of the spectrogram must not depend on the number of cores either.
        with threadpool_limits(1):
            return tuple(words_of(self._run(wave, transcribed)))

    def _run(self, wave: np.ndarray, step: Callable[[], Any]) -> Any:
        try:
            return step()
        except (RuntimeError, ValueError) as error:
            raise MetricError(f"recognition of {wave.size} samples: {error}") from None


def _check(wave: np.ndarray, sample_rate: int) -> None:
    if sample_rate != SAMPLE_RATE:
        raise MetricError(f"recognition needs {SAMPLE_RATE} Hz, got {sample_rate}")
    if wave.ndim != 1 or not wave.size or not np.isfinite(wave).all():
        raise MetricError(f"recognition: expected finite (samples,), got shape {wave.shape}")
