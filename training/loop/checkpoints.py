"""`best/` and `last/`: tokenizers for `syllabary.load`, each with its recipe."""

import shutil
from pathlib import Path

from ...codecs.interface import AudioTokenizer
from ..recipe import Recipe
from ..recipe_file import RECIPE_FILE, write

BEST, LAST = "best", "last"


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
