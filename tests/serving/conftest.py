"""Tokenizers of a few thousand weights for workers, and what they give offline."""

import io
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256

import numpy as np
import pytest

from syllabary.audio.pcm import PCMDecoder, PCMEncoder
from syllabary.audio.polyphase import PolyphaseResampler
from syllabary.codecs.container import SylReader, SylWriter, read_tokens
from syllabary.serving.protocol import PCM, Kind, Message

from .. import tiny_codecs
from ..conftest import synthetic_speech

#: As a server's configuration names them, and as clients do.
HERE = "syllabary.tests.serving.tiny"
CODECS = (f"dmel={HERE}:dmel", f"ts3={HERE}:ts3", f"rvq={HERE}:rvq")


@pytest.fixture(scope="session")
def tokenizers() -> dict:
    return {"dmel": tiny_codecs.dmel(), "ts3": tiny_codecs.ts3(), "rvq": tiny_codecs.rvq()}


@dataclass
class Utterance:
    """What one client sends, and what must come back.

    Attributes:
        task, codec, source: of `open`.
        sent: messages, the last one final.
        expected: payloads of the messages that come back, joined.
    """

    task: str
    codec: str
    sent: list[Message]
    expected: bytes
    source: str | None = None
    input: PCM = field(default_factory=PCM)
    output: PCM = field(default_factory=PCM)
    frames: int = 1

    @property
    def digest(self) -> str:
        return sha256(self.expected).hexdigest()


def offline_encode(tokenizer, wave: np.ndarray, rate: int, frames: int, **source) -> bytes:
    """A `.syl` file of samples at some rate, all at once."""
    metadata = {
        "source": {"name": "-", "sample_rate": rate, "channels": 1, **source},
        "options": {"frames_per_chunk": frames},
    }
    spec = tokenizer.spec
    if rate != spec.sample_rate:
        wave = PolyphaseResampler(rate, spec.sample_rate).push(wave, final=True)
        metadata["resampler"] = "syllabary polyphase 1"
    file = io.BytesIO()
    with SylWriter(file, spec.tokens, metadata=metadata, chunk_positions=frames) as writer:
        writer.write(tokenizer.encode(wave, spec.sample_rate))
    return file.getvalue()


def offline_decode(tokenizer, syl: bytes, rate: int) -> np.ndarray:
    wave = tokenizer.decode(read_tokens(io.BytesIO(syl)))[0].numpy()
    if rate != tokenizer.spec.sample_rate:
        wave = PolyphaseResampler(tokenizer.spec.sample_rate, rate).push(wave, final=True)
    return wave


def syl_messages(syl: bytes) -> list[Message]:
    """A `.syl` file as a client sends it."""
    file = io.BytesIO(syl)
    reader = SylReader(file)
    messages = [Message(Kind.SYL_HEADER, 0, 0, syl[: file.tell()])]
    start = file.tell()
    position = 0
    for chunk in reader.chunks():
        messages.append(Message(Kind.SYL_CHUNK, len(messages), position, syl[start : file.tell()]))
        position += chunk.codes.shape[1]
        start = file.tell()
        if len(syl) - start == 12 + 4 + 16:  # only the end mark is left
            break
    messages.append(Message(Kind.SYL_CHUNK, len(messages), position, syl[start:], final=True))
    return messages


def pcm_messages(data: bytes, sample_bytes: int, samples: int) -> list[Message]:
    """PCM in messages of so many samples; the last one is final."""
    step = sample_bytes * samples
    parts = [data[at : at + step] for at in range(0, len(data), step)] or [b""]
    return [
        Message(Kind.PCM, number, number * samples, part, final=number == len(parts) - 1)
        for number, part in enumerate(parts)
    ]


@pytest.fixture(scope="session")
def utterance(tokenizers) -> Callable[..., Utterance]:
    """Make what a client sends and gets, for any task."""

    def make(
        task: str,
        codec: str,
        seconds: float = 1.0,
        seed: int = 0,
        source: str | None = None,
        pcm: PCM | None = None,
        frames: int = 1,
        samples: int = 320,
    ) -> Utterance:
        pcm = pcm or PCM()
        if task == "encode":
            wave = synthetic_speech(int(seconds * pcm.rate), seed, pcm.rate)
            data = PCMEncoder(pcm.format).push(wave)
            wave = PCMDecoder(pcm.format).push(data)
            expected = offline_encode(tokenizers[codec], wave, pcm.rate, frames)
            sent = pcm_messages(data, pcm.bytes_of(1), samples)
            return Utterance(task, codec, sent, expected, input=pcm, frames=frames)
        heard = tokenizers[source or codec]
        rate = heard.spec.sample_rate
        syl = offline_encode(heard, synthetic_speech(int(seconds * rate), seed), rate, 2)
        sent = syl_messages(syl)
        if task == "decode":
            wave = offline_decode(heard, syl, pcm.rate)
            return Utterance(task, codec, sent, PCMEncoder(pcm.format).push(wave), output=pcm)
        wave = offline_decode(heard, syl, rate)
        expected = offline_encode(tokenizers[codec], wave, rate, frames, tokenizer=source)
        return Utterance(task, codec, sent, expected, source, frames=frames)

    return make
