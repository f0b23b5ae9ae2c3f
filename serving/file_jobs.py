"""Work on whole files: what the worker for files does for requests (`one_shot.py`).

The bytes are those of the command line's `encode`, `decode` and `convert`.
"""

import tempfile
import threading
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from .protocol import Refusal

if TYPE_CHECKING:
    from ..codecs.interface import AudioTokenizer

TASKS = ("encode", "decode", "transcode")


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


class _Signs(threading.Event):
    """Never set; whoever asks has got on.

    Args:
        go_on: called then.
    """

    def __init__(self, go_on: Callable[[], None]) -> None:
        super().__init__()
        self._go_on = go_on

    def is_set(self) -> bool:
        self._go_on()
        return False


def run(
    job: Job,
    tokenizers: "Mapping[str, AudioTokenizer]",
    go_on: Callable[[], None] = lambda: None,
) -> Done:
    """Do a job; in the worker for files.

    Args:
        job: what to do.
        tokenizers: by name.
        go_on: called with each part of the file.

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

    signs = _Signs(go_on)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ContainerWarning)
        try:
            if job.task == "encode":
                return _encode(job, tokenizers, Path(job.source), signs)
            if job.task == "decode":
                return _decode(job, tokenizers, Path(job.target), job.codec, signs)
            with tempfile.TemporaryDirectory(prefix="syllabary-") as folder:
                sound = Path(folder) / "sound.wav"
                written = Job("decode", job.source, "", format="wav")
                _decode(written, tokenizers, sound, None, signs)
                return _encode(job, tokenizers, sound, signs)
        except (TokenMismatchError, UnknownTokenizerError) as error:
            raise Refusal("unknown_codec", str(error)) from None
        except AudioFileError as error:
            raise Refusal("unsupported_format", _without_paths(error, job)) from None
        except (ContainerError, SyllabaryError) as error:
            raise Refusal("malformed", _without_paths(error, job)) from None


def _without_paths(error: Exception, job: Job) -> str:
    return str(error).replace(job.source, job.name).replace(job.target, "the answer")


def _encode(
    job: Job, tokenizers: "Mapping[str, AudioTokenizer]", source: Path, signs: _Signs
) -> Done:
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
        stop=signs,
    )
    return Done(report.seconds, report.frames)


def _decode(
    job: Job,
    tokenizers: "Mapping[str, AudioTokenizer]",
    target: Path,
    codec: str | None,
    signs: _Signs,
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
        report = decode_file(tokenizer, reader, target, audio_format=job.format, stop=signs)
    return Done(report.seconds, report.frames)


def _known(tokenizers: "Mapping[str, AudioTokenizer]", name: str | None) -> "AudioTokenizer":
    if name is None or name not in tokenizers:
        raise Refusal("unknown_codec", f"no tokenizer {name!r} here; see /v1/codecs")
    return tokenizers[name]
