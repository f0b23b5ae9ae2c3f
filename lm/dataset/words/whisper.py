"""Times of words by Whisper's cross-attention (faster-whisper, CTranslate2)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ....audio.resampling import resample
from ....errors import DatasetError
from ....filesystem import printable
from ..items import AlignedWord

_RATE = 16000
#: Whisper's window in seconds, and frames of its features a second.
_WINDOW_S, _FRAMES = 30.0, 100


class WhisperAligner:
    """A transcript's words are aligned; speech without a transcript is recognised.

    Args:
        model: folder of a Whisper model in CTranslate2's format (`ct2-transformers-converter`), or
            a name that faster-whisper downloads.

    Raises:
        DatasetError: no such package or model.
    """

    def __init__(self, model: str) -> None:
        try:
            import faster_whisper
            from faster_whisper.tokenizer import Tokenizer
        except ImportError:
            raise DatasetError("the aligner whisper needs: pip install 'syllabary[asr]'") from None
        if model.startswith((".", "/", "~")) and not Path(model).is_dir():
            raise DatasetError(f"{printable(model)}: no such folder of a Whisper model")
        try:
            self._model: Any = faster_whisper.WhisperModel(
                model, device="cpu", compute_type="int8", cpu_threads=1, num_workers=1
            )
        except Exception as error:  # the packages raise many kinds
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise DatasetError(f"whisper:{model}: {reason}") from None
        self._tokenizer = Tokenizer

    def align(
        self, wave: np.ndarray, sample_rate: int, text: str | None, language: str | None
    ) -> tuple[Sequence[AlignedWord], str | None]:
        """See `WordAligner.align`."""
        samples = resample(wave, sample_rate, _RATE) if sample_rate != _RATE else wave
        samples = np.ascontiguousarray(samples, np.float32)
        code = self._language(language)
        if text is None or not text.strip():
            return self._recognise(samples, code)
        if samples.size > _WINDOW_S * _RATE:
            raise DatasetError(
                f"{samples.size / _RATE:.0f} s; Whisper aligns a transcript of up to "
                f"{_WINDOW_S:.0f} s: give it as segments"
            )
        tokenizer = self._tokenizer(
            self._model.hf_tokenizer, self._multilingual, task="transcribe", language=code or "en"
        )
        features = self._model.feature_extractor(samples)
        frames = min(features.shape[-1], round(samples.size / _RATE * _FRAMES))
        padded = np.zeros((features.shape[0], round(_WINDOW_S * _FRAMES)), features.dtype)
        padded[:, : min(padded.shape[1], features.shape[1])] = features[:, : padded.shape[1]]
        encoded = self._model.encode(padded)
        tokens = tokenizer.encode(f" {text.strip()}")
        (found,) = self._model.find_alignment(tokenizer, [tokens], encoded, frames)
        return self._words(
            [(part["word"], part["start"], part["end"]) for part in found], samples.size / _RATE
        ), text

    @property
    def _multilingual(self) -> bool:
        return bool(self._model.model.is_multilingual)

    def _language(self, language: str | None) -> str | None:
        """Whisper's code of a language; None to find out."""
        if not self._multilingual:
            return "en"
        if language is None:
            return None
        code = language.lower().replace("_", "-").partition("-")[0]
        if code not in self._model.supported_languages:
            raise DatasetError(f"Whisper does not know the language {language!r}")
        return code

    def _recognise(
        self, samples: np.ndarray, language: str | None
    ) -> tuple[list[AlignedWord], str | None]:
        segments, _ = self._model.transcribe(
            samples,
            language=language,
            beam_size=1,
            temperature=0.0,
            condition_on_previous_text=False,
            word_timestamps=True,
        )
        held = list(segments)
        parts = [(word.word, word.start, word.end) for part in held for word in part.words or ()]
        text = "".join(part.text for part in held).strip()
        return self._words(parts, samples.size / _RATE), text or None

    def _words(self, parts: Sequence[tuple[str, float, float]], total: float) -> list[AlignedWord]:
        """Words without spaces; punctuation by itself goes to the word before."""
        found: list[AlignedWord] = []
        for written, start, end in parts:
            word = written.strip()
            begin = min(max(0.0, round(float(start), 3)), total)
            stop = min(max(begin, round(float(end), 3)), total)
            if not any(map(str.isalnum, word)):
                if found and word:
                    found[-1] = found[-1]._replace(word=found[-1].word + word)
            else:
                found.append(AlignedWord(word, begin, stop))
        return found
