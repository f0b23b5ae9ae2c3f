"""`syllabary stream … --server`: a pipe through a server, which computes in our place."""

import os
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import ConfigError, ContainerError, ServingError, SyllabaryError, WaveError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..codecs.container import SylReader
    from ..jobs.pipes import PipeInput, PipeOutput
    from ..serving.blocking_client import BlockingStream

TOKEN_VARIABLE = "SYLLABARY_TOKEN"


def options(required: bool) -> Callable[[Any], Any]:
    """The options of a command that can use a server; they come as one dictionary, `server`."""
    made = [
        click.option(
            "--server",
            "servers",
            multiple=True,
            required=required,
            metavar="URL",
            help="Let a server (`syllabary serve`) compute. Given again: others that may go on.",
        ),
        click.option(
            "--token-file",
            type=click.Path(),
            metavar="PATH",
            help=f"The server's bearer token; default: what {TOKEN_VARIABLE} holds.",
        ),
        click.option(
            "--authority",
            type=click.Path(),
            metavar="PEM",
            help="Trust this certificate authority of the server; default: the system's.",
        ),
    ]

    def add(command: Any) -> Any:
        for option in reversed(made):
            command = option(command)
        return command

    return add


def choose(
    servers: tuple[str, ...], token_file: str | None, authority: str | None
) -> dict[str, Any] | None:
    """Return the arguments of `connect` that say where; None without a server."""
    if not servers:
        if token_file or authority:
            raise SyllabaryError("--token-file and --authority go with --server")
        return None
    if find_spec("aiohttp") is None:
        raise SyllabaryError('--server needs `pip install "syllabary[serve]"`')
    return {"servers": servers, "token": _token(token_file), "tls": _tls(authority)}


def _token(path: str | None) -> str | None:
    if path is None:
        return os.environ.get(TOKEN_VARIABLE) or None
    try:
        text = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        raise ConfigError(f"can't read the token in {path}: {reason}") from None
    if len(text.split()) != 1:
        raise ConfigError(f"{path}: expected one token")
    return text


def _tls(authority: str | None) -> ssl.SSLContext | None:
    if authority is None:
        return None
    try:
        return ssl.create_default_context(cafile=authority)
    except OSError as error:  # SSLError too
        raise ConfigError(
            f"can't use the authority {authority}: {error.strerror or error}"
        ) from None


def sample_rate_of(where: dict[str, Any], codec: str) -> int:
    """Ask the server for a tokenizer's sample rate."""
    import asyncio

    from ..serving.client_connection import served_codecs

    last: ServingError | None = None
    for server in where["servers"]:
        try:
            found = asyncio.run(served_codecs(server, where["token"], where["tls"]))
        except ServingError as error:
            last = error
            continue
        if codec not in found:
            raise ServingError(f"no tokenizer {codec!r} at {server}; there are: {', '.join(found)}")
        return found[codec].sample_rate
    assert last is not None
    raise last


class RecordingSource:
    """A source that remembers the bytes of the header that was read from it."""

    def __init__(self, source: "PipeInput") -> None:
        self._source = source
        self.data = b""

    def read(self, count: int, /) -> bytes:
        piece = self._source.read(count)
        self.data += piece
        return piece


def read_header(source: "PipeInput") -> tuple["SylReader", bytes]:
    """Read a `.syl` header from a pipe; return it, and its bytes."""
    from ..codecs.container import SylReader

    recording = RecordingSource(source)
    return SylReader(recording, "standard input"), recording.data


def run(
    where: dict[str, Any],
    task: str,
    codec: str,
    given: "PipeInput",
    target: "PipeOutput",
    *,
    head: bytes = b"",
    stats: bool = False,
    **opening: Any,
) -> bool:
    """Send a pipe to a server, and write what comes back.

    Args:
        where: of `choose`.
        given, target: standard input and output.
        head: input that has been read already.
        opening: further arguments of `connect`.

    Returns:
        whether the input was whole.
    """
    from ..serving.blocking_client import connect_blocking

    begun = time.monotonic()
    damage: SyllabaryError | None = None
    with connect_blocking(task=task, codec=codec, **where, **opening) as stream:
        with _output(stream, given, target) as check:
            try:
                data = head or given.arrivals()
                while data:
                    stream.send(data)
                    data = given.arrivals()
            except (ContainerError, WaveError) as error:
                damage = error
            check()
            try:
                stream.end()
            except (ContainerError, WaveError) as error:
                damage = damage or (None if given.stopped else error)
        ended, counts, latency = stream.ended, stream.counts, stream.ready.latency_ms.get("total")
    if stats and ended is not None:
        design = "unbounded" if latency is None else f"{latency:.1f} ms"
        click.echo(
            f"{task}: {ended.samples_in} samples and {ended.frames_in} frames in, "
            f"{ended.samples_out} and {ended.frames_out} out; {time.monotonic() - begun:.2f} s\n"
            f"{task}: latency {design} by design; {counts.bytes_sent} bytes sent, "
            f"{counts.bytes_received} received; {counts.reconnects} reconnections, "
            f"{counts.replayed} messages replayed",
            err=True,
        )
    if damage is not None:
        raise damage
    whole = ended is None or ended.complete or given.stopped
    if not whole:
        click.echo("cut short: what came before the cut was used", err=True)
    return whole


@contextmanager
def _output(
    stream: "BlockingStream", source: "PipeInput", target: "PipeOutput"
) -> "Iterator[Callable[[], None]]":
    """Write the output in a thread; at the end, wait for all of it.

    Yields a function that raises what went wrong in the thread.
    """
    failures: list[BaseException] = []

    def write() -> None:
        try:
            for message in stream:
                target.write(message.payload)
                target.flush()
        except BaseException as error:  # raised in the main thread
            failures.append(error)
            source.stop()
            stream.close()  # the main thread may be waiting for room

    def check() -> None:
        if failures:
            raise failures[0]

    thread = threading.Thread(target=write, name="syllabary-output", daemon=True)
    thread.start()
    try:
        yield check
        while thread.is_alive():
            thread.join(0.5)
    except SyllabaryError:
        if not failures:
            raise
    check()
