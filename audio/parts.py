"""Split a file into parts, to read audio that its header does not declare.

libsndfile reads as many samples as a header declares, and one stream. This module detects cases
where a file has more: a size in the header that is 0 or has overflowed, an MP3 without a count, a
second stream after the first. Each part is then read as a file of its own. A file whose remaining
bytes can't be read is refused by name.
"""

import mmap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import soundfile

from ..errors import AudioFileError
from . import flac_streams, mpeg_streams, ogg_links, sample_data
from .byte_views import ByteView

#: Bytes per sample, by libsndfile's subtype name.
_WIDTHS = {"PCM_S8": 1, "PCM_U8": 1, "PCM_16": 2, "PCM_24": 3, "PCM_32": 4}
_WIDTHS |= {"FLOAT": 4, "DOUBLE": 8, "ULAW": 1, "ALAW": 1}
#: Upper limit for the header size of the rarer formats, in bytes.
_MOST_HEADER = 1 << 16
#: A claimed size so large that libsndfile never underestimates an MP3's length by it.
_FAR = 1 << 40
_FEWEST_DAMAGED = 1500  # bytes; an MP3 frame has up to 1441


class SequentialFile(soundfile.SoundFile):
    """A sound file that is read only sequentially.

    soundfile seeks to the current position after every read. libsndfile then restarts an MP3's
    decoder without the bits of earlier frames, so the samples would depend on the block size.
    """

    def seekable(self) -> bool:
        return False


@dataclass(frozen=True)
class Part:
    """A byte range of a file that libsndfile reads as a file.

    Attributes:
        start, stop: the byte range.
        frames: number of samples per channel that it must have; None for libsndfile's count.
        slack: how many of them may be missing.
        claim, patch: see `ByteView`.
        raw: for headerless samples: arguments of `soundfile.SoundFile`.
    """

    start: int
    stop: int
    frames: int | None = None
    slack: int = 0
    claim: int | None = None
    patch: tuple[int, bytes] | None = None
    raw: tuple[tuple[str, Any], ...] = ()

    def open(self, path: Path) -> SequentialFile:
        """Open the part; raises soundfile's errors."""
        view = ByteView(path, self.start, self.stop, self.claim, self.patch)
        return SequentialFile(view, "r", **dict(self.raw))


def find_parts(path: Path, file: soundfile.SoundFile, name: str) -> list[Part] | None:
    """Find the parts of a file that libsndfile can open.

    Args:
        path: of the file.
        file: opened by libsndfile.
        name: of the file, for messages.

    Returns:
        The parts; None if libsndfile reads everything by itself.

    Raises:
        AudioFileError: the file has unreadable bytes after the declared samples, is damaged, or
            is truncated.
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
    if not streams:  # for example with a free bitrate
        return [Part(start, stop, claim=_FAR)]
    counted = all(stream.is_counted for stream in streams)
    end = max(stream.stop for stream in streams)
    for damage in damages:
        # After the last declared frame, nothing is missing.
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
            # mpg123 removes the encoder's delay and padding.
            part = Part(start + stream.start, start + stream.stop, slack=3000)
        else:
            # Skip a first frame that needs bits of an earlier one.
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
            # Truncation is reported when it is read.
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
    """Raise if a file of another format is much larger than its samples."""
    width = _WIDTHS.get(file.subtype, 0) * file.channels
    if width and size - file.frames * width > _MOST_HEADER:
        raise AudioFileError(
            f"{name}: its header counts {file.frames} samples, but {size} bytes are there; convert "
            "it to wav or flac"
        )
