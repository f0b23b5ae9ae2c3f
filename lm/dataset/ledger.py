"""What a build has done so far: finished pieces and the ledger of them, for one writer at a time.

A piece is a file that appears whole, named by its number; the ledger has a line for each. A line is
written after its piece, so a kill between the two leaves a piece without a line, which is found and
taken over. A line that was cut short is dropped. So each piece is encoded until it is there, and
never again.
"""

import errno
import fcntl
import hashlib
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ...errors import DatasetError
from ...filesystem import printable, replacing
from .encoding import Piece

LEDGER_NAME = "ledger.jsonl"
PIECES_FOLDER = "pieces"
LOCK_NAME = "lock"


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Hold a build folder's lock.

    Raises:
        DatasetError: another process holds it; the message says which.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK_NAME).open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
            file.seek(0)
            raise DatasetError(
                f"{printable(folder.parent)}: {file.read().strip() or 'another process'} is "
                "building this data set; one writer at a time"
            ) from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        yield


class Ledger:
    """The finished pieces of a plan.

    Args:
        folder: of the build; the caller holds its lock.
        digest: of the plan.

    Attributes:
        records: of each finished piece, by its number; see `Piece.record`.

    Raises:
        DatasetError: the folder's ledger is of another plan.
    """

    def __init__(self, folder: Path, digest: str) -> None:
        self.folder, self.digest = folder, digest
        self.records: dict[int, dict[str, Any]] = {}
        (folder / PIECES_FOLDER).mkdir(parents=True, exist_ok=True)
        self._read()
        self._take_over()

    def path(self, piece: int) -> Path:
        """Of a piece's file."""
        # A thousand to a folder.
        return self.folder / PIECES_FOLDER / f"{piece // 1000:05}" / f"{piece:08}.parquet"

    def add(self, number: int, piece: Piece) -> None:
        """Keep a finished piece.

        Raises:
            OSError: it can't be written; nothing is kept then.
        """
        path = self.path(number)
        path.parent.mkdir(exist_ok=True)
        record = piece.record | {
            "bytes": len(piece.data),
            "sha256": hashlib.sha256(piece.data).hexdigest(),
        }
        head = json.dumps({"plan": self.digest, "piece": number, "record": record}).encode()
        with replacing(path) as temporary, temporary.open("wb") as file:
            # The record goes along, so that a piece says by itself what it is.
            file.write(len(head).to_bytes(8, "little") + head + piece.data)
            file.flush()
            os.fsync(file.fileno())
        self._note(number, record)

    def data(self, number: int) -> bytes:
        """The Parquet bytes of a finished piece.

        Raises:
            DatasetError: they are not what was written.
        """
        path = self.path(number)
        found = _read_piece(path)
        if found is None or hashlib.sha256(found[1]).hexdigest() != self.records[number]["sha256"]:
            raise DatasetError(
                f"{printable(path)}: damaged; delete it and run the same command: it is encoded "
                "again"
            )
        return found[1]

    def _note(self, number: int, record: dict[str, Any]) -> None:
        line = json.dumps({"piece": number} | record, ensure_ascii=False) + "\n"
        with (self.folder / LEDGER_NAME).open("ab") as file:
            file.write(line.encode())
            file.flush()
            os.fsync(file.fileno())
        self.records[number] = record

    def _read(self) -> None:
        path = self.folder / LEDGER_NAME
        try:
            held = path.read_bytes()
        except FileNotFoundError:
            held = b""
        whole = held[: held.rfind(b"\n") + 1]
        lines = whole.split(b"\n")[:-1]
        if not lines:
            with replacing(path) as temporary:
                temporary.write_text(json.dumps({"plan": self.digest}) + "\n")
            return
        if len(whole) < len(held):
            with path.open("r+b") as file:
                file.truncate(len(whole))
        try:
            first = json.loads(lines[0])
            if first["plan"] != self.digest:
                raise DatasetError(f"{printable(path)}: of another plan")
            for line in lines[1:]:
                record = json.loads(line)
                number = record.pop("piece")
                if self._is_there(number, record):
                    self.records[number] = record
        except (ValueError, KeyError, TypeError) as error:
            if isinstance(error, DatasetError):
                raise
            raise DatasetError(f"{printable(path)}: damaged: {error}") from None

    def _is_there(self, number: int, record: dict[str, Any]) -> bool:
        with suppress(OSError):
            return self.path(number).stat().st_size > record["bytes"]
        return False

    def _take_over(self) -> None:
        """Note the pieces that were written just before a kill."""
        for path in sorted((self.folder / PIECES_FOLDER).rglob("*.parquet")):
            number = int(path.stem)
            if number in self.records:
                continue
            found = _read_piece(path)
            if found is None or found[0]["plan"] != self.digest:
                path.unlink()
                continue
            self._note(number, found[0]["record"])


def _read_piece(path: Path) -> tuple[dict[str, Any], bytes] | None:
    """A piece's head and Parquet bytes; None if it is not whole."""
    try:
        held = path.read_bytes()
        size = int.from_bytes(held[:8], "little")
        head = json.loads(held[8 : 8 + size])
        data = held[8 + size :]
        whole = len(data) == head["record"]["bytes"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return (head, data) if whole else None
