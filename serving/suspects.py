"""Finding the stream whose input ends the process that computes it, so that only that one ends.

Streams that had work when their worker died are begun again together: most workers die of something
else. Those that get no further before the next one dies are suspects. A suspect is computed alone:
the other rows of its worker finish what they have, and wait meanwhile. One that gets through goes
on; one with which workers die alone, again and again, is ended. Nobody else ever is.
"""

import asyncio
from collections import deque
from typing import Protocol

from .logs import event
from .session import Session
from .workers import WorkerProcess

#: Deaths of workers without getting on in between, after which a stream is a suspect.
_SUSPECT = 2
#: Deaths of workers that compute nothing else, all at the same message, after which a stream is
#: ended: one or two may be chance.
_GUILTY = 3


class Places(Protocol):
    """What is needed of `engine.Engine`."""

    def emptiest_worker(self) -> WorkerProcess | None: ...

    def rows_of(self, worker: WorkerProcess) -> list[Session]: ...

    def free_place(self, worker: WorkerProcess) -> int | None: ...

    def begin(
        self, session: Session, worker: WorkerProcess, place: int
    ) -> "asyncio.Future[None]": ...

    def open(self, session: Session) -> None: ...


class Suspects:
    """Streams that wait to be computed alone, and the one that is.

    Args:
        engine: gives rows their places.

    Attributes:
        room: the worker that computes one alone, or is about to; None: there is no suspect.
    """

    def __init__(self, engine: Places) -> None:
        self._engine = engine
        self._waiting: deque[tuple[Session, asyncio.Future[None]]] = deque()
        self._alone: Session | None = None
        self.room: WorkerProcess | None = None

    def holds(self, session: Session) -> bool:
        """Whether a row must do nothing for now."""
        placement = session.placement
        return (
            self.room is not None
            and placement is not None
            and placement.worker is self.room
            and session is not self._alone
        )

    def is_alone(self, session: Session) -> bool:
        """Whether it is this one's turn."""
        return session is self._alone

    @staticmethod
    def suspected(session: Session) -> bool:
        """Whether a stream must be computed alone."""
        return session.deaths >= _SUSPECT and session.consumed == session.died_at

    def died(self, worker: WorkerProcess, sessions: list[Session]) -> list[Session]:
        """Note a worker's death; return those that must be ended.

        Args:
            sessions: that had rows there, before they lose them.
        """
        alone = self._alone
        if self.room is worker:
            self.room = self._alone = None
        guilty = []
        for session in sessions:
            if session.placement.idle:
                continue
            if session.consumed != session.died_at:
                session.deaths = session.deaths_alone = 0
            session.died_at, session.died_with = session.consumed, session.placement.given
            session.deaths += 1
            if session is alone:
                at = session.placement.computed
                session.deaths_alone = 1 + session.deaths_alone * (session.alone_at == at)
                session.alone_at = at
            if session.deaths_alone >= _GUILTY:
                guilty.append(session)
        return guilty

    def add(self, session: Session) -> "asyncio.Future[None]":
        """Let a stream have its turn.

        Returns:
            done when it has a row, or needs none any more.
        """
        for waiting, turn in self._waiting:
            if waiting is session:
                return turn
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((session, turn))
        event("suspect", session.id, deaths=session.deaths)
        self.go_on()
        return turn

    def remove(self, session: Session) -> None:
        """Forget a stream that waits: its client has gone."""
        for entry in self._waiting:
            if entry[0] is session:
                self._waiting.remove(entry)
                _done(entry[1])
                return

    def go_on(self) -> None:
        """Take the next step, if it is time: called when a row has got on, or left."""
        alone = self._alone
        if alone is not None:
            if alone.placement is not None and not _through(alone):
                return
            self._alone = None
        if not self._waiting:
            self._adjourn()
            return
        engine = self._engine
        if self.room is None:
            self.room = engine.emptiest_worker()
        if self.room is None or not all(row.placement.idle for row in engine.rows_of(self.room)):
            return
        session, turn = self._waiting.popleft()
        self._alone = session
        place = engine.free_place(self.room)
        if place is None:
            self._alone = None
            self._waiting.appendleft((session, turn))
            self._adjourn()  # until a place is free
            return
        engine.begin(session, self.room, place)
        session.placement.opened.add_done_callback(lambda _: _done(turn))

    def _adjourn(self) -> None:
        room, self.room = self.room, None
        if room is not None:
            for session in self._engine.rows_of(room):
                self._engine.open(session)


def _through(session: Session) -> bool:
    """Whether a row has computed all that it had when its worker died; more may have come since."""
    placement = session.placement
    return placement.idle or (placement.opened.done() and placement.computed >= session.died_with)


def _done(turn: "asyncio.Future[None]") -> None:
    if not turn.done():
        turn.set_result(None)
