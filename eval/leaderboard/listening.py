"""Clips for listening: audio and spectrogram as ``data:`` URIs, within a budget of bytes."""

import base64
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..metrics.requirements import package
from ..picture import spectrogram
from ..results.files import ResultError
from ..results.schema import ClipEntry
from .board import ORIGINAL, Entry, Section

LONGEST = 30.0
"""Seconds of a clip that a page takes."""

_LARGEST = 16 * 2**20
_PICTURE = (320, 72)
_FLOOR, _CEILING = -85.0, -15.0
_LEVELS = 48
"""Of the picture; more are not seen, and cost bytes."""


@dataclass(frozen=True)
class Sound:
    """A clip of one system, ready for the page.

    Attributes:
        audio, picture: ``data:`` URIs.
        seconds: duration.
    """

    audio: str
    picture: str
    seconds: float


@dataclass(frozen=True)
class Listening:
    """Clips by system.

    Attributes:
        clips: the columns, as described by the first system.
        rows: each system, the originals first, and its clips; None for a missing one.
        left_out: number of columns that exceed the budget.
    """

    clips: tuple[ClipEntry, ...]
    rows: tuple[tuple[Entry, tuple[Sound | None, ...]], ...]
    left_out: int


def listening(section: Section, budget: int) -> Listening:
    """Collect the clips of a section, whole columns at a time.

    Args:
        budget: maximal bytes in the page.

    Raises:
        ResultError: a clip is missing, is not audio, or is too long.
    """
    columns: dict[str, ClipEntry] = {}
    for entry in section.entries:
        for clip in entry.result.clips:
            columns.setdefault(clip.item, clip)
    order = sorted(section.entries, key=lambda entry: entry.name != ORIGINAL)
    order = [entry for entry in order if entry.result.clips]
    kept: list[ClipEntry] = []
    sounds: dict[tuple[str, str], Sound] = {}
    for item, clip in columns.items():
        column = {}
        for entry in order:
            path = next((c.audio for c in entry.result.clips if c.item == item), None)
            if path is not None:
                column[entry.name, item] = read_sound(entry.folder, path)
        budget -= sum(len(sound.audio) + len(sound.picture) for sound in column.values())
        if budget < 0:
            break
        kept.append(clip)
        sounds |= column
    rows = tuple(
        (entry, tuple(sounds.get((entry.name, clip.item)) for clip in kept)) for entry in order
    )
    return Listening(tuple(kept), rows if kept else (), len(columns) - len(kept))


def clip_problems(entry: Entry) -> list[str]:
    """Return the problems of a result's audio files, each with its path."""
    problems = []
    for place, clip in enumerate(entry.result.clips):
        try:
            _read(entry.folder, clip.audio)
        except ResultError as error:
            problems += [f"clips[{place}].audio: {clip.audio}: {why}" for why in error.problems]
    return problems


def read_sound(folder: Path, name: str) -> Sound:
    """Read a clip, with its picture. FLAC is embedded unchanged; other formats are converted to
    FLAC.

    Args:
        folder: of the result file.
        name: of the clip's file, below it.

    Raises:
        ResultError: the file is missing, is not below the folder, is not audio, or is too long.
    """
    content, wave, sample_rate = _read(folder, name)
    return Sound(
        _uri("audio/flac", content),
        _uri("image/png", draw(wave.mean(axis=1))),
        wave.shape[0] / sample_rate,
    )


def _read(folder: Path, name: str) -> tuple[bytes, np.ndarray, int]:
    """Return FLAC bytes, the samples (frames, channels), and the sample rate."""
    import soundfile

    path = folder / name
    try:
        # A link in a submission must not embed another file of this machine in the page.
        if not path.resolve().is_relative_to(folder.resolve()):
            raise ResultError(str(path), ["not below the result's folder"])
        if path.stat().st_size > _LARGEST:
            raise ResultError(str(path), [f"more than {_LARGEST // 2**20} MiB"])
        content = path.read_bytes()
        with soundfile.SoundFile(io.BytesIO(content)) as file:
            if file.frames > LONGEST * file.samplerate:
                seconds = file.frames / file.samplerate
                raise ResultError(
                    str(path), [f"{seconds:.0f} s, but clips have at most {LONGEST:.0f} s"]
                )
            form, sample_rate = file.format, file.samplerate
            wave = file.read(dtype="float32", always_2d=True)
    except OSError as error:
        raise ResultError(str(path), [error.strerror or str(error)]) from None
    except (soundfile.SoundFileError, ValueError) as error:
        if isinstance(error, ResultError):
            raise
        raise ResultError(str(path), [f"not audio: {error}"]) from None
    if not wave.size or not np.isfinite(wave).all():
        raise ResultError(str(path), ["no samples, or some that are not numbers"])
    if form != "FLAC":
        buffer = io.BytesIO()
        soundfile.write(buffer, wave, sample_rate, format="FLAC", subtype="PCM_16")
        content = buffer.getvalue()
    return content, wave, sample_rate


def draw(wave: np.ndarray) -> bytes:
    """Draw a spectrogram without axes, as a palette PNG.

    Args:
        wave: (samples,).
    """
    image = package("PIL.Image")
    matplotlib = package("matplotlib")
    levels = _resized(spectrogram(wave), _PICTURE)
    shades = np.clip((levels - _FLOOR) / (_CEILING - _FLOOR), 0, 1) * (_LEVELS - 1)
    palette = matplotlib.colormaps["magma"](np.linspace(0, 1, _LEVELS), bytes=True)[:, :3]
    picture = image.fromarray(np.round(shades[::-1]).astype(np.uint8))
    picture.putpalette(palette.tobytes())
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _resized(levels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize (bins, frames) by means over equal shares; frames are repeated if there are
    too few.
    """
    width, height = size
    return _shares(_shares(levels, height).T, width).T


def _shares(values: np.ndarray, count: int) -> np.ndarray:
    edges = np.linspace(0, values.shape[0], count + 1)
    starts = np.minimum(np.floor(edges[:-1]).astype(int), values.shape[0] - 1)
    stops = np.maximum(np.ceil(edges[1:]).astype(int), starts + 1)
    sums = np.concatenate([np.zeros((1, *values.shape[1:])), np.cumsum(values, axis=0)])
    return (sums[stops] - sums[starts]) / (stops - starts)[:, None]


def _uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
