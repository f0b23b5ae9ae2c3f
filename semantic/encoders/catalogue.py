"""Create encoders by kind, or from a user's name for one. Importing this loads no torch."""

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import CheckpointError, UnknownTokenizerError

if TYPE_CHECKING:
    from .interface import SpeechEncoder
    from .layers import LayerChoice

#: Kinds of encoders by the name in a configuration, and the location of their classes.
KINDS = {
    "mfcc": (".mfcc", "MFCC"),
    "log-mel": (".log_mel", "LogMel"),
    "transformers": (".pretrained", "Pretrained"),
    "torchaudio": (".torchaudio_models", "TorchaudioModel"),
    "content": (".content", "Content"),
    "phonetic": (".phonetic", "Phonetic"),
}
UNTRAINED = ("mfcc", "log-mel")
BUNDLE_PREFIX = "torchaudio:"


def kind_class(kind: str) -> "type[SpeechEncoder]":
    """Return the class of a kind.

    Raises:
        CheckpointError: there is no such kind.
    """
    if kind not in KINDS:
        raise CheckpointError(f"unknown kind of encoder {kind!r}; there are {', '.join(KINDS)}")
    module, name = KINDS[kind]
    return getattr(importlib.import_module(module, __package__), name)


def build(fields: dict[str, Any]) -> "SpeechEncoder":
    """Create an encoder, without its weights, from the output of `SpeechEncoder.fields`.

    Raises:
        CheckpointError: an unknown kind, or fields that it does not accept.
    """
    from ...codecs.checkpoint import config_from_json

    rest = dict(fields)
    kind: Any = kind_class(str(rest.pop("kind", None)))
    config: Any = config_from_json(kind.Config, rest)
    inner = getattr(config, "encoder", None)  # of an encoder that maps another's features
    made: SpeechEncoder = kind(config) if inner is None else kind(config, build(inner))
    return made.eval()


def find(name: str, choice: "LayerChoice | None" = None, **windows: float) -> "SpeechEncoder":
    """Load an encoder by a name that a user gives.

    Args:
        name: `mfcc` or `log-mel`; a directory of a published model; the id of one
            (``owner/model``); ``torchaudio:HUBERT_BASE`` or another torchaudio bundle; or a unit
            tokenizer's name or directory, to use its encoder.
        choice: layers of a published model.
        windows: `window_s` and `overlap_s` of a published model.

    Raises:
        UnknownTokenizerError: nothing has that name.
        CheckpointError: a directory can't be read, or layers were chosen for an encoder without a
            choice.
    """
    if name in UNTRAINED:
        _refuse(choice, windows, name)
        return kind_class(name)(kind_class(name).Config()).eval()
    if name.startswith(BUNDLE_PREFIX):
        from .torchaudio_models import TorchaudioModel

        bundle = name.removeprefix(BUNDLE_PREFIX)
        return TorchaudioModel.from_bundle(bundle, choice, **windows).eval()
    from ...codecs import registry
    from ...codecs.checkpoint import is_ours
    from .pretrained import Pretrained

    directory = Path(name)
    if not directory.is_dir() and (name in registry.list_tokenizers() or name.count("/") != 1):
        try:
            tokenizer = registry.load(name)
        except UnknownTokenizerError:
            raise UnknownTokenizerError(
                f"no encoder {name!r}: not {' or '.join(UNTRAINED)}, {BUNDLE_PREFIX}BUNDLE, a "
                "directory, a published model's id (owner/model), or a unit tokenizer"
            ) from None
        return _encoder_of(tokenizer, choice, windows, name)
    if not directory.is_dir():
        directory = download(name)
    if is_ours(directory):
        return _encoder_of(registry.load(directory), choice, windows, name)
    return Pretrained.from_published(directory, choice, **windows).eval()


def download(model: str) -> Path:
    """Download a published model; pickled weights only if it has no others."""
    from ...codecs.registry import _download

    directory = _download(model)
    if not any(directory.glob("*.safetensors")):
        from huggingface_hub import snapshot_download

        directory = Path(snapshot_download(model, allow_patterns=["*.json", "pytorch_model*.bin"]))
    return directory


def _encoder_of(
    tokenizer: Any, choice: "LayerChoice | None", windows: dict[str, float], name: str
) -> "SpeechEncoder":
    encoder = getattr(tokenizer, "encoder", None)
    from .interface import SpeechEncoder

    if not isinstance(encoder, SpeechEncoder):
        raise CheckpointError(f"{name} is of family {tokenizer.family}: it has no speech encoder")
    _refuse(choice, windows, name)
    return encoder


def _refuse(choice: "LayerChoice | None", windows: dict[str, float], name: str) -> None:
    if choice is not None or windows:
        raise CheckpointError(f"{name} has no layers or windows to choose")
