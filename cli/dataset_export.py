"""`syllabary dataset export`: a data set in the format of another library."""

from typing import TYPE_CHECKING, Any

import click

from ..errors import SyllabaryError

if TYPE_CHECKING:
    from ..lm.dataset.stored import StoredDataset
    from ..lm.vocabulary import Vocabulary

_SHOWN = 10


@click.command("export")
@click.argument("folder", metavar="FOLDER")
@click.option(
    "--to",
    required=True,
    metavar="FORMAT",
    help="webdataset, megatron, mds, arrow, lhotse, slamkit, moshi or memmap.",
)
@click.option("-o", "--output", required=True, metavar="PATH", help="Folder; empty or not there.")
@click.option("--split", metavar="NAME", help="Only this split.")
@click.option("--shard-bytes", type=click.IntRange(min=1), metavar="N", help="A file's, about.")
@click.option(
    "--first",
    type=click.IntRange(min=0),
    metavar="ID",
    help="Of megatron and memmap: ids of speech begin here, behind those of text.",
)
@click.option(
    "--tokenizer",
    metavar="PATH",
    help="Of megatron and memmap: tokenizer.json with the ids of speech.",
)
@click.option(
    "--pattern",
    metavar="NAME",
    help="Of megatron and memmap: how codebooks become one sequence; default: flatten.",
)
@click.option("--begin", metavar="MARKER", help="Before each utterance: <|speech_start|>, …")
@click.option("--end", metavar="MARKER", help="After each utterance: <|speech_end|>, …")
@click.option("--dtype", metavar="NAME", help="Of megatron: uint16 or int32; default: what fits.")
@click.option("--context", type=click.IntRange(min=1), metavar="N", help="Of memmap: ids of a row.")
def export_command(
    folder: str,
    to: str,
    output: str,
    split: str | None,
    shard_bytes: int | None,
    first: int | None,
    tokenizer: str | None,
    pattern: str | None,
    begin: str | None,
    end: str | None,
    dtype: str | None,
    context: int | None,
) -> None:
    """Write a data set for WebDataset, Megatron, Mosaic, Hugging Face datasets, lhotse, slamkit,
    moshi-finetune or NumPy.

    The folder appears when all is written. It says whose tokens these are in tokens.json.
    """
    from ..filesystem import printable
    from ..lm.dataset.stored import open_dataset
    from ..lm.exports.exporting import export
    from ..lm.patterns.registry import pattern as pattern_of

    dataset = open_dataset(folder, split)
    vocabulary = _vocabulary(dataset, first, tokenizer)
    books = vocabulary.codebooks if vocabulary else dataset.num_codebooks
    sizes = dataset.spec.codebook_sizes[:books]
    chosen: dict[str, Any] = {"shard_bytes": shard_bytes, "context": context}
    made = export(
        dataset,
        to,
        output,
        pattern=None if pattern is None else pattern_of(pattern, sizes),
        vocabulary=vocabulary,
        begin=begin,
        end=end,
        dtype=dtype,
        **{name: value for name, value in chosen.items() if value is not None},
    )
    click.echo(f"{printable(made.folder)}: {made.items:,} utterances for {to}")
    for name, reason in list(made.left_out.items())[:_SHOWN]:
        click.echo(f"left out {name}: {reason}", err=True)
    if len(made.left_out) > _SHOWN:
        click.echo(f"left out {len(made.left_out) - _SHOWN} more: see tokens.json", err=True)


def _vocabulary(
    dataset: "StoredDataset", first: int | None, tokenizer: str | None
) -> "Vocabulary | None":
    from ..lm.tokenizer_json import read_vocabulary
    from ..lm.vocabulary import Vocabulary

    if first is not None and tokenizer is not None:
        raise SyllabaryError("give --first or --tokenizer, not both")
    if tokenizer is not None:
        return read_vocabulary(tokenizer, dataset.spec)
    if first is not None:
        return Vocabulary(dataset.spec, first, dataset.num_codebooks)
    return None
