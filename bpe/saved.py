"""Save and load a unit BPE: as a folder, or as one file in another library's format.

A folder has `bpe.json` (its tokenizer, and the digest), `bpe.model` (the pieces, for this package
and for sentencepiece) and `tokenizer.json` (the pieces for Hugging Face's libraries).
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..errors import BPEError
from ..filesystem import printable, replacing, replacing_together
from .huggingface_file import MAX_JSON_BYTES, read_tokenizer, write_tokenizer
from .sentencepiece_file import MAX_MODEL_BYTES, read_model, write_model
from .vocabulary import Vocabulary

CONFIG, MODEL, TOKENIZER = "bpe.json", "bpe.model", "tokenizer.json"

_FORMAT = "syllabary.bpe.1"
_MAX_CONFIG_BYTES = 8 << 20
_FIELDS: dict[str, type | tuple[type, ...]] = {
    "format": str,
    "name": str,
    "kind": str,
    "codebook_sizes": list,
    "deduplicated": bool,
    "source": str,
    "unit_durations": (list, type(None)),
    "digest": str,
}


class BPEFields(NamedTuple):
    """The fields of a `UnitBPE`, whose meaning is described there."""

    vocabulary: Vocabulary
    codebook_sizes: tuple[int, ...]
    name: str = "bpe"
    deduplicated: bool = False
    source: str = ""
    unit_durations: np.ndarray | None = None


def save(bpe: BPEFields, path: Path) -> None:
    """Save a BPE; see `UnitBPE.save`."""
    try:
        if path.suffix == ".model":
            _write(path, write_model(bpe.vocabulary))
        elif path.suffix == ".json":
            _write(path, write_tokenizer(bpe.vocabulary).encode())
        else:
            durations = bpe.unit_durations
            config = {
                "format": _FORMAT,
                "name": bpe.name,
                "kind": bpe.vocabulary.kind,
                "codebook_sizes": list(bpe.codebook_sizes),
                "deduplicated": bpe.deduplicated,
                "source": bpe.source,
                "unit_durations": None if durations is None else durations.tolist(),
                "digest": bpe.vocabulary.digest,
            }
            path.mkdir(parents=True, exist_ok=True)
            # The configuration last: without it, or with one for other pieces, loading fails.
            replacing_together(
                {
                    path / CONFIG: json.dumps(config, indent=1).encode(),
                    path / MODEL: write_model(bpe.vocabulary),
                    path / TOKENIZER: write_tokenizer(bpe.vocabulary).encode(),
                }
            )
    except OSError as error:
        raise BPEError(f"{printable(path)} can't be written: {error.strerror}") from None


def _write(path: Path, data: bytes) -> None:
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def load(path: Path) -> tuple[BPEFields, Path]:
    """Load a BPE; see `UnitBPE.load`.

    Returns:
        The fields, as yet unchecked against each other, and the file that they are from.
    """
    if path.is_dir():
        return _load_folder(path)
    name = printable(path)
    if path.suffix == ".model":
        vocabulary = read_model(_read(path, MAX_MODEL_BYTES), name)
    elif path.suffix == ".json" and path.name != CONFIG:
        vocabulary = read_tokenizer(_read(path, MAX_JSON_BYTES), name)
    else:
        raise BPEError(
            f"{name}: expected a folder with {CONFIG} and {MODEL}, or a .model or tokenizer .json "
            "file"
        )
    return BPEFields(vocabulary, (vocabulary.num_units,)), path


def _load_folder(folder: Path) -> tuple[BPEFields, Path]:
    config = _read_config(folder / CONFIG)
    vocabulary: Vocabulary = read_model(
        _read(folder / MODEL, MAX_MODEL_BYTES), printable(folder / MODEL)
    )
    if vocabulary.digest != config["digest"] or vocabulary.kind != config["kind"]:
        raise BPEError(
            f"{printable(folder)}: {CONFIG} is of a {config['kind']} with digest "
            f"{config['digest'][:12]}, {MODEL} of a {vocabulary.kind} with {vocabulary.digest[:12]}"
        )
    durations = config["unit_durations"]
    fields = BPEFields(
        vocabulary,
        tuple(config["codebook_sizes"]),
        config["name"],
        config["deduplicated"],
        config["source"],
        None if durations is None else np.array(durations, np.float64),
    )
    return fields, folder / CONFIG


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(_read(path, _MAX_CONFIG_BYTES))
    except BPEError:
        raise
    except (ValueError, RecursionError) as error:
        raise BPEError(f"{printable(path)}: expected JSON: {error}") from None
    if not isinstance(config, dict) or config.get("format") != _FORMAT:
        raise BPEError(f"{printable(path)}: expected an object of format {_FORMAT}")
    if set(config) != set(_FIELDS):
        wrong = sorted(set(config) ^ set(_FIELDS))
        raise BPEError(f"{printable(path)}: unknown or missing field {', '.join(wrong)}")
    for field, kind in _FIELDS.items():
        if not isinstance(config[field], kind):
            raise BPEError(f"{printable(path)}: {field} is {config[field]!r}")
    sizes, durations = config["codebook_sizes"], config["unit_durations"]
    if not sizes or any(type(size) is not int for size in sizes):
        raise BPEError(f"{printable(path)}: codebook_sizes must be whole numbers")
    if durations is not None and any(type(value) not in (int, float) for value in durations):
        raise BPEError(f"{printable(path)}: unit_durations must be numbers")
    return config


def _read(path: Path, most: int) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(most + 1)
    except OSError as error:
        raise BPEError(f"{printable(path)}: {error.strerror}") from None
    if len(data) > most:
        raise BPEError(f"{printable(path)}: expected at most {most} bytes")
    return data
