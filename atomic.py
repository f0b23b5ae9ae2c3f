"""Files that appear whole or not at all: written under a temporary name, then renamed."""

import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_HOST = re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())
_LEFT_OVER = re.compile(rf"^\..+\.{_HOST}-(\d+)\.tmp(\.\w+)?$")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, of the same suffix, that takes its place on success."""
    temporary = path.with_name(f".{path.stem}.{_HOST}-{os.getpid()}.tmp{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Delete the temporary files under `folder` of processes of this machine that are gone."""
    for parent, _, names in os.walk(folder):
        for name in names:
            match = _LEFT_OVER.match(name)
            if match and not Path("/proc", match[1]).exists():
                with suppress(OSError):
                    Path(parent, name).unlink()
