"""`log.jsonl`: one JSON object per line, each step at most once even if a run was interrupted."""

import json
import os
from pathlib import Path
from typing import IO, Any

from ...filesystem import replacing

LOG_FILE = "log.jsonl"
DONE = "done"
"""Kind of the last line of a run that took all its steps and was validated and saved after them."""


class Journal:
    """The log; a line survives `kill -9` once `write` has returned.

    Args:
        path: of the log.
        step: the state's; lines of later steps, and an incomplete line, are removed, since those
            steps will be repeated, and so is the `DONE` of a run that goes on.
    """

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        if path.exists():
            kept = [line for line in path.read_text().splitlines() if _is_until(line, step)]
            with replacing(path) as temporary:
                temporary.write_text("".join(line + "\n" for line in kept))
        self._file: IO[str] = path.open("a")

    def write(self, kind: str, step: int, **fields: Any) -> None:
        """Append a line; `step` is the number of steps done."""
        self._file.write(json.dumps({"kind": kind, "step": step, **fields}) + "\n")
        self._file.flush()

    def sync(self) -> None:
        """Wait until the log is on disk; a state may not be newer than its log."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


def _is_until(line: str, step: int) -> bool:
    try:
        fields = json.loads(line)
    except ValueError:
        return False
    if not isinstance(fields, dict) or fields.get("kind") == DONE:
        return False
    return bool(fields.get("step", step + 1) <= step)
