"""Write audio files in chunks."""

import os
from pathlib import Path
from typing import IO, Literal, Self

import numpy as np
import soundfile

from ..errors import AudioFileError, WaveError

#: How to treat samples beyond [-1, 1], which 16-bit files can't hold: clamp and count them, or
#: raise an error.
Clipping = Literal["clamp", "error"]


class AudioWriter:
    """Write a mono audio file in chunks.

    Args:
        file: path or seekable binary file.
        sample_rate: in Hz.
        audio_format: wav, flac, ogg, opus or mp3; default: from the path's suffix. Wav and flac
            have 16 bits per sample.
        clipping: see `Clipping`.
        name: of the final path if `file` is a stand-in, for messages and the format.
        comment: a text to store in the file; see `read_comment`.

    Attributes:
        clipped: number of samples clamped so far.

    Raises:
        AudioFileError: the format is unknown, or does not support the sample rate; or, also in
            later calls, the file can't be written, for example because the disk is full.
    """

    def __init__(
        self,
        file: str | Path | IO[bytes],
        sample_rate: int,
        audio_format: str | None = None,
        clipping: Clipping = "clamp",
        name: str | Path | None = None,
        comment: str | None = None,
    ) -> None:
        if clipping not in ("clamp", "error"):
            raise AudioFileError(f"clipping must be clamp or error, got {clipping!r}")
        self.clipping = clipping
        self.clipped = 0
        self.name = str(name or (file if isinstance(file, str | Path) else "output"))
        self._path = Path(file) if isinstance(file, str | Path) else None
        if audio_format is None:
            audio_format = Path(self.name).suffix.lstrip(".").lower()
        subtype = {"wav": "PCM_16", "flac": "PCM_16"}.get(audio_format)
        container, codec = {"opus": ("OGG", "OPUS")}.get(
            audio_format, (audio_format.upper(), subtype)
        )
        try:
            self._file = soundfile.SoundFile(
                os.fsencode(file) if isinstance(file, str | Path) else file,
                "w",
                samplerate=sample_rate,
                channels=1,
                subtype=codec,
                format=container,
            )
            if comment is not None:
                self._file.comment = comment
        except (soundfile.LibsndfileError, TypeError, ValueError) as error:
            reason = self._why_not()
            if reason is not None:
                raise AudioFileError(f"{self.name}: can't be written: {reason}") from None
            raise AudioFileError(
                f"{self.name}: can't write {audio_format or 'a file without a suffix'} at "
                f"{sample_rate} Hz ({error}); try .wav or .flac"
            ) from None

    def write(self, samples: np.ndarray) -> None:
        """Append samples (n,) float32 or float64.

        Raises:
            WaveError: a wrong dtype or shape, NaN or infinity, or samples beyond [-1, 1] with
                `clipping` `error`.
        """
        if samples.dtype not in (np.float32, np.float64) or samples.ndim != 1:
            raise WaveError(
                f"{self.name}: expected samples (n,) of float32 or float64 in [-1, 1], got "
                f"{samples.dtype} of shape {samples.shape}"
            )
        if not np.isfinite(samples).all():
            raise WaveError(f"{self.name}: the samples hold NaN or infinity")
        beyond = int(np.count_nonzero(np.abs(samples) > 1))
        if beyond:
            if self.clipping == "error":
                raise WaveError(
                    f"{self.name}: {beyond} samples lie beyond [-1, 1] (peak "
                    f"{np.abs(samples).max():.3f}); scale them, or say clipping='clamp'"
                )
            self.clipped += beyond
            samples = np.clip(samples, -1, 1)
        try:
            self._file.write(samples)
        except (soundfile.LibsndfileError, AssertionError) as error:
            raise self._failed(error) from None

    def close(self) -> None:
        """Finish the file.

        Raises:
            AudioFileError: the remaining data could not be written.
        """
        try:
            self._file.close()
        except soundfile.LibsndfileError as error:
            raise self._failed(error) from None

    def _failed(self, error: Exception) -> AudioFileError:
        said = getattr(error, "error_string", "not all of it was taken").rstrip(".")
        return AudioFileError(f"{self.name}: can't be written: {self._why_not() or said}")

    def _why_not(self) -> str | None:
        """Return the system's reason why writing failed, which libsndfile does not report."""
        if self._path is None:
            return None
        try:
            with self._path.open("ab") as file:
                file.write(bytes(1 << 16))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            return error.strerror or str(error)
        return None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()


def read_comment(path: Path) -> str:
    """Return the comment in an audio file, from `AudioWriter` or not; empty if there is none.

    Raises:
        AudioFileError: libsndfile can't read it as audio.
    """
    try:
        with soundfile.SoundFile(os.fsencode(path)) as file:
            return str(file.comment)
    except (soundfile.SoundFileError, TypeError, ValueError):
        raise AudioFileError(f"{path}: no audio file that says what it was made of") from None
