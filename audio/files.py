"""Audio files in and out.

soundfile reads wav, flac, ogg, opus and mp3; anything else goes through an `ffmpeg` program where
there is one. What is done with several channels, and with samples that do not fit, is said by the
caller: nothing is mixed or clipped silently.
"""

import os
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Literal, Self

import numpy as np
import soundfile

from ..errors import AudioFileError, WaveError
from ..filesystem import replacing
from .resampling import Resampler

#: Suffixes that a folder is searched for.
SUFFIXES = frozenset(
    f".{name}"
    for name in (
        *("wav", "flac", "ogg", "opus", "mp3", "aiff", "aif", "au", "w64", "caf"),
        *("m4a", "aac", "mp4", "wma", "webm", "mka", "amr"),
    )
)

_FFMPEG_FORMATS = (
    "aac,ac3,aiff,alaw,amr,amrnb,amrwb,ape,asf,au,avi,caf,dts,eac3,flac,flv,gsm,matroska,webm,mov,"
    "mp4,m4a,3gp,3g2,mj2,mp3,mpeg,mpegts,mulaw,ogg,tta,w64,wav,wv"
)

#: What to do with several channels: `mono` refuses them, `mix` averages them, `first` or a number
#: (counted from 0) picks one.
Channels = Literal["mono", "mix", "first"] | int

#: What to do with samples beyond [-1, 1], which 16-bit files can't hold: clamp them and count
#: them, or refuse.
Clipping = Literal["clamp", "error"]

BLOCK_SECONDS = 30


class AudioReader:
    """An open audio file, read in blocks.

    Args:
        path: the file.
        channels: see `Channels`.
        name: `-` where the file stands for standard input, for messages.

    Attributes:
        sample_rate: in Hz.
        num_channels: in the file.
        num_samples: per channel, or None where the file does not say.

    Raises:
        AudioFileError: it can't be opened, or has several channels and `channels` is `mono`.
    """

    def __init__(
        self, path: str | Path, channels: Channels = "mono", name: str | None = None
    ) -> None:
        self.path = Path(path)
        self.name = "standard input" if name == "-" else str(path)
        self._file: soundfile.SoundFile | None = None
        self._ffmpeg: subprocess.Popen[bytes] | None = None
        if not self.path.exists():
            raise AudioFileError(f"{self.name}: no such file")
        if self.path.is_dir():
            raise AudioFileError(f"{self.name}: a folder, expected an audio file")
        try:
            # As bytes: soundfile refuses text that is not UTF-8, which a file's name may be.
            self._file = soundfile.SoundFile(os.fsencode(self.path))
            self.sample_rate: int = self._file.samplerate
            self.num_channels: int = self._file.channels
            self.num_samples: int | None = self._file.frames
            if self._file.frames > 2**48:  # flac from a pipe: libsndfile can't go through it
                self._file.close()
                self._file = None
                raise ValueError("its header has no length")
        except (soundfile.SoundFileError, TypeError, ValueError) as error:
            self._open_ffmpeg(error)
        self._count = 0
        if self.num_samples == 0 and self.path.stat().st_size > 4096:
            self.close()
            raise AudioFileError(
                f"{self.name}: its header says 0 samples but more follows; it was not finished"
            )
        try:
            self._pick = self._picker(channels)
        except AudioFileError:
            self.close()
            raise

    def _picker(self, channels: Channels) -> Literal["mix"] | int:
        if isinstance(channels, int):
            if not 0 <= channels < self.num_channels:
                raise AudioFileError(
                    f"{self.name}: no channel {channels}; it has {self.num_channels}"
                )
            return channels
        if channels not in ("mono", "mix", "first"):
            raise AudioFileError(f"channels must be mono, mix, first or a number, got {channels!r}")
        if self.num_channels == 1 or channels == "first":
            return 0
        if channels == "mono":
            raise AudioFileError(
                f"{self.name}: has {self.num_channels} channels and one was expected; choose "
                "`mix` to average them, or `first` or a channel's number"
            )
        return "mix"

    def _open_ffmpeg(self, reason: Exception) -> None:
        program = shutil.which("ffmpeg")
        why = str(reason).rpartition(": ")[2].rstrip(".")
        if program is None:
            raise AudioFileError(
                f"{self.name}: libsndfile can't read it ({why}), and there is no ffmpeg program to "
                "try; install ffmpeg or convert the file to wav or flac"
            )
        # The AU format: its header says the rate and the channels, and it needs no seeking.
        # Formats that name other files (playlists, concatenations) are not among those allowed.
        command = [program, "-nostdin", "-v", "error", "-protocol_whitelist", "file,pipe"]
        command += ["-format_whitelist", _FFMPEG_FORMATS]
        command += ["-i", f"file:{self.path.absolute()}", "-map", "0:a:0"]
        command += ["-f", "au", "-c:a", "pcm_f32be", "pipe:1"]
        # Messages go to a file: a badly damaged input can give more than a pipe holds.
        self._messages = tempfile.TemporaryFile()  # noqa: SIM115
        self._ffmpeg = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self._messages)
        assert self._ffmpeg.stdout is not None
        header = self._ffmpeg.stdout.read(24)
        if len(header) < 24 or header[:4] != b".snd":
            message = self._ffmpeg_error() or "no audio in it"
            self.close()
            raise AudioFileError(
                f"{self.name}: not audio that can be read: {why}; ffmpeg: {message}"
            )
        offset, _, _, self.sample_rate, self.num_channels = struct.unpack(">5I", header[4:])
        self._ffmpeg.stdout.read(offset - 24)
        self.num_samples = None

    def _ffmpeg_error(self) -> str:
        assert self._ffmpeg is not None
        self._ffmpeg.wait()
        self._messages.seek(0)
        lines = self._messages.read().decode(errors="replace").strip().splitlines()
        return lines[-1].removeprefix(f"file:{self.path.absolute()}: ") if lines else ""

    def blocks(self, size: int | None = None) -> Iterator[np.ndarray]:
        """The samples in blocks of (size,) float32, the last one shorter, at the file's rate.

        Raises:
            AudioFileError: the data is damaged.
        """
        size = size or BLOCK_SECONDS * self.sample_rate
        while True:
            block = self._read(size)
            self._count += block.shape[0]
            if block.shape[0]:
                yield self._mono(block)
            if block.shape[0] < size:
                break
        missing = (self.num_samples or 0) - self._count
        # An mp3's own count may be off by its encoder's delay.
        if missing > (3000 if self._file is not None and self._file.format == "MP3" else 0):
            raise AudioFileError(
                f"{self.name}: cut short or damaged: {self._count} of {self.num_samples} samples "
                "can be read"
            )

    def _read(self, size: int) -> np.ndarray:
        if self._file is not None:
            try:
                return self._file.read(size, dtype="float32", always_2d=True)
            except soundfile.LibsndfileError as error:
                raise AudioFileError(f"{self.name}: {error.error_string}") from None
        assert self._ffmpeg is not None and self._ffmpeg.stdout is not None
        data = self._ffmpeg.stdout.read(4 * self.num_channels * size)
        block = np.frombuffer(data[: len(data) - len(data) % (4 * self.num_channels)], ">f4")
        block = block.astype(np.float32).reshape(-1, self.num_channels)
        if block.shape[0] < size:
            message = self._ffmpeg_error()
            if self._ffmpeg.returncode or message:
                raise AudioFileError(f"{self.name}: damaged: ffmpeg: {message}")
        return block

    def _mono(self, block: np.ndarray) -> np.ndarray:
        if self.num_channels == 1:
            return block[:, 0]
        if self._pick == "mix":
            return block.mean(1, dtype=np.float32)
        return np.ascontiguousarray(block[:, self._pick])

    def resampled_blocks(self, sample_rate: int) -> Iterator[np.ndarray]:
        """`blocks`, converted to `sample_rate`; the result does not depend on the blocks' size."""
        if sample_rate == self.sample_rate:
            yield from self.blocks()
            return
        try:
            resampler = Resampler(self.sample_rate, sample_rate)
        except WaveError as error:
            raise WaveError(f"{self.name}: {error}") from None
        for block in self.blocks():
            yield resampler.push(block)
        yield resampler.push(np.zeros(0, np.float32), final=True)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
        if self._ffmpeg is not None:
            self._ffmpeg.kill()
            self._ffmpeg.communicate()
            self._messages.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()


