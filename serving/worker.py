"""A worker process: one thread that computes the rows of many streams together.

The server starts it as ``python -m syllabary.serving.worker`` with one end of a socket pair. It
takes everything that has arrived, computes one piece of each row that has input, in one call a
session, sends what came out, and begins again: rows that fall due while it computes are in the next
call. It needs no clock, and sleeps while nothing arrives.
"""

import contextlib
import importlib
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..cores import use_one_thread
from ..errors import SyllabaryError
from .channel import Channel
from .protocol import Kind, Message, Refusal, Tokenizer
from .worker_messages import (
    CloseRow,
    ExportRow,
    Failed,
    FileDone,
    FileGoesOn,
    FileJob,
    Hello,
    Inputs,
    OpenRow,
    Progress,
    RowConfig,
    State,
    Unusable,
)

if TYPE_CHECKING:
    from ..codecs.interface import AudioTokenizer
    from ..codecs.streaming import StreamSession
    from .rows import Row


#: Of a call that may have states of many rows to export.
_EXPORT_SECONDS = 0.002
#: A stream that has sent something within so many seconds is live.
_LIVE_SECONDS = 0.5
#: Between two signs that a file gets on.
_SIGN_SECONDS = 0.1


@dataclass
class _Tenant:
    row: "Row"
    tag: int
    leaving: bool = False
    sent: float = 0.0  # when the oldest input was sent
    came: float = 0.0  # when input last came
    turn: int = 0  # number of the call that computed it last

    @property
    def leaves(self) -> bool:
        """Whether the row has computed all its input, and is to be exported."""
        return self.leaving and not self.row.waiting


