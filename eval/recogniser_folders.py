"""Locating a recogniser: a folder, the size of a Whisper model, or an id on the Hugging Face hub.

Whisper runs in CTranslate2. A model in transformers' format is converted once, and cached.
"""

import json
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from .model_files import folder_digest
from .requirements import MetricError, package


@dataclass(frozen=True)
class ModelFolder:
    """A recogniser on this machine.

    Attributes:
        path: of the folder.
        label: short name for results: the folder's name, the size or the id that was requested.
        kind: of its files: ``ctranslate2``; ``transformers`` for a Whisper model in transformers'
            format; or ``other`` for any other model of transformers.
    """

    path: Path
    label: str
    kind: Literal["ctranslate2", "transformers", "other"]

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the files that determine the transcripts, with their names."""
        return folder_digest(self.path)


def find_model(given: str) -> ModelFolder:
    """Return the folder of a name; models on the hub are downloaded once.

    Args:
        given: a folder, a size such as ``base`` or ``small.en``, or ``owner/name`` on the hub.

    Raises:
        MetricError: there is no such model, it can't be downloaded, or the folder has no model; or
            a
            package for it is missing.
    """
    path = Path(given).expanduser()
    if path.is_dir():
        return ModelFolder(path, path.resolve().name, _kind(path, given))
    if path.exists():
        raise MetricError(f"recogniser {given}: a file; expected the folder of a model")
    if given.count("/") == 1 and not given.startswith((".", "~", "/")) and not given.endswith("/"):
        found = _from_hub(given)
        return ModelFolder(found, given, _kind(found, given))
    if "/" in given or given.startswith("."):
        raise MetricError(f"recogniser {given}: no such folder")
    whisper = package("faster_whisper", "asr")
    sizes = whisper.available_models()
    if given not in sizes:
        raise MetricError(
            f"recogniser {given}: no such folder; expected one, or owner/name on the hub, or a "
            f"size of Whisper: {', '.join(sizes)}"
        )
    return ModelFolder(_downloaded(given, whisper.download_model, given), given, "ctranslate2")


def as_ctranslate2(model: ModelFolder) -> Path:
    """Convert a Whisper model to CTranslate2's format, with 8-bit weights.

    The result is cached in ~/.cache/syllabary/recognisers, by the digest of the source.

    Raises:
        MetricError: it can't be converted, or a package for it is missing.
    """
    if model.kind == "ctranslate2":
        return model.path
    package("transformers", "ssl")
    converters = package("ctranslate2.converters", "asr")
    made_by = f"{model.digest[:16]}-ctranslate2-{version('ctranslate2')}"
    target = Path.home() / ".cache" / "syllabary" / "recognisers" / made_by
    if target.is_dir():
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".converting-", dir=target.parent))
    except OSError as error:
        raise MetricError(f"recogniser {model.label}: {target.parent}: {error.strerror}") from None
    try:
        made = temporary / "model"
        _convert(converters, model, made)
        with suppress(OSError):  # another process has made the same meanwhile
            made.rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def _convert(converters: Any, model: ModelFolder, target: Path) -> None:
    copied = [
        name
        for name in ("tokenizer.json", "preprocessor_config.json")
        if (model.path / name).exists()
    ]
    try:
        converter = converters.TransformersConverter(str(model.path), copy_files=copied)
        converter.convert(str(target), quantization="int8")
        if "tokenizer.json" not in copied:
            _write_tokenizer(model.path, target)
        _name_languages(target)
    except Exception as error:  # of transformers, tokenizers, torch or the converter
        raise MetricError(
            f"recogniser {model.label}: can't be converted: {_reason(error)}"
        ) from None


def _write_tokenizer(source: Path, target: Path) -> None:
    """Write tokenizer.json for a folder that has only a vocabulary and merges."""
    transformers = package("transformers", "ssl")
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(source))
    tokenizer.backend_tokenizer.save(str(target / "tokenizer.json"))


def _name_languages(folder: Path) -> None:
    """Add the language tokens to the configuration, if the converter found none.

    Without them, a model that was saved without its generation config can't identify languages.
    """
    codes = package("faster_whisper.tokenizer", "asr")._LANGUAGE_CODES
    config = json.loads((folder / "config.json").read_text("utf-8"))
    tokenizer = package("tokenizers", "asr").Tokenizer.from_file(str(folder / "tokenizer.json"))
    known = (tokenizer.token_to_id(f"<|{code}|>") for code in codes)
    wanted = sorted(number for number in known if number is not None)
    if wanted and config.get("lang_ids") != wanted:
        config["lang_ids"] = wanted
        (folder / "config.json").write_text(json.dumps(config, indent=2), "utf-8")


def _kind(folder: Path, given: str) -> Literal["ctranslate2", "transformers", "other"]:
    config = folder / "config.json"
    try:
        fields = json.loads(config.read_text("utf-8"))
        if not isinstance(fields, dict):
            raise ValueError("not an object")
    except FileNotFoundError:
        raise MetricError(
            f"recogniser {given}: no config.json in it; expected a folder of CTranslate2 or "
            "transformers"
        ) from None
    except (OSError, ValueError) as error:
        raise MetricError(f"recogniser {given}: config.json: {_reason(error)}") from None
    # Only transformers' configuration names the kind of model; CTranslate2 stores it in the
    # weights.
    if "model_type" not in fields:
        return "ctranslate2"
    return "transformers" if fields["model_type"] == "whisper" else "other"


def _from_hub(identifier: str) -> Path:
    hub = package("huggingface_hub", "asr")

    def snapshot(patterns: Sequence[str]) -> Path:
        def download(name: str) -> str:
            return str(hub.snapshot_download(name, allow_patterns=list(patterns)))

        return _downloaded(identifier, download, identifier)

    folder = snapshot(["*.json", "*.txt", "*.model"])
    if _kind(folder, identifier) == "ctranslate2":
        return snapshot(["*.json", "*.txt", "model.bin"])
    folder = snapshot(["*.json", "*.txt", "*.model", "*.safetensors"])
    if not any(folder.glob("*.safetensors")):
        folder = snapshot(["*.json", "*.txt", "*.model", "pytorch_model*.bin"])
    return folder


def _downloaded(given: str, download: Any, what: str) -> Path:
    try:
        return Path(download(what))
    except Exception as error:  # of the hub, its HTTP library or the network
        raise MetricError(
            f"recogniser {given}: not on this machine, and can't be downloaded: {_reason(error)}"
        ) from None


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
