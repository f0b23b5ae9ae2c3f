"""What would fail when the server starts, found before: `syllabary serve --check`."""

import ipaddress
import os
import socket
from importlib.util import find_spec
from pathlib import Path

from ..errors import ConfigError
from .config import Config, read_key, ssl_context
from .security import Security


def check_config(config: Config) -> list[str]:
    """Check what would fail when the server starts.

    Returns:
        Lines to print: what will run, and warnings.

    Raises:
        ConfigError: the first thing that would fail.
    """
    read_key(config)
    context = ssl_context(config)
    Security(config)
    for codec in config.codecs:
        _check_codec(codec)
    if config.state_dir is not None:
        folder = Path(config.state_dir)
        if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
            raise ConfigError(f"state_dir {folder} is not a folder that can be written to")
    _check_port(config)
    scheme = "http" if context is None else "https"
    lines = [
        f"{scheme}://{config.host}:{config.port}, {', '.join(config.codecs)}",
        f"{config.worker_count} workers and {config.spares} spare, {config.places} places each",
    ]
    return lines + _warnings(config)


def _warnings(config: Config) -> list[str]:
    found = []
    if not _is_loopback(config.host):
        if config.token_file is None:
            found.append("warning: no token_file, everybody who reaches the server may use it")
        elif config.tls_certificate is None:
            found.append("warning: no TLS; tokens are readable on the way, unless a proxy has it")
    if config.key_file is None:
        found.append("warning: no key_file, streams don't survive the loss of the server")
    for name in ("key_file", "tls_key", "token_file"):
        path = getattr(config, name)
        if path is not None and Path(path).stat().st_mode & 0o007:
            found.append(f"warning: {name} {path} is open to every user of this machine")
    return found


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _check_codec(codec: str) -> None:
    from ..codecs.registry import list_tokenizers

    name, equals, what = codec.partition("=")
    what = what if equals else name
    module, colon, _ = what.partition(":")
    if colon:
        try:
            found = find_spec(module) is not None
        except (ImportError, ValueError):
            found = False
        if not found:
            raise ConfigError(f"codecs: there is no module {module!r}, of {codec!r}")
    elif not (what in list_tokenizers() or Path(what).is_dir() or what.count("/") == 1):
        raise ConfigError(
            f"codecs: {what!r} is no bundled tokenizer (see `syllabary list`), no folder, and no "
            "published model (owner/model)"
        )


def _check_port(config: Config) -> None:
    try:
        found = socket.getaddrinfo(
            config.host, config.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, kind, protocol, _, address = found[0]
        with socket.socket(family, kind, protocol) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
    except OSError as error:
        raise ConfigError(
            f"can't listen on {config.host} port {config.port}: {error.strerror or error}"
        ) from None
