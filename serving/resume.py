"""Signed resume tokens and signed sessions, with which a stream goes on anywhere.

Both carry an HMAC-SHA256 of a key that all servers of a deployment share. A sealed session is
signed, not encrypted: it holds moments of the client's own audio, and goes to that client only, or
to servers that have the key.
"""

import base64
import binascii
import hmac
import json
import struct
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any

from .protocol import Refusal

#: Bytes of the shortest key.
LEAST_KEY = 32
#: Seconds that the clocks of two servers may differ.
_CLOCKS = 60.0
_MAGIC = b"SYLSESS\x01"
_LENGTH = struct.Struct("<I")
_MAC = sha256().digest_size


@dataclass(frozen=True)
class ResumeToken:
    """What a resume token says.

    Attributes:
        session: its id.
        server: URL of the server that had it.
        generation: connections of the session so far.
        expires: seconds since 1970.
        client: to whom it belongs.
    """

    session: str
    server: str
    generation: int
    expires: float
    client: str


class Keys:
    """Signs and checks.

    Args:
        secret: at least 32 bytes.
        clock: seconds since 1970.
    """

    def __init__(self, secret: bytes, clock: Callable[[], float] = time.time) -> None:
        if len(secret) < LEAST_KEY:
            raise ValueError(f"a key has at least {LEAST_KEY} bytes, got {len(secret)}")
        self._secret, self._clock = secret, clock

    def _mac(self, purpose: str, data: bytes) -> bytes:
        key = hmac.digest(self._secret, b"syllabary " + purpose.encode(), "sha256")
        return hmac.digest(key, data, "sha256")

    # --- tokens ----------------------------------------------------------------------------------

    def token(self, content: ResumeToken) -> str:
        """Return a token's text."""
        data = json.dumps(asdict(content), separators=(",", ":")).encode()
        return f"{_to_text(data)}.{_to_text(self._mac('resume', data))}"

    def read_token(self, text: str) -> ResumeToken:
        """Read a token.

        Raises:
            Refusal: `unauthorized`, it was not made with this key; or `expired`.
        """
        data, _, mac = text.partition(".")
        content, given = _from_text(data), _from_text(mac)
        if not hmac.compare_digest(self._mac("resume", content), given):
            raise Refusal("unauthorized", "the resume token is not one of this service's")
        token = ResumeToken(**json.loads(content))
        if token.expires < self._clock():
            raise Refusal("expired", "the resume token has expired")
        return token

    # --- sessions --------------------------------------------------------------------------------

    def seal(self, header: Mapping[str, Any], parts: list[bytes], seconds: float) -> bytes:
        """Return a header and parts as signed bytes that are valid for so many seconds."""
        fields = {**header, "expires": self._clock() + seconds, "sizes": [len(p) for p in parts]}
        text = json.dumps(fields).encode()
        content = _MAGIC + _LENGTH.pack(len(text)) + text + b"".join(parts)
        return content + self._mac("session", content)

    def unseal(self, data: bytes) -> tuple[dict[str, Any], list[bytes]]:
        """Return what `seal` was given.

        Raises:
            Refusal: `bad_state`, the bytes were not sealed with this key, or altered; or `expired`.
        """
        content, mac = data[:-_MAC], data[-_MAC:]
        if not hmac.compare_digest(self._mac("session", content), mac):
            raise Refusal("bad_state", "the sealed state was altered, or is not this service's")
        # Signed: from here on it is what a server wrote.
        start = len(_MAGIC) + _LENGTH.size
        (length,) = _LENGTH.unpack_from(content, len(_MAGIC))
        header = json.loads(content[start : start + length])
        if header["expires"] < self._clock():
            raise Refusal("expired", "the sealed state has expired")
        parts, at = [], start + length
        for size in header["sizes"]:
            parts.append(content[at : at + size])
            at += size
        return header, parts

    # --- servers ---------------------------------------------------------------------------------

    def peer_header(self, session: str) -> str:
        """Return the `Authorization` header with which a server asks another for a session."""
        now = f"{self._clock():.3f}"
        return f"Peer {now}.{self._mac('peer', f'{session} {now}'.encode()).hex()}"

    def check_peer(self, session: str, header: str | None) -> None:
        """Check such a header.

        Raises:
            Refusal: `unauthorized`.
        """
        scheme, _, rest = (header or "").partition(" ")
        now, _, mac = rest.rpartition(".")
        expected = self._mac("peer", f"{session} {now}".encode()).hex()
        valid = hmac.compare_digest(expected.encode(), mac.encode()) and scheme == "Peer"
        if not valid or abs(float(now) - self._clock()) > _CLOCKS:
            raise Refusal("unauthorized", "only servers of this deployment may take a session")


def _to_text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _from_text(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True)
    except (binascii.Error, ValueError):
        return b""
