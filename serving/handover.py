"""Streams that go from one server to another: when one stops, when a client comes with a state, and
when another server asks for one.
"""

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any

from aiohttp import ClientError, ClientSession, ClientTimeout, web

from ..typed_fields import from_json
from .logs import event
from .protocol import GoAway, Kind, Message, Refusal
from .resume import ResumeToken
from .security import Client
from .session import Session
from .websocket import WebSocket
from .worker_messages import RowConfig

if TYPE_CHECKING:
    from .parts import ServerParts

_LOOK = 0.05  # seconds between looks at what is left to hand over
_PEER_SECONDS = 5.0


class HandOver:
    """Gives streams to clients and to other servers, and takes theirs.

    Args:
        server: whose streams they are.
    """

    def __init__(self, server: "ServerParts") -> None:
        self._server = server

    # --- stopping --------------------------------------------------------------------------------

    async def drain(self, grace: float | None = None) -> None:
        """Refuse new streams, let those that are here end, and hand over the others.

        Args:
            grace: seconds until the hand-over; default: half of `drain_seconds`, the limit of all.
        """
        engine, seconds = self._server.engine, self._server.config.drain_seconds
        grace = seconds / 2 if grace is None else grace
        engine.draining = True
        end = time.monotonic() + seconds
        event("draining", sessions=len(engine.sessions), seconds=seconds)
        self._server.goaway = GoAway(int(grace * 1000), self._server.config.peers)
        for session in self.connected():
            session.connection.go_away(self._server.goaway)
        while self.connected() and time.monotonic() < end - seconds + grace:
            await asyncio.sleep(_LOOK)
        engine.handing_over = True
        # Also who comes back now, or was just being let in, until each one has its state.
        begun: dict[Any, asyncio.Task[None]] = {}
        while (left := self.not_handed()) and time.monotonic() < end:
            for session in left:
                key = session.id, session.connection
                if key not in begun and not session.arriving:
                    begun[key] = asyncio.create_task(self._hand_over(session, end))
            await asyncio.sleep(_LOOK)
        for task in begun.values():
            task.cancel()
        await asyncio.gather(*begun.values(), return_exceptions=True)
        event("drained", left=len(left))

    def connected(self) -> list[Session]:
        sessions = self._server.engine.sessions.values()
        return [session for session in sessions if session.connection is not None]

    def not_handed(self) -> list[Session]:
        """The sessions that would be lost, or cut off, if the server ended now."""
        return [
            session
            for session in self._server.engine.sessions.values()
            if session.connection is not None
            or (session.resumable is True and not session.handed and not session.stored)
        ]

    async def _hand_over(self, session: Session, end: float) -> None:
        """Give a session to its client; or, if it has none at the moment, to another server."""
        try:
            connection, sealed = session.connection, None
            left = end - time.monotonic()
            if session.resumable is True:
                sealed = await self.taken_home(session, left / 4)  # the rest is for sending it
            if connection is None:
                kept = sealed is not None and await self._keep_elsewhere(session, sealed)
                if kept and session.parked:  # else its client has come back meanwhile
                    self._server.engine.discard(session, "gone")
                return
            refusal = Refusal("draining", "this server stops; go on at another")
            # If the client does not take it, there is time to give it to a peer.
            share = 0.75 if self._server.config.peers else 1.0
            connection.refuse(refusal, sealed, max(0.0, share * (end - time.monotonic())))
        except Exception as error:  # the others go on
            event("fault", session.id, level="error", error=repr(error))

    async def taken_home(self, session: Session, seconds: float) -> bytes:
        """Return a sealed session, after its row has been taken out of its place if it leaves soon.

        A worker may be busy, or dead. Then the session has its last checkpoint and the input since,
        and whoever takes it computes that again.
        """
        with contextlib.suppress(TimeoutError, Refusal):
            async with asyncio.timeout(seconds):
                await self._server.engine.bring_home(session)
        return self._server.engine.sealed(session)

    async def _keep_elsewhere(self, session: Session, sealed: bytes) -> bool:
        """Give a session to the first peer that takes it; return whether one has."""
        headers = {"Authorization": self._server.keys.peer_header(session.id)}
        for peer in self._server.config.peers:
            url = f"{peer}/v1/sessions/{session.id}/keep"
            with contextlib.suppress(ClientError, TimeoutError, OSError):
                async with (
                    ClientSession(timeout=ClientTimeout(total=_PEER_SECONDS)) as http,
                    http.post(url, headers=headers, data=sealed) as answer,
                ):
                    if answer.status == 200:
                        return True
        return False

    # --- taking streams of others ----------------------------------------------------------------

    async def fetch(self, token: ResumeToken, sealed: bytes | None, client: Client) -> Session:
        """Get a session that another server had: its client, a peer or the shared folder has it."""
        how = "sealed"
        if sealed is None and token.server != self._server.url:
            sealed, how = await self._ask_peer(token.server, token.session), "peer"
        if sealed is None:
            sealed, how = self._server.engine.checkpoints.take(token.session), "state_dir"
        for server in self._server.config.peers:  # that one may have given it to any of them
            if sealed is None and server not in (token.server, self._server.url):
                sealed, how = await self._ask_peer(server, token.session), "peer"
        if sealed is None:
            raise Refusal("expired", "this session is gone")
        fields, parts = self._server.keys.unseal(sealed)
        if fields["session"] != token.session or fields["client"] != client.name:
            raise Refusal("bad_state", "the sealed state is of another session")
        session = self._restored(client, fields, parts)
        session.generation = max(session.generation, token.generation)
        self._server.metrics.resumed(how)
        return session

    def _restored(self, client: Client, fields: dict[str, Any], parts: list[bytes]) -> Session:
        """Return a session that was sealed, parked here."""
        config = from_json(RowConfig, fields["config"])
        session = self._server.engine.new_session(fields["session"], client, config)
        session.restore(fields, parts)
        session.parked_at = time.monotonic()
        self._server.engine.sessions[session.id] = session
        self._server.metrics.opened(config.task, config.codec)
        self._server.engine.checkpoints.store(session)
        return session

    async def read_state(self, websocket: WebSocket) -> bytes:
        limits = self._server.config.limits
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
        headers = {"Authorization": self._server.keys.peer_header(session)}
        url = f"{server}/v1/sessions/{session}/take"
        try:
            async with (
                ClientSession(timeout=ClientTimeout(total=_PEER_SECONDS)) as http,
                http.post(url, headers=headers) as answer,
            ):
                return await answer.read() if answer.status == 200 else None
        except (ClientError, TimeoutError, OSError):
            return None  # it is gone; the shared folder may have it

    # --- requests of other servers ---------------------------------------------------------------

    async def give(self, request: web.Request) -> web.StreamResponse:
        """Hand a session to another server of this deployment."""
        id_ = request.match_info["session"]
        self._server.keys.check_peer(id_, request.headers.get("Authorization"))
        session = self._server.engine.sessions.get(id_)
        if session is None or session.resumable is not True:
            raise Refusal("expired", "this session is gone")
        sealed = await self.taken_home(session, _PEER_SECONDS / 2)
        connection, session.connection = session.connection, None
        if connection is not None:
            connection.refuse(Refusal("superseded", "another server goes on with this stream"))
        self._server.engine.discard(session, "gone")
        return web.Response(body=sealed, content_type="application/octet-stream")

    async def keep(self, request: web.Request) -> web.StreamResponse:
        """Take a session whose client is away, from a server that stops."""
        id_ = request.match_info["session"]
        self._server.keys.check_peer(id_, request.headers.get("Authorization"))
        if self._server.engine.draining:
            raise Refusal("draining", "this server stops; go to another", retry_after=1.0)
        fields, parts = self._server.keys.unseal(await request.read())
        if fields["session"] != id_:
            raise Refusal("bad_state", "the sealed state is of another session")
        if id_ not in self._server.engine.sessions:  # else its client has been quicker
            session = self._restored(Client(fields["client"]), fields, parts)
            event("parked", session.id, code=None)
        return web.Response(text="kept\n")
