"""`syllabary export`: save a trained tokenizer as a small checkpoint, or as ONNX graphs."""

from pathlib import Path

import click

from ..errors import CheckpointError
from ..filesystem import printable
from . import options


@click.command()
@click.argument("tokenizer", metavar="TOKENIZER")
@options.output("Folder for the checkpoint; required.")
@click.option(
    "--onnx", is_flag=True, help="Write encoder.onnx, decoder.onnx and onnx.json instead."
)
@click.option(
    "--bits",
    type=click.Choice(["16", "8"]),
    default="16",
    show_default=True,
    help="Of the matrices of convolution blocks, most of a codec's weights.",
)
@click.option("--name", metavar="NAME", help="Give the exported tokenizer another name.")
@click.option("--license", "licence", metavar="TEXT", help="State the licence of its weights.")
@options.force
def export(
    tokenizer: str,
    output: str | None,
    onnx: bool,
    bits: str,
    name: str | None,
    licence: str | None,
    force: bool,
) -> None:
    """Save a checkpoint for inference (float16, at most half the size), without training state.

    TOKENIZER is a folder written by `train` or `save_pretrained`, or a bundled name. Weights are
    rounded to float16, or to the 8 bits with which inference multiplies them, so the tokens of the
    two tokenizers are not compatible; ONNX graphs give the tokenizer's own tokens.
    """
    if output is None:
        raise click.UsageError("--output is required")
    target = Path(output)
    if onnx and (name or licence or bits != "16"):
        raise click.UsageError("--name, --license and --bits are for checkpoints, not for --onnx")
    if onnx:
        _export_onnx(tokenizer, target, force)
    else:
        _export(tokenizer, target, int(bits), name, licence, force)


def _export(
    tokenizer: str, target: Path, bits: int, name: str | None, licence: str | None, force: bool
) -> None:
    from ..codecs.checkpoint import WEIGHTS_FILE
    from ..codecs.checkpoint import export as write
    from ..codecs.registry import load

    keep_checkpoint(target, force)
    found = load(tokenizer)
    found.name = name or found.name
    found.license = licence or found.license
    write(found, target, bits)
    _print_size(target, [WEIGHTS_FILE])


def keep_checkpoint(target: Path, force: bool) -> None:
    """Raise an error if a folder has a checkpoint that must not be replaced."""
    from ..codecs.checkpoint import WEIGHTS_FILE

    if (target / WEIGHTS_FILE).exists() and not force:
        raise CheckpointError(f"{printable(target)} has a checkpoint already; --force replaces it")


def _export_onnx(tokenizer: str, target: Path, force: bool) -> None:
    from ..codecs.neural.onnx.export import DESCRIPTION_FILE, GRAPH_FILES, export_onnx
    from ..codecs.registry import load

    if (target / DESCRIPTION_FILE).exists() and not force:
        raise CheckpointError(f"{printable(target)} has graphs already; --force replaces them")
    export_onnx(load(tokenizer), target)
    _print_size(target, GRAPH_FILES)


def _print_size(target: Path, names: "list[str] | tuple[str, ...]") -> None:
    size = sum((target / name).stat().st_size for name in names) / 1e6
    click.echo(f"{printable(target)}: {size:.1f} MB")
