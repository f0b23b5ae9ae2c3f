"""Requests about a whole file: the work, done by the worker for files, and the HTTP around it.

The bytes are those of the command line's `encode`, `decode` and `convert`.
"""

import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from .protocol import Refusal

if TYPE_CHECKING:
    from aiohttp import web

    from ..codecs.interface import AudioTokenizer
    from .security import Client
    from .server import Server

TASKS = ("encode", "decode", "transcode")
_PIECE = 1 << 18
_TYPES = {"wav": "audio/wav", "flac": "audio/flac"}
_SYL = "application/vnd.syllabary.syl"


@dataclass(frozen=True)
class Job:
    """What to do with a file.

    Attributes:
        task: one of `TASKS`.
        source, target: paths.
        codec: of the codes written; for `decode`, that they must have, or None.
        codebooks: keep the first so many.
        channels: as in `encode_file`.
        compress: entropy-code the payload.
        name: of the source, for the metadata.
        format: of the audio written.
    """

    task: str
    source: str
    target: str
    codec: str | None = None
    codebooks: int | None = None
    channels: str | int = "mix"
    compress: bool = False
    name: str = "-"
    format: str = "wav"


@dataclass(frozen=True)
class Done:
    """What was done: seconds of audio, and frames."""

    seconds: float
    frames: int


# --- the work ------------------------------------------------------------------------------------


def run(job: Job, tokenizers: "Mapping[str, AudioTokenizer]") -> Done:
    """Do a job; in the worker for files.

    Raises:
        Refusal: the file can't be used, or the codec is unknown.
    """
    from ..codecs.container import ContainerWarning
    from ..errors import (
        AudioFileError,
        ContainerError,
        SyllabaryError,
        TokenMismatchError,
        UnknownTokenizerError,
    )

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ContainerWarning)
        try:
            if job.task == "encode":
                return _encode(job, tokenizers, Path(job.source))
            if job.task == "decode":
                return _decode(job, tokenizers, Path(job.target), job.codec)
            with tempfile.TemporaryDirectory(prefix="syllabary-") as folder:
                sound = Path(folder) / "sound.wav"
                _decode(Job("decode", job.source, "", format="wav"), tokenizers, sound, None)
                return _encode(job, tokenizers, sound)
        except (TokenMismatchError, UnknownTokenizerError) as error:
            raise Refusal("unknown_codec", str(error)) from None
        except AudioFileError as error:
            raise Refusal("unsupported_format", _without_paths(error, job)) from None
        except (ContainerError, SyllabaryError) as error:
            raise Refusal("malformed", _without_paths(error, job)) from None


def _without_paths(error: Exception, job: Job) -> str:
    return str(error).replace(job.source, job.name).replace(job.target, "the answer")


def _encode(job: Job, tokenizers: "Mapping[str, AudioTokenizer]", source: Path) -> Done:
    from ..audio.manifests import Utterance
    from ..jobs.one_file import encode_file

    tokenizer = _known(tokenizers, job.codec)
    report = encode_file(
        tokenizer,
        Utterance(source, PurePosixPath(job.name)),
        Path(job.target),
        name=job.name,
        channels=job.channels,  # type: ignore[arg-type]
        num_codebooks=job.codebooks,
        compress=job.compress,
    )
    return Done(report.seconds, report.frames)


def _decode(
    job: Job, tokenizers: "Mapping[str, AudioTokenizer]", target: Path, codec: str | None
) -> Done:
    from ..codecs.container import SylReader
    from ..jobs.one_file import decode_file

    with Path(job.source).open("rb") as file:
        reader = SylReader(file, "the body")
        if codec is None:
            fitting = [
                name
                for name, each in tokenizers.items()
                if each.spec.tokens.digest == reader.spec.digest
            ]
            if not fitting:
                raise Refusal("unknown_codec", f"no {reader.spec.tokenizer} with this digest here")
            codec = fitting[0]
        tokenizer = _known(tokenizers, codec)
        report = decode_file(tokenizer, reader, target, audio_format=job.format)
    return Done(report.seconds, report.frames)


def _known(tokenizers: "Mapping[str, AudioTokenizer]", name: str | None) -> "AudioTokenizer":
    if name is None or name not in tokenizers:
        raise Refusal("unknown_codec", f"no tokenizer {name!r} here; see /v1/codecs")
    return tokenizers[name]


# --- the HTTP around it --------------------------------------------------------------------------


async def answer(server: "Server", client: "Client", request: "web.Request") -> Any:
    """Answer a request of one of the `TASKS`.

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
        done = await server.engine.run_job(Job(task, str(source), str(target), **settings))
        server.metrics.received(size, done.seconds)
        server.security.spend(client, done.seconds)
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
    if str(channels).isdecimal():
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