def read(
    path: str | Path, sample_rate: int | None = None, channels: Channels = "mono"
) -> tuple[np.ndarray, int]:
    """Read a whole file.

    Args:
        path: wav, flac, ogg, opus, mp3, or whatever an ffmpeg program reads.
        sample_rate: convert to this rate (soxr, high quality); default: leave it.
        channels: see `Channels`; the default refuses files with more than one.

    Returns:
        (samples,) float32, and the sample rate in Hz.

    Raises:
        AudioFileError: it can't be read, or has several channels and `channels` is `mono`.
    """
    with AudioReader(path, channels) as reader:
        rate = sample_rate or reader.sample_rate
        blocks = list(reader.resampled_blocks(rate))
    return np.concatenate(blocks) if blocks else np.zeros(0, np.float32), rate


class AudioWriter:
    """Writes a mono file piece by piece.

    Args:
        file: path or seekable binary file.
        sample_rate: Hz.
        audio_format: wav, flac, ogg, opus or mp3; default: from the path's suffix. Wav and flac
            hold 16 bits a sample.
        clipping: see `Clipping`.
        name: path in whose place `file` stands, for messages and the format.

    Attributes:
        clipped: samples that were clamped so far.

    Raises:
        AudioFileError: the format is unknown, or can't hold this sample rate.
    """

    def __init__(
        self,
        file: str | Path | IO[bytes],
        sample_rate: int,
        audio_format: str | None = None,
        clipping: Clipping = "clamp",
        name: str | Path | None = None,
    ) -> None:
        if clipping not in ("clamp", "error"):
            raise AudioFileError(f"clipping must be clamp or error, got {clipping!r}")
        self.clipping = clipping
        self.clipped = 0
        self.name = str(name or (file if isinstance(file, str | Path) else "output"))
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
        except (soundfile.LibsndfileError, TypeError, ValueError) as error:
            raise AudioFileError(
                f"{self.name}: can't write {audio_format or 'a file without a suffix'} at "
                f"{sample_rate} Hz ({error}); try .wav or .flac"
            ) from None

    def write(self, samples: np.ndarray) -> None:
        """Append samples (n,) float32 or float64.

        Raises:
            WaveError: another dtype or shape, NaN or infinity, or samples beyond [-1, 1] where
                `clipping` is `error`.
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
        self._file.write(samples)

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()


def write(
    path: str | Path, wave: np.ndarray, sample_rate: int, clipping: Clipping = "clamp"
) -> int:
    """Write a waveform (samples,) to a file, whole or not at all.

    Returns:
        How many samples were clamped.

    Raises:
        AudioFileError: the format is unknown.
        WaveError: not (samples,) of float32 or float64, NaN, infinity, or clipping where
            `clipping` is `error`.
    """
    path = Path(path)
    with (
        replacing(path) as temporary,
        AudioWriter(temporary, sample_rate, clipping=clipping, name=path) as writer,
    ):
        writer.write(np.asarray(wave))
    return writer.clipped
