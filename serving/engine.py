"""Which worker computes which stream: places, admission, recovery and parking.

The engine runs in the server's event loop and never computes. It moves messages between sessions
and workers, keeps what is needed to compute a lost row again, and measures how late the workers
are.
"""

import asyncio
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

from .checkpoint_files import CheckpointFiles
from .config import Config
from .file_worker import FileWorker
from .logs import event
from .metrics import Metrics
from .protocol import Limits, Refusal, Tokenizer
from .resume import Keys
from .session import Checkpoint, InputLog, OutputLog, Session
from .suspects import Suspects
from .worker_messages import (
    CloseRow,
    ExportRow,
    Failed,
    FileDone,
    FileGoesOn,
    Hello,
    Inputs,
    OpenRow,
    Progress,
    RowConfig,
    State,
)
from .workers import WorkerProcess, Workers

#: Lateness is judged over so many seconds, and at least so many messages.
_WINDOW, _LEAST_COUNT = 2.0, 20
#: Workers that may die while a row is brought home.
_MOST_CRASHES = 3


class Lateness:
    """How long messages took that waited for nobody but others, in the last seconds."""

    def __init__(self) -> None:
        self._values: deque[tuple[float, float]] = deque(maxlen=4096)

    def add(self, seconds: float, now: float) -> None:
        self._values.append((now, seconds))

    def p95(self, now: float) -> float:
        """Return the 95th percentile in seconds; 0 if there are too few messages to tell."""
        while self._values and self._values[0][0] < now - _WINDOW:
            self._values.popleft()
        if len(self._values) < _LEAST_COUNT:
            return 0.0
        return sorted(value for _, value in self._values)[int(0.95 * len(self._values))]


@dataclass
class Placement:
    """Where a session's row is.

    Attributes:
        opened: done when the row computes; its exception is a `Refusal`.
        left: done when its state is back and the place is free; None: nobody asked for it.
        begun: whether the worker knows of the row.
        given, computed: messages that the row has been given, and that it has computed with.
    """

    worker: WorkerProcess
    place: int
    tag: int
    opened: "asyncio.Future[None]"
    left: "asyncio.Future[None] | None" = None
    begun: bool = False
    given: int = 0
    computed: int = 0

    @property
    def idle(self) -> bool:
        """Whether the worker has nothing to do for the row."""
        if not self.begun:
            return True
        return self.opened.done() and self.left is None and self.computed >= self.given


