"""The server: WebSocket streams and HTTP requests on one port.

One process with one event loop holds all connections; it computes nothing (`engine`, `workers`).
"""

import asyncio
import contextlib
import json
import secrets
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any

from aiohttp import ClientError, ClientSession, ClientTimeout, web

from ..errors import ServingError
from ..typed_fields import from_json
from . import file_jobs, one_shot
from .config import Config, read_key, ssl_context
from .connection import Connection, no_delay, refuse, row_config
from .engine import Engine
from .logs import event
from .metrics import Metrics
from .page import page
from .protocol import (
    REASONS,
    STREAM_PATH,
    SUBPROTOCOL,
    GoAway,
    Kind,
    Message,
    Open,
    Ready,
    Refusal,
    Resume,
    Tokenizer,
    parse,
)
from .resume import Keys, ResumeToken
from .security import Client, Security
from .session import Session
from .websocket import WebSocket
from .worker_messages import RowConfig

_TICK = 0.1  # seconds between looks at what is due by time
_SWEEP = 30.0  # seconds between looks at the folder of checkpoints
_PEER_SECONDS = 5.0
_SHUTDOWN_SECONDS = 2.0
_PLACES_TRIED = 4
#: Of WebSocket: that of RFC 6455.
_VERSION = "13"
#: Frames that a resampler's filter looks ahead, at the lower of its rates (`audio.polyphase`).
_RESAMPLER_TAPS = 48

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Server:
    """A server, from `start` to `close`.

    Args:
        config: see `config.Config`.

    Attributes:
        url: of this server, once started.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.metrics = Metrics()
        self.security = Security(config)
        self.keys = Keys(read_key(config))
        self.engine = Engine(config, self.metrics, self.keys)
        self.url = ""
        self._runner: web.AppRunner | None = None
        self._clock: asyncio.Task[None] | None = None
        #: What clients are told while it drains.
        self.goaway: GoAway | None = None

    # --- from start to end -----------------------------------------------------------------------

    async def start(self) -> str:
        """Start the workers, then listen; return the URL.

        Raises:
            ServingError: the port is taken, or the workers can't start.
        """
        self.metrics.ready(False)
        await self.engine.start()
        app = web.Application(middlewares=[self._answer], client_max_size=self.config.body_bytes)
        app.router.add_get(STREAM_PATH, self._stream)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._show_metrics)
        app.router.add_get("/v1/codecs", self._codecs)
        app.router.add_get("/", self._index)
        app.router.add_post("/v1/sessions/{session}/take", self._give_session)
        app.router.add_post("/v1/sessions/{session}/keep", self._keep_session)
        for task in file_jobs.TASKS:
            app.router.add_post(f"/v1/{task}", self._one_shot)
        self._runner = web.AppRunner(
            app,
            access_log=None,
            handle_signals=False,
            shutdown_timeout=_SHUTDOWN_SECONDS,
            # Also of connections that never finish their first request.
            keepalive_timeout=self.config.limits.handshake_seconds,
        )
        await self._runner.setup()
        tls = ssl_context(self.config)
        site = web.TCPSite(self._runner, self.config.host, self.config.port, ssl_context=tls)
        try:
            await site.start()
        except OSError as error:
            await self.close()
            raise ServingError(f"{self.config.host}:{self.config.port}: {error}") from None
        port = self._runner.addresses[0][1]
        scheme = "https" if tls else "http"
        self.url = self.config.url or f"{scheme}://{self.config.host}:{port}"
        self._clock = asyncio.create_task(self._keep_time())
        self.metrics.ready(True)
        event("listening", url=self.url, codecs=list(self.config.codecs))
        return self.url

    async def drain(self, grace: float | None = None) -> None:
        """Refuse new streams, let those that are here end, and hand over the others.

        Args:
            grace: seconds until the hand-over; default: half of `drain_seconds`, the limit of all.
        """
        engine, seconds = self.engine, self.config.drain_seconds
        grace = seconds / 2 if grace is None else grace
        engine.draining = True
        self.metrics.ready(False)
        end = time.monotonic() + seconds
        event("draining", sessions=len(engine.sessions), seconds=seconds)
        self.goaway = GoAway(int(grace * 1000), self.config.peers)
        for session in self._connected():
            session.connection.go_away(self.goaway)
        while self._connected() and time.monotonic() < end - seconds + grace:
            await asyncio.sleep(_TICK / 2)
        engine.handing_over = True
        # Also who comes back now, or was just being let in, until each one has its state.
        begun: dict[Any, asyncio.Task[None]] = {}
        while (left := self._not_handed()) and time.monotonic() < end:
            for session in left:
                key = session.id, session.connection
                if key not in begun and not session.arriving:
                    begun[key] = asyncio.create_task(self._hand_over(session, end))
            await asyncio.sleep(_TICK / 2)
        for task in begun.values():
            task.cancel()
        await asyncio.gather(*begun.values(), return_exceptions=True)
        event("drained", left=len(left))

    def _connected(self) -> list[Session]:
        sessions = self.engine.sessions.values()
        return [session for session in sessions if session.connection is not None]

    def _not_handed(self) -> list[Session]:
        """The sessions that would be lost, or cut off, if the server ended now."""
        return [
            session
            for session in self.engine.sessions.values()
            if session.connection is not None
            or (session.resumable is True and not session.handed and not session.stored)
        ]

    async def _hand_over(self, session: Session, end: float) -> None:
        """Give a session to its client; or, if it has none at the moment, to another server."""
        try:
            connection, sealed = session.connection, None
            left = end - time.monotonic()
            if session.resumable is True:
                sealed = await self._taken_home(session, left / 4)  # the rest is for sending it
            if connection is None:
                if sealed is not None and await self._keep_elsewhere(session, sealed):
                    self.engine.discard(session, "gone")
                return
            refusal = Refusal("draining", "this server stops; go on at another")
            connection.refuse(refusal, sealed, max(0.0, end - time.monotonic()))
        except Exception as error:  # the others go on
            event("fault", session.id, level="error", error=repr(error))

    async def _taken_home(self, session: Session, seconds: float) -> bytes:
        """Return a sealed session, after its row has been taken out of its place if it leaves soon.

        A worker may be busy, or dead. Then the session has its last checkpoint and the input since,
        and whoever takes it computes that again.
        """
        with contextlib.suppress(TimeoutError, Refusal):
            async with asyncio.timeout(seconds):
                await self.engine.bring_home(session)
        return self.engine.sealed(session)

    async def _keep_elsewhere(self, session: Session, sealed: bytes) -> bool:
        """Give a session to the first peer that takes it; return whether one has."""
        headers = {"Authorization": self.keys.peer_header(session.id)}
        for peer in self.config.peers:
            url = f"{peer}/v1/sessions/{session.id}/keep"
            with contextlib.suppress(ClientError, TimeoutError, OSError):
                async with (
                    ClientSession(timeout=ClientTimeout(total=_PEER_SECONDS)) as http,
                    http.post(url, headers=headers, data=sealed) as answer,
                ):
                    if answer.status == 200:
                        return True
        return False

    async def close(self) -> None:
        """End everything at once."""
        self.engine.draining = True
        if self._clock is not None:
            self._clock.cancel()
        for session in self._connected():
            session.connection.abort()
        if self._runner is not None:
            await self._runner.cleanup()
        await self.engine.close()

    async def _keep_time(self) -> None:
        swept = 0.0
        while True:
            await asyncio.sleep(_TICK)
            limits, now, parked = self.config.limits, time.monotonic(), 0
            if now > swept + _SWEEP:
                swept = now
                await asyncio.to_thread(self.engine.sweep)
            for session in list(self.engine.sessions.values()):
                connection = session.connection
                if session.parked:
                    parked += 1
                    if now > session.parked_at + limits.park_seconds:
                        self.engine.discard(session, "expired")
                    continue
                if connection is None:
                    continue  # a place is being found for one
                connection.remind(now)
                stalled = session.stalled_at
                if stalled is not None and now > stalled + limits.output_stall_seconds:
                    connection.refuse(
                        Refusal(
                            "too_slow",
                            f"{session.output.ms:.0f} ms of output were not acknowledged for "
                            f"{limits.output_stall_seconds:.0f} s",
                        )
                    )
            self.metrics.parked(parked)

    # --- streams ---------------------------------------------------------------------------------

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        limits = self.config.limits
        if request.headers.get("Sec-WebSocket-Version", _VERSION) != _VERSION:
            error = {"code": "malformed", "message": f"the version of WebSocket is {_VERSION}"}
            headers = {"Sec-WebSocket-Version": _VERSION}
            return web.json_response({"error": error}, status=426, headers=headers)
        offered = [
            part.strip()
            for part in request.headers.get("Sec-WebSocket-Protocol", "").split(",")
            if part.strip()
        ]
        response = web.WebSocketResponse(
            protocols=(SUBPROTOCOL,),
            compress=False,
            max_msg_size=limits.message_bytes,
            timeout=2.0,
        )
        if not response.can_prepare(request).ok:
            raise Refusal("malformed", f"{STREAM_PATH} is a WebSocket")
        client = None
        try:
            self._check_origin(request)
            client = self.security.authenticate(request.headers.get("Authorization"), offered)
            if SUBPROTOCOL not in offered:
                raise Refusal("malformed", f"the subprotocol is {SUBPROTOCOL}")
            # Who resumes gets what is here; whether it is one tells the first message only.
            if self.engine.draining and not self._not_handed():
                raise Refusal("draining", "this server stops; go to another", retry_after=1.0)
        except Refusal as refused:
            if "Origin" not in request.headers:
                raise
            # A browser can't read the status of an upgrade that was refused.
            await response.prepare(request)
            websocket = WebSocket(request, limits.message_bytes)
            refuse(websocket, refused, self)
            await websocket.ended
            return response
        await response.prepare(request)
        websocket = WebSocket(request, limits.message_bytes)
        no_delay(request)
        entered = False
        try:
            first = await self._first_message(websocket)
            self.security.enter(client)
            entered = True
            connection = Connection(self, websocket)
            if isinstance(first, Open):
                session, ready = await self._open(client, first)
            else:
                session, ready = await self._resume(client, first, websocket)
            await connection.run(session, ready)
        except Refusal as refused:
            refuse(websocket, refused, self)
            await websocket.ended
        except ConnectionError:
            pass
        except Exception as error:
            event("fault", level="error", error=repr(error))
            refuse(websocket, Refusal("fault", "an error of the server's own"), self)
            await websocket.ended
        finally:
            if entered:
                self.security.leave(client)
        return response

    def _check_origin(self, request: web.Request) -> None:
        self.security.check_origin(request.headers.get("Origin"), request.headers.get("Host"))

    async def _first_message(self, websocket: WebSocket) -> Open | Resume:
        limits = self.config.limits
        try:
            message = await websocket.receive(limits.handshake_seconds)
        except TimeoutError:
            raise Refusal(
                "too_slow", f"no `open` or `resume` within {limits.handshake_seconds:.0f} s"
            ) from None
        if message is None:
            raise ConnectionResetError("the client went away")
        if isinstance(message, str):
            if len(message) > limits.control_bytes:
                raise Refusal("too_big", f"a text message has at most {limits.control_bytes} bytes")
            first = parse(message)
            if isinstance(first, Open | Resume):
                return first
        raise Refusal("malformed", "the first message is `open` or `resume`")

    async def _open(self, client: Client, message: Open) -> tuple[Session, Ready]:
        config = row_config(self, message)
        self.engine.admit()
        session = self.engine.new_session(secrets.token_hex(8), client, config)
        self.engine.sessions[session.id] = session
        session.parked_at = time.monotonic()
        self.metrics.opened(config.task, config.codec)
        event("opened", session.id, client=client.name, task=config.task, codec=config.codec)
        self.engine.store(session)
        return session, await self._placed(session, resumed=False)

    async def _placed(self, session: Session, resumed: bool) -> Ready:
        """Give a session a place, unless it has one, and return what to tell its client."""
        session.arriving += 1
        try:
            if session.placement is not None and session.placement.left is not None:
                await self.engine.leave(session)  # what was begun when the connection was lost
            for _ in range(_PLACES_TRIED):
                if session.placement is not None or self.engine.handing_over:
                    break
                await self.engine.place(session)  # whose worker may die meanwhile
                if session.failure is not None:
                    raise session.failure
            else:
                raise Refusal("full", "workers died again and again", retry_after=5.0)
        except Refusal as refused:
            if not (resumed and refused.reason.resumable):
                self.engine.discard(session, refused.code)
            raise
        finally:
            session.arriving -= 1
        session.generation += 1
        session.confirmed = False
        config = session.config
        expires = time.time() + self.config.limits.park_seconds + 86_400
        token = ResumeToken(session.id, self.url, session.generation, expires, session.client.name)
        return Ready(
            session=session.id,
            token=self.keys.token(token),
            codec=self.engine.tokenizer(config.codec),
            source=self.engine.tokenizer(config.source) if config.source else None,
            codebooks=config.codebooks,
            latency_ms=self._latency(config),
            limits=self.config.limits,
            next=session.input.received,
            out=session.output.acknowledged,
            resumable=session.resumable,
            resumed=resumed,
        )

    def _latency(self, config: RowConfig) -> dict[str, float | None]:
        """The algorithmic latency of each part, in milliseconds."""
        codec = self.engine.tokenizer(config.codec)
        source = self.engine.tokenizer(config.source) if config.source else codec
        parts: dict[str, float | None] = {}

        def add(name: str, samples: int | None, tokenizer: Tokenizer) -> None:
            parts[name] = None if samples is None else 1000 * samples / tokenizer.sample_rate

        rates = {
            "encode": (config.input.rate, codec.sample_rate),
            "decode": (codec.sample_rate, config.output.rate),
            "transcode": (source.sample_rate, codec.sample_rate),
        }[config.task]
        parts["resampler"] = 0.0 if rates[0] == rates[1] else 1000 * _RESAMPLER_TAPS / min(rates)
        if config.task != "encode":
            add("decoder", source.decoder_latency, source)
        if config.task != "decode":
            add("encoder", codec.encoder_latency, codec)
            add("chunk", (config.frames - 1) * codec.hop, codec)
        total = None if None in parts.values() else sum(part or 0.0 for part in parts.values())
        return {**parts, "total": total}

    # --- resuming --------------------------------------------------------------------------------

    async def _resume(
        self, client: Client, message: Resume, websocket: WebSocket
    ) -> tuple[Session, Ready]:
        token = self.keys.read_token(message.token)
        if token.client != client.name:
            raise Refusal("unauthorized", "the resume token is another client's")
        if self.engine.draining and message.state:
            raise Refusal("draining", "this server stops; go to another", retry_after=1.0)
        sealed = await self._read_state(websocket) if message.state else None
        session, elsewhere = self.engine.sessions.get(token.session), False
        if session is not None and token.generation > session.generation:
            self.engine.discard(session, "gone")  # a copy: the stream has gone on elsewhere since
            session = None
        if session is None:
            self.engine.admit()
            session, elsewhere = await self._fetch(token, sealed, client), True
        elif token.generation != session.generation and (
            session.confirmed or token.generation != session.generation - 1
        ):
            raise Refusal("expired", "this resume token has been used")
        else:
            self.metrics.resumed("parked")
        if session.failure is not None:
            raise session.failure
        session.output.acknowledge(message.next, elsewhere)
        session.input.acknowledge(session.input.received)  # `ready.next` says so
        ready = await self._placed(session, resumed=True)
        event("resumed", session.id, elsewhere=elsewhere)
        return session, ready

    async def _fetch(self, token: ResumeToken, sealed: bytes | None, client: Client) -> Session:
        """Get a session that another server had: its client, a peer or the shared folder has it."""
        how = "sealed"
        if sealed is None and token.server != self.url:
            sealed, how = await self._ask_peer(token.server, token.session), "peer"
        if sealed is None:
            sealed, how = self.engine.take_file(token.session), "state_dir"
        for server in self.config.peers:  # that one may have given it to any of them
            if sealed is None and server not in (token.server, self.url):
                sealed, how = await self._ask_peer(server, token.session), "peer"
        if sealed is None:
            raise Refusal("expired", "this session is gone")
        fields, parts = self.keys.unseal(sealed)
        if fields["session"] != token.session or fields["client"] != client.name:
            raise Refusal("bad_state", "the sealed state is of another session")
        session = self._restored(client, fields, parts)
        session.generation = max(session.generation, token.generation)
        self.metrics.resumed(how)
        return session

    def _restored(self, client: Client, fields: dict[str, Any], parts: list[bytes]) -> Session:
        """Return a session that was sealed, parked here."""
        config = from_json(RowConfig, fields["config"])
        session = self.engine.new_session(fields["session"], client, config)
        session.restore(fields, parts)
        session.parked_at = time.monotonic()
        self.engine.sessions[session.id] = session
        self.metrics.opened(config.task, config.codec)
        self.engine.store(session)
        return session

    async def _read_state(self, websocket: WebSocket) -> bytes:
        limits = self.config.limits
        data = b""
        while True:
            try:
                received = await websocket.receive(limits.handshake_seconds)
            except TimeoutError:
                raise Refusal("too_slow", "the sealed state did not come") from None
            if received is None:
                raise ConnectionResetError("the client went away")
            if isinstance(received, str):
                raise Refusal("malformed", "after `resume` with `state`, messages of kind 4 follow")
            message = Message.unpack(received)
            if message.kind != Kind.STATE or message.position != len(data):
                raise Refusal("malformed", f"expected kind 4 at position {len(data)}")
            data += message.payload
            if len(data) > limits.state_bytes:
                raise Refusal("too_big", f"a sealed state has at most {limits.state_bytes} bytes")
            if message.final:
                return data

    async def _ask_peer(self, server: str, session: str) -> bytes | None:
        headers = {"Authorization": self.keys.peer_header(session)}
        url = f"{server}/v1/sessions/{session}/take"
        try:
            async with (
                ClientSession(timeout=ClientTimeout(total=_PEER_SECONDS)) as http,
                http.post(url, headers=headers) as answer,
            ):
                return await answer.read() if answer.status == 200 else None
        except (ClientError, TimeoutError, OSError):
            return None  # it is gone; the shared folder may have it

    async def _give_session(self, request: web.Request) -> web.StreamResponse:
        """Hand a session to another server of this deployment."""
        id_ = request.match_info["session"]
        self.keys.check_peer(id_, request.headers.get("Authorization"))
        session = self.engine.sessions.get(id_)
        if session is None or session.resumable is not True:
            raise Refusal("expired", "this session is gone")
        sealed = await self._taken_home(session, _PEER_SECONDS / 2)
        connection, session.connection = session.connection, None
        if connection is not None:
            connection.refuse(Refusal("superseded", "another server goes on with this stream"))
        self.engine.discard(session, "gone")
        return web.Response(body=sealed, content_type="application/octet-stream")

    async def _keep_session(self, request: web.Request) -> web.StreamResponse:
        """Take a session whose client is away, from a server that stops."""
        id_ = request.match_info["session"]
        self.keys.check_peer(id_, request.headers.get("Authorization"))
        if self.engine.draining:
            raise Refusal("draining", "this server stops; go to another", retry_after=1.0)
        fields, parts = self.keys.unseal(await request.read())
        if fields["session"] != id_:
            raise Refusal("bad_state", "the sealed state is of another session")
        if id_ not in self.engine.sessions:  # else its client has been quicker
            session = self._restored(Client(fields["client"]), fields, parts)
            event("parked", session.id, code=None)
        return web.Response(text="kept\n")

    # --- requests --------------------------------------------------------------------------------

    @web.middleware
    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Make JSON of refusals, and count."""
        begun = time.monotonic()
        status = 500
        try:
            response = await handler(request)
            status = response.status
            return response
        except Refusal as refused:
            status = refused.reason.status
            self.metrics.refused(refused.code)
            return refusal_response(refused)
        except web.HTTPException as error:
            status = error.status
            code = "too_big" if status == 413 else "malformed"
            body = {"error": {"code": code, "message": error.reason}}
            return web.json_response(body, status=status)
        finally:
            route = request.match_info.route.resource
            path = route.canonical if route is not None else "other"
            self.metrics.request(path, status, time.monotonic() - begun)

    async def _healthz(self, request: web.Request) -> web.StreamResponse:
        return web.Response(text="ok\n")

    async def _readyz(self, request: web.Request) -> web.StreamResponse:
        if self.engine.ready:
            return web.Response(text="ready\n")
        return web.Response(text="not ready\n", status=503)

    async def _show_metrics(self, request: web.Request) -> web.StreamResponse:
        body, content_type = self.metrics.render()
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def _codecs(self, request: web.Request) -> web.StreamResponse:
        found = [
            {"codec": name, **asdict(each)} for name, each in self.engine.hello.tokenizers.items()
        ]
        return web.json_response({"codecs": found})

    async def _index(self, request: web.Request) -> web.StreamResponse:
        text, headers = page()
        return web.Response(text=text, headers=headers)

    async def _one_shot(self, request: web.Request) -> web.StreamResponse:
        self._check_origin(request)
        client = self.security.authenticate(request.headers.get("Authorization"), [])
        if self.engine.draining:
            raise Refusal("draining", "this server stops; go to another", retry_after=1.0)
        return await one_shot.answer(self, client, request)


