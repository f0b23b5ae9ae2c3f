"""Who may use a server, and how much: bearer tokens, origins of web pages, quotas.

The token file has one token a line, and `#` begins a comment:

    NAME TOKEN|sha256:HEX [EXPIRY]

NAME is for logs and metrics; several lines may have the same one, so that a new token is valid
beside the old. HEX is the SHA-256 of the token, so that the file holds no secret. EXPIRY is a time
with its zone, such as 2027-01-31T00:00:00Z. No message of this module contains a token.
"""

import base64
import binascii
import ipaddress
import os
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from hmac import compare_digest
from pathlib import Path
from urllib.parse import urlsplit

from ..errors import ConfigError
from .config import Config
from .logs import event
from .protocol import BEARER_SUBPROTOCOL, Refusal

#: RFC 6750. 22 characters of base64 are 128 bits.
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")
LEAST_TOKEN, MOST_TOKEN = 22, 512
_NAME = re.compile(r"[A-Za-z0-9_.@-]{1,64}")
_BETWEEN_LOOKS = 1.0  # seconds, at the token file
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Client:
    """Who sends a request: `anonymous` without a token file, else a name from it."""

    name: str


@dataclass(frozen=True)
class _Token:
    client: Client
    digest: bytes
    expires: float  # seconds since 1970


@dataclass
class _Bucket:
    """An hour's seconds of audio, refilled steadily."""

    level: float
    at: float


class Security:
    """Checks requests.

    Args:
        config: of the server.
        clock: seconds that only grow.

    Raises:
        ConfigError: the token file can't be used.
    """

    def __init__(self, config: Config, clock: Callable[[], float] = time.monotonic) -> None:
        self._config, self._clock = config, clock
        self._lock = threading.Lock()
        self._sessions: Counter[str] = Counter()
        self._buckets: dict[str, _Bucket] = {}
        self._tokens: tuple[_Token, ...] = ()
        self._stamp: tuple[int, ...] = ()
        self._looked = clock()
        #: Hosts under which the server's own page may be; a name that someone else's name server
        #: resolves to this machine is not among them.
        self._hosts = {"localhost", config.host.lower()}
        if config.url is not None:
            self._hosts.add((urlsplit(config.url).hostname or "").lower())
        if config.token_file is not None:
            self._stamp = _stamp(config.token_file)
            self._tokens = _read_tokens(config.token_file)

    # --- who ------------------------------------------------------------------------------------

    def check_origin(self, origin: str | None, host: str | None) -> None:
        """Check the headers `Origin` and `Host`. Browsers send an origin, other programs none.

        Raises:
            Refusal: `forbidden_origin`.
        """
        if origin is None or {"*", origin} & set(self._config.origins):
            return
        if host is None or not self._is_own(origin, host):
            raise Refusal(
                "forbidden_origin",
                "this web page may not use the server; `origins` of its configuration allows pages",
            )

    def _is_own(self, origin: str, host: str) -> bool:
        try:
            page, server = urlsplit(origin), urlsplit(f"//{host}")
            default = _DEFAULT_PORTS[page.scheme]
            if page.hostname != server.hostname or not page.hostname:
                return False
            if (page.port or default) != (server.port or default):
                return False
        except (ValueError, KeyError):
            return False
        # Origin and Host agree too when a foreign page's name is made to resolve to this machine
        # (DNS rebinding). That can't be done to an address.
        return page.hostname in self._hosts or _is_address(page.hostname)

    def authenticate(self, authorization: str | None, subprotocols: Sequence[str]) -> Client:
        """Return the client of a request.

        Args:
            authorization: the header, or None.
            subprotocols: that a WebSocket asked for; browsers have their token there.

        Raises:
            Refusal: `unauthorized`.
        """
        if self._config.token_file is None:
            return Client("anonymous")
        self._look()
        given = sha256(_given(authorization, subprotocols)).digest()
        found = None
        for token in self._tokens:  # all of them, so that the time tells nothing
            if compare_digest(token.digest, given):
                found = token
        if found is None:
            raise Refusal("unauthorized", "the bearer token is not known here")
        if found.expires <= time.time():
            raise Refusal("unauthorized", "the bearer token has expired")
        return found.client

    def reload(self) -> None:
        """Read the token file anew. One that can't be used is logged, and changes nothing."""
        path = self._config.token_file
        if path is None:
            return
        try:
            # Before reading: what is written meanwhile is seen at the next look.
            self._stamp = _stamp(path)
            self._tokens = _read_tokens(path)
        except ConfigError as error:
            event("token_file_refused", level="error", reason=str(error))
        else:
            event("token_file_read", tokens=len(self._tokens))

    def _look(self) -> None:
        now = self._clock()
        if now - self._looked < _BETWEEN_LOOKS:
            return
        self._looked = now
        try:
            changed = _stamp(str(self._config.token_file)) != self._stamp
        except ConfigError as error:
            if self._stamp:
                self._stamp = ()
                event("token_file_refused", level="error", reason=str(error))
            return
        if changed:
            self.reload()

    # --- how much -------------------------------------------------------------------------------

    def enter(self, client: Client, spare: bool = False) -> None:
        """Take one of the client's sessions.

        Args:
            spare: one more than it may have, in the place of one that is about to end.

        Raises:
            Refusal: `over_quota`.
        """
        most = self._config.sessions_per_token
        with self._lock:
            if most and self._sessions[client.name] >= most + spare:
                raise Refusal("over_quota", f"{most} streams of this client are open already")
            self._sessions[client.name] += 1

    def leave(self, client: Client) -> None:
        """Give a session back."""
        with self._lock:
            self._sessions[client.name] -= 1
            if self._sessions[client.name] <= 0:
                del self._sessions[client.name]

    def charge(self, client: Client, audio_seconds: float) -> None:
        """Take seconds of audio that have been computed, also beyond the client's allowance: it is
        refused until that has come again.
        """
        if self._config.audio_seconds_per_hour:
            with self._lock:
                self._bucket(client).level -= audio_seconds

    def _bucket(self, client: Client) -> _Bucket:
        """The client's allowance as of now."""
        hourly, now = self._config.audio_seconds_per_hour, self._clock()
        bucket = self._buckets.setdefault(client.name, _Bucket(hourly, now))
        bucket.level = min(hourly, bucket.level + (now - bucket.at) * hourly / 3600)
        bucket.at = now
        return bucket

    def spend(self, client: Client, audio_seconds: float) -> None:
        """Take seconds of audio from the client's allowance.

        Raises:
            Refusal: `over_quota`; nothing has been taken.
        """
        hourly = self._config.audio_seconds_per_hour
        if not hourly:
            return
        with self._lock:
            bucket = self._bucket(client)
            if audio_seconds > bucket.level:
                wait = (audio_seconds - bucket.level) * 3600 / hourly
                raise Refusal(
                    "over_quota",
                    f"the allowance of {hourly:g} seconds of audio an hour is used up",
                    wait if audio_seconds <= hourly else None,
                )
            bucket.level -= audio_seconds


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _given(authorization: str | None, subprotocols: Sequence[str]) -> bytes:
    """The token of a request."""
    browsers = [name for name in subprotocols if name.startswith(BEARER_SUBPROTOCOL)]
    if authorization is not None:
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer":
            raise Refusal("unauthorized", "the Authorization header is `Bearer TOKEN`")
        token = token.strip()
    elif len(browsers) == 1:
        coded = browsers[0].removeprefix(BEARER_SUBPROTOCOL)[: 2 * MOST_TOKEN]
        try:
            raw = base64.b64decode(coded + "=" * (-len(coded) % 4), b"-_", validate=True)
            token = raw.decode("ascii")
        except (binascii.Error, ValueError):
            raise Refusal(
                "unauthorized", "the subprotocol `bearer.` is followed by a token in base64url"
            ) from None
    else:
        raise Refusal(
            "unauthorized",
            "a bearer token is needed: the header `Authorization: Bearer TOKEN`, or in browsers "
            "one subprotocol `bearer.` with the token in base64url",
        )
    if len(token) > MOST_TOKEN or not _TOKEN.fullmatch(token):
        raise Refusal("unauthorized", "this is no bearer token")
    return token.encode()


