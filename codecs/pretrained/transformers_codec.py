"""EnCodec, Mimi and DAC, as implemented in Hugging Face transformers.

- A. Défossez et al., "High Fidelity Neural Audio Compression", arXiv 2210.13438 (EnCodec).
- A. Défossez et al., "Moshi", arXiv 2410.00037 (Mimi).
- R. Kumar et al., "High-Fidelity Audio Compression with Improved RVQGAN", arXiv 2306.06546 (DAC).

The models run as published, on whole utterances one by one, since batching and padding would change
their codes. Their codebooks are nested, so `num_codebooks` keeps the first so many.
"""

import json
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from ...errors import CheckpointError
from ...plain_torch import made_plainly
from ..interface import AudioTokenizer
from ..spec import TokenizerSpec
from ..streaming import DecoderStream, EncoderStream, RowStream, row_flags

ARCHITECTURES = {
    "encodec": ("EncodecConfig", "EncodecModel", "arXiv 2210.13438"),
    "mimi": ("MimiConfig", "MimiModel", "arXiv 2410.00037"),
    "dac": ("DacConfig", "DacModel", "arXiv 2306.06546"),
}


@dataclass(frozen=True)
class TransformersCodecConfig:
    """A model's architecture and its own configuration.

    Attributes:
        architecture: `encodec`, `mimi` or `dac`.
        model: the fields of its transformers configuration.
    """

    architecture: str
    model: dict[str, Any]

    def __post_init__(self) -> None:
        if self.architecture not in ARCHITECTURES:
            raise ValueError(f"architecture {self.architecture!r}; there are {list(ARCHITECTURES)}")


class TransformersCodec(AudioTokenizer):
    """A published codec with the interface of this package.

    Args:
        config: see `TransformersCodecConfig`.
        name: the tokenizer's name.

    Raises:
        CheckpointError: transformers is not installed, or the model needs more than codes to
            decode (EnCodec with loudness normalization or overlapping chunks, or stereo).
    """

    family = "transformers"
    Config = TransformersCodecConfig

    def __init__(self, config: TransformersCodecConfig, name: str | None = None) -> None:
        super().__init__(config, name)
        try:
            import transformers
        except ImportError:
            raise CheckpointError(
                f'{config.architecture} needs transformers: pip install "syllabary[ssl]"'
            ) from None
        config_name, model_name, _ = ARCHITECTURES[config.architecture]
        settings = getattr(transformers, config_name)(**config.model)
        if getattr(settings, "audio_channels", 1) != 1:
            raise CheckpointError(f"{self.name}: {settings.audio_channels} channels; expected 1")
        if getattr(settings, "normalize", False) or getattr(settings, "chunk_length_s", None):
            raise CheckpointError(
                f"{self.name}: scales loudness or overlaps chunks, which codes alone can't carry"
            )
        self.model = getattr(transformers, model_name)(settings).eval()
        self.settings = settings
        self.hop = round(settings.sampling_rate / settings.frame_rate)
        if config.architecture == "dac":
            self.hop = prod(settings.downsampling_ratios)
        self.num_codebooks: int = (
            settings.n_codebooks if config.architecture == "dac" else settings.num_quantizers
        )

    @classmethod
    @made_plainly
    def from_published(cls, directory: Path, name: str | None = None) -> Self:
        """Load a published model: transformers' `config.json` and safetensors.

        Raises:
            CheckpointError: a file is missing or damaged, or the architecture is unknown.
        """
        try:
            fields = json.loads((directory / "config.json").read_text())
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{directory / 'config.json'}: {error}") from None
        architecture = fields.get("model_type") if isinstance(fields, dict) else None
        if architecture not in ARCHITECTURES:
            raise CheckpointError(
                f"{directory}: a model of type {architecture!r}; the published types that load "
                f"are {', '.join(ARCHITECTURES)}"
            )
        codec = cls(TransformersCodecConfig(architecture, fields), name or directory.name)
        try:
            # transformers handles older file layouts and weight names.
            loaded = type(codec.model).from_pretrained(
                directory, local_files_only=True, use_safetensors=True
            )
        except (OSError, ValueError, RuntimeError) as error:
            raise CheckpointError(f"{directory}: {error}") from None
        codec.model = loaded.float().eval()
        return codec

    def train(self, mode: bool = True) -> Self:
        """Keep the model in eval mode, without dropout."""
        super().train(mode)
        self.model.eval()
        return self

    def describe(self) -> TokenizerSpec:
        settings = self.settings
        architecture = self.config.architecture
        return TokenizerSpec(
            tokens=self.token_spec(
                self.hop, [settings.codebook_size] * self.num_codebooks, settings.sampling_rate
            ),
            family=self.family,
            causal=architecture != "dac" and getattr(settings, "use_causal_conv", True),
            encoder_latency=None,
            decoder_latency=None,
            min_codebooks=1,
            parameters=sum(weight.numel() for weight in self.model.parameters()),
            macs_per_second=None,
            license="see the publisher's model card",
            source=ARCHITECTURES[architecture][2],
            description=f"{architecture} through transformers",
            broken_promises={
                "constant-memory": "runs over whole utterances",
                "migration": "a row's state is all of its audio, which can be sent again",
                "determinism": "convolutions round differently on other numbers of threads, which "
                "can change a code",
                "processors": "convolutions round differently on other processors, which can "
                "change a code",
                "processors-samples": "convolutions round differently on other processors",
            },
        )

    def start_encoder(self, batch_size: int, num_codebooks: int) -> EncoderStream:
        return _WholeEncoder(self, batch_size, num_codebooks)

    def start_decoder(self, batch_size: int) -> DecoderStream:
        return _WholeDecoder(self, batch_size)

    def encode_whole(self, wave: Tensor) -> Tensor:
        """Encode (samples,), a whole number of frames, to codes (codebooks, frames)."""
        wave = wave[None, None]
        if self.config.architecture == "encodec":
            codes: Tensor = self.model.quantizer.encode(self.model.encoder(wave), None)[:, 0]
            return codes
        codes = self.model.encode(wave).audio_codes[0]
        return codes

    def decode_whole(self, codes: Tensor) -> Tensor:
        """Decode codes (codebooks, frames) to samples (frames × hop,)."""
        if self.config.architecture == "encodec":
            wave = self.model.decoder(self.model.quantizer.decode(codes[:, None]))
        elif self.config.architecture == "mimi":
            wave = self.model.decode(codes[None]).audio_values
        else:
            wave = self.model.decode(audio_codes=codes[None]).audio_values
        wave = wave.flatten()
        # With odd strides, DAC's decoder returns slightly less than whole frames.
        return torch.nn.functional.pad(wave, (0, max(0, codes.shape[1] * self.hop - len(wave))))


