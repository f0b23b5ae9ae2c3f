"""`syllabary average`: a tokenizer whose weights are the average of others'."""

from pathlib import Path

import click

from ..filesystem import printable
from . import options
from .export import keep_checkpoint


@click.command()
@click.argument("tokenizers", metavar="TOKENIZER TOKENIZER…", nargs=-1, required=True)
@options.output("Folder for the average; required.")
@click.option(
    "--weights", metavar="A,B,…", help="Weights of the tokenizers, as 0.3,0.7; default: equal."
)
@click.option("--name", metavar="NAME", help="Of the average; default: its folder's.")
@click.option("--license", "licence", metavar="TEXT", help="State the licence of its weights.")
@options.force
def average(
    tokenizers: tuple[str, ...],
    output: str | None,
    weights: str | None,
    name: str | None,
    licence: str | None,
    force: bool,
) -> None:
    """Average the weights of a tokenizer and of trainings that started from it.

    Each TOKENIZER is a bundled name, a run of `train`, or a saved tokenizer. An average of the
    weights before and after fine-tuning often keeps the best of both; `syllabary eval` tells. Its
    tokens are not compatible with those of any of them.
    """
    from ..codecs.registry import load
    from ..training.averaging import average_tokenizers

    if output is None:
        raise click.UsageError("--output is required")
    target = Path(output)
    keep_checkpoint(target, force)
    made = average_tokenizers([load(each) for each in tokenizers], _numbers(weights))
    made.name = name or target.absolute().name
    made.license = licence or made.license
    made.keep_name()
    made.save_pretrained(target)
    digest = made.spec.tokens.digest[:12]
    click.echo(f"{printable(target)}: {made.name}, average of {len(tokenizers)}, digest {digest}")


def _numbers(weights: str | None) -> list[float] | None:
    if weights is None:
        return None
    try:
        return [float(each) for each in weights.split(",")]
    except ValueError:
        raise click.UsageError(f"--weights: expected numbers as 0.3,0.7; got {weights}") from None
