"""Save and load tokenizers, and compute the digest that ties tokens to the weights behind them."""

import copy
import hashlib
import json
import warnings
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn

from ..errors import CheckpointError, ConfigError, SyllabaryWarning
from ..filesystem import replacing_together
from ..typed_fields import from_json, to_json
from .tokenizer_module import UNSTATED, TokenizerModule

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
FORMAT = "syllabary-tokenizer"
FORMAT_VERSION = 1

# Of the matrix of this name, which is stored in 8 bits: a factor per row, float32.
_SCALES = "_scales"

#: Subfolders of a run of `syllabary train` that hold its tokenizers, the one to prefer first.
RUN_FOLDERS = ("best", "last")


@runtime_checkable
class MultipliesIntegers(Protocol):
    """A layer whose matrix `weight` inference multiplies as integers of 8 bits."""

    def integers(self) -> tuple[Tensor, Tensor]:
        """Return the integers (rows, columns), and what each row of them is multiplied with."""


@runtime_checkable
class HasMatrices(Protocol):
    """A layer most of whose weights are those of linear layers, which have these names."""

    MATRICES: tuple[str, ...]


class UnfinishedWarning(SyllabaryWarning):
    """A tokenizer was loaded whose codes are not useful yet."""


C = TypeVar("C")
T = TypeVar("T", bound=TokenizerModule)


def config_to_json(config: Any) -> dict[str, Any]:
    """Convert a configuration dataclass to JSON values, checking each field's type.

    Raises:
        CheckpointError: a value's type differs from its field's declared type.
    """
    try:
        return to_json(config)
    except ConfigError as error:
        raise CheckpointError(str(error)) from None


def config_from_json(kind: type[C], fields: dict[str, Any]) -> C:
    """Create a configuration dataclass from JSON values.

    Raises:
        CheckpointError: unknown fields, values of a wrong type, or values that the dataclass
            refuses.
    """
    try:
        return from_json(kind, fields)
    except ConfigError as error:
        raise CheckpointError(str(error)) from None


def digest(family: str, config: dict[str, Any], tensors: dict[str, Tensor]) -> str:
    """SHA-256 of the family, the configuration, and every tensor's name, dtype, shape and bytes."""
    sha = hashlib.sha256(json.dumps([family, config], sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        array = tensor.detach().cpu().contiguous()
        sha.update(json.dumps([name, str(array.dtype), list(array.shape)]).encode())
        sha.update(array.flatten().view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()


def save(
    tokenizer: TokenizerModule, directory: Path, tensors: dict[str, Tensor] | None = None
) -> None:
    """Write `config.json` and `model.safetensors`; they appear whole, or, if they can't be written,
    not at all.

    Args:
        tokenizer: what to save.
        directory: created if it does not exist.
        tensors: to write instead of the state dict; loading them must give the same weights.
    """
    from safetensors.torch import save as to_bytes

    spec = tokenizer.spec.tokens
    directory.mkdir(parents=True, exist_ok=True)
    tensors = tokenizer.state_dict() if tensors is None else tensors
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    config = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "family": tokenizer.family,
        "name": spec.tokenizer,
        "digest": spec.digest,
        **_stated(tokenizer),
        "config": config_to_json(tokenizer.config),
    }
    replacing_together(
        {
            directory / CONFIG_FILE: (json.dumps(config, indent=2) + "\n").encode(),
            directory / WEIGHTS_FILE: to_bytes(tensors),
        }
    )


def _stated(tokenizer: TokenizerModule) -> dict[str, str]:
    """Return the optional fields of `config.json` that have something to say."""
    fields = {}
    if tokenizer.license != UNSTATED:
        fields["license"] = tokenizer.license
    if tokenizer.caution:
        fields["caution"] = tokenizer.caution
    return fields


def checkpoint_in(directory: Path) -> Path:
    """Return the folder of the checkpoint: the folder itself, or `best/` or `last/` of a run.

    Raises:
        CheckpointError: it is a run's folder, and no tokenizer has been saved yet.
    """
    if (directory / CONFIG_FILE).exists():
        return directory
    for name in RUN_FOLDERS:
        if (directory / name / CONFIG_FILE).exists():
            return directory / name
    if (directory / "recipe.json").exists():
        raise CheckpointError(
            f"{directory}: this run of `syllabary train` has not saved a tokenizer yet; the first "
            "validation writes best/ and last/, and so does stopping the run"
        )
    return directory


def is_ours(directory: Path) -> bool:
    """Whether the directory's `config.json` is from `save` (or can't be read)."""
    try:
        fields = json.loads((directory / CONFIG_FILE).read_text())
    except (OSError, ValueError, RecursionError):
        return True  # `read_config` reports what is wrong
    return isinstance(fields, dict) and fields.get("format") == FORMAT


def read_config(directory: Path) -> dict[str, Any]:
    """Read and check a saved tokenizer's `config.json`.

    Raises:
        CheckpointError: it is missing, is not JSON, or was not written by this package.
    """
    path = directory / CONFIG_FILE
    try:
        fields = json.loads(path.read_text())
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not JSON: {error}") from None
    if not isinstance(fields, dict) or fields.get("format") != FORMAT:
        raise CheckpointError(f"{path}: not a tokenizer saved by syllabary")
    if fields.get("format_version") != FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: format version {fields.get('format_version')}; this release reads "
            f"{FORMAT_VERSION}"
        )
    missing = {"family", "name", "digest", "config"} - set(fields)
    if missing:
        raise CheckpointError(f"{path}: {', '.join(sorted(missing))} missing")
    kinds = {"family": str, "name": str, "digest": str, "config": dict}
    for name, kind in (kinds | {"license": str, "caution": str}).items():
        if name in fields and not isinstance(fields[name], kind):
            raise CheckpointError(f"{path}: {name} is {fields[name]!r}")
    return fields


def build(kind: type[T], config: dict[str, Any], name: str) -> T:
    """Create a tokenizer of class `kind`, without loading weights.

    Raises:
        CheckpointError: the class refuses the configuration.
    """
    try:
        return kind(config_from_json(kind.Config, config), name=name)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{name}: {error}") from None


def load_weights(tokenizer: TokenizerModule, directory: Path) -> None:
    """Load a saved tokenizer's weights into `tokenizer`.

    Raises:
        CheckpointError: the file is missing or damaged, or the weights' shapes differ.
    """
    path = directory / WEIGHTS_FILE
    tensors = read_tensors(path)
    try:
        tokenizer.load_state_dict(tensors)
    except RuntimeError as error:
        raise CheckpointError(f"{path}: {error}") from None


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read the state dict in a `model.safetensors`; what is stored in 8 bits becomes float32.

    Raises:
        CheckpointError: the file is missing or damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(path)
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror or error}") from None
    except (SafetensorError, RuntimeError) as error:
        raise CheckpointError(f"{path}: {error}") from None
    try:
        return _multiplied(tensors)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None


