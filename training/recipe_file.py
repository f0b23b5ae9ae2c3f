"""Recipes as JSON files, `recipe.json`: written, checked, and read as a known class of recipe."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import ConfigError, TrainingError
from ..filesystem import replacing
from ..typed_fields import from_json, to_json

if TYPE_CHECKING:
    from .recipe import Recipe

RECIPE_FILE = "recipe.json"
FORMAT = "syllabary-recipe"
FORMAT_VERSION = 1

R = TypeVar("R", bound="Recipe")


def as_json(recipe: "Recipe") -> dict[str, Any]:
    """Return a recipe as JSON values, with the name of its task."""
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "task": recipe.task,
        "recipe": to_json(recipe),
    }


def task_of(fields: Any, origin: str) -> str:
    """Check the values of `as_json` and return the name of their task.

    Args:
        fields: JSON values.
        origin: where they come from, for error messages.

    Raises:
        TrainingError: they are not a recipe, or one of another release.
    """
    if not isinstance(fields, dict) or fields.get("format") != FORMAT:
        raise TrainingError(f"{origin}: not a recipe of syllabary")
    if fields.get("format_version") != FORMAT_VERSION:
        raise TrainingError(
            f"{origin}: format version {fields.get('format_version')!r}; this release reads "
            f"{FORMAT_VERSION}"
        )
    return str(fields.get("task"))


def recipe_of(kind: type[R], fields: Any, origin: str) -> R:
    """Make a recipe of one class from the values of `as_json`.

    Args:
        kind: the class of the task's recipes.
        fields, origin: as for `task_of`.

    Raises:
        TrainingError: they are not a recipe, one of another release, or of another task.
    """
    task = task_of(fields, origin)
    if task != kind.task:
        raise TrainingError(f"{origin}: a recipe of task {task!r}, not {kind.task!r}")
    try:
        return from_json(kind, fields.get("recipe"))
    except (ConfigError, TrainingError) as error:
        raise TrainingError(f"{origin}: {error}") from None


def write(recipe: "Recipe", path: Path) -> None:
    """Write a recipe atomically."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(as_json(recipe), indent=2) + "\n")