class _WholeRows(RowStream[list[Tensor]]):
    """Collect each row's input and work on it at the end."""

    def start_rows(self, batch_size: int) -> None:
        self.states = [self.init_row() for _ in range(batch_size)]

    def init_row(self) -> list[Tensor]:
        return []

    def push(self, rows: Sequence[Tensor], final: bool | Sequence[bool]) -> list[Tensor]:
        flags = row_flags(final, len(rows))
        return [self._push_row(*each) for each in zip(range(len(rows)), rows, flags, strict=True)]

    def _push_row(self, index: int, row: Tensor, final: bool) -> Tensor:
        pieces = self.states[index]
        pieces.append(row.clone())  # the caller may reuse its buffer
        if not final:
            return self.nothing()
        self.reset(index)
        whole = torch.cat(pieces, -1)
        return self.result(whole) if whole.shape[-1] else self.nothing()

    @abstractmethod
    def nothing(self) -> Tensor:
        """The output of a row that has not ended, or is empty."""

    @abstractmethod
    def result(self, whole: Tensor) -> Tensor:
        """The output of all input of a row, (…, n) with n > 0."""


class _WholeEncoder(_WholeRows, EncoderStream):
    def __init__(self, codec: TransformersCodec, batch_size: int, num_codebooks: int) -> None:
        self.codec, self.num_codebooks = codec, num_codebooks
        self.start_rows(batch_size)

    def nothing(self) -> Tensor:
        return torch.zeros(self.num_codebooks, 0, dtype=torch.long, device=self.codec.device)

    def result(self, whole: Tensor) -> Tensor:
        wave = torch.nn.functional.pad(whole, (0, -len(whole) % self.codec.hop))
        return self.codec.encode_whole(wave)[: self.num_codebooks].long()


class _WholeDecoder(_WholeRows, DecoderStream):
    def __init__(self, codec: TransformersCodec, batch_size: int) -> None:
        self.codec = codec
        self.start_rows(batch_size)

    def nothing(self) -> Tensor:
        return torch.zeros(0, device=self.codec.device)

    def result(self, whole: Tensor) -> Tensor:
        return self.codec.decode_whole(whole)
