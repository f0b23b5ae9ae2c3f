"""A client's connections: addresses, the handshake, and what a refusal means."""

import asyncio
import re
import ssl
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import urlsplit

from aiohttp import (
    ClientError,
    ClientSession,
    ClientTimeout,
    ClientWebSocketResponse,
    ClientWSTimeout,
    WSMsgType,
    WSServerHandshakeError,
)

from ..errors import ServingError
from ..typed_fields import from_json
from .protocol import (
    FROM_SERVER,
    REASONS,
    STREAM_PATH,
    SUBPROTOCOL,
    Error,
    Message,
    Open,
    Ready,
    Refusal,
    Resume,
    Tokenizer,
    dump,
    parse,
)

CODECS_PATH = "/v1/codecs"
_DIAL_SECONDS = 15.0
#: Seconds between pings, which find a server that is gone without a word.
_HEARTBEAT = 20.0
#: A server's messages are as long as `frames` of `open` makes them.
_MOST_BYTES = 1 << 24
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")


@dataclass(frozen=True)
class Address:
    """A server, and the bearer token for it.

    Attributes:
        url: http(s)://HOST[:PORT][/PATH], without a slash at the end.
    """

    url: str
    token: str | None = field(default=None, repr=False)

    @property
    def tls(self) -> bool:
        return self.url.startswith("https:")


def addresses(urls: Iterable[str], token: str | None) -> list[Address]:
    """Return the servers' addresses.

    Raises:
        ServingError: a URL that is none, or that has a secret in it; or no bearer token.
    """
    if token is not None and not _TOKEN.fullmatch(token):
        raise ServingError("this is no bearer token: expected letters, digits and . _ ~ + / -")
    found = []
    for url in urls:
        parts = urlsplit(url)
        scheme = {"ws": "http", "wss": "https"}.get(parts.scheme, parts.scheme)
        try:
            sound = scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:
            sound = False
        if parts.username is not None or parts.query:
            raise ServingError("a server's URL has no user, password or query; use a bearer token")
        if not sound or parts.fragment:
            raise ServingError(f"a server's URL is http(s)://HOST[:PORT], got {url!r}")
        path = parts.path.removesuffix(STREAM_PATH).rstrip("/")
        found.append(Address(f"{scheme}://{parts.netloc}{path}", token))
    return found


async def dial(
    http: ClientSession,
    place: Address,
    first: Open | Resume,
    state: Sequence[Message],
    tls: ssl.SSLContext | None,
) -> tuple[ClientWebSocketResponse, Ready]:
    """Connect to a server, send the first message, and wait for `ready`.

    Args:
        state: parts of a sealed state, to follow `resume`.
        tls: None: certificates are checked with the system's authorities.

    Raises:
        Refusal: the server said no.
        ClientError, OSError, TimeoutError: it can't be reached.
    """
    headers = {} if place.token is None else {"Authorization": f"Bearer {place.token}"}
    async with asyncio.timeout(_DIAL_SECONDS):
        try:
            socket = await http.ws_connect(
                place.url + STREAM_PATH,
                protocols=(SUBPROTOCOL,),
                headers=headers,
                ssl=True if tls is None else tls,
                max_msg_size=_MOST_BYTES,
                heartbeat=_HEARTBEAT,
                timeout=ClientWSTimeout(ws_close=2.0),
            )
        except WSServerHandshakeError as error:
            raise _of_status(place, error) from None
        try:
            if socket.protocol != SUBPROTOCOL:
                raise Refusal("malformed", f"{place.url} does not speak {SUBPROTOCOL}")
            await socket.send_str(dump(first))
            for part in state:
                await socket.send_bytes(part.pack())
            return socket, await _ready(socket)
        except BaseException:
            await socket.close()
            raise


async def _ready(socket: ClientWebSocketResponse) -> Ready:
    refused: Refusal | None = None
    while True:
        received = await socket.receive()
        if received.type == WSMsgType.TEXT:
            message = parse(received.data, FROM_SERVER)
            if isinstance(message, Ready):
                return message
            if isinstance(message, Error):
                refused = refusal(message)
        elif received.type != WSMsgType.BINARY:
            if refused is not None:
                raise refused
            raise ConnectionResetError(f"closed in the handshake, code {socket.close_code}")


async def served_codecs(
    server: str, token: str | None = None, tls: ssl.SSLContext | None = None
) -> dict[str, Tokenizer]:
    """Return the tokenizers that a server has, by the name under which it has them.

    Raises:
        ServingError: it can't be reached, or gives no list of tokenizers.
    """
    (place,) = addresses([server], token)
    headers = {} if place.token is None else {"Authorization": f"Bearer {place.token}"}
    try:
        async with (
            ClientSession(timeout=ClientTimeout(total=_DIAL_SECONDS)) as http,
            http.get(
                place.url + CODECS_PATH, headers=headers, ssl=True if tls is None else tls
            ) as answer,
        ):
            if answer.status != 200:
                raise ServingError(f"{place.url}{CODECS_PATH}: HTTP status {answer.status}")
            listed = (await answer.json())["codecs"]
            return {
                fields.pop("codec", fields["name"]): from_json(Tokenizer, fields)
                for fields in listed
            }
    except (ClientError, OSError, TimeoutError) as error:
        raise ServingError(f"can't reach {place.url}: {reason_of(error)}") from None
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        if isinstance(error, ServingError):
            raise
        raise ServingError(f"{place.url}{CODECS_PATH} gives no list of tokenizers") from None


def refusal(error: Error) -> Refusal:
    """Return the exception of a server's `error` message."""
    if error.code not in REASONS:  # of a newer server
        return Refusal("fault", f"{error.code}: {error.message}", error.retry_after)
    return Refusal(error.code, error.message, error.retry_after)


def _of_status(place: Address, error: WSServerHandshakeError) -> Refusal:
    """A refused upgrade has no body that could be read; its status says what it was."""
    code, message = {
        400: ("malformed", "the server refused the request as malformed"),
        401: ("unauthorized", "the server needs a valid bearer token"),
        403: ("forbidden_origin", "the server forbids this origin"),
        404: ("malformed", f"{place.url} is no server of streams"),
        429: ("over_quota", "the quota is used up"),
        503: ("full", "the server takes no streams now"),
    }.get(error.status, ("fault", f"HTTP status {error.status}"))
    after = str(error.headers.get("Retry-After", "")) if error.headers else ""
    return Refusal(code, message, float(after) if after.isdecimal() else None)


def reason_of(error: BaseException | None) -> str:
    """Return what to tell a person."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return str(cast("ClientError | OSError | None", error) or "the connection broke")