def refusal_response(refused: Refusal) -> web.Response:
    """Return a refusal as an HTTP answer."""
    headers = {}
    if refused.retry_after is not None:
        headers["Retry-After"] = str(max(1, round(refused.retry_after)))
    if refused.code == "unauthorized":
        headers["WWW-Authenticate"] = "Bearer"
    body = json.dumps({"error": {"code": refused.code, "message": refused.message}})
    return web.Response(
        text=body,
        status=REASONS[refused.code].status,
        headers=headers,
        content_type="application/json",
    )


async def serve(config: Config, started: Callable[[str], None] | None = None) -> None:
    """Run a server until SIGTERM or SIGINT, then drain it; a second signal ends it at once.

    Args:
        config: of the server.
        started: called with the URL.

    Raises:
        ServingError: it can't start.
    """
    server = Server(config)
    stop, again = asyncio.Event(), asyncio.Event()

    def on_signal() -> None:
        # Only sets events: an exception here would end up in whatever task is running.
        (again if stop.is_set() else stop).set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    loop.add_signal_handler(signal.SIGHUP, server.security.reload)
    try:
        url = await server.start()
        if started is not None:
            started(url)
        await stop.wait()
        drained, hurry = asyncio.create_task(server.drain()), asyncio.create_task(again.wait())
        await asyncio.wait({drained, hurry}, return_when=asyncio.FIRST_COMPLETED)
        for task in (drained, hurry):
            task.cancel()
    finally:
        await server.close()
