"""Recipes that train a finished codec on, with other speech."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from ..codecs.checkpoint import CONFIG_FILE, RUN_FOLDERS, config_from_json, read_config
from ..codecs.registry import SHIPPED
from ..codecs.shipped import MODELS
from ..errors import CheckpointError, TrainingError
from .recipe import Recipe
from .recipe_file import RECIPE_FILE
from .recipe_registry import RECIPES, find, read

#: Steps of fine-tuning, unless the user gives another number.
STEPS = 1_000
# Of the learning rates of training from random weights: enough to follow new voices, and little
# enough that the first steps, with a cold optimizer, lose nothing.
_RATE = 0.2


def fine_tuning(place: str, recipe: str | None = None) -> Recipe:
    """Return the recipe that continues from a trained codec: all losses from the first step on.

    Args:
        place: a bundled codec's name, the folder of a run, or of a saved tokenizer.
        recipe: name or file of the recipe that made it; default: the bundled one of its name, or
            the ``recipe.json`` in its folder.

    Raises:
        TrainingError: no recipe is known for it, or the recipe's is not one of a codec.
    """
    found = _recipe_of(place) if recipe is None else find(recipe)
    known = {field.name for field in fields(found)}
    if "quantize_from" not in known:
        raise TrainingError(
            f"recipe {found.name} does not train a codec's encoder, codebooks and decoder "
            "together, so it can't be fine-tuned; set start_from, and the fields of the recipe"
        )
    optimizer = found.optimizer
    changes: dict[str, Any] = {
        "start_from": place,
        "steps": STEPS,
        "quantize_from": 0,
        "keep_quantizer": True,
        "optimizer": replace(optimizer, lr=_RATE * optimizer.lr, muon_lr=_RATE * optimizer.muon_lr),
        "schedule": replace(found.schedule, warmup_steps=100, decay_steps=None),
        "validation": replace(found.validation, every=STEPS // 4),
    }
    config = _config_of(place)
    if config is not None:
        # It may have more layers than the recipe.
        saved = read_config(config)
        model: Any = getattr(found, "model", None)
        try:
            changes["model"] = config_from_json(type(model), saved["config"])
        except CheckpointError as error:
            raise TrainingError(
                f"{place}: {saved['name']}, of family {saved['family']}, is no model of recipe "
                f"{found.name}: {error}"
            ) from None
    if found.adversarial is not None:
        changes["adversarial"] = replace(found.adversarial, start_step=0)
    supervision = getattr(found, "supervision", None)
    if supervision is not None:
        changes["supervision"] = replace(supervision, own_pitch_from=0)
    return replace(found, **changes)


def _config_of(place: str) -> Path | None:
    """Return the folder with the configuration of a saved codec; None where none is saved yet."""
    folder = Path(place)
    if not folder.is_dir():
        return MODELS / SHIPPED[place].folder if place in SHIPPED else None
    parts = [folder / part for part in ("", *RUN_FOLDERS)]
    return next((part for part in parts if (part / CONFIG_FILE).exists()), None)


def _recipe_of(place: str) -> Recipe:
    folder = Path(place)
    if not folder.is_dir():
        if place in RECIPES:
            return find(place)
        raise TrainingError(
            f"no recipe of {place!r} is known: it is not a bundled codec that was trained by a "
            f"recipe ({', '.join(RECIPES)}), nor a folder with a {RECIPE_FILE}; give the recipe too"
        )
    for part in ("", *RUN_FOLDERS):
        if (folder / part / RECIPE_FILE).exists():
            return read(folder / part / RECIPE_FILE)
    raise TrainingError(
        f"{place}: no {RECIPE_FILE} in it, which says how it was made; give the recipe too"
    )
