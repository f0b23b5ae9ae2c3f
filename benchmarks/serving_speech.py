"""What clients of `serving.py` say, and what they must get."""

import asyncio
import io
import random
from collections.abc import Callable
from math import ceil
from pathlib import Path

import numpy as np
from serving_caller import Call, Caller

from syllabary.audio.files import read
from syllabary.audio.pcm import PCMDecoder, PCMEncoder
from syllabary.codecs.container import SylReader, SylWriter
from syllabary.serving.protocol import Kind, Message, Open
from syllabary.serving.worker import find_tokenizer

FRAME_MS = 20
HERE = Path(__file__).resolve().parent


class Speech:
    """Utterances cut out of a recording, and what they give offline."""

    def __init__(self, codec: str, task: str, seconds: float) -> None:
        self.name, self.tokenizer = find_tokenizer(codec)
        self.task, self.seconds = task, seconds
        self.rate = self.tokenizer.spec.sample_rate
        clip, _ = read(HERE.parent / "assets" / "demo.flac", self.rate)
        self._clip = np.resize(clip, int((seconds + 60) * self.rate))
        self._known: dict[int, tuple[Call, bytes]] = {}

    def call(self, number: int) -> tuple[Call, bytes]:
        """A new call of utterance `number`, and its expected output."""
        number %= 16
        if number not in self._known:
            self._known[number] = self._make(number)
        call, expected = self._known[number]
        return Call(call.open, call.messages, call.ms), expected

    def _make(self, number: int) -> tuple[Call, bytes]:
        spec = self.tokenizer.spec
        start, size = number * 3 * self.rate, int(self.seconds * self.rate)
        data = PCMEncoder("s16le").push(self._clip[start : start + size])
        tokens = self.tokenizer.encode(PCMDecoder("s16le").push(data), self.rate)
        metadata = {
            "source": {"name": "-", "sample_rate": self.rate, "channels": 1},
            "options": {"frames_per_chunk": 1},
        }
        file = io.BytesIO()
        with SylWriter(file, spec.tokens, metadata=metadata, chunk_positions=1) as writer:
            writer.write(tokens)
        pcm = {"format": "s16le", "rate": self.rate}
        opens = Open(self.task, self.name)
        opens = Open(self.task, self.name, input=type(opens.input)(**pcm), output=opens.input)
        if self.task == "encode":
            samples = self.rate * FRAME_MS // 1000
            step = 2 * samples
            parts = [data[at : at + step] for at in range(0, len(data), step)]
            messages = [
                Message(Kind.PCM, n, n * samples, part, final=n == len(parts) - 1)
                for n, part in enumerate(parts)
            ]
            return Call(opens, messages, [FRAME_MS] * len(parts)), file.getvalue()
        wave = self.tokenizer.decode(tokens)[0].numpy()
        messages = syl_messages(file.getvalue())
        ms = 1000 / float(spec.frame_rate)
        times = [0.0, *([ms] * (len(messages) - 2)), 0.0]
        return Call(opens, messages, times), PCMEncoder("s16le").push(wave)

    def lateness(self, call: Call) -> list[float]:
        """For each message that came: ms after its input was due, less the algorithm's latency."""
        spec, found = self.tokenizer.spec, []
        hop, per_message = spec.tokens.hop, self.rate * FRAME_MS // 1000
        for message, came in zip(call.received, call.came, strict=True):
            if self.task == "encode":
                if message.kind != Kind.SYL_CHUNK or message.final:
                    continue
                needs = message.position * hop + spec.encoder_latency
                index = ceil(needs / per_message) - 1
            else:
                end = message.position + len(message.payload) // 2
                # The samples of the latest frame are held back: it may be the last, and shorter.
                frames = max(ceil(end / hop) + 1, ceil((end + spec.decoder_latency) / hop))
                index = frames  # behind the header
            if index < len(call.due):
                found.append(1000 * (came - call.due[index]))
        return found


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


def percentile(values: list[float], part: float) -> float:
    return sorted(values)[min(len(values) - 1, int(part * len(values)))] if values else float("nan")


async def speak(
    url: str | Callable[[], str], speech: Speech, sessions: int, seed: int = 0, **settings: object
) -> list[tuple[Call, bool]]:
    """Run so many streams at random phases; return each call, and whether its output is right."""
    rng = random.Random(seed)

    async def one(number: int) -> tuple[Call, bool]:
        await asyncio.sleep(rng.random())
        call, expected = speech.call(number)
        caller = Caller(url, pace=True, ack_every=10, patience=speech.seconds + 120, **settings)
        await caller.call(call)
        return call, call.output == expected

    return await asyncio.gather(*(one(number) for number in range(sessions)))


def equal(calls: list[tuple[Call, bool]]) -> str:
    """How many had the right output, of how many."""
    return f"{sum(right for _, right in calls)} of {len(calls)}"


def answered(made: list[tuple[Call, bytes]]) -> list[tuple[Call, bool]]:
    """Whether each call got what was expected, for `equal`."""
    return [(call, call.output == expected) for call, expected in made]


def row(*cells: object) -> None:
    shown = [f"{cell:.1f}" if isinstance(cell, float) else str(cell) for cell in cells]
    print(f"| {' | '.join(shown)} |", flush=True)


def head(*names: str) -> None:
    row(*names)
    row(*["---"] * len(names))
