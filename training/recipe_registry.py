"""The bundled recipes by name, and reading, writing and overriding of any recipe."""

import importlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError, TrainingError
from ..filesystem import printable
from ..typed_fields import with_override
from .recipe_file import RECIPE_FILE, as_json, recipe_of, task_of, write

if TYPE_CHECKING:
    from .recipe import Recipe
    from .task import TrainingTask

__all__ = [
    "ALIASES",
    "RECIPES",
    "TASKS",
    "as_json",
    "find",
    "find_task",
    "from_fields",
    "override",
    "read",
    "register",
    "write",
]

#: Location of the `TrainingTask` of each name: "module:attribute", modules relative to
#: `syllabary.training`, or the class itself. A recipe file contains such a name, never a module.
TASKS: "dict[str, str | type[TrainingTask[Any]]]" = {
    "rvq": ".spectral.codec_task:RVQTask",
    "fsq": ".spectral.codec_task:FSQTask",
    "ts3": ".spectral.codec_task:TS3Task",
    "dmel-vocoder": ".spectral.vocoder_task:VocoderTask",
    "content": ".content.task:ContentTask",
    "unit-vocoder": ".spectral.unit_vocoder_task:UnitVocoderTask",
}

#: The bundled recipes: a `Recipe`, or the location (as above) of a function without arguments that
#: makes one.
RECIPES: "dict[str, str | Callable[[], Recipe]]" = {
    "rvq-small": ".spectral.recipes:rvq_small",
    "rvq-16k": ".spectral.recipes:rvq_16k",
    "rvq-16k-semantic": ".spectral.recipes:rvq_16k_semantic",
    "rvq-16k-waveform": ".spectral.recipes:rvq_16k_waveform",
    "fsq-16k": ".spectral.recipes:fsq_16k",
    "ts3-16k-stage-1": ".spectral.recipes:ts3_16k_stage_1",
    "ts3-16k": ".spectral.recipes:ts3_16k",
    "ts3-16k-40hz": ".spectral.recipes:ts3_16k_40hz",
    **{f"ts3-x{n}": f".spectral.recipes:ts3_x{n}" for n in (1, 2, 3, 4)},
    "ts3-1.6b": ".spectral.recipes:ts3_largest",
    "dmel-vocoder": ".spectral.recipes:dmel_vocoder",
    "dmel-fine-vocoder": ".spectral.recipes:dmel_fine_vocoder",
    "dmel-fine-vocoder-stage-2": ".spectral.recipes:dmel_fine_vocoder_stage_2",
    "dmel-fine-vocoder-stage-3": ".spectral.recipes:dmel_fine_vocoder_stage_3",
    **{f"content-stage-{n}": f".content.recipes:stage_{n}" for n in (1, 2, 3, 4)},
    "content-from-whisper": ".content.recipes:from_whisper",
    "content-phonetic": ".content.recipes:phonetic",
    "units-vocoder": ".spectral.recipes:units_vocoder",
}

#: What each bundled recipe is for, in a line.
DESCRIPTIONS = {
    "rvq-small": "small codec, 0.4 to 3.2 kbit/s: ten minutes on two cores, to try things out",
    "rvq-16k": "residual codebooks, 0.5 to 4 kbit/s: 70 minutes on one core",
    "rvq-16k-semantic": "the same, trained on: the first codebook learns phonetic units",
    "rvq-16k-waveform": "rvq-16k with a SEANet-like trunk, for comparison: days on a CPU",
    "fsq-16k": "one implicit codebook, 0.8 kbit/s: 70 minutes on one core",
    "ts3-16k-stage-1": "encoder and decoder of ts3-16k: an hour on one core",
    "ts3-16k": "causal transformer, one codebook, 0.8 kbit/s: from runs/ts3-16k-stage-1",
    "ts3-16k-40hz": "the same at 40 Hz, 0.64 kbit/s: an hour on one core",
    **{f"ts3-x{n}": f"the paper's TS3-Codec X{n}: on GPUs" for n in (1, 2, 3, 4)},
    "ts3-1.6b": "the largest TS3-Codec, 1.6 billion parameters: on GPUs",
    "dmel-vocoder": "vocoder for dMel, 40 frames a second",
    "dmel-fine-vocoder": "vocoder for dMel, 80 frames a second",
    "dmel-fine-vocoder-stage-2": "the second vocoder, trained on with the envelope loss",
    "dmel-fine-vocoder-stage-3": "the same with the loudness loss",
    "content-stage-1": "encoder of units-16k: targets are units of cepstra",
    "content-stage-2": "the same: targets are units of the encoder of stage 1",
    "content-stage-3": "the same: targets are units of the encoder of stage 2",
    "content-stage-4": "the same: a projection that leaves noise, rooms and voices out",
    "content-from-whisper": "the same with two more blocks: targets are units of Whisper's encoder",
    "content-phonetic": "the same: targets are phonetic units of Whisper's encoder",
    "units-vocoder": "vocoder of units-16k, from the decoder of rvq-16k",
}