def _multiplied(stored: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the state dict of stored tensors: integers are multiplied with their scales."""
    tensors = dict(stored)
    for name in [name for name, x in stored.items() if x.dtype == torch.int8]:
        scales = tensors.pop(name + _SCALES, None)
        if scales is None or scales.shape != stored[name].shape[:1]:
            raise CheckpointError(f"{name} has 8 bits and not one scale per row")
        tensors[name] = stored[name].float() * scales[:, None]
    return tensors


def read(directory: Path, kind: type[T]) -> T:
    """Load a tokenizer of class `kind` from a saved directory and check its digest.

    Raises:
        CheckpointError: it can't be read, is of another class, or was changed.

    Warns:
        UnfinishedWarning: its codes are not useful yet; the message says why.
    """
    fields = read_config(directory)
    if fields["family"] != kind.family:
        raise CheckpointError(
            f"{directory} holds a tokenizer of family {fields['family']}, not {kind.family}"
        )
    tokenizer = build(kind, fields["config"], fields["name"])
    tokenizer.license = fields.get("license", UNSTATED)
    tokenizer.caution = fields.get("caution", "")
    load_weights(tokenizer, directory)
    if tokenizer.spec.tokens.digest != fields["digest"]:
        raise CheckpointError(
            f"{directory}: the weights do not match the digest in {CONFIG_FILE}: one of the two "
            "files was changed"
        )
    if tokenizer.caution:
        warnings.warn(f"{directory}: {tokenizer.caution}", UnfinishedWarning, stacklevel=2)
    tokenizer.keep_name()
    return tokenizer.eval()


def export(tokenizer: TokenizerModule, directory: Path, bits: int = 16) -> None:
    """Write an inference-only checkpoint in float16, at most half the size.

    Matrices that inference multiplies as 8-bit integers are stored as these.

    Args:
        tokenizer: left unchanged.
        directory: as for `save_pretrained`.
        bits: of the matrices of convolution blocks, 16 or 8. With 8, a row's largest weight is 127
            and the others are rounded to whole numbers; inference multiplies them in float32.

    Raises:
        CheckpointError: a weight is too large for float16.
    """
    smaller = copy.deepcopy(tokenizer)
    stored, state = {}, inference_state(smaller)
    for name, tensor in state.items():
        stored[name] = tensor.half() if tensor.dtype == torch.float32 else tensor
        if not bool(stored[name].isfinite().all()):
            raise CheckpointError(f"{name} has values that float16 can't hold")
    for part, layer in smaller.named_modules():
        if isinstance(layer, MultipliesIntegers):
            name = f"{part}.weight"
            whole, scales = layer.integers()
            stored[name], stored[name + _SCALES] = whole.to(torch.int8), scales.float()
        elif bits == 8 and isinstance(layer, HasMatrices):
            for name in (f"{part}.{matrix}.weight" for matrix in layer.MATRICES):
                stored[name], stored[name + _SCALES] = _in_8_bits(state[name].float())
    smaller.load_state_dict(_multiplied(stored))
    smaller.keep_name()  # binds the name to the rounded weights
    save(smaller, directory, stored)


def _in_8_bits(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Return integers (rows, columns) of 8 bits, and the factor of each row."""
    scales = matrix.abs().amax(1).clamp(min=torch.finfo(torch.float32).tiny) / 127
    # With so few bits that 127 times it is exact: rounding what was rounded changes nothing.
    scales = (scales.view(torch.int32) & ~0xFF).view(torch.float32)
    return (matrix / scales[:, None]).round().to(torch.int8), scales


def inference_state(module: nn.Module) -> dict[str, Tensor]:
    """Return the state dict without the entries that only training needs."""
    from ..quantizers.modules.interface import Quantizer

    state = module.state_dict()
    for name, part in module.named_modules():
        if isinstance(part, Quantizer):
            for key in part.training_state(f"{name}." if name else ""):
                state.pop(key, None)
    return state