def _stamp(path: str) -> tuple[int, ...]:
    try:
        status = os.stat(path)  # noqa: PTH116 (once a second)
    except OSError as error:
        raise ConfigError(f"can't read token_file {path}: {error.strerror}") from None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _read_tokens(path: str) -> tuple[_Token, ...]:
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"can't read token_file {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"token_file {path} is not UTF-8") from None
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if words:
            try:
                found.append(_token(words))
            except ValueError as error:
                raise ConfigError(f"token_file {path}, line {number}: {error}") from None
    if len({token.digest for token in found}) != len(found):
        raise ConfigError(f"token_file {path} has the same token twice")
    return tuple(found)


def _token(words: Sequence[str]) -> _Token:
    """Parse a line. Its errors quote nothing: words may be in the wrong order."""
    if not 2 <= len(words) <= 3:
        raise ValueError(f"expected NAME TOKEN [EXPIRY], got {len(words)} words")
    name, secret = words[:2]
    if not _NAME.fullmatch(name):
        raise ValueError("a name is up to 64 letters, digits and any of . _ @ -")
    if secret.startswith("sha256:"):
        if not re.fullmatch("[0-9a-fA-F]{64}", secret[7:]):
            raise ValueError("sha256: is followed by 64 hexadecimal digits")
        digest = bytes.fromhex(secret[7:])
    elif not LEAST_TOKEN <= len(secret) <= MOST_TOKEN or not _TOKEN.fullmatch(secret):
        raise ValueError(
            f"a token is {LEAST_TOKEN} to {MOST_TOKEN} letters, digits and any of . _ ~ + / - "
            "(openssl rand -hex 32)"
        )
    else:
        digest = sha256(secret.encode()).digest()
    expires = float("inf")
    if len(words) == 3:
        try:
            moment = datetime.fromisoformat(words[2])
        except ValueError:
            raise ValueError("an expiry is a time such as 2027-01-31T00:00:00Z") from None
        if moment.tzinfo is None:
            raise ValueError("an expiry needs its zone, such as Z for UTC")
        expires = moment.astimezone(UTC).timestamp()
    return _Token(Client(name), digest, expires)
