"""The state file for resuming: written atomically, and read without executing code."""

import os
import pickle
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from ..codecs.checkpoint import (
    RUN_FOLDERS,
    WEIGHTS_FILE,
    checkpoint_in,
    read_config,
    read_tensors,
)
from ..codecs.shipped import MODELS
from ..errors import CheckpointError, TrainingError
from ..filesystem import printable, replacing
from .recipe import Recipe
from .recipe_file import as_json, recipe_of

STATE_FILE = "state.pt"
_FORMAT = "syllabary-training-state"
_VERSION = 1

#: Fields that may be changed when a run is resumed: they determine its length, the paths of data
#: and teacher, and reports, but not what the steps compute.
FREE = frozenset(
    {
        "license",
        "steps",
        "log_every",
        "save_every",
        "save_minutes",
        "data.manifest",
        "data.noise",
        "supervision.content.encoder",
        "distillation.encoder",
        "targets.encoder",
        "validation.every",
        "validation.pictures",
    }
)


def save(path: Path, content: Mapping[str, Any]) -> None:
    """Write tensors and plain values, and wait until they are on disk."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        torch.save({"format": _FORMAT, "version": _VERSION, **content}, file)
        file.flush()
        os.fsync(file.fileno())


def load(path: Path) -> dict[str, Any]:
    """Read a file of `save`; tensors are on the CPU.

    Raises:
        TrainingError: it can't be read, or is not a state of this release.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        reason = str(error).partition("\n")[0]
        raise TrainingError(f"{printable(path)}: can't be read: {reason}") from None
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise TrainingError(f"{printable(path)}: not a training state of syllabary")
    if content.get("version") != _VERSION:
        raise TrainingError(
            f"{printable(path)}: version {content.get('version')!r}; this release reads {_VERSION}"
        )
    return content


def beginning(place: Path) -> dict[str, Any]:
    """Load the weights for `start_from` from another run or a saved tokenizer.

    Args:
        place: a run's folder, its state file, a folder that `save_pretrained` or `export` wrote,
            or the name of a bundled trained tokenizer; the last two have averaged
            weights and no discriminator.

    Raises:
        TrainingError: it can't be read.
    """
    place = _found(place)
    weights = place / WEIGHTS_FILE
    if not weights.exists():
        return load(place / STATE_FILE if place.is_dir() else place)
    try:
        return {"average": read_tensors(weights), "discriminator": None}
    except CheckpointError as error:
        raise TrainingError(f"can't be read: {error}") from None


def model_at(place: Path) -> dict[str, Any]:
    """Return the configuration of the model whose weights `beginning` loads, as JSON values.

    Raises:
        TrainingError: it can't be read.
    """
    place = _found(place)
    try:
        if (place / WEIGHTS_FILE).exists():
            return dict(read_config(place)["config"])
        state = load(place / STATE_FILE if place.is_dir() else place)
        return dict(state["recipe"]["recipe"]["model"])
    except (CheckpointError, KeyError, TypeError) as error:
        raise TrainingError(f"{printable(place)}: no configuration in it: {error}") from None


def _found(place: Path) -> Path:
    """Return the folder or state file at `start_from`."""
    if not place.exists() and (MODELS / place / WEIGHTS_FILE).exists():
        return MODELS / place
    if place.is_dir() and not (place / STATE_FILE).exists():
        return checkpoint_in(place)  # a run whose state was deleted or not copied
    return place


def check_same_recipe(path: Path, saved: Mapping[str, Any], recipe: Recipe) -> None:
    """Refuse to resume with a recipe whose steps would compute something else.

    Args:
        path: of the state, for the error.
        saved: the JSON of the state's recipe.
        recipe: the one to resume with.

    Raises:
        TrainingError: fields differ that aren't in `FREE`; each is named.
    """
    with suppress(TrainingError):
        # Fields missing in the saved recipe were added later and have their defaults.
        saved = as_json(recipe_of(type(recipe), saved, printable(path)))
    old, new = _deciding(saved), _deciding(as_json(recipe))
    differing = [
        f"{name}: {old.get(name, 'absent')!r} there, {new.get(name, 'absent')!r} now"
        for name in sorted(old.keys() | new.keys())
        if old.get(name, _ABSENT) != new.get(name, _ABSENT)
    ]
    if differing:
        raise TrainingError(
            f"{printable(path)} was made with another recipe ({'; '.join(differing)}); choose "
            "another output folder, or say --fresh to delete that run"
        )


def field_inside(recipe: Recipe, run: Path) -> str | None:
    """Name the field of a recipe, such as `start_from` or a teacher, whose value is the folder of a
    run, its state, or one of its tokenizers; None if there is none.
    """
    folder = run.resolve()
    for name, value in flattened(as_json(recipe)["recipe"]).items():
        if not isinstance(value, str) or not value:
            continue
        with suppress(OSError, ValueError):  # of what is no path, or lies elsewhere
            inside = Path(value).resolve().relative_to(folder).parts
            if not inside or inside[0] in (STATE_FILE, *RUN_FOLDERS):
                return name
    return None


_ABSENT = object()


def _deciding(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that affect what a step computes, by their dotted paths."""
    recipe = dict(fields["recipe"])
    schedule = dict(recipe["schedule"])
    if schedule["decay"] != "constant" and schedule["decay_steps"] is None:
        # The run's end determines the whole schedule here, so it isn't free.
        schedule["decay_steps"] = recipe["steps"]
    recipe["schedule"] = schedule
    flat = {"task": fields["task"]} | flattened(recipe)
    return {name: value for name, value in flat.items() if name not in FREE}


def flattened(fields: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested JSON values by their dotted paths."""
    found: dict[str, Any] = {}
    for name, value in fields.items():
        if isinstance(value, Mapping):
            found |= flattened(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value
    return found
