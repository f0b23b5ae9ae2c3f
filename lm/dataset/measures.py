"""Measures of an utterance's sound that filters compare: level, clipping, speech and noise."""

import math
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from ...audio.resampling import Resampler
from ...errors import DatasetError

if TYPE_CHECKING:
    from silero_vad.sequence_vad import SileroVADSequence

#: A sample of at least this magnitude is counted as clipped.
FULL_SCALE = 0.999
#: Silero's model takes windows of 512 samples at this rate.
VAD_RATE, VAD_WINDOW = 16000, 512
#: Speech is what the model gives at least this probability.
SPEECH_PROBABILITY = 0.5
#: A level for digital silence, in dB.
SILENCE_DB = -120.0
#: The noise's level is taken from windows without speech, if they are as many; about 0.2 s.
_ENOUGH_NOISE = 6


@dataclass(frozen=True)
class Measures:
    """Of one utterance.

    Attributes:
        seconds: of audio.
        peak: largest magnitude.
        clipped: share of samples at full scale.
        level_db: root mean square over full scale, in dB.
        speech: share of 32 ms windows with speech; None if not measured.
        snr_db: power in windows with speech, less the noise's, over the noise's, in dB. The noise
            is the mean of windows without speech, or the quietest tenth of all windows where those
            are fewer than 0.2 s. None if not measured, or without speech.
    """

    seconds: float
    peak: float
    clipped: float
    level_db: float
    speech: float | None = None
    snr_db: float | None = None


class Meter:
    """Measures an utterance that comes in blocks.

    Args:
        sample_rate: of the blocks, in Hz.
        with_speech: find speech, by Silero's model in the package `silero-vad`.

    Raises:
        DatasetError: `with_speech`, and there is no such package.
    """

    def __init__(self, sample_rate: int, with_speech: bool) -> None:
        self.sample_rate = sample_rate
        self._count, self._clipped = 0, 0
        self._peak, self._power = 0.0, 0.0
        self._speech = _SpeechMeter(sample_rate) if with_speech else None

    def push(self, block: np.ndarray, last: bool) -> None:
        """Add a block (samples,) float32."""
        if block.size:
            peak = max(float(block.max()), -float(block.min()))
            self._peak = max(self._peak, peak)
            if peak >= FULL_SCALE:
                self._clipped += int(np.count_nonzero(np.abs(block) >= FULL_SCALE))
            # Not by `np.dot`: in which order that adds is the processor's, and filters compare.
            self._power += float(np.sum(np.square(block, dtype=np.float64)))
            self._count += block.size
        if self._speech is not None:
            self._speech.push(block, last)

    def result(self) -> Measures:
        """The measures of all blocks so far."""
        share, snr = (None, None) if self._speech is None else self._speech.result()
        count = max(1, self._count)
        return Measures(
            self._count / self.sample_rate,
            self._peak,
            self._clipped / count,
            decibels(self._power / count),
            share,
            snr,
        )


def decibels(power: float) -> float:
    """Of a power over that of full scale; never below `SILENCE_DB`."""
    return max(SILENCE_DB, 10 * math.log10(power)) if power > 0 else SILENCE_DB


class _SpeechMeter:
    """Speech and noise, window by window; the model carries its state on from block to block."""

    def __init__(self, sample_rate: int) -> None:
        self._model = _silero()
        self._resampler = Resampler(sample_rate, VAD_RATE) if sample_rate != VAD_RATE else None
        self._parts: list[np.ndarray] = []

    def push(self, block: np.ndarray, last: bool) -> None:
        if self._resampler is not None:
            block = self._resampler.push(block, final=last)
        self._parts.append(np.asarray(block, np.float32))

    def result(self) -> tuple[float | None, float | None]:
        wave = np.concatenate(self._parts) if self._parts else np.zeros(0, np.float32)
        if not wave.size:
            return 0.0, None
        chances = np.asarray(self._model.audio_forward(wave, VAD_RATE)).reshape(-1)
        speech = chances >= SPEECH_PROBABILITY
        padded = np.zeros(len(speech) * VAD_WINDOW)
        padded[: len(wave)] = wave
        powers = np.square(padded.reshape(-1, VAD_WINDOW)).mean(axis=1)
        share = float(speech.mean())
        if not speech.any():
            return share, None
        quiet = powers[~speech]
        if len(quiet) < _ENOUGH_NOISE:
            quiet = np.sort(powers)[: max(1, len(powers) // 10)]
        noise = max(float(quiet.mean()), 10 ** (SILENCE_DB / 10))
        signal = max(float(powers[speech].mean()) - noise, noise * 1e-3)
        return share, round(10 * math.log10(signal / noise), 2)


@cache
def _silero() -> "SileroVADSequence":
    try:
        import silero_vad
        from silero_vad.sequence_vad import SileroVADSequence
    except ImportError:
        raise DatasetError(
            "speech and noise are measured with Silero's model: pip install 'syllabary[lm]', or "
            "silero-vad and onnxruntime"
        ) from None
    from pathlib import Path

    folder: Any = silero_vad.__file__
    path = Path(folder).parent / "data" / "silero_vad_16k_sequence.onnx"
    if not path.exists():
        raise DatasetError(f"{path}: missing; silero-vad 6.2 or newer has it")
    return SileroVADSequence(str(path), VAD_RATE)
