"""A server that echoes, and misbehaves as a test wants: for the client's tests.

It speaks `serving.protocol` and computes nothing: each message of input comes back as one message
of output, behind a header.
"""

import asyncio
from collections import deque
from contextlib import asynccontextmanager

from aiohttp import WSMsgType, web

from syllabary.serving.protocol import (
    CHAIN_START,
    REASONS,
    STREAM_PATH,
    SUBPROTOCOL,
    Ack,
    End,
    Ended,
    Error,
    GoAway,
    Kind,
    Limits,
    Message,
    Open,
    Ready,
    Reset,
    Tokenizer,
    chain,
    dump,
    parse,
)

TOKENIZER = Tokenizer("echo", "00", 16_000, (50, 1), 320, (16,), 1, 0, 0)
HEADER_PAYLOAD = b"header"


class FakeServer:
    """One stream at a time.

    Attributes:
        url: where it listens.
        input: what has come, in order: messages, `End`, `Reset`.
        firsts: the first message of each connection.
        headers: of each request.
        drops: after how many more messages each connection is broken off.
        refusals: codes with which the next first messages are refused.
        status: HTTP status with which upgrades are refused; None: none is.
        holds: while set, input is neither acknowledged nor answered.
        keeps: messages by which `ack.safe` lags behind.
        forgets: at a resume, goes back to the last safe message.
        wrong: "digest", "gap", "ack" or "next": what it gets wrong.
        most_open_ms: the most input that was unacknowledged.
        acks: of the client.
        state: parts of a sealed state that came.
        seals: the sealed state that `drain` gives.
    """

    def __init__(self, limits: Limits | None = None):
        self.limits = limits or Limits()
        self.input, self.output, self.firsts, self.headers = [], [], [], []
        self.drops, self.refusals, self.acks, self.state = deque(), deque(), [], []
        self.status, self.wrong, self.holds, self.keeps, self.forgets = None, None, False, 0, False
        self.resumable, self.codec = True, TOKENIZER
        self.acknowledged = self.connections = self.told = 0
        self.most_open_ms = 0.0
        self.socket = self.transport = None
        self.digest = CHAIN_START
        self.pending_end = None

    # --- the script ------------------------------------------------------------------------------

    async def release(self):
        """Answer what was held."""
        self.holds = False
        await self.answer()

    def abort(self):
        self.transport.abort()

    async def close(self, code, message=b""):
        await self.socket.close(code=code, message=message)

    async def drain(self, sealed, servers=()):
        await self.socket.send_str(dump(GoAway(10, tuple(servers))))
        for number, at in enumerate(range(0, len(sealed), 1000)):
            part = sealed[at : at + 1000]
            message = Message(Kind.STATE, number, at, part, final=at + 1000 >= len(sealed))
            await self.socket.send_bytes(message.pack())
        await self.fail("draining")

    async def fail(self, code, retry_after=None):
        await self.socket.send_str(dump(Error(code, "told so", retry_after)))
        await self.socket.close(code=REASONS[code].close)

    # --- the protocol ----------------------------------------------------------------------------

    @property
    def ms(self):
        return 1000 / (16_000 * 2)

    async def handle(self, request):
        self.headers.append(dict(request.headers))
        if self.status is not None:
            return web.Response(status=self.status, headers={"Retry-After": "7"})
        socket = web.WebSocketResponse(protocols=(SUBPROTOCOL,))
        await socket.prepare(request)
        self.socket, self.transport = socket, request.transport
        self.connections += 1
        first = parse(await socket.receive_str())
        self.firsts.append(first)
        if self.refusals:
            code = self.refusals.popleft()
            if code == "abort":
                request.transport.abort()
            else:
                await self.fail(code)
            return socket
        number = 0
        if isinstance(first, Open):
            self.input, self.output, self.acknowledged = [], [], 0
        else:
            number = first.next
            if first.state:
                while True:
                    part = Message.unpack(await socket.receive_bytes())
                    self.state.append(part.payload)
                    if part.final:
                        break
            if self.forgets:
                del self.input[self.safe :]
                self.acknowledged = min(self.acknowledged, self.safe)
        self.sent = number
        next_ = len(self.input) - 5 * (self.wrong == "next" and number > 0)
        await socket.send_str(dump(self.ready(next_, number)))
        left = self.drops.popleft() if self.drops else None
        await self.answer()
        while True:
            received = await socket.receive()
            if received.type not in (WSMsgType.BINARY, WSMsgType.TEXT):
                return socket
            if received.type == WSMsgType.BINARY:
                message = Message.unpack(received.data)
            else:
                message = parse(received.data)
            if isinstance(message, Ack):
                assert len(self.acks) == 0 or message.next >= self.acks[-1], "acks never go back"
                assert message.next <= self.sent
                self.acks.append(message.next)
                continue
            assert message.seq == len(self.input), "no gap, nothing twice"
            self.input.append(message)
            open_bytes = sum(
                len(m.payload) for m in self.input[self.acknowledged :] if isinstance(m, Message)
            )
            self.most_open_ms = max(self.most_open_ms, open_bytes * self.ms)
            if left is not None:
                left -= 1
                if left < 0:
                    request.transport.abort()
                    return socket
            await self.answer()

    @property
    def safe(self):
        self.told = max(self.told, self.acknowledged - self.keeps)
        return self.told

    def ready(self, next_, out):
        return Ready(
            "s-1", f"resume-secret-{self.connections}", self.codec, 1, {"total": 0.0}, self.limits,
            next=next_, out=out, resumable=self.resumable, resumed=self.connections > 1,
        )  # fmt: skip

    async def answer(self):
        """Compute everything that has come, and send what was not sent on this connection."""
        if self.holds:
            return
        self.output = list(self.outputs())
        for message, ended in self.output[self.sent :]:
            if self.wrong == "gap" and message.seq == 3:
                self.sent += 1
                continue
            await self.socket.send_bytes(message.pack())
            self.sent += 1
            if ended is not None:
                await self.socket.send_str(dump(ended))
        if self.output and self.output[-1][1] is not None and self.sent == len(self.output):
            await self.socket.send_str(dump(self.output[-1][1]))  # again: it may have been lost
        if len(self.input) > self.acknowledged:
            self.acknowledged = len(self.input)
            next_ = self.acknowledged + 10 * (self.wrong == "ack")
            await self.socket.send_str(dump(Ack(next_, self.safe)))

    def outputs(self):
        """All output there is so far, with the totals after the last message of an utterance."""
        seq, digest, bytes_in = 0, CHAIN_START, 0
        fresh = True
        for message in self.input:
            if isinstance(message, Reset):
                digest, bytes_in, fresh = CHAIN_START, 0, True
                continue
            if fresh:
                digest = chain(digest, HEADER_PAYLOAD)
                yield Message(Kind.SYL_HEADER, seq, 0, HEADER_PAYLOAD), None
                seq, fresh = seq + 1, False
            payload = b"end" if isinstance(message, End) else message.payload
            final = isinstance(message, End) or message.final
            digest = chain(digest, payload)
            ended = None
            if final:
                told = "0" * 64 if self.wrong == "digest" else digest.hex()
                ended = Ended(seq + 1, bytes_in // 2, 0, 0, 0, told)
            yield Message(Kind.SYL_CHUNK, seq, bytes_in, payload, final), ended
            bytes_in += len(payload)
            seq += 1


@asynccontextmanager
async def fake_server(**options):
    server = FakeServer(**options)
    app = web.Application()
    app.router.add_get(STREAM_PATH, server.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    server.stop = site.stop
    try:
        yield server
    finally:
        if server.transport is not None:
            server.transport.abort()
        await asyncio.sleep(0)
        await runner.cleanup()
