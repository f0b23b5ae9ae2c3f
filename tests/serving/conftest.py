"""Tokenizers of a few thousand weights for workers, and what they give offline."""

import io
import sys
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest

from syllabary.audio.pcm import PCMDecoder, PCMEncoder
from syllabary.audio.polyphase import PolyphaseResampler
from syllabary.codecs.container import SylWriter
from syllabary.serving.protocol import PCM, Kind, Message, Open
from syllabary.tests.serving import tiny

from ..conftest import ROOT, synthetic_speech
from .running import Loop, Running

sys.path.insert(0, str(ROOT / "benchmarks"))
from serving_caller import Call
from serving_speech import syl_messages

#: As a server's configuration names them, and as clients do.
HERE = "syllabary.tests.serving.tiny"
CODECS = (f"dmel={HERE}:dmel", f"ts3={HERE}:ts3", f"rvq={HERE}:rvq")


@pytest.fixture(scope="session")
def tokenizers() -> dict:
    return {"dmel": tiny.dmel(), "ts3": tiny.ts3(), "rvq": tiny.rvq()}


@pytest.fixture(scope="session")
def loop():
    found = Loop()
    yield found
    found.close()


@pytest.fixture(scope="session")
def server(loop):
    """A server whose two workers and their spare are threads."""
    running = Running(loop, codecs=CODECS, workers=2, spares=1, places=6, checkpoint_seconds=0.4)
    yield running
    running.close()


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
    def opens(self) -> Open:
        return Open(
            self.task,
            self.codec,
            source=self.source,
            input=self.input,
            output=self.output,
            frames=self.frames,
        )

    @property
    def call(self) -> Call:
        """For a caller; its messages are of 20 ms, or of two frames."""
        sizes = [len(message.payload) for message in self.sent]
        ms = [1000 * size / self.input.bytes_of(self.input.rate) for size in sizes]
        if self.task != "encode":
            ms = [0.0, *([50.0] * (len(sizes) - 2)), 0.0]
        return Call(self.opens, self.sent, ms)


def offline_encode(codec, wave: np.ndarray, rate: int, frames: int, **source):
    """A `.syl` file of samples at some rate, all at once; and its tokens."""
    metadata = {
        "source": {"name": "-", "sample_rate": rate, "channels": 1, **source},
        "options": {"frames_per_chunk": frames},
    }
    spec = codec.spec
    if rate != spec.sample_rate:
        wave = PolyphaseResampler(rate, spec.sample_rate).push(wave, final=True)
        metadata["resampler"] = "syllabary polyphase 1"
    file = io.BytesIO()
    with SylWriter(file, spec.tokens, metadata=metadata, chunk_positions=frames) as writer:
        writer.write(tokens := codec.encode(wave, spec.sample_rate))
    return file.getvalue(), tokens


def offline_decode(tokenizer, tokens, rate: int) -> np.ndarray:
    wave = tokenizer.decode(tokens)[0].numpy()
    if rate != tokenizer.spec.sample_rate:
        wave = PolyphaseResampler(tokenizer.spec.sample_rate, rate).push(wave, final=True)
    return wave


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
            expected, _ = offline_encode(tokenizers[codec], wave, pcm.rate, frames)
            sent = pcm_messages(data, pcm.bytes_of(1), samples)
            return Utterance(task, codec, sent, expected, input=pcm, frames=frames)
        heard = tokenizers[source or codec]
        rate = heard.spec.sample_rate
        syl, tokens = offline_encode(heard, synthetic_speech(int(seconds * rate), seed), rate, 2)
        sent = syl_messages(syl)
        if task == "decode":
            wave = offline_decode(heard, tokens, pcm.rate)
            return Utterance(task, codec, sent, PCMEncoder(pcm.format).push(wave), output=pcm)
        wave = offline_decode(heard, tokens, rate)
        encoded = offline_encode(tokenizers[codec], wave, rate, frames, tokenizer=source)
        expected = encoded[0]
        return Utterance(task, codec, sent, expected, source, frames=frames)

    return make
