"""Results as JSON lines, each written completely or not at all, also after a crash."""

import fcntl
import json
import os
from pathlib import Path
from typing import Any, Self

from ...errors import SyllabaryError
from ..results.files import as_bytes


class ResultLines:
    """A file to which lines are appended.

    An incomplete last line of a killed process is removed when the file is opened.

    Args:
        path: created if it does not exist.

    Attributes:
        lines: all of them, in order.

    Raises:
        SyllabaryError: a complete line is not JSON, or another process has the file open.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: list[dict[str, Any]] = []
        path.parent.mkdir(parents=True, exist_ok=True)
        content = path.read_bytes() if path.exists() else b""
        whole = content[: content.rfind(b"\n") + 1]
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                self.lines.append(json.loads(line))
            except ValueError as error:
                raise SyllabaryError(f"{path}, line {number}: not a result: {error}") from None
        self._file = path.open("r+b" if path.exists() else "w+b")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.close()
            raise SyllabaryError(f"{path}: another evaluation is writing to it") from None
        self._file.truncate(len(whole))
        self._file.seek(len(whole))

    def add(self, line: dict[str, Any]) -> None:
        """Append a line and flush it, so that it survives the process."""
        # NaN is not valid JSON, nor a valid result.
        self._file.write(as_bytes(line) + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self.lines.append(line)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self._file.close()
