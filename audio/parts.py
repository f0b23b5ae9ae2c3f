"""What a file holds beyond what its header tells: the parts that libsndfile has to be shown.

libsndfile reads as many samples as a header counts, and one stream. Here it is asked whether more
follow: a header's size that is 0 or has wrapped, an MP3 without a count, a second stream behind
the first. Each part is then read as a file of its own, so that all samples come, or the file is
refused by name.
"""

import mmap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import soundfile

from ..errors import AudioFileError
from . import flac_streams, mpeg_streams, ogg_links, sample_data
from .byte_views import ByteView

#: Bytes of a sample, by libsndfile's name of its form.
_WIDTHS = {"PCM_S8": 1, "PCM_U8": 1, "PCM_16": 2, "PCM_24": 3, "PCM_32": 4}
_WIDTHS |= {"FLOAT": 4, "DOUBLE": 8, "ULAW": 1, "ALAW": 1}
#: Bytes that no header of the rarer formats exceeds.
_MOST_HEADER = 1 << 16
#: A size that libsndfile's guess of an MP3's length, made from it, is never below the truth.
_FAR = 1 << 40
_FEWEST_DAMAGED = 1500  # bytes; a frame of MP3 has up to 1441


class SequentialFile(soundfile.SoundFile):
    """A file that is read from its beginning to its end.

    soundfile seeks after every read to where it is already. libsndfile then starts an MP3's decoder
    anew, which lacks the bits of the frames before: the samples would depend on the blocks' size.
    """

    def seekable(self) -> bool:
        return False


@dataclass(frozen=True)
class Part:
    """A stretch of a file that libsndfile reads as a file.

    Attributes:
        start, stop: its bytes.
        frames: samples per channel that it must give, or None for what libsndfile counts.
        slack: how many of them may be missing.
        claim, patch: see `ByteView`.
        raw: how bare samples are read: arguments of `soundfile.SoundFile`.
    """

    start: int
    stop: int
    frames: int | None = None
    slack: int = 0
    claim: int | None = None
    patch: tuple[int, bytes] | None = None
    raw: tuple[tuple[str, Any], ...] = ()

    def open(self, path: Path) -> SequentialFile:
        """Raises soundfile's errors."""
        view = ByteView(path, self.start, self.stop, self.claim, self.patch)
        return SequentialFile(view, "r", **dict(self.raw))


def find_parts(path: Path, file: soundfile.SoundFile, name: str) -> list[Part] | None:
    """The parts of a file that libsndfile can open.

    Args:
        path: of the file.
        file: as libsndfile opened it.
        name: of the file, for messages.

    Returns:
        None where libsndfile reads all that there is.

    Raises:
        AudioFileError: bytes follow what the header counts, and they can't be read; or the file is
            damaged or was cut short.
    """
    size = path.stat().st_size
    if not size:
        return None
    with path.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if file.format == "MP3":
            return _mpeg(data, 0, size, name)
        if file.format == "OGG":
            links = ogg_links.find_links(data)
            return [Part(*link) for link in links] if len(links) > 1 else None
        if file.format == "FLAC":
            return _flac(data, file)
        found = sample_data.find_samples(data)
        if found is None:
            _look_behind(file, size, name)
            return None
        return _samples(data, found, file, name)


def _mpeg(data: Any, start: int, stop: int, name: str) -> list[Part] | None:
    whole = start == 0 and stop == len(data)
    streams, damages = mpeg_streams.find_streams(data if whole else data[start:stop])
    if not streams:  # of a free bitrate, for example
        return [Part(start, stop, claim=_FAR)]
    counted = all(stream.is_counted for stream in streams)
    end = max(stream.stop for stream in streams)
    for damage in damages:
        # Behind the last frame that a header counts, nothing is missing.
        if damage.start < end or (damage.size >= _FEWEST_DAMAGED and not counted):
            raise AudioFileError(
                f"{name}: damaged: {damage.size} bytes from byte {start + damage.start} on are no "
                "MP3 audio"
            )
    parts = []
    for stream in streams:
        if stream.is_cut:
            raise AudioFileError(
                f"{name}: cut short or damaged: {stream.frames} of {stream.declared} MP3 frames "
                "are there"
            )
        if stream.is_counted:
            # mpg123 leaves out what the encoder put before and behind.
            part = Part(start + stream.start, start + stream.stop, slack=3000)
        else:
            # A first frame that needs bits of one before it is left out.
            frames = stream.frames * stream.samples
            begin = start + stream.audio_start
            part = Part(begin, start + stream.stop, frames, slack=3000, claim=_FAR)
        parts.append(part)
    return None if whole and counted and len(parts) == 1 else parts


def _flac(data: Any, file: soundfile.SoundFile) -> list[Part] | None:
    streams = flac_streams.find_streams(data)
    parts = []
    for stream in streams:
        found = stream.found
        if found is None or (stream.declared and found <= stream.declared):
            # What is cut short says so when it is read.
            parts.append(Part(stream.start, stream.stop))
        else:
            patch = stream.patch(found)
            parts.append(Part(stream.start, stream.stop, found, patch=patch))
    right = len(parts) == 1 and parts[0].patch is None and file.frames < 1 << 48
    return None if right or not parts else parts


def _samples(
    data: Any, found: sample_data.SampleData, file: soundfile.SoundFile, name: str
) -> list[Part] | None:
    stop = found.start + (found.size or 0)
    if found.size is not None and file.subtype.startswith("MPEG"):
        return _mpeg(data, found.start, stop, name)
    width = _WIDTHS.get(file.subtype, 0) * file.channels
    if found.size is not None and width:
        frames = found.size // width
        if frames <= file.frames:
            return None
        if found.width in (None, width):
            endian = file.endian if file.endian in ("LITTLE", "BIG") else found.endian
            raw = {"samplerate": file.samplerate, "channels": file.channels, "format": "RAW"}
            raw |= {"subtype": file.subtype, "endian": endian}
            return [Part(found.start, stop, frames, raw=tuple(raw.items()))]
    elif found.size == found.declared or not found.follow:
        return None
    raise AudioFileError(
        f"{name}: its header says {found.declared} bytes of samples, but {found.follow} more "
        "follow that are no chunk; if they are samples, write the file anew, for example with "
        "`sox --ignore-length`"
    )


def _look_behind(file: soundfile.SoundFile, size: int, name: str) -> None:
    """Refuse a file of another format that is much longer than its samples."""
    width = _WIDTHS.get(file.subtype, 0) * file.channels
    if width and size - file.frames * width > _MOST_HEADER:
        raise AudioFileError(
            f"{name}: its header counts {file.frames} samples, but {size} bytes are there; convert "
            "it to wav or flac"
        )
