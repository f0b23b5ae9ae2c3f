"""`best/` and `last/`: tokenizers for `syllabary.load`, each with its recipe."""

import shutil
from pathlib import Path

from ...codecs.checkpoint import RUN_FOLDERS
from ...codecs.interface import AudioTokenizer
from ...codecs.registry import list_tokenizers, load
from ..recipe import Recipe
from ..recipe_file import RECIPE_FILE, write
from ..recipe_registry import RECIPES

BEST, LAST = RUN_FOLDERS


def own_name(tokenizer: AudioTokenizer, recipe: Recipe, folder: Path) -> str:
    """Return the name of a run's tokenizer, which is never another tokenizer's.

    A name that was chosen for the run stays. The name of a bundled recipe or tokenizer is replaced
    by the folder's, unless the bundled tokenizer has the same codes, as when only a vocoder was
    trained.
    """
    name = tokenizer.name
    known = list_tokenizers()
    if name in known and load(name).spec.tokens.digest == tokenizer.spec.tokens.digest:
        return name
    if name not in known and name not in RECIPES:
        return name
    chosen = folder.resolve().name
    return f"{chosen}-trained" if chosen in known else chosen


def save_tokenizer(tokenizer: AudioTokenizer, recipe: Recipe, folder: Path) -> None:
    """Write a tokenizer and its recipe beside `folder`, then replace the folder by them.

    A non-empty folder can't be replaced in one operation. If the process dies between the two
    renames, the old folder remains under its name with a dot before and `.old` after.
    """
    folder = folder.resolve()  # replace the target of a link, not the link
    new = folder.with_name(f".{folder.name}.new")
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(new, ignore_errors=True)
    tokenizer.save_pretrained(new)
    write(recipe, new / RECIPE_FILE)
    if folder.exists():
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
    new.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