class Worker:
    """The rows of a process.

    Args:
        codecs: see `find_tokenizer`.
        places: rows of each session.
        checkpoint_seconds: of input, between checkpoints of a row.

    Attributes:
        replies: answers, to be sent after what is done now.
        send: called with answers that can't wait for the end of what is done.
    """

    def __init__(self, codecs: list[str], places: int, checkpoint_seconds: float) -> None:
        self.places, self.checkpoint_seconds = places, checkpoint_seconds
        self.tokenizers = dict(map(find_tokenizer, codecs))
        self.replies: list[Any] = []
        self.send: Callable[[list[Any]], None] = lambda answers: self.replies.extend(answers)
        self._rows: dict[int, _Tenant] = {}
        self._behind = False  # with checkpoints
        self._calls = 0
        self._sessions: dict[tuple[str, int, bool], StreamSession] = {}
        self._do: dict[type, Callable[[Any], None]] = {
            OpenRow: self._open,
            Inputs: self._take,
            ExportRow: self._leave,
            CloseRow: self._close,
            FileJob: self._run_job,
        }

    def hello(self) -> Hello:
        immovable = {
            name: reason
            for name, tokenizer in self.tokenizers.items()
            if (reason := tokenizer.spec.broken_promises.get("migration"))
        }
        tokenizers = {name: describe(each) for name, each in self.tokenizers.items()}
        return Hello(tokenizers, immovable, os.getpid())

    def warm_up(self) -> None:
        """Compile everything, so that no stream waits for it."""
        for name, tokenizer in self.tokenizers.items():
            count, hop = tokenizer.spec.tokens.num_codebooks, tokenizer.spec.tokens.hop
            frames = [np.zeros(hop, np.float32)] * self.places
            for _ in range(4):  # enough for look-ahead to give its first frames
                for rows in (frames, frames[:1]):
                    places = range(len(rows))
                    tokens = self._encode(name, count, dict(zip(places, rows, strict=True)), set())
                    codes = {place: tokens.codes[place].numpy() for place in places}
                    self._decode(name, count, codes, set())
            audio = Message(Kind.PCM, 0, 0, bytes(8 * hop))
            written = self._rehearse(RowConfig("encode", name, count), [audio])
            self._rehearse(RowConfig("decode", name, count), written)

    def _rehearse(self, config: RowConfig, messages: list[Message]) -> list[Message]:
        """Run a row once, and move it: what is imported on the way is then there.

        Returns:
            its output.
        """
        state, written = None, []
        for _ in range(2):
            self._open(OpenRow(0, 0, config, state))
            self._take(Inputs(0, 0, [*messages], 0.0))
            self._leave(ExportRow(0, 0))
            while self.busy:
                self.compute()
                self.export()
            for reply in self.replies:
                if isinstance(reply, Progress):
                    written += [output.message for output in reply.outputs]
                if isinstance(reply, State):
                    assert isinstance(reply.data, bytes)
                    state = reply.data
            self.replies, messages = [], []
        self._rows.clear()
        return written

    @property
    def busy(self) -> bool:
        """Whether there is work without another request."""
        rows = self._rows.values()
        return self._behind or any(tenant.row.waiting or tenant.leaving for tenant in rows)

    def do(self, request: Any) -> None:
        """Take a request; answers are put in `replies`."""
        self._do[type(request)](request)

    # --- requests --------------------------------------------------------------------------------

    def _open(self, request: OpenRow) -> None:
        from .rows import Row, read_state

        config = request.config
        try:
            source = self.tokenizers[config.source].spec if config.source else None
            row = Row(config, self.tokenizers[config.codec].spec, source)
            row.joins = not request.careful
            tenant = _Tenant(row, request.tag)
            self._rows[request.place] = tenant
            self._reset_sessions(request.place, row)
            if request.state is not None:
                state = read_state(request.state)
                if state.config != config:
                    raise Refusal("bad_state", "the state is of another stream")
                row.import_state(state.header, state.tensors)
                for part, session in self._parts(row).items():
                    session.import_row(request.place, state.sessions[part])
        except (SyllabaryError, KeyError) as error:
            code = error.code if isinstance(error, Refusal) else "bad_state"
            if request.state is None and not isinstance(error, Refusal):
                code = "malformed"
            self._fail(request.place, request.tag, code, str(error))
            return
        row.encoded(None, 0, final=False)
        self._say(request.place, tenant)

    def _parts(self, row: "Row") -> dict[str, "StreamSession"]:
        """The sessions that a row is in, by their names in its state."""
        config, found = row.config, {}
        if row.decodes:
            name = config.source or config.codec
            found["decoder"] = self._session(name, config.source_codebooks or config.codebooks, 0)
        if row.encodes:
            found["encoder"] = self._session(config.codec, config.codebooks, 1)
        return found

    def _session(self, name: str, codebooks: int, encodes: int) -> "StreamSession":
        key = name, codebooks, bool(encodes)
        if key not in self._sessions:
            self._sessions[key] = self.tokenizers[name].stream(self.places, codebooks)
        return self._sessions[key]

    def _reset_sessions(self, place: int, row: "Row") -> None:
        for session in self._parts(row).values():
            session.reset(place)

    def _take(self, request: Inputs) -> None:
        tenant = self._rows.get(request.place)
        if tenant is not None and tenant.tag == request.tag:
            if not tenant.row.waiting:
                tenant.sent = request.sent
            tenant.came = time.monotonic()
            tenant.row.inputs.extend(request.messages)

    def _leave(self, request: ExportRow) -> None:
        tenant = self._rows.get(request.place)
        if tenant is not None and tenant.tag == request.tag:
            tenant.leaving = True

    def _close(self, request: CloseRow) -> None:
        tenant = self._rows.get(request.place)
        if tenant is not None and tenant.tag == request.tag:
            del self._rows[request.place]

    def _run_job(self, request: FileJob) -> None:
        from .file_jobs import run

        said = time.monotonic()

        def go_on() -> None:
            nonlocal said
            if time.monotonic() > said + _SIGN_SECONDS:
                said = time.monotonic()
                self.send([FileGoesOn()])

        try:
            result, refusal = run(request.job, self.tokenizers, go_on), None
        except Refusal as refused:
            result, refusal = None, (refused.code, refused.message)
        self.replies.append(FileDone(request.number, result, refusal))

    # --- computing -------------------------------------------------------------------------------

    def compute(self) -> None:
        """Compute one piece of every row that has input; see `_due`."""
        begun = time.monotonic()
        self._calls += 1
        decoding: dict[tuple[str, int], dict[int, tuple[np.ndarray, bool]]] = {}
        encoding: dict[tuple[str, int], dict[int, tuple[np.ndarray, bool]]] = {}
        worked: list[int] = []
        for place, tenant in self._due(begun):
            row, config = tenant.row, tenant.row.config
            tenant.turn = self._calls
            worked.append(place)
            if row.resets:
                row.reset()
                self._reset_sessions(place, row)
                row.encoded(None, 0, final=False)
                continue
            try:
                piece = row.take()
            except Refusal as refused:
                self._fail(place, tenant.tag, refused.code, refused.message)
                continue
            if row.decodes:
                key = config.source or config.codec, config.source_codebooks or config.codebooks
                decoding.setdefault(key, {})[place] = piece
            else:
                encoding.setdefault((config.codec, config.codebooks), {})[place] = piece
        for (name, count), pieces in decoding.items():
            waves = self._decode(name, count, *_split(pieces))
            for place, (_, final) in pieces.items():
                row = self._rows[place].row
                ready = row.decoded(waves[place], final)
                if ready is not None:
                    key = row.config.codec, row.config.codebooks
                    encoding.setdefault(key, {})[place] = ready, final
        for (name, count), pieces in encoding.items():
            tokens = self._encode(name, count, *_split(pieces))
            lengths, samples = tokens.lengths.tolist(), tokens.num_samples.tolist()
            codes = tokens.codes.cpu().numpy()
            for place, (_, final) in pieces.items():
                if lengths[place] or final:
                    own = codes[place, :, : lengths[place]].T
                    self._rows[place].row.encoded(own, samples[place], final)
        for place in worked:
            if place in self._rows:
                self._say(place, self._rows[place], begun)

    def _due(self, now: float) -> list[tuple[int, _Tenant]]:
        """The rows of this call: those that have input. But of those that are far behind, such as
        after a pause of their reader, only one, if there are others whose frames must not wait
        for so much: the one that has waited longest.
        """
        waiting = [item for item in self._rows.items() if item[1].row.waiting]
        behind = [item for item in waiting if item[1].row.is_behind]
        if len(behind) < 2:
            return waiting
        late = {place for place, _ in behind}
        if not any(
            place not in late and now - tenant.came < _LIVE_SECONDS
            for place, tenant in self._rows.items()
        ):
            return waiting
        first = min(behind, key=lambda item: item[1].turn)[0]
        return [item for item in waiting if item[0] == first or item[0] not in late]

    def _encode(self, name: str, count: int, waves: dict[int, np.ndarray], finals: set[int]) -> Any:
        lengths, longest = [0] * self.places, max(map(len, waves.values()))
        chunk = np.zeros((self.places, longest), np.float32)
        for place, wave in waves.items():
            lengths[place] = len(wave)
            chunk[place, : len(wave)] = wave
        ends = [place in finals for place in range(self.places)]
        return self._session(name, count, 1).encode(chunk, lengths, ends if finals else False)

    def _decode(
        self, name: str, count: int, codes: dict[int, np.ndarray], finals: set[int]
    ) -> dict[int, np.ndarray]:
        import torch

        from ..codecs.tokens import Tokens

        spec = self.tokenizers[name].spec.tokens
        lengths = torch.zeros(self.places, dtype=torch.long)
        longest = max(each.shape[1] for each in codes.values())
        batch = torch.zeros(self.places, count, longest, dtype=torch.long)
        for place, each in codes.items():
            lengths[place] = each.shape[1]
            batch[place, :, : each.shape[1]] = torch.from_numpy(each)
        tokens = Tokens(codes=batch, lengths=lengths, num_samples=lengths * spec.hop, spec=spec)
        session = self._session(name, count, 0)
        before = session.samples_out
        ends = [place in finals for place in range(self.places)]
        wave = session.decode(tokens, ends if finals else False).numpy()
        after = session.samples_out
        return {place: wave[place, : after[place] - before[place]] for place in codes}

    def _say(self, place: int, tenant: _Tenant, begun: float | None = None) -> None:
        waited = begun - tenant.sent if begun is not None and tenant.sent else 0.0
        row = tenant.row
        self.replies.append(Progress(place, tenant.tag, row.next, row.outputs, waited))
        row.outputs, tenant.sent = [], 0.0

    def _fail(self, place: int, tag: int, code: str, message: str) -> None:
        self._rows.pop(place, None)
        self.replies.append(Failed(place, tag, code, message))

    def export(self) -> None:
        """Export the rows that leave, and those whose checkpoint is due: the next one or few.

        Streams that began together are due together. Others wait while a state is exported, so
        what takes longer than `_EXPORT_SECONDS` is left for the next call, unless it is overdue:
        the server keeps the input since the last checkpoint. Those that wait longest come first.
        """
        until = time.monotonic() + _EXPORT_SECONDS
        exported, self._behind = 0, False
        ready = [
            (place, tenant)
            for place, tenant in self._rows.items()
            if tenant.leaves
            or (tenant.row.since >= self.checkpoint_seconds and tenant.row.between_messages)
        ]
        for place, tenant in sorted(ready, key=lambda item: -item[1].row.since):
            row, leaves = tenant.row, tenant.leaves
            overdue = row.since >= 2 * self.checkpoint_seconds
            if exported and not (leaves or overdue) and time.monotonic() > until:
                self._behind = True
                continue
            row.since, exported = 0.0, exported + 1
            try:
                parts = self._parts(row).items()
                data = row.export_state({name: each.export_row(place) for name, each in parts})
            except SyllabaryError as error:
                if leaves:
                    self._fail(place, tenant.tag, "expired", str(error))
                row.since = -1e9  # can't be exported, now or later
                continue
            if leaves:
                del self._rows[place]
            self.replies.append(State(place, tenant.tag, row.next, row.out, data, leaves))


