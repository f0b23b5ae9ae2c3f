"""Lyra v2 as a tokenizer, through LiteRT: its bits are codes of a residual quantizer.

N. Zeghidour et al., "SoundStream: An End-to-End Neural Audio Codec", arXiv 2107.03312; the weights
are Google's (github.com/google/lyra, release 1.3.2). 46 codebooks of 16 codes at 50 Hz; the first
16, 30 or 46 are Lyra's 3.2, 6 and 9.2 kbit/s.

The three models are the files that Google publishes. They are kept as bytes in the tokenizer's
state, so saving, digests and copies work as for any weights.
"""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from ...errors import CheckpointError
from ...plain_torch import made_plainly
from ..interface import AudioTokenizer
from ..spec import TokenizerSpec
from ..streaming import DecoderStream, EncoderStream, row_flags

SAMPLE_RATE = 16_000
HOP = 320
NUM_CODEBOOKS = 46
CODEBOOK_SIZE = 16
#: The published files, without their suffix `.tflite`.
PARTS = ("soundstream_encoder", "quantizer", "lyragan")


@dataclass(frozen=True)
class LyraConfig:
    """The sizes of the three models in bytes."""

    soundstream_encoder: int
    quantizer: int
    lyragan: int


class LyraTokenizer(AudioTokenizer):
    """Lyra v2 with the interface of this package: causal, with 20 ms of latency.

    A row of a stream has interpreters of its own, since their state can be neither read nor reset.
    They run on the CPU, on one thread.

    Args:
        config: see `LyraConfig`.
        name: the tokenizer's name.
    """

    family = "lyra"
    Config = LyraConfig

    def __init__(self, config: LyraConfig, name: str | None = None) -> None:
        super().__init__(config, name)
        for part in PARTS:
            self.register_buffer(part, torch.zeros(getattr(config, part), dtype=torch.uint8))

    @classmethod
    @made_plainly
    def from_published(cls, directory: Path, name: str | None = None) -> Self:
        """Load the three `.tflite` files that Google publishes.

        Raises:
            CheckpointError: one is missing, or LiteRT can't read it.
        """
        contents = {}
        for part in PARTS:
            try:
                contents[part] = (directory / f"{part}.tflite").read_bytes()
            except OSError as error:
                raise CheckpointError(f"{directory / part}.tflite: {error.strerror}") from None
        config = LyraConfig(**{part: len(content) for part, content in contents.items()})
        codec = cls(config, name or "lyra-v2")
        for part, content in contents.items():
            getattr(codec, part).copy_(torch.frombuffer(bytearray(content), dtype=torch.uint8))
            codec.runner(part, "encode" if part == "quantizer" else None)  # reads the file
        return codec

    def runner(self, part: str, signature: str | None = None) -> Any:
        """Start an interpreter of one of the `PARTS`, and return the function that it runs.

        Raises:
            CheckpointError: LiteRT is not installed, or the model is damaged.
        """
        try:
            library = importlib.import_module("ai_edge_litert.interpreter")
        except ImportError:
            raise CheckpointError(
                'Lyra needs the package ai-edge-litert: pip install "syllabary[published]"'
            ) from None
        content = bytes(getattr(self, part).cpu().numpy())
        try:
            started = library.Interpreter(model_content=content, num_threads=1)
            return started.get_signature_runner(signature)
        except (ValueError, RuntimeError) as error:
            raise CheckpointError(f"{self.name}: {part}.tflite: {error}") from None

    def describe(self) -> TokenizerSpec:
        return TokenizerSpec(
            tokens=self.token_spec(HOP, [CODEBOOK_SIZE] * NUM_CODEBOOKS, SAMPLE_RATE),
            family=self.family,
            causal=True,
            encoder_latency=HOP,
            decoder_latency=0,
            min_codebooks=1,
            parameters=sum(_count_weights(getattr(self, part)) for part in PARTS),
            macs_per_second=None,
            license="Apache-2.0",
            source="arXiv 2107.03312; github.com/google/lyra 1.3.2",
            description="Lyra v2 through LiteRT",
            broken_promises={
                "migration": "the state of LiteRT's interpreters can't be read",
                "processors": "LiteRT chooses its kernels by the processor",
                "processors-samples": "LiteRT chooses its kernels by the processor",
            },
        )

    def start_encoder(self, batch_size: int, num_codebooks: int) -> EncoderStream:
        return _LyraEncoder(self, batch_size, num_codebooks)

    def start_decoder(self, batch_size: int) -> DecoderStream:
        return _LyraDecoder(self, batch_size)


