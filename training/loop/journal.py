"""`log.jsonl`: one JSON object a line, each step at most once however often a run was stopped."""

import json
import os
from pathlib import Path
from typing import IO, Any

from ...filesystem import replacing

LOG_FILE = "log.jsonl"


class Journal:
    """Lines of the log, each on disk's side of a `kill -9` when `write` returns.

    Args:
        path: of the log.
        step: the state's; what the file says of later steps, and a line cut short, is taken out,
            since those steps are about to be taken again.
    """

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        if path.exists():
            kept = [line for line in path.read_text().splitlines() if _is_until(line, step)]
            with replacing(path) as temporary:
                temporary.write_text("".join(line + "\n" for line in kept))
        self._file: IO[str] = path.open("a")

    def write(self, kind: str, step: int, **fields: Any) -> None:
        """Add a line; `step` counts the steps that are done."""
        self._file.write(json.dumps({"kind": kind, "step": step, **fields}) + "\n")
        self._file.flush()

    def sync(self) -> None:
        """Wait until the disk has it; a state may not be newer than its log."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


def _is_until(line: str, step: int) -> bool:
    try:
        fields = json.loads(line)
    except ValueError:
        return False
    return isinstance(fields, dict) and fields.get("step", step + 1) <= step
