"""`syllabary fit bpe`: train byte-pair encoding of tokens."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from ..audio.manifests import Utterance, collect
from ..cores import use_one_thread
from ..errors import SyllabaryError, TokenMismatchError
from ..filesystem import printable
from . import options

if TYPE_CHECKING:
    from ..codecs.interface import AudioTokenizer
    from ..codecs.tokens import Tokens


@click.command()
@click.argument("inputs", nargs=-1, required=True, metavar="IN...")
@click.option("-o", "--output", required=True, metavar="DIR", help="Folder to write.")
@click.option(
    "--vocab-size",
    type=click.IntRange(min=2),
    default=4000,
    show_default=True,
    metavar="N",
    help="Vocabulary size, units included; 1,000 to 32,000 are usual.",
)
@click.option(
    "--type",
    "kind",
    type=click.Choice(["bpe", "unigram"]),
    default="bpe",
    show_default=True,
    help="Byte-pair encoding, or a unigram language model.",
)
@click.option("--no-dedup", is_flag=True, help="Keep runs of equal frames; default: merge them.")
@click.option(
    "--codec",
    metavar="NAME",
    help="Encode audio with this tokenizer first; default: IN are .syl files.",
)
@click.option("--codebooks", type=click.IntRange(min=1), metavar="N", help="Keep the first N.")
@click.option("--name", metavar="NAME", help="Name of the encoding; default: the folder's name.")
@click.option(
    "--special",
    "specials",
    multiple=True,
    metavar="TEXT",
    help="Additional special token for language models, such as '<s>'; can be repeated.",
)
@click.option(
    "--max-piece",
    type=click.IntRange(min=2, max=256),
    default=16,
    show_default=True,
    metavar="N",
    help="Maximal number of units per token.",
)
@click.option(
    "--sample",
    type=click.IntRange(min=1),
    metavar="N",
    help="Train on a random sample of N units, which bounds memory; default: on all.",
)
@options.split
@options.channels
@options.force
@options.device
@options.as_json
def bpe(
    inputs: tuple[str, ...],
    output: str,
    vocab_size: int,
    kind: Literal["bpe", "unigram"],
    no_dedup: bool,
    codec: str | None,
    codebooks: int | None,
    name: str | None,
    specials: tuple[str, ...],
    max_piece: int,
    sample: int | None,
    split: str | None,
    channels: Literal["mix", "first", "mono"] | int,
    force: bool,
    device: str,
    as_json: bool,
) -> None:
    """Train byte-pair encoding of tokens, for `encode --bpe`.

    IN are .syl files or folders of them, all of one tokenizer. With --codec they are audio files,
    folders, manifests or patterns, which are encoded first.

    A run can't be resumed, since reading .syl files is fast: encode a large corpus first
    (`syllabary encode … --resume`). The folder is written at the end, or not at all.
    """
    from ..bpe import UnitBPE
    from ..codecs.registry import load
    from ..semantic.token_bpe import fit_bpe

    folder = Path(output)
    if folder.suffix in (".model", ".json") or folder.is_file():
        raise SyllabaryError(f"{printable(folder)}: the output is a folder, not a file")
    if (folder / "bpe.json").exists() and not force:
        raise SyllabaryError(
            f"{printable(folder)} has a byte-pair encoding already; use --force to overwrite it"
        )
    name = name or folder.resolve().name
    UnitBPE.check_name(name)
    items = _collected(inputs, split, codec)
    use_one_thread()
    tokenizer = load(codec, device=device) if codec else None
    counts = {"files": 0, "frames": 0, "units": 0}
    start = time.perf_counter()

    def tokens() -> Iterator["Tokens"]:
        first: Tokens | None = None
        with _progress(len(items), shown=not as_json) as advance:
            for item in items:
                found = _tokens(item, tokenizer, channels, codebooks)
                if first is None:
                    first = found[:0]
                _check_alike(found, first, item)
                counts["files"] += 1
                counts["frames"] += int(found.num_frames.sum())
                units = found.restore() if no_dedup else found.deduplicate()
                counts["units"] += int(units.lengths.sum()) * found.num_codebooks
                yield units
                advance()

    fitted = fit_bpe(
        tokens(),
        vocab_size,
        kind=kind,
        name=name,
        deduplicate=not no_dedup,
        specials=specials,
        max_piece_length=max_piece,
        sample_units=sample,
    )
    fitted.save(folder)
    elapsed = time.perf_counter() - start
    if as_json:
        fields: dict[str, Any] = {"output": printable(folder), "name": name, "type": kind}
        fields |= {"vocab_size": fitted.vocab_size, "units": fitted.num_units}
        fields |= {"digest": fitted.digest, "elapsed_s": round(elapsed, 3)}
        click.echo(json.dumps(fields | {"trained_on": counts}, ensure_ascii=False))
        return
    click.echo(
        f"{name}: {fitted.vocab_size} ids over {fitted.num_units} units, from {counts['units']:,} "
        f"units of {counts['files']} files, in {elapsed:.1f} s → {printable(folder)}"
    )


def _collected(inputs: tuple[str, ...], split: str | None, codec: str | None) -> list[Utterance]:
    if codec is None:
        items = collect(inputs, split, suffixes=frozenset([".syl"]))
        audio = [item for item in items if item.path.suffix.lower() != ".syl"]
        if audio:
            raise SyllabaryError(
                f"{printable(audio[0].path)} is no .syl file; --codec NAME encodes audio first"
            )
        return items
    return collect(inputs, split)


def _tokens(
    item: Utterance,
    tokenizer: "AudioTokenizer | None",
    channels: Literal["mix", "first", "mono"] | int,
    codebooks: int | None,
) -> "Tokens":
    from ..codecs.container import read_tokens
    from ..jobs.one_file import encode_audio

    item.check_file()
    if item.path.suffix.lower() != ".syl":
        assert tokenizer is not None
        return encode_audio(
            tokenizer,
            item,
            channels=channels,
            num_codebooks=codebooks,
        )
    found = read_tokens(item.path)
    if tokenizer is not None:
        _check_source(found, tokenizer, item)
    return found if codebooks is None else found.keep_codebooks(codebooks)


def _check_source(found: "Tokens", tokenizer: "AudioTokenizer", item: Utterance) -> None:
    from ..codecs.tokens import check_same_tokenizer

    try:
        check_same_tokenizer(found.spec, tokenizer.spec.tokens)
    except TokenMismatchError as error:
        raise TokenMismatchError(f"{printable(item.path)}: {error}") from None


def _check_alike(found: "Tokens", first: "Tokens", item: Utterance) -> None:
    """Raise an error that names the file if its tokens differ in kind from the first file's."""
    from ..codecs.tokens import check_same_tokenizer

    try:
        check_same_tokenizer(found.spec, first.spec)
    except TokenMismatchError as error:
        raise TokenMismatchError(f"{printable(item.path)}: {error}") from None
    if found.num_codebooks != first.num_codebooks:
        raise SyllabaryError(
            f"{printable(item.path)} has {found.num_codebooks} codebooks, files before it "
            f"{first.num_codebooks}; --codebooks N keeps the first N of all"
        )


@contextmanager
def _progress(total: int, shown: bool) -> Iterator[Callable[[], None]]:
    """A progress bar on stderr while files are read, and a message during the training."""
    if not shown or not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("reading"),
        BarColumn(None),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("left"),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda: bar.advance(task)
    console.print("learning pieces …")
