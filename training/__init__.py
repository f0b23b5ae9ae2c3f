"""Training: data, losses, the training loop and the recipes. Does not depend on the command
line.
"""

from typing import TYPE_CHECKING

from ..lazy_exports import lazy_exports

if TYPE_CHECKING:
    from .averaging import average_tokenizers
    from .loop import Outcome, train
    from .recipe import DataConfig, Recipe, ValidationConfig
    from .recipe_registry import find as find_recipe
    from .recipe_registry import override as override_recipe
    from .recipe_registry import read as read_recipe
    from .recipe_registry import register as register_task
    from .recipe_registry import write as write_recipe
    from .spectral.codec_task import FSQRecipe, FSQTask, RVQRecipe, RVQTask, TS3Recipe, TS3Task
    from .task import Batch, Generated, TrainingTask
    from .training_set import TrainingSet

__all__ = [
    "Batch",
    "DataConfig",
    "FSQRecipe",
    "FSQTask",
    "Generated",
    "Outcome",
    "RVQRecipe",
    "RVQTask",
    "Recipe",
    "TS3Recipe",
    "TS3Task",
    "TrainingSet",
    "TrainingTask",
    "ValidationConfig",
    "average_tokenizers",
    "find_recipe",
    "override_recipe",
    "read_recipe",
    "register_task",
    "train",
    "write_recipe",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "Batch": "syllabary.training.task",
        "DataConfig": "syllabary.training.recipe",
        "FSQRecipe": "syllabary.training.spectral.codec_task",
        "FSQTask": "syllabary.training.spectral.codec_task",
        "Generated": "syllabary.training.task",
        "Outcome": "syllabary.training.loop",
        "RVQRecipe": "syllabary.training.spectral.codec_task",
        "RVQTask": "syllabary.training.spectral.codec_task",
        "Recipe": "syllabary.training.recipe",
        "TS3Recipe": "syllabary.training.spectral.codec_task",
        "TS3Task": "syllabary.training.spectral.codec_task",
        "TrainingSet": "syllabary.training.training_set",
        "TrainingTask": "syllabary.training.task",
        "ValidationConfig": "syllabary.training.recipe",
        "average_tokenizers": "syllabary.training.averaging",
        "find_recipe": "syllabary.training.recipe_registry:find",
        "override_recipe": "syllabary.training.recipe_registry:override",
        "read_recipe": "syllabary.training.recipe_registry:read",
        "register_task": "syllabary.training.recipe_registry:register",
        "train": "syllabary.training.loop",
        "write_recipe": "syllabary.training.recipe_registry:write",
    },
)
