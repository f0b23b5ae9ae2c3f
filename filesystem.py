"""Files that appear whole or not at all, and names of files that can be printed."""

import hashlib
import os
import re
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_HOST = re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())[:40]


def _temporary_stem(path: Path) -> str:
    # A hash, because a name may be as long as the file system allows already.
    return f".{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]}.{_HOST}-"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, of the same suffix, that takes its place on success."""
    temporary = path.with_name(f"{_temporary_stem(path)}{os.getpid()}.tmp{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_leftovers(paths: Iterable[Path]) -> None:
    """Delete what `replacing` left beside these paths when its process died, on this machine."""
    stems: dict[Path, set[str]] = {}
    for path in paths:
        stems.setdefault(path.parent, set()).add(_temporary_stem(path))
    for folder, wanted in stems.items():
        for found in folder.iterdir() if folder.is_dir() else ():
            stem, dash, _ = found.name.rpartition("-")
            if stem + dash in wanted:
                _remove_if_left(found)


def remove_all_leftovers(folder: Path) -> None:
    """Delete what `replacing` left in a folder that is ours alone, and below it, as above."""
    for found in folder.rglob(f".*.{_HOST}-*.tmp*"):
        if re.match(r"\.[0-9a-f]{16}\.", found.name):
            _remove_if_left(found)


def _remove_if_left(temporary: Path) -> None:
    if not Path("/proc/self").exists():
        return  # no way to tell who is gone
    process = temporary.name.rpartition("-")[2].partition(".")[0]
    if not Path("/proc", process).exists():
        with suppress(OSError):
            temporary.unlink()


def printable(path: os.PathLike[str] | str) -> str:
    """The path as text that any output takes: bytes that are not UTF-8 become escapes."""
    return os.fspath(path).encode(errors="backslashreplace").decode()