class Engine:
    """Sessions and workers.

    Args:
        config, metrics, keys: of the server.

    Attributes:
        sessions: by id.
        files: jobs about whole files.
        hello: of the first worker: the tokenizers there are.
        draining: whether new streams are refused.
        handing_over: whether streams get no places any more, but go to other servers.
    """

    def __init__(self, config: Config, metrics: Metrics, keys: Keys) -> None:
        self.config, self.metrics, self._keys = config, metrics, keys
        self.sessions: dict[str, Session] = {}
        self.hello = Hello({}, {})
        self.lateness = Lateness()
        self.draining = self.handing_over = False
        self._tags = 0
        self._taken: dict[WorkerProcess, dict[int, Session]] = {}
        self._homeless: list[Session] = []
        self.suspects = Suspects(self)
        self.checkpoints = CheckpointFiles(config, self.sessions, self.sealed)
        self.workers = Workers(
            codecs=list(config.codecs),
            places=config.places,
            checkpoint_seconds=config.checkpoint_seconds,
            count=config.worker_count,
            spares=config.spares,
            take=self._take,
            lost=self._lost,
            changed=self._changed,
            begun=metrics.worker_started,
        )
        self.files = FileWorker(self.workers)

    @property
    def limits(self) -> Limits:
        return self.config.limits

    @property
    def ready(self) -> bool:
        """Whether it takes streams."""
        return not self.draining and bool(self.workers.streams)

    async def start(self) -> None:
        """Start the workers.

        Raises:
            ServingError: they can't start, and why.
        """
        await self.workers.start()

    async def close(self) -> None:
        await self.checkpoints.close()
        await self.workers.close()

    # --- tokenizers ------------------------------------------------------------------------------

    def tokenizer(self, name: str) -> Tokenizer:
        """Return a tokenizer's description.

        Raises:
            Refusal: `unknown_codec`.
        """
        if name not in self.hello.tokenizers:
            names = ", ".join(self.hello.tokenizers)
            raise Refusal("unknown_codec", f"no tokenizer {name[:80]!r} here; there are: {names}")
        return self.hello.tokenizers[name]

    def new_session(self, id_: str, client: Any, config: RowConfig) -> Session:
        """Return a session that has no place yet."""
        codec = self.tokenizer(config.codec)
        source = self.tokenizer(config.source) if config.source else codec
        frames = source.frame_rate[0] / source.frame_rate[1]
        rate_in = config.input.rate if config.task == "encode" else frames
        frames = codec.frame_rate[0] / codec.frame_rate[1]
        rate_out = config.output.rate if config.task == "decode" else frames
        session = Session(id_, client, config, InputLog(config, rate_in), OutputLog(rate_out))
        for name in filter(None, (config.codec, config.source)):
            if reason := self.hello.immovable.get(name):
                session.resumable = f"{name}: {reason}"
        return session

    # --- places ----------------------------------------------------------------------------------

    def admit(self, has_begun: bool = False) -> None:
        """Check that there is room for another stream.

        Args:
            has_begun: elsewhere: where it goes on is late in any case, and waiting makes it later.

        Raises:
            Refusal: `draining` or `full`.
        """
        if self.draining:
            raise Refusal("draining", "this server stops; go to another", retry_after=1.0)
        late = self.lateness.p95(time.monotonic())
        if late * 1000 > self.config.lateness_ms and not has_begun:
            raise Refusal(
                "full",
                f"messages are {late * 1000:.0f} ms late; at most {self.config.lateness_ms:.0f}",
                retry_after=_WINDOW,
            )
        if self._free_place() is None:
            raise Refusal("full", "all places are taken", retry_after=5.0)

    def emptiest_worker(self) -> WorkerProcess | None:
        """Return the worker with the fewest rows, if there is any; last the one that must wait."""
        workers = [worker for worker in self.workers.streams if worker.alive]

        def rows(worker: WorkerProcess) -> tuple[bool, bool, int]:
            count = len(self._taken.get(worker, {}))
            return count >= self.config.places, worker is self.suspects.room, count

        return min(workers, key=rows, default=None)

    def rows_of(self, worker: WorkerProcess) -> list[Session]:
        """Return the sessions that have their rows there."""
        return list(self._taken.get(worker, {}).values())

    def free_place(self, worker: WorkerProcess) -> int | None:
        taken = self._taken.get(worker, {})
        return next((place for place in range(self.config.places) if place not in taken), None)

    def _free_place(self) -> tuple[WorkerProcess, int] | None:
        worker = self.emptiest_worker()
        place = None if worker is None else self.free_place(worker)
        return None if worker is None or place is None else (worker, place)

    def place(self, session: Session) -> "asyncio.Future[None]":
        """Give a session a place, where it goes on from its checkpoint.

        Returns:
            done when its row computes, or when its worker has died meanwhile; a `Refusal` if it
            can't.

        Raises:
            Refusal: `full`.
        """
        if self.suspects.suspected(session):
            return self.suspects.add(session)
        found = self._free_place()
        if found is None:
            raise Refusal("full", "all places are taken", retry_after=5.0)
        return self.begin(session, *found)

    def begin(self, session: Session, worker: WorkerProcess, place: int) -> "asyncio.Future[None]":
        """Give a session this place; see `place`."""
        self._tags += 1
        opened = asyncio.get_running_loop().create_future()
        # Read, or asyncio logs that nobody did: a recovery waits for no one.
        opened.add_done_callback(lambda done: done.cancelled() or done.exception())
        session.placement = Placement(worker, place, self._tags, opened)
        self._taken.setdefault(worker, {})[place] = session
        session.forwarded = session.checkpoint.next
        session.stamp = None
        self.open(session)
        self._count()
        return opened

    def open(self, session: Session) -> None:
        """Let a row compute, unless it has to wait for one that must be alone."""
        placement = session.placement
        if not placement.begun and not self.suspects.holds(session):
            placement.begun = True
            placement.given = placement.computed = session.checkpoint.next
            state = session.checkpoint.read()
            careful = self.suspects.is_alone(session)
            placement.worker.send(
                OpenRow(placement.place, placement.tag, session.config, state, careful)
            )
        self.forward(session)

    def forward(self, session: Session) -> None:
        """Give a session's row the input that it has not had, unless it is paused."""
        placement = session.placement
        if placement is None or placement.left is not None or not placement.begun:
            return
        if self.suspects.holds(session):
            return
        behind = session.forwarded < session.consumed  # it computes again what it has said
        if session.output.exceeds(self.limits.output_ms) and not behind:
            if session.stalled_at is None:
                session.stalled_at = time.monotonic()
            return
        session.stalled_at = None
        items = list(session.input.since(session.forwarded))
        if not items:
            return
        now = time.monotonic()
        if session.consumed == session.forwarded:
            session.stamp = items[0][0] + 1, now
        session.forwarded = placement.given = items[-1][0] + 1
        messages = [item.message for _, item in items]
        placement.worker.send(Inputs(placement.place, placement.tag, messages, now))

    async def leave(self, session: Session) -> None:
        """Take a session's row out of its place, with all its state."""
        placement = session.placement
        if placement is None:
            self._wait_no_more(session)
            return
        if not placement.begun:
            self._free(session)
            return
        if placement.left is None:
            placement.left = asyncio.get_running_loop().create_future()
            placement.worker.send(ExportRow(placement.place, placement.tag))
        await asyncio.shield(placement.left)

    async def bring_home(self, session: Session) -> None:
        """Take a session's row out of its place, with a state that covers all that was consumed.

        Raises:
            Refusal: workers died again and again, or there is no place.
        """
        for _ in range(_MOST_CRASHES):
            await self.leave(session)
            if session.checkpoint.next >= session.consumed:
                return
            # Its worker died: what the client was told is consumed must be computed again.
            await self.place(session)
        raise Refusal("fault", "the server can't compute this stream")

    def discard(self, session: Session, why: str) -> None:
        """Forget a session. Another one of its id, fetched since from elsewhere, stays."""
        is_known = self.sessions.get(session.id) is session
        if is_known:
            del self.sessions[session.id]
        self._wait_no_more(session)
        placement = session.placement
        if placement is not None:
            placement.worker.send(CloseRow(placement.place, placement.tag))
            self._free(session)
        if not is_known:
            return
        self.metrics.closed(session.config.task, session.config.codec, why)
        event("closed", session.id, why=why, messages_in=session.input.received)
        self.checkpoints.forget(session.id)

    def _wait_no_more(self, session: Session) -> None:
        if session in self._homeless:
            self._homeless.remove(session)
        self.suspects.remove(session)

    def limit_parked(self, client: Any) -> None:
        """Forget a client's oldest parked sessions, if it has more than there are places."""
        parked = [
            session
            for session in self.sessions.values()
            if session.parked and session.client.name == client.name
        ]
        most = self.config.places * self.config.worker_count
        for session in sorted(parked, key=lambda each: each.parked_at)[
            : max(0, len(parked) - most)
        ]:
            self.discard(session, "expired")

    def _free(self, session: Session) -> None:
        placement, session.placement = session.placement, None
        if placement is None:
            return
        self._taken.get(placement.worker, {}).pop(placement.place, None)
        for future in (placement.opened, placement.left):
            if future is not None and not future.done():
                future.set_result(None)
        self._count()
        self._changed()

    def _count(self) -> None:
        used = sum(map(len, self._taken.values()))
        self.metrics.places(used, len(self.workers.streams) * self.config.places)

    # --- answers of workers ----------------------------------------------------------------------

    def end_silent_workers(self, now: float) -> None:
        """Kill workers that no longer get on, whatever keeps them."""
        busy = {
            worker: not all(session.placement.idle for session in self.rows_of(worker))
            for worker in self.workers.streams
        }
        if self.workers.files is not None:
            busy[self.workers.files] = self.files.busy
        for worker, has_work in busy.items():
            if not has_work:
                worker.heard = now
            elif worker.alive and now > worker.heard + self.config.silence_seconds:
                event("worker_silent", level="error", worker=worker.name, pid=worker.pid)
                worker.heard = now
                worker.kill()

    def _take(self, worker: WorkerProcess, answers: list[Any]) -> None:
        worker.heard = time.monotonic()
        for answer in answers:
            if isinstance(answer, FileDone):
                self.files.take(answer)
            if isinstance(answer, FileDone | FileGoesOn):
                continue
            session = self._taken.get(worker, {}).get(answer.place)
            placement = None if session is None else session.placement
            if session is None or placement is None or placement.tag != answer.tag:
                continue  # of a row that has left
            try:
                if isinstance(answer, Progress):
                    self._progress(session, answer)
                elif isinstance(answer, State):
                    self._state(session, answer)
                elif isinstance(answer, Failed):
                    raise Refusal(answer.code, answer.message)
            except Refusal as refused:
                self._fail(session, refused)
            session.on_change()

    def _progress(self, session: Session, progress: Progress) -> None:
        now = time.monotonic()
        placement = session.placement
        placement.computed = progress.next
        if not placement.opened.done():
            placement.opened.set_result(None)
        session.consumed = max(session.consumed, progress.next)
        if session.resumable is not True:
            session.input.drop_before(session.consumed)  # it is never computed again
        if session.stamp is not None and progress.next >= session.stamp[0]:
            late = now - session.stamp[1]
            session.stamp = None
            self.lateness.add(late, now)
            self.metrics.late(late)
            self.metrics.queued(max(0.0, progress.waited))
        for output in progress.outputs:
            session.output.add(output)
        if session.stalled_at is None and session.output.exceeds(self.limits.output_ms):
            session.stalled_at = now
        if self.suspects.room is not None:
            self.suspects.go_on()

    def _state(self, session: Session, state: State) -> None:
        session.take_checkpoint(Checkpoint(state.data, state.next, state.out))
        self.metrics.checkpoint(len(state.data))
        if state.gone:
            self._free(session)
            session.consumed = max(session.consumed, state.next)
            if session.connection is not None and not self.draining:
                self.recover(session)  # it came back while its row was leaving
        self.checkpoints.store(session)

    def _fail(self, session: Session, refusal: Refusal) -> None:
        session.failure = refusal
        placement = session.placement
        if placement is not None:
            placement.worker.send(CloseRow(placement.place, placement.tag))
            if not placement.opened.done():
                placement.opened.set_exception(refusal)
            self._free(session)
        if session.connection is None:
            self.discard(session, refusal.code)

    # --- workers that die ------------------------------------------------------------------------

    def _lost(self, worker: WorkerProcess) -> None:
        self.metrics.worker_lost()
        sessions = list(self._taken.pop(worker, {}).values())
        event("worker_lost", worker=worker.name, pid=worker.pid, sessions=len(sessions))
        self.files.lost()
        guilty = self.suspects.died(worker, sessions)
        for session in sessions:
            left = session.placement.left
            self._free(session)
            if session in guilty:
                why = "the server can't compute this stream: its next message ends any process"
                self._fail(session, Refusal("unprocessable", why))
            elif session.resumable is not True:
                why = f"its process ended, and the stream can't move: {session.resumable}"
                self._fail(session, Refusal("fault", why))
            elif left is None and session.connection is not None:
                self.recover(session)
            session.on_change()

    def recover(self, session: Session) -> None:
        """Place a session that has no place, as soon as there is room."""
        if session in self._homeless or session.placement is not None:
            return
        try:
            self.place(session)
            self.metrics.resumed("worker")
        except Refusal:
            self._homeless.append(session)

    def _changed(self) -> None:
        """A worker became ready, or a place free."""
        if self.workers.streams:
            self.hello = self.workers.streams[0].hello or self.hello
        waiting, self._homeless = self._homeless, []
        for session in waiting:
            self.recover(session)
        self.suspects.go_on()
        self.metrics.workers(len(self.workers.streams) + len(self.workers.spares))

    # --- states ----------------------------------------------------------------------------------

    def sealed(self, session: Session, with_input: bool = True) -> bytes:
        """Return a session, signed, as of its checkpoint; see `Session.export`."""
        fields, parts = session.export(with_input)
        return self._keys.seal(fields, parts, self.limits.park_seconds)

    def safe(self, session: Session) -> int:
        """Number of messages that the client may forget."""
        if self.config.state_dir is None or session.resumable is not True:
            return session.consumed
        return session.safe
