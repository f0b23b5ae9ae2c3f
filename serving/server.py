"""The server: WebSocket streams and HTTP requests on one port.

One process with one event loop holds all connections; it computes nothing (`engine`, `workers`).
"""

import asyncio
import json
import resource
import secrets
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict

from aiohttp import web

from ..errors import ServingError
from . import file_jobs, one_shot
from .config import Config, read_key, ssl_context
from .connection import Connection, no_delay, refuse, row_config
from .engine import Engine
from .handover import HandOver
from .logs import event
from .metrics import Metrics
from .page import page
from .protocol import (
    REASONS,
    STREAM_PATH,
    SUBPROTOCOL,
    GoAway,
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
        self.handover = HandOver(self)
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
        app.router.add_post("/v1/sessions/{session}/take", self.handover.give)
        app.router.add_post("/v1/sessions/{session}/keep", self.handover.keep)
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
        self.metrics.ready(False)
        await self.handover.drain(grace)

    async def close(self) -> None:
        """End everything at once."""
        self.engine.draining = True
        if self._clock is not None:
            self._clock.cancel()
        for session in self.handover.connected():
            session.connection.abort()
        if self._runner is not None:
            await self._runner.cleanup()
        await self.engine.close()

    async def _keep_time(self) -> None:
        swept = 0.0
        while True:
            await asyncio.sleep(_TICK)
            now, parked = time.monotonic(), 0
            try:  # all limits of time hang on this task: no fault may end it
                if now > swept + _SWEEP:
                    swept = now
                    await asyncio.to_thread(self.engine.checkpoints.sweep)
                self.engine.end_silent_workers(now)
            except Exception as error:
                event("fault", level="error", error=repr(error))
            for session in list(self.engine.sessions.values()):
                parked += session.parked
                try:
                    self._look_at(session, now)
                except Exception as error:
                    event("fault", session.id, level="error", error=repr(error))
            self.metrics.parked(parked)

    def _look_at(self, session: Session, now: float) -> None:
        """Do what is due by time."""
        limits, connection = self.config.limits, session.connection
        if session.parked and now > session.parked_at + limits.park_seconds:
            self.engine.discard(session, "expired")
            return
        self.engine.checkpoints.refresh(session, now)
        if connection is None:
            return  # it is parked, or a place is being found for it
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
            if self.engine.draining and not self.handover.not_handed():
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
            self.security.enter(client, spare=self._supersedes(client, first))
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

    def _supersedes(self, client: Client, first: Open | Resume) -> bool:
        """Whether a first message takes the place of a connection of the same client, which may
        be broken without that being known here.
        """
        if isinstance(first, Open):
            return False
        token = self.keys.read_token(first.token)
        session = self.engine.sessions.get(token.session)
        return (
            session is not None
            and session.connection is not None
            and session.client.name == token.client == client.name
        )

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
        self.engine.checkpoints.store(session)
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
        sealed = await self.handover.read_state(websocket) if message.state else None
        session, elsewhere = self.engine.sessions.get(token.session), False
        if session is not None and token.generation > session.generation:
            self.engine.discard(session, "gone")  # a copy: the stream has gone on elsewhere since
            session = None
        if session is None:
            self.engine.admit(has_begun=True)
            session, elsewhere = await self.handover.fetch(token, sealed, client), True
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
    # A stream may have two: its connection and its state.
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
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