def _split(
    pieces: dict[int, tuple[np.ndarray, bool]],
) -> tuple[dict[int, np.ndarray], set[int]]:
    values = {place: value for place, (value, _) in pieces.items()}
    return values, {place for place, (_, final) in pieces.items() if final}


def find_tokenizer(codec: str) -> tuple[str, "AudioTokenizer"]:
    """Return a tokenizer, with the name that clients use.

    Args:
        codec: a name or a folder for `syllabary.load`, or `module:Class`, called without arguments;
            with `NAME=` before it, clients use that name.

    Raises:
        SyllabaryError, ImportError, AttributeError: it can't be loaded, or not be served.
    """
    from ..codecs.registry import load

    name, equals, what = codec.partition("=")
    what = what if equals else name
    module, colon, attribute = what.partition(":")
    tokenizer: AudioTokenizer
    tokenizer = getattr(importlib.import_module(module), attribute)() if colon else load(what)
    if tokenizer.spec.tokens.global_codebook_sizes:
        raise SyllabaryError(f"{name} has codes of the whole utterance, which streams can't carry")
    return name, tokenizer


def describe(tokenizer: "AudioTokenizer") -> Tokenizer:
    """Return what clients are told of a tokenizer."""
    spec, tokens = tokenizer.spec, tokenizer.spec.tokens
    return Tokenizer(
        name=tokens.tokenizer,
        digest=tokens.digest,
        sample_rate=tokens.sample_rate,
        frame_rate=(tokens.frame_rate.numerator, tokens.frame_rate.denominator),
        hop=tokens.hop,
        codebook_sizes=tokens.codebook_sizes,
        min_codebooks=spec.min_codebooks,
        encoder_latency=spec.encoder_latency,
        decoder_latency=spec.decoder_latency,
    )


