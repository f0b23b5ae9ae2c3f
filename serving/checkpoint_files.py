"""Checkpoints of sessions in a folder, from which another server goes on when this one is killed.

A file is there from a session's first moment on, before its row has given a state: its client still
has all its input then. The folder is in memory, or shared by servers.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from ..filesystem import replacing
from .config import Config
from .logs import event
from .session import Session


class CheckpointFiles:
    """The folder; without `state_dir` nothing is written.

    Args:
        config: of the server.
        sessions: by id; those that are no more have no file.
        seal: returns a session's bytes; see `Engine.sealed`.
    """

    def __init__(
        self,
        config: Config,
        sessions: Mapping[str, Session],
        seal: Callable[[Session, bool], bytes],
    ) -> None:
        self._folder = Path(config.state_dir) if config.state_dir else None
        self._sessions, self._seal = sessions, seal
        self._longest = 2 * config.limits.park_seconds + config.checkpoint_seconds
        self._fresh = config.limits.park_seconds / 2
        self._stores: dict[str, asyncio.Task[None]] = {}
        self._stored: dict[str, float] = {}  # when the file of a session was last begun

    async def close(self) -> None:
        """Wait until everything is written."""
        for task in list(self._stores.values()):
            await task

    def _path(self, id_: str) -> Path:
        assert self._folder is not None
        return self._folder / f"{id_}.session"

    def store(self, session: Session) -> None:
        """Write the latest checkpoint, if there is a folder and the one before has been written."""
        if self._folder is None or session.id in self._stores or session.id not in self._sessions:
            return
        if session.resumable is not True:
            return
        data, next_ = self._seal(session, False), session.checkpoint.next
        self._stored[session.id] = time.monotonic()

        def write_file() -> None:
            with replacing(self._path(session.id)) as temporary:
                temporary.write_bytes(data)

        async def write() -> None:
            try:
                await asyncio.to_thread(write_file)
                session.on_disk = next_
                session.safe = max(session.safe, next_)
            except OSError as error:
                event("checkpoint_failed", session.id, level="error", error=str(error))
            finally:
                del self._stores[session.id]
            if session.id not in self._sessions:
                self.forget(session.id)
            elif session.checkpoint.next > next_:
                self.store(session)
            session.on_change()

        self._stores[session.id] = asyncio.create_task(write())

    def refresh(self, session: Session, now: float) -> None:
        """Write the file of a session again before it expires: of one that says nothing for long,
        no new checkpoint comes.
        """
        if now > self._stored.get(session.id, now) + self._fresh:
            self.store(session)

    def forget(self, id_: str) -> None:
        """Remove a session's file."""
        if self._folder is None or id_ in self._stores:
            return  # the task that writes it forgets it
        self._stored.pop(id_, None)
        try:
            self._path(id_).unlink(missing_ok=True)
        except OSError as error:
            event("checkpoint_kept", id_, level="error", error=str(error))

    def take(self, id_: str) -> bytes | None:
        """Return a session that another server has stored, and take it away from others."""
        if self._folder is None or not id_.isalnum():
            return None
        taken = self._path(id_).with_suffix(".taken")
        try:
            self._path(id_).rename(taken)
            data = taken.read_bytes()
            taken.unlink()
        except FileNotFoundError:
            return None
        return data

    def sweep(self) -> None:
        """Remove files that are past their time, of servers that are gone; in a thread."""
        if self._folder is None:
            return
        oldest = time.time() - self._longest
        for path in (*self._folder.glob("*.session"), *self._folder.glob("*.taken")):
            if path.stem in self._sessions:
                continue
            try:
                if path.stat().st_mtime < oldest:
                    path.unlink()
            except FileNotFoundError:
                pass
            except OSError as error:  # of another user's, or a folder
                event("checkpoint_kept", path.stem, level="error", error=str(error))
