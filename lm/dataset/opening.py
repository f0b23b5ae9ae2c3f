"""Open planned utterances, with a hash of exactly the bytes that are decoded.

Files of up to half a gigabyte are read into memory once, hashed and decoded from there: a file that
changes in between can't be hashed as one thing and decoded as another. Larger ones are read twice,
and their size and time are compared afterwards. Both are compared with the plan's, too.
"""

import hashlib
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO, Any

from ...audio.files import AudioReader, Channels
from ...errors import AudioFileError, DatasetError
from .plan import Planned, shown_path, status_of
from .sources import Source, open_hugging_face

_IN_MEMORY = 1 << 29


class ChangedSourceError(DatasetError):
    """A file is not what it was when the data set was planned, or changed while it was read."""


@dataclass(frozen=True)
class _Opened:
    path: Path
    sha256: str
    seen: tuple[int, int] | None  # of a file that is read again for decoding


class SourceOpener:
    """Opens planned utterances; the last file stays open, as its next segment may follow."""

    def __init__(self, channels: Channels) -> None:
        self.channels = channels
        self._last: tuple[tuple[Any, ...], _Opened] | None = None
        self._held = ExitStack()
        self._datasets: dict[bytes, tuple[Any, str]] = {}

    @contextmanager
    def open(self, planned: Planned) -> Iterator[tuple[AudioReader, str]]:
        """Yield a reader of the utterance, and the SHA-256 of its file.

        Raises:
            AudioFileError: there is no file, or it is no audio.
            ChangedSourceError: the file is another than the planned one.
        """
        source = planned.source
        opened = self._opened(planned)
        with AudioReader(
            opened.path,
            self.channels,
            shown(source),
            offset_s=source.offset_s,
            duration_s=source.duration_s,
        ) as reader:
            yield reader, opened.sha256
        if opened.seen is not None and status_of(source.path) != opened.seen:
            self.close()
            raise ChangedSourceError(f"{shown(source)}: changed while it was read")

    def close(self) -> None:
        """Let go of the last file."""
        self._held.close()
        self._last = None

    def _opened(self, planned: Planned) -> _Opened:
        source = planned.source
        key = (source.kind, source.path, source.start, source.length)
        if self._last is not None and self._last[0] == key:
            return self._last[1]
        self.close()
        _check_unchanged(planned)
        if source.kind == "hf":
            opened = self._in_memory(self._row(source))
        elif source.kind == "tar":
            opened = self._in_memory(_member(planned))
        else:
            opened = self._file(planned)
        self._last = (key, opened)
        return opened

    def _file(self, planned: Planned) -> _Opened:
        source = planned.source
        path = os.fsdecode(source.path)
        try:
            with open(path, "rb") as file:  # noqa: PTH123
                if planned.file_size <= _IN_MEMORY:
                    data = file.read()
                    _check_whole(planned, data, planned.file_size)
                    return self._in_memory(data)
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise AudioFileError(
                f"{shown(source)}: can't be read: {error.strerror or error}"
            ) from None
        _check_unchanged(planned)
        return _Opened(Path(path), sha256, status_of(source.path))

    def _in_memory(self, data: bytes) -> _Opened:
        if hasattr(os, "memfd_create"):
            number = os.memfd_create("syllabary")
            file: IO[bytes] = self._held.enter_context(os.fdopen(number, "wb"))
            # By process, since an ffmpeg program reads it, too.
            path = Path(f"/proc/{os.getpid()}/fd/{number}")
        else:
            named = NamedTemporaryFile(prefix="syllabary-")  # noqa: SIM115
            file = self._held.enter_context(named)
            path = Path(named.name)
        file.write(data)
        file.flush()
        return _Opened(path, hashlib.sha256(data).hexdigest(), None)

    def _row(self, source: Source) -> bytes:
        if source.path not in self._datasets:
            folder = Path(os.fsdecode(source.path))
            self._datasets[source.path] = open_hugging_face(folder)
        found, column = self._datasets[source.path]
        audio = found[source.start][column]
        if audio is None or (audio.get("bytes") is None and not audio.get("path")):
            raise AudioFileError(f"{shown(source)}: the row has no audio")
        if audio.get("bytes") is not None:
            return bytes(audio["bytes"])
        try:
            return Path(audio["path"]).read_bytes()
        except OSError as error:
            raise AudioFileError(
                f"{shown(source)}: {audio['path']}: {error.strerror or error}"
            ) from None


def shown(source: Source) -> str:
    """The utterance for messages."""
    path = shown_path(source)
    if source.kind == "tar":
        return f"{path}, {source.name.partition('/')[2]}"
    return f"{path}, row {source.start}" if source.kind == "hf" else path


def _member(planned: Planned) -> bytes:
    source = planned.source
    try:
        with open(os.fsdecode(source.path), "rb") as file:  # noqa: PTH123
            file.seek(source.start)
            data = file.read(source.length)
    except OSError as error:
        raise AudioFileError(f"{shown(source)}: can't be read: {error.strerror or error}") from None
    _check_whole(planned, data, source.length)
    return data


def _check_unchanged(planned: Planned) -> None:
    was, now = (planned.file_size, planned.mtime_ns), status_of(planned.source.path)
    if planned.file_size < 0 and now[0] < 0:
        raise AudioFileError(f"{shown(planned.source)}: no such file")
    if was != now:
        raise ChangedSourceError(
            f"{shown(planned.source)}: changed since the data set was planned: "
            f"{_described(was)} then, {_described(now)} now; plan it again in another folder"
        )


def _described(status: tuple[int, int]) -> str:
    return "no file" if status[0] < 0 else f"{status[0]} bytes of time {status[1] / 1e9:.3f}"


def _check_whole(planned: Planned, data: bytes, expected: int) -> None:
    """Raise if what was read is not what the plan has, or changed since the first look."""
    _check_unchanged(planned)
    if len(data) != expected:
        raise ChangedSourceError(f"{shown(planned.source)}: changed while it was read")
