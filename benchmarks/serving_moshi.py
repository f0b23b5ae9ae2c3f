"""Moshi's server beside ours: its own code, with random weights.

    pip install --no-deps --target /tmp/moshi moshi sphn einops sentencepiece
    PYTHONPATH=/tmp/moshi python benchmarks/serving_moshi.py --sessions 1,2

Its language model, which can't be had here and takes a GPU, is cut to one narrow layer, so the
codec is most of what it computes: an encoder and a decoder for each 80 ms. Mimi has its full size,
or with `--small` a quarter of its channels and of its layers. What needs CUDA is a single
`synchronize`. Clients send Opus as its own client does, in real time; a frame's latency counts from
the moment when the last of its audio was due.
"""

import argparse
import asyncio
import os
import runpy
import sys
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from serving_server import HERE, cpu, listening
from serving_speech import head, percentile, row

from syllabary.audio.files import read

RATE, FRAME = 24_000, 1920
PACKET = 480  # samples that are given to Opus at a time
_PATIENCE = 3.0  # seconds without an answer
_START_SECONDS = 300.0


# --- the server ----------------------------------------------------------------------------------


class _Pieces:
    """In the place of its text tokenizer."""

    def id_to_piece(self, number: int) -> str:
        return "a"


def serve(port: int, is_small: bool) -> None:
    """Run Moshi's server on the CPU, until it is killed."""
    import torch
    from moshi.models import loaders

    torch.set_num_threads(1)
    small: dict[str, Any] = {"dim": 64, "num_heads": 2, "num_layers": 1, "context": 64}
    small |= {"text_card": 32, "depformer_dim": 32, "depformer_dim_feedforward": 64}
    small |= {"depformer_num_heads": 2, "depformer_num_layers": 1}
    found = loaders.CheckpointInfo(None, None, None, lm_config=loaders._lm_kwargs | small)
    found.get_text_tokenizer = _Pieces
    if is_small:
        loaders._seanet_kwargs |= {"dimension": 128, "n_filters": 16}
        loaders._quantizer_kwargs |= {"dimension": 64, "input_dimension": 128}
        loaders._quantizer_kwargs |= {"output_dimension": 128}
        loaders._transformer_kwargs |= {"d_model": 128, "num_layers": 2, "dim_feedforward": 512}
        loaders._transformer_kwargs |= {"input_dimension": 128, "output_dimensions": [128]}
    loaders.CheckpointInfo.from_hf_repo = staticmethod(lambda *_, **__: found)
    torch.cuda.synchronize = lambda: None
    sys.argv = ["server", "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    sys.argv += ["--static", "none"]
    runpy.run_module("moshi.server", run_name="__main__")


# --- its clients ---------------------------------------------------------------------------------


@dataclass
class Call:
    """A stream.

    Attributes:
        due: when each frame's last audio was due.
        came: when each answer came.
        served: whether the server began.
    """

    due: list[float] = field(default_factory=list)
    came: list[float] = field(default_factory=list)
    served: bool = False

    @property
    def late(self) -> list[float]:
        """Milliseconds of each answer; the first answers' frames are those that none answers."""
        ahead = max(0, len(self.due) - len(self.came))
        return [1000 * (c - d) for c, d in zip(self.came, self.due[ahead:], strict=False)]


async def speak(url: str, wave: np.ndarray, phase: float) -> Call:
    """Send a wave in real time, and note what comes back."""
    import aiohttp
    import sphn

    call, writer = Call(), sphn.OpusStreamWriter(RATE)
    await asyncio.sleep(phase)
    async with (
        aiohttp.ClientSession() as client,
        client.ws_connect(url + "/api/chat", timeout=aiohttp.ClientWSTimeout(ws_close=1)) as ws,
    ):

        async def listen() -> None:
            async for message in ws:
                if message.data[0] == 0:
                    call.served = True
                elif message.data[0] == 1:
                    call.came.append(time.monotonic())

        listening = asyncio.create_task(listen())
        begin = time.monotonic()
        while not call.served and time.monotonic() < begin + len(wave) / RATE:
            await asyncio.sleep(0.01)
        if call.served:
            begin = time.monotonic()
            for at in range(0, len(wave) - PACKET + 1, PACKET):
                due = begin + (at + PACKET) / RATE
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                if data := writer.append_pcm(wave[at : at + PACKET]):
                    await ws.send_bytes(b"\x01" + data)
                if (at + PACKET) % FRAME == 0:
                    call.due.append(due)
            while time.monotonic() < max([due, *call.came[-1:]]) + _PATIENCE:
                await asyncio.sleep(0.1)  # all that it still has to say
        listening.cancel()
    return call


def main(arguments: list[str]) -> None:
    def numbers(text: str) -> list[int]:
        return [int(part) for part in text.split(",")]

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sessions", type=numbers, default=[1, 2])
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--small", action="store_true", help="a small Mimi")
    parser.add_argument("--serve", type=int, metavar="PORT", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.serve:
        return serve(options.serve, options.small)
    cores = os.sched_getaffinity(0)
    clip, _ = read(HERE.parent / "assets" / "demo.flac", RATE)
    wave = np.resize(clip, int(options.seconds * RATE)).astype(np.float32)
    script = [__file__, *["--small"] * options.small, "--serve"]
    with listening(script, {min(cores)}, _START_SECONDS) as (running, url):
        head(
            "sessions", "served at once", "p50 ms", "p99 ms", "longest ms", "% of a core", "answers"
        )
        for sessions in options.sessions:
            before, begun = cpu(running.pid), time.monotonic()

            async def all_of(count: int) -> list[Call]:
                return await asyncio.gather(*(speak(url, wave, n / 7) for n in range(count)))

            calls = asyncio.run(all_of(sessions))
            share = 100 * (cpu(running.pid) - before) / (time.monotonic() - begun)
            late = [ms for call in calls for ms in call.late]
            served = f"{sum(call.served for call in calls)} of {sessions}"
            frames = sum(len(call.due) for call in calls)
            answers = f"{sum(len(call.came) for call in calls)} of {frames}"
            row(
                sessions,
                served,
                *(percentile(late, part) for part in (0.5, 0.99, 1.0)),
                share,
                answers,
            )


if __name__ == "__main__":
    main(sys.argv[1:])
