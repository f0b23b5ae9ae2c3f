"""What the arguments of `syllabary train` mean, on its command line and in a queue's list."""

import json
from collections.abc import Sequence
from pathlib import Path

from ..errors import TrainingError
from . import recipe_registry as recipes
from .fine_tuning import fine_tuning
from .recipe import Recipe


def requested_recipe(
    words: Sequence[str], recipe: str | None, start: str | None, data: str | None
) -> Recipe:
    """Return the recipe to train.

    Args:
        words: the name or file of a recipe, unless `recipe` or `start` say it, and overrides,
            FIELD=VALUE.
        recipe: of ``--recipe``.
        start: of ``--from``: a codec to fine-tune.
        data: of ``--data``: speech to train on.

    Raises:
        TrainingError: there is no such recipe or codec, or an override is wrong.
    """
    overrides = list(words)
    if recipe is None and overrides and not (start is not None and "=" in overrides[0]):
        recipe = overrides.pop(0)
    if data is not None:
        overrides.insert(0, f"data.manifest={json.dumps(data)}")
    if start is not None:
        chosen = fine_tuning(start, recipe)
    elif recipe is not None:
        chosen = recipes.find(recipe)
    else:
        raise TrainingError("no RECIPE was given; `syllabary train --list` prints the bundled ones")
    return recipes.override(chosen, overrides)


def usual_folder(recipe: Recipe, start: str | None) -> Path:
    """Return the folder of a run for which none is given: ``runs/NAME``, with what it fine-tunes
    ``runs/NAME-tuned``.
    """
    return Path("runs", recipe.name if start is None else f"{recipe.name}-tuned")
