"""Codecs of Hugging Face transformers; `architectures.TRANSFORMERS` has the table."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from ...errors import CheckpointError
from ...plain_torch import made_plainly
from .architectures import TRANSFORMERS
from .published_codec import PublishedCodec


@dataclass(frozen=True)
class TransformersCodecConfig:
    """A model's architecture and its own configuration.

    Attributes:
        architecture: a key of `TRANSFORMERS`.
        model: the fields of its transformers configuration.
    """

    architecture: str
    model: dict[str, Any]

    def __post_init__(self) -> None:
        if self.architecture not in TRANSFORMERS:
            raise ValueError(f"architecture {self.architecture!r}; there are {list(TRANSFORMERS)}")


class TransformersCodec(PublishedCodec):
    """A codec of the transformers library with the interface of this package.

    Args:
        config: see `TransformersCodecConfig`.
        name: the tokenizer's name.

    Raises:
        CheckpointError: transformers is not installed or too old, or the model is of a kind that
            can't be a tokenizer (EnCodec with loudness normalization but without chunks).
    """

    family = "transformers"
    Config = TransformersCodecConfig
    library = "transformers"

    def __init__(self, config: TransformersCodecConfig, name: str | None = None) -> None:
        super().__init__(config, name)
        self.architecture = TRANSFORMERS[config.architecture]
        try:
            import transformers
        except ImportError:
            raise CheckpointError(
                f'{config.architecture} needs transformers: pip install "syllabary[ssl]"'
            ) from None
        try:
            settings = getattr(transformers, self.architecture.config)(**config.model)
            make = getattr(transformers, self.architecture.model)
        except AttributeError:
            raise CheckpointError(
                f"transformers {transformers.__version__} has no {self.architecture.name} yet: "
                "pip install --upgrade transformers"
            ) from None
        try:
            self.adapter = self.architecture.adapt(settings)
        except CheckpointError as error:
            raise CheckpointError(f"{self.name}: {error}") from None
        self.model = make(settings).eval()

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
        if architecture not in TRANSFORMERS:
            raise CheckpointError(
                f"{directory}: a model of type {architecture!r}; the published types that load "
                f"are {', '.join(TRANSFORMERS)}"
            )
        codec = cls(TransformersCodecConfig(architecture, fields), name or directory.name)
        try:
            # transformers handles older file layouts and weight names.
            loaded = type(codec.model).from_pretrained(  # type: ignore[attr-defined]
                directory, local_files_only=True, use_safetensors=True
            )
        except (OSError, ValueError, RuntimeError) as error:
            raise CheckpointError(f"{directory}: {error}") from None
        codec.model = loaded.float().eval()
        return codec
