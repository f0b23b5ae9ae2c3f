"""Read and write audio files.

soundfile reads wav, flac, ogg, opus and mp3; other formats are read with an `ffmpeg` program if
there is one. The caller decides how to treat several channels, and samples out of range: nothing is
mixed or clipped silently.
"""

import math
import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Literal, Self

import numpy as np
import soundfile

from ..errors import AudioFileError, WaveError
from ..filesystem import replacing, spooled
from .ffmpeg import FFmpegStream
from .parts import Part, SequentialFile, find_parts
from .resampling import Resampler
from .writer import AudioWriter as AudioWriter
from .writer import Clipping as Clipping
from .writer import read_comment as read_comment

#: Suffixes of the files that a search of a folder finds.
SUFFIXES = frozenset(
    f".{name}"
    for name in (
        *("wav", "flac", "ogg", "opus", "mp3", "aiff", "aif", "au", "w64", "caf"),
        *("m4a", "aac", "mp4", "wma", "webm", "mka", "amr"),
    )
)

#: How to treat several channels: `mono` raises an error, `mix` averages them, `first` or a number
#: (counted from 0) picks one.
Channels = Literal["mono", "mix", "first"] | int

BLOCK_SECONDS = 30


class AudioReader:
    """An open audio file, or a segment of one, read in blocks.

    It reads all samples in a file, even if the header declares fewer: see `audio.parts`.

    Args:
        path: the file; a FIFO or socket is copied to a temporary file first.
        channels: see `Channels`.
        name: of the file, for messages; `-` stands for standard input. Default: its path.
        offset_s: start of the segment in seconds; None: the start of the file.
        duration_s: its length in seconds; None: up to the end of the file. Without an offset, a
            length that exceeds the file's, or differs by rounding (10 ms), means the whole file.

    Attributes:
        sample_rate: in Hz.
        num_channels: in the file.
        num_samples: of the segment, per channel; None if the file does not tell.
        segment: its first sample and number of samples (None: unknown); None for a whole file.

    Raises:
        AudioFileError: it can't be opened; it has several channels and `channels` is `mono`; or the
            segment exceeds the file.
    """

    def __init__(
        self,
        path: str | Path,
        channels: Channels = "mono",
        name: str | None = None,
        *,
        offset_s: float | None = None,
        duration_s: float | None = None,
    ) -> None:
        self.name = "standard input" if name == "-" else str(name or path)
        with ExitStack() as stack:
            self._opened = stack
            self.path = stack.enter_context(_openable(Path(path), self.name))
            self._open()
            self._pick = self._picker(channels)
            self._count = 0
            self._place_segment(offset_s, duration_s)
            self._opened = stack.pop_all()

    def _open(self) -> None:
        self._waiting: list[Part] = []
        self._part: Part | None = None
        self._slack = 0
        self._file: soundfile.SoundFile | None = None
        self._ffmpeg: FFmpegStream | None = None
        try:
            # As bytes: file names need not be UTF-8, and soundfile refuses such text.
            self._file = SequentialFile(os.fsencode(self.path))
        except (soundfile.SoundFileError, TypeError, ValueError) as error:
            why = str(error).rpartition(": ")[2].rstrip(".")
            self._ffmpeg = FFmpegStream(self.path, self.name, why)
            self._opened.callback(self._ffmpeg.close)
            self.sample_rate: int = self._ffmpeg.sample_rate
            self.num_channels: int = self._ffmpeg.channels
            self._total: int | None = None
            return
        self._opened.callback(self._close_file)
        self.sample_rate, self.num_channels = self._file.samplerate, self._file.channels
        self._total = self._unread = self._file.frames
        # The sample count of an mp3 may be off by the encoder's delay.
        self._slack = 3000 if self._file.format == "MP3" else 0
        parts = find_parts(self.path, self._file, self.name)
        if parts is not None:
            self._close_file()
            self._waiting, counts = parts, []
            for part in parts:
                with self._open_part(part) as file:
                    counts.append(part.frames if part.frames is not None else file.frames)
            self._slack = sum(part.slack for part in parts)
            self._total = sum(counts) if max(counts) < 1 << 48 else None

    def _open_part(self, part: Part) -> soundfile.SoundFile:
        try:
            file = part.open(self.path)
        except (soundfile.SoundFileError, TypeError, ValueError) as error:
            raise AudioFileError(
                f"{self.name}: the part from byte {part.start} on can't be read: {error}"
            ) from None
        if (file.samplerate, file.channels) != (self.sample_rate, self.num_channels):
            found = f"{file.channels} channels at {file.samplerate} Hz"
            file.close()
            raise AudioFileError(
                f"{self.name}: from byte {part.start} on it has {found}, before "
                f"{self.num_channels} at {self.sample_rate} Hz; split it into files"
            )
        return file

    def _next_part(self) -> None:
        self._file = self._open_part(self._waiting.pop(0))
        self._unread = self._file.frames

    def _close_file(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

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
                'channels: "mix" averages them, as in read(path, channels="mix") or --channels '
                'mix; "first" or a number takes one'
            )
        return "mix"

    def _place_segment(self, offset_s: float | None, duration_s: float | None) -> None:
        for what, seconds in (("offset", offset_s), ("duration", duration_s)):
            if seconds is not None and not 0 <= seconds < math.inf:
                raise AudioFileError(f"{self.name}: a segment's {what} can't be {seconds} s")
        rate, total = self.sample_rate, self._total
        start = round((offset_s or 0) * rate)
        wanted = None if duration_s is None else round(duration_s * rate)
        self._wanted_s = duration_s
        self._left = wanted
        if total is not None:
            rest = total - start
            if start and rest <= 0:
                raise AudioFileError(
                    f"{self.name}: a segment from {offset_s:g} s on, of {total / rate:g} s"
                )
            if wanted is not None and offset_s is not None:
                self._check_end(rest, wanted)
            if wanted is None or wanted >= rest or (not start and rest - wanted <= rate // 100):
                self._left = None
            self.num_samples = rest if self._left is None else wanted
        else:
            self.num_samples = None
        self._skip, self._has_offset = start, offset_s is not None
        self.segment = (start, self.num_samples) if start or self._left is not None else None

    def _check_end(self, there: int, wanted: int) -> None:
        """Raise if a segment ends over 0.1 s after the file; less passes as rounding."""
        if wanted - there > self.sample_rate // 10:
            raise AudioFileError(
                f"{self.name}: a segment of {self._wanted_s:g} s, where only "
                f"{there / self.sample_rate:g} s are left"
            )

    def blocks(self, size: int | None = None) -> Iterator[np.ndarray]:
        """Yield blocks (size,) float32 at the file's rate; the last one may be shorter.

        Raises:
            AudioFileError: the data is damaged.
        """
        size = size or BLOCK_SECONDS * self.sample_rate
        self._skip_to_start(size)
        while True:
            most = size if self._left is None else min(size, self._left)
            block = self._read(most) if most else np.zeros((0, self.num_channels), np.float32)
            self._count += block.shape[0]
            if self._left is not None:
                self._left -= block.shape[0]
            if block.shape[0]:
                yield self._mono(block)
            if block.shape[0] < size:
                break
        if self._total is None and self._has_offset and self._left:
            self._check_end(self._count, self._count + self._left)
        missing = (self.num_samples or 0) - self._count
        if missing > self._slack:
            raise AudioFileError(
                f"{self.name}: cut short or damaged: {self._count} of {self.num_samples} samples "
                "can be read"
            )

    def _skip_to_start(self, size: int) -> None:
        """Seek to the segment; where seeking is not sample-exact, decode and skip instead."""
        if not self._skip:
            return
        if self._file is None and len(self._waiting) == 1:
            self._next_part()
        if self._file is not None and not self._waiting and _is_exact(self._file):
            self._file.seek(self._skip)
            self._unread -= self._skip
        else:
            left = self._skip
            while left:
                count = self._read(min(size, left)).shape[0]
                if not count:
                    at = self._skip / self.sample_rate
                    raise AudioFileError(f"{self.name}: a segment from {at:g} s on, behind its end")
                left -= count
        self._skip = 0

    def _read(self, size: int) -> np.ndarray:
        """Read (size, channels) float32, across parts; fewer at the end."""
        if self._ffmpeg is not None:
            return self._ffmpeg.read(size)
        blocks = []
        while size:
            if self._file is None:
                if not self._waiting:
                    break
                self._next_part()
            assert self._file is not None
            try:
                # Read no more than the declared samples: what follows may be a tag.
                most = min(size, self._unread)
                block = self._file.read(most, dtype="float32", always_2d=True)
            except soundfile.LibsndfileError as error:
                what = error.error_string.rstrip(".")
                raise AudioFileError(f"{self.name}: damaged: {what}") from None
            size -= block.shape[0]
            self._unread -= block.shape[0]
            blocks.append(block)
            if size:
                self._close_file()
        if not blocks:
            return np.zeros((0, self.num_channels), np.float32)
        return blocks[0] if len(blocks) == 1 else np.concatenate(blocks)

    def _mono(self, block: np.ndarray) -> np.ndarray:
        if self.num_channels == 1:
            return block[:, 0]
        if self._pick == "mix":
            return block.mean(1, dtype=np.float32)
        return np.ascontiguousarray(block[:, self._pick])

    def resampled_blocks(self, sample_rate: int) -> Iterator[np.ndarray]:
        """Yield `blocks` resampled to `sample_rate`; the result is independent of block sizes."""
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

    def stream_blocks(self, sample_rate: int) -> Iterator[tuple[np.ndarray, bool]]:
        """Yield `resampled_blocks`, each with whether it is the last, for streams that are told of
        the end with the last samples; one empty block if there is none.
        """
        blocks = self.resampled_blocks(sample_rate)
        held = next(blocks, np.zeros(0, np.float32))
        for block in blocks:
            yield held, False
            held = block
        yield held, True

    def close(self) -> None:
        self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()


@contextmanager
def _openable(path: Path, name: str) -> Iterator[Path]:
    """Yield a path that can be read repeatedly: the given one, or a copy if it is a FIFO."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise AudioFileError(f"{name}: a folder, expected an audio file")
        if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
            raise AudioFileError(f"{name}: a device, expected an audio file")
        with spooled(path) as file:
            with file.open("rb"):  # libsndfile does not report the reason of a failure
                pass
            yield file
    except FileNotFoundError:
        raise AudioFileError(f"{name}: no such file") from None
    except OSError as error:
        raise AudioFileError(f"{name}: can't be read: {error.strerror or error}") from None


def _is_exact(file: soundfile.SoundFile) -> bool:
    """Whether seeking gives the same samples as reading on."""
    bare = file.subtype.startswith("PCM") or file.subtype in ("FLOAT", "DOUBLE", "ULAW", "ALAW")
    return bool(bare and file.format not in ("OGG", "MP3"))


def read(
    path: str | Path,
    sample_rate: int | None = None,
    channels: Channels = "mono",
    *,
    offset_s: float | None = None,
    duration_s: float | None = None,
) -> tuple[np.ndarray, int]:
    """Read a whole file, or a segment of one.

    Args:
        path: wav, flac, ogg, opus, mp3, or any format that an ffmpeg program reads.
        sample_rate: resample to this rate (soxr, high quality); default: keep the file's.
        channels: see `Channels`; the default refuses files with more than one.
        offset_s, duration_s: the segment in seconds, see `AudioReader`.

    Returns:
        (samples,) float32, and the sample rate in Hz.

    Raises:
        AudioFileError: it can't be read, or has several channels and `channels` is `mono`.
    """
    with AudioReader(path, channels, offset_s=offset_s, duration_s=duration_s) as reader:
        rate = sample_rate or reader.sample_rate
        blocks = list(reader.resampled_blocks(rate))
    return np.concatenate(blocks) if blocks else np.zeros(0, np.float32), rate


def write(
    path: str | Path, wave: np.ndarray, sample_rate: int, clipping: Clipping = "clamp"
) -> int:
    """Write a waveform (samples,) to a file, which appears whole or not at all.

    Returns:
        Number of clamped samples.

    Raises:
        AudioFileError: the format is unknown.
        WaveError: the waveform is not (samples,) of float32 or float64, or holds NaN or infinity,
            or clips and `clipping` is `error`.
    """
    path = Path(path)
    with (
        replacing(path) as temporary,
        AudioWriter(temporary, sample_rate, clipping=clipping, name=path) as writer,
    ):
        writer.write(np.asarray(wave))
    return writer.clipped