@dataclass
class _EncoderRow:
    """An encoder with its past, if it has begun, and the samples of an unfinished frame."""

    run: Any
    pending: Tensor


class _LyraEncoder(EncoderStream):
    states: list[_EncoderRow]

    def __init__(self, codec: LyraTokenizer, batch_size: int, num_codebooks: int) -> None:
        self.codec, self.num_codebooks = codec, num_codebooks
        self.quantize = codec.runner("quantizer", "encode")  # it has no past
        self.states = [self.init_row() for _ in range(batch_size)]

    def init_row(self) -> _EncoderRow:
        return _EncoderRow(None, torch.zeros(0))

    def push(self, rows: Sequence[Tensor], final: bool | Sequence[bool]) -> list[Tensor]:
        flags = row_flags(final, len(rows))
        found = []
        for index, (row, end) in enumerate(zip(rows, flags, strict=True)):
            found.append(self._push_row(self.states[index], row.cpu(), end))
            if end:
                self.reset(index)
        return found

    def _push_row(self, state: _EncoderRow, samples: Tensor, final: bool) -> Tensor:
        wave = torch.cat([state.pending, samples])
        if final:
            wave = torch.nn.functional.pad(wave, (0, -len(wave) % HOP))
        count = len(wave) // HOP
        state.pending = wave[count * HOP :].clone()
        codes = [self._encode(state, frame) for frame in wave[: count * HOP].view(count, HOP)]
        made = np.array(codes, np.int64).reshape(count, self.num_codebooks).T
        return torch.from_numpy(made.copy()).to(self.codec.device)

    def _encode(self, state: _EncoderRow, samples: Tensor) -> np.ndarray:
        if state.run is None:
            state.run = self.codec.runner("soundstream_encoder")
        features = state.run(input_audio=samples.numpy()[None])["output_0"]
        count = np.array(self.num_codebooks, np.int32)
        # The quantizer has two outputs: the codes and the quantized features.
        found = self.quantize(input_frames=features, num_quantizers=count)
        codes: np.ndarray = next(value for value in found.values() if value.dtype == np.int32)
        return codes.reshape(-1)[: self.num_codebooks]


class _LyraDecoder(DecoderStream):
    states: list[list[Any]]

    def __init__(self, codec: LyraTokenizer, batch_size: int) -> None:
        self.codec = codec
        self.dequantize = codec.runner("quantizer", "decode")  # it has no past
        self.states = [self.init_row() for _ in range(batch_size)]

    def init_row(self) -> list[Any]:
        return []

    def push(self, rows: Sequence[Tensor], final: bool | Sequence[bool]) -> list[Tensor]:
        flags = row_flags(final, len(rows))
        found = []
        for index, (row, end) in enumerate(zip(rows, flags, strict=True)):
            found.append(self._push_row(self.states[index], row))
            if end:
                self.reset(index)
        return found

    def _push_row(self, state: list[Any], codes: Tensor) -> Tensor:
        if codes.shape[1] and not state:
            state.append(self.codec.runner("lyragan"))
        # The models expect -1 for stages that are not sent.
        sent = torch.nn.functional.pad(codes, (0, 0, 0, NUM_CODEBOOKS - len(codes)), value=-1)
        waves = [np.zeros(0, np.float32)]
        for frame in sent.T.cpu().numpy().astype(np.int32):
            vectors = self.dequantize(encoding_indices=frame[:, None, None])["output_0"]
            waves.append(state[0](input_audio=vectors)["output_0"].reshape(-1))
        return torch.from_numpy(np.concatenate(waves)).to(self.codec.device)


def _count_weights(content: Tensor) -> int:
    """Count the float32 and int8 constants of a TensorFlow Lite model."""
    schema = importlib.import_module("ai_edge_litert.schema_py_generated")
    model = schema.Model.GetRootAs(bytes(content.cpu().numpy()), 0)
    counted = 0
    for graph in map(model.Subgraphs, range(model.SubgraphsLength())):
        for tensor in map(graph.Tensors, range(graph.TensorsLength())):
            size = {schema.TensorType.FLOAT32: 4, schema.TensorType.INT8: 1}.get(tensor.Type())
            if size is not None:
                counted += model.Buffers(tensor.Buffer()).DataLength() // size
    return counted


def is_lyra(directory: Path) -> bool:
    """Whether a directory has the files that Google publishes."""
    return (directory / f"{PARTS[0]}.tflite").is_file()
