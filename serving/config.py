"""A server's configuration: a TOML file, flags, and what can be checked before it starts.

Loads neither torch nor a web framework. docs/serving-operations.md lists the fields.
"""

import os
import ssl
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from ..cores import usable_cores
from ..errors import ConfigError
from ..typed_fields import from_json, typed
from .protocol import Limits

#: A key that signs resume tokens and states.
LEAST_KEY_BYTES = 32
#: Fields that name a file or folder; in a configuration file they are relative to its folder.
PATHS = ("key_file", "state_dir", "tls_certificate", "tls_key", "token_file")


@dataclass(frozen=True)
class Config:
    """How a server runs.

    Attributes:
        host, port: where it listens; port 0 is any free one.
        codecs: tokenizers, as for `load`, or `module:Class`, which the workers import; with `NAME=`
            before it, clients use that name.
        workers: processes that compute; 0: one for each core but one.
        spares: further processes, warm, that take over when one is lost.
        places: streams a worker.
        limits: see `protocol.Limits`.
        body_bytes: of the body of a single request.
        tick_ms: messages that arrive within so many milliseconds are handled together; 0: each
            one at once.
        lateness_ms: new streams are refused while the present ones get their output later.
        silence_seconds: a worker that has something to compute and says nothing for so long is
            killed.
        checkpoint_seconds: of audio, between two copies of a stream's state.
        drain_seconds: between SIGTERM and the hand-over of the streams.
        url: as clients and other servers reach this one, such as https://codec.example.org.
        peers: URLs of the other servers of the deployment.
        key_file: at least 32 secret bytes, the same in all servers of a deployment, that sign what
            resumes a stream. None: random ones, so that streams don't survive the server.
        state_dir: folder for copies of states, from which another server can go on.
        tls_certificate, tls_key: PEM files; both or neither.
        token_file: who may use the server; see `security`. None: everybody who reaches it.
        origins: of web pages that may use it, besides its own page; `*`: all.
        sessions_per_token: streams at a time; 0: no limit.
        audio_seconds_per_hour: of one client; 0: no limit.
        log_level: `debug`, `info`, `warning` or `error`.
    """

    host: str = "127.0.0.1"
    port: int = 8700
    codecs: tuple[str, ...] = ("rvq-16k",)
    workers: int = 0
    spares: int = 1
    places: int = 32
    limits: Limits = field(default_factory=Limits)
    body_bytes: int = 256 << 20
    tick_ms: float = 2.0
    lateness_ms: float = 20.0
    silence_seconds: float = 20.0
    checkpoint_seconds: float = 2.0
    drain_seconds: float = 10.0
    url: str | None = None
    peers: tuple[str, ...] = ()
    key_file: str | None = None
    state_dir: str | None = None
    tls_certificate: str | None = None
    tls_key: str | None = None
    token_file: str | None = None
    origins: tuple[str, ...] = ()
    sessions_per_token: int = 0
    audio_seconds_per_hour: float = 0.0
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65_535:
            raise ValueError(f"port is 0 to 65535, got {self.port}")
        names = [codec.partition("=")[0] for codec in self.codecs]
        if not names or not all(names) or len(set(names)) != len(names):
            raise ValueError(f"codecs names at least one, each once; got {list(self.codecs)}")
        for name in (
            "spares",
            "workers",
            "sessions_per_token",
            "audio_seconds_per_hour",
            "tick_ms",
        ):
            _check_least(name, getattr(self, name), 0)
        for name in ("places", "body_bytes"):
            _check_least(name, getattr(self, name), 1)
        for name in ("lateness_ms", "silence_seconds", "checkpoint_seconds", "drain_seconds"):
            _check_least(name, getattr(self, name), 0.001)
        for name, value in asdict(self.limits).items():
            _check_least(f"limits.{name}", value, 0.001)
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key are given together")
        if (self.peers or self.state_dir) and self.key_file is None:
            raise ValueError(
                "peers and state_dir need a key_file: other servers trust what its key has signed"
            )
        if self.peers and self.url is None:
            raise ValueError("peers need a url, under which they reach this server")
        for name, urls in (("url", (self.url,) if self.url else ()), ("peers", self.peers)):
            for url in urls:
                _check_url(name, url)
        for origin in self.origins:
            if origin not in ("*", "null") and urlsplit(origin).path:
                raise ValueError(f"origins have no path, got {origin!r}")
            if origin not in ("*", "null"):
                _check_url("origins", origin)

    @property
    def worker_count(self) -> int:
        """Processes that compute streams."""
        return self.workers or max(1, usable_cores() - 1)


def load_config(path: Path | None, overrides: Mapping[str, Any]) -> Config:
    """Read a configuration file, and let flags override it.

    Args:
        path: TOML; None: the defaults. Files that it names are relative to its folder.
        overrides: values by field name, or by `limits.NAME`.

    Raises:
        ConfigError: the file can't be read, or has an unknown field or a value that a field can't
            hold.
    """
    fields = {} if path is None else _read(path)
    for name, value in overrides.items():
        table, dot, inner = name.partition(".")
        if dot:
            inside = fields.setdefault(table, {})
            if not isinstance(inside, dict):
                raise ConfigError(f"{table} is no table")
            inside[inner] = value
        else:
            fields[name] = value
    where = "" if path is None else str(path)
    try:
        return from_json(Config, fields)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}" if where else str(error)) from None


def _read(path: Path) -> dict[str, Any]:
    try:
        fields = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"can't read the configuration {path}: {error.strerror}") from None
    except ValueError as error:  # not TOML, or not UTF-8
        raise ConfigError(f"{path} is no TOML file: {error}") from None
    for name in PATHS:
        if name in fields:
            fields[name] = str(path.parent / typed(str, fields[name], f"{path}: {name}"))
    return fields


def ssl_context(config: Config) -> ssl.SSLContext | None:
    """Return what TLS needs; None without a certificate.

    Raises:
        ConfigError: certificate or key can't be read, or don't belong together.
    """
    if config.tls_certificate is None or config.tls_key is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        # A key that needs a passphrase would ask for it on the terminal.
        context.load_cert_chain(config.tls_certificate, config.tls_key, password=_no_passphrase)
    except OSError as error:  # SSLError too
        raise ConfigError(
            f"can't use the TLS certificate {config.tls_certificate} with the key "
            f"{config.tls_key}: {error.strerror or error}"
        ) from None
    return context


def _no_passphrase() -> str:
    return ""


def read_key(config: Config) -> bytes:
    """Return the secret of `key_file`; random bytes without one.

    Raises:
        ConfigError: the file can't be read or is too short.
    """
    if config.key_file is None:
        return os.urandom(LEAST_KEY_BYTES)
    try:
        key = Path(config.key_file).read_bytes()
    except OSError as error:
        raise ConfigError(f"can't read key_file {config.key_file}: {error.strerror}") from None
    if len(key.strip()) < LEAST_KEY_BYTES:
        raise ConfigError(
            f"key_file {config.key_file} has {len(key.strip())} bytes, expected at least "
            f"{LEAST_KEY_BYTES} (openssl rand -hex 32)"
        )
    return key.strip()


def _check_least(name: str, value: float, least: float) -> None:
    if not value >= least or value == float("inf"):
        raise ValueError(f"{name} must be at least {least:g}, got {value}")


def _check_url(name: str, url: str) -> None:
    parts = urlsplit(url)
    try:
        sound = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        sound = False
    if not sound or parts.query or parts.fragment or parts.username is not None:
        raise ValueError(f"{name} takes http(s)://HOST[:PORT], got {url!r}")
