"""Codecs that their authors publish as a package; `architectures.PACKAGED` has the table."""

import json
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from ...errors import CheckpointError
from ...plain_torch import made_plainly
from .architectures import PACKAGED
from .published_codec import PublishedCodec


@dataclass(frozen=True)
class PackagedCodecConfig:
    """A model's architecture and its own configuration.

    Attributes:
        architecture: a key of `PACKAGED`.
        model: the fields of its `config.json`.
    """

    architecture: str
    model: dict[str, Any]

    def __post_init__(self) -> None:
        if self.architecture not in PACKAGED:
            raise ValueError(f"architecture {self.architecture!r}; there are {list(PACKAGED)}")


class PackagedCodec(PublishedCodec):
    """A codec of its authors' package with the interface of this one.

    Args:
        config: see `PackagedCodecConfig`.
        name: the tokenizer's name.

    Raises:
        CheckpointError: the package is not installed, or refuses the configuration.
    """

    family = "packaged"
    Config = PackagedCodecConfig

    def __init__(self, config: PackagedCodecConfig, name: str | None = None) -> None:
        super().__init__(config, name)
        self.architecture = PACKAGED[config.architecture]
        self.library = self.architecture.library
        kind: Any = self.architecture.adapter_kind()
        try:
            self.model = kind.make(config.model).eval()
        except ImportError as error:
            raise CheckpointError(
                f"{self.architecture.name} needs the package {self.library} (no {error.name}): "
                'pip install "syllabary[published]"'
            ) from None
        except (TypeError, KeyError, ValueError, RuntimeError) as error:
            raise CheckpointError(f"{self.name}: {error}") from None
        self.adapter = kind(self.model)

    @classmethod
    @made_plainly
    def from_published(cls, directory: Path, name: str | None = None) -> Self:
        """Load a published model: its `config.json` and the file with its weights.

        PyTorch files are read without running code that they may hold (`weights_only`).

        Raises:
            CheckpointError: a file is missing or damaged.
        """
        fields = json.loads((directory / "config.json").read_text())
        architecture = packaged_as(fields)
        if architecture is None:
            raise CheckpointError(f"{directory}: config.json is of none of {', '.join(PACKAGED)}")
        codec = cls(PackagedCodecConfig(architecture, fields), name or directory.name)
        path = _weights_in(directory, PACKAGED[architecture].weights)
        try:
            codec.model.load_state_dict(_read(path))
        except (OSError, ValueError, RuntimeError, pickle.UnpicklingError, EOFError) as error:
            raise CheckpointError(f"{path}: {error}") from None
        return codec


def packaged_as(fields: Any) -> str | None:
    """Return the architecture whose fields a `config.json` has, or None."""
    for name, architecture in PACKAGED.items():
        if isinstance(fields, dict) and architecture.fields <= fields.keys():
            return name
    return None


def _weights_in(directory: Path, names: tuple[str, ...]) -> Path:
    for name in names:
        if (directory / name).is_file():
            return directory / name
    raise CheckpointError(f"{directory}: no weights; expected {' or '.join(names)}")


def _read(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    found: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return found
