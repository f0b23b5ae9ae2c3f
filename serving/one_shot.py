"""HTTP requests about a whole file; the worker for files does the work (`file_jobs.py`)."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .file_jobs import Job
from .protocol import Refusal

if TYPE_CHECKING:
    from aiohttp import web

    from .parts import ServerParts
    from .security import Client

_PIECE = 1 << 18
_TYPES = {"wav": "audio/wav", "flac": "audio/flac"}
_SYL = "application/vnd.syllabary.syl"


async def answer(server: "ServerParts", client: "Client", request: "web.Request") -> Any:
    """Answer a request of one of `file_jobs.TASKS`.

    Raises:
        Refusal: as its codes say.
    """
    from aiohttp import web

    task = request.path.rpartition("/")[2]
    settings = _settings(task, request.query)
    if task != "decode" or settings["codec"] is not None:
        server.engine.tokenizer(settings["codec"] or "")
    server.security.spend(client, 0.0)
    with tempfile.TemporaryDirectory(prefix="syllabary-") as folder:
        source, target = Path(folder) / "body", Path(folder) / f"answer.{settings['format']}"
        size = 0
        with source.open("wb") as file:
            async for piece in request.content.iter_chunked(_PIECE):
                size += len(piece)
                if size > server.config.body_bytes:
                    raise Refusal("too_big", f"a body has at most {server.config.body_bytes} bytes")
                file.write(piece)
        if not size:
            raise Refusal("malformed", "the body is empty; expected a file")
        done = await server.engine.files.run(Job(task, str(source), str(target), **settings))
        server.metrics.received(size, done.seconds)
        server.security.charge(client, done.seconds)
        response = web.StreamResponse(
            headers={
                "Content-Type": _TYPES[settings["format"]] if task == "decode" else _SYL,
                "Content-Length": str(target.stat().st_size),
                "X-Audio-Seconds": f"{done.seconds:.3f}",
            }
        )
        await response.prepare(request)
        with target.open("rb") as file:
            while piece := file.read(_PIECE):
                await response.write(piece)
        server.metrics.sent(target.stat().st_size, done.seconds)
        await response.write_eof()
        return response


def _settings(task: str, query: Mapping[str, str]) -> dict[str, Any]:
    """Read the query's parameters.

    Raises:
        Refusal: `malformed`, or `unsupported_format`.
    """
    known = {"codec", "name"} | ({"format"} if task == "decode" else set())
    if task != "decode":
        known |= {"codebooks", "channels", "compress"}
    if unknown := sorted(set(query) - known):
        raise Refusal(
            "malformed", f"unknown parameter {unknown[0][:40]!r}: {', '.join(sorted(known))}"
        )
    settings: dict[str, Any] = {"codec": query.get("codec"), "name": query.get("name", "-")[:200]}
    if task != "decode" and settings["codec"] is None:
        raise Refusal("malformed", "name a tokenizer: ?codec=NAME; see /v1/codecs")
    settings["format"] = query.get("format", "wav")
    if settings["format"] not in _TYPES:
        raise Refusal("unsupported_format", f"formats are {', '.join(_TYPES)}")
    if task == "decode":
        return settings
    channels: str | int = query.get("channels", "mix")
    codebooks = query.get("codebooks")
    compress = query.get("compress", "false")
    if str(channels).isdecimal() and len(str(channels)) < 6:
        channels = int(channels)
    if channels not in ("mix", "first", "mono") and not isinstance(channels, int):
        raise Refusal("malformed", "channels is mix, first, mono or a number")
    if codebooks is not None and not (codebooks.isdecimal() and len(codebooks) < 6):
        raise Refusal("malformed", f"codebooks is a number, got {codebooks[:20]!r}")
    if compress not in ("true", "false"):
        raise Refusal("malformed", "compress is true or false")
    settings |= {"channels": channels, "compress": compress == "true"}
    settings["codebooks"] = None if codebooks is None else int(codebooks)
    return settings
