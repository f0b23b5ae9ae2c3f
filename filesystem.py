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
    if not Path("/proc/self").exists():
        return  # no way to tell who is gone
    stems: dict[Path, set[str]] = {}
    for path in paths:
        stems.setdefault(path.parent, set()).add(_temporary_stem(path))
    for folder, wanted in stems.items():
        for found in folder.iterdir() if folder.is_dir() else ():
            stem, dash, rest = found.name.rpartition("-")
            process = rest.partition(".")[0]
            if stem + dash in wanted and not Path("/proc", process).exists():
                with suppress(OSError):
                    found.unlink()


def printable(path: os.PathLike[str] | str) -> str:
    """The path as text that any output takes: bytes that are not UTF-8 become escapes."""
    return os.fspath(path).encode(errors="backslashreplace").decode()
