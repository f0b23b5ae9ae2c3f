"""`syllabary export`: a trained tokenizer as a small checkpoint."""

from pathlib import Path

import click

from ..errors import CheckpointError
from ..filesystem import printable
from . import options


@click.command()
@click.argument("tokenizer", metavar="DIRECTORY")
@options.output("Folder for the checkpoint; required.")
@options.force
def export(tokenizer: str, output: str | None, force: bool) -> None:
    """Make a checkpoint for use, not for more training: float16, half the size and less.

    DIRECTORY is what `train` or `save_pretrained` wrote. Weights change by what float16 rounds
    off, so tokens of the two do not mix.
    """
    from ..codecs.checkpoint import WEIGHTS_FILE
    from ..codecs.registry import load
    from ..codecs.shipped import export as write

    if output is None:
        raise click.UsageError("--output is required")
    target = Path(output)
    if (target / WEIGHTS_FILE).exists() and not force:
        raise CheckpointError(f"{printable(target)} has a checkpoint already; --force replaces it")
    write(load(tokenizer), target)
    size = (target / WEIGHTS_FILE).stat().st_size / 1e6
    click.echo(f"{printable(target)}: {size:.1f} MB")