#: Aliases: earlier names of recipes, which model cards and scripts may use.
ALIASES = {
    "dmel-fine-vocoder-longer": "dmel-fine-vocoder-stage-2",
    "dmel-fine-vocoder-louder": "dmel-fine-vocoder-stage-3",
    "content-first": "content-stage-1",
    "content-second": "content-stage-2",
    "content-third": "content-stage-3",
    "content-fourth": "content-stage-4",
}


def register(task: "type[TrainingTask[Any]]") -> None:
    """Register a task, so that its recipes can be read from files.

    Raises:
        TrainingError: another task has its name.
    """
    name = task.Recipe.task
    if TASKS.setdefault(name, task) is not task:
        raise TrainingError(f"there is another task of the name {name!r}")


def find_task(name: str) -> "type[TrainingTask[Any]]":
    """Return the task of a name.

    Raises:
        TrainingError: there is none.
    """
    if name not in TASKS:
        raise TrainingError(f"no task {name!r}; there are: {', '.join(sorted(TASKS)) or 'none'}")
    entry = TASKS[name]
    return _resolve(entry) if isinstance(entry, str) else entry


def find(name_or_path: str) -> "Recipe":
    """Return a bundled recipe, or one from a .json file.

    Raises:
        TrainingError: no such name or file, or an invalid recipe file.
    """
    name = ALIASES.get(name_or_path, name_or_path)
    if name in RECIPES:
        found = RECIPES[name]
        made = _resolve(found) if isinstance(found, str) else found
        return made() if callable(made) else made
    path = Path(name_or_path)
    if path.suffix == ".json" or path.exists():
        return read(path / RECIPE_FILE if path.is_dir() else path)
    raise TrainingError(
        f"no recipe {name_or_path!r}; there are: {', '.join(RECIPES) or 'none'}, or a .json file"
    )


def override(recipe: "Recipe", assignments: Sequence[str]) -> "Recipe":
    """Return the recipe with fields changed by assignments such as "optimizer.lr=2e-4", all at
    once.

    Values are JSON; text needs no quotes, and tuples no brackets (``betas=0.8,0.9``).

    Raises:
        TrainingError: an unknown field (the most similar is named), a value of a wrong type, or one
            that the recipe rejects.
    """
    values: dict[str, str] = {}
    for assignment in assignments:
        path, equals, values[path] = assignment.partition("=")
        if not equals:
            raise TrainingError(f"expected FIELD=VALUE, got {assignment!r}")
    while values:
        errors: dict[str, ConfigError] = {}
        for path, value in values.items():
            try:
                recipe = with_override(recipe, path, value)
            except ConfigError as error:
                errors[path] = error  # it may be right once the others are there
        if len(errors) == len(values):
            raise TrainingError(str(next(iter(errors.values()))))
        values = {path: values[path] for path in errors}
    return recipe


def from_fields(fields: Any, origin: str) -> "Recipe":
    """Make a recipe of any task from the values of `as_json`.

    Args:
        fields: JSON values.
        origin: where they come from, for error messages.

    Raises:
        TrainingError: they are not a recipe, or one of another release.
    """
    try:
        kind = find_task(task_of(fields, origin)).Recipe
    except TrainingError as error:
        raise TrainingError(f"{origin}: {error}") from None
    return recipe_of(kind, fields, origin)


def read(path: Path) -> "Recipe":
    """Read a recipe from a file.

    Raises:
        TrainingError: it can't be read or is not a recipe.
    """
    try:
        fields = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise TrainingError(f"{printable(path)}: {error}") from None
    return from_fields(fields, printable(path))


def _resolve(place: str) -> Any:
    module, _, attribute = place.partition(":")
    package = __package__ if module.startswith(".") else None
    return getattr(importlib.import_module(module, package), attribute)
