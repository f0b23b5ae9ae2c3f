"""Results as lines of JSON: each is there whole or not at all, also after a crash."""

import json
import os
from pathlib import Path
from typing import Any, Self

from ...errors import SyllabaryError


class ResultLines:
    """A file that lines are added to.

    What a process that died left of its last line is cut off when the file is opened.

    Args:
        path: made if it is not there.

    Attributes:
        lines: all of them, those from before first.

    Raises:
        SyllabaryError: a line that is whole is not JSON.
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
        self._file.truncate(len(whole))
        self._file.seek(len(whole))

    def add(self, line: dict[str, Any]) -> None:
        """Write a line, so that it outlives this process."""
        # NaN is not JSON, and no result.
        text = json.dumps(line, ensure_ascii=False, allow_nan=False)
        self._file.write(text.encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self.lines.append(line)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self._file.close()