def serve(channel: Channel, settings: dict[str, Any]) -> None:
    """Be a worker until the server closes its end of the channel.

    Args:
        channel: to the server.
        settings: `codecs`, `places`, `checkpoint_seconds`.
    """
    worker = prepared(channel, settings)
    if worker is not None:
        answer(worker, channel)


def prepared(channel: Channel, settings: dict[str, Any]) -> Worker | None:
    """Return a worker that is warm; None: it can't be, and the server has been told why."""
    try:
        worker = Worker(settings["codecs"], settings["places"], settings["checkpoint_seconds"])
        worker.warm_up()
        return worker
    except (SyllabaryError, ImportError, AttributeError) as error:
        channel.send([Unusable(str(error))])
        return None


def answer(worker: Worker, channel: Channel) -> None:
    """Say that a worker is warm, and do what the server asks until it closes its end."""
    worker.send = channel.send
    channel.send([worker.hello()])
    while (requests := channel.receive(wait=not worker.busy)) is not None:
        for batch in requests:
            for request in batch:
                worker.do(request)
        for work in (worker.compute, worker.export):  # what was computed does not wait for states
            work()
            if worker.replies:
                channel.send(worker.replies)
                worker.replies = []


def main(arguments: list[str]) -> None:
    """Run as a process.

    Args:
        arguments: file descriptors of the sockets for messages and for states, and settings as
            JSON: those of `serve`, and `niceness`.
    """
    ends, settings = begin(arguments)
    os.nice(settings["niceness"])
    # Without a server there is nothing to do, and no one to tell.
    with contextlib.suppress(ConnectionError):
        serve(Channel(*ends), settings)


def begin(arguments: list[str]) -> tuple[list[socket.socket], dict[str, Any]]:
    """Make this process one that the server started; return its sockets and settings."""
    # The server drains on these, and its workers with it, also when a terminal sends them to all.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    use_one_thread()
    return sockets(map(int, arguments[:2])), json.loads(arguments[2])


def sockets(handles: Iterable[int]) -> list[socket.socket]:
    """The sockets of file descriptors."""
    return [socket.socket(fileno=handle) for handle in handles]


if __name__ == "__main__":
    main(sys.argv[1:])
