"""`syllabary stats`: how the tokens of many files use their codebooks, counted and drawn."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np

from ..audio.manifests import collect
from ..errors import ContainerError, SyllabaryError
from ..filesystem import printable
from . import options
from .batch import hours, size

if TYPE_CHECKING:
    from ..eval.token_use import CodebookUse, TokenUse

_BARS = " ▁▂▃▄▅▆▇█"
_WIDTH = 32
_SHOWN = 16


@click.command()
@click.argument("inputs", nargs=-1, required=True, metavar="IN...")
@click.option("--plot", metavar="PNG", help="Draw use, runs and rates to this file.")
@options.as_json
def stats(inputs: tuple[str, ...], plot: str | None, as_json: bool) -> None:
    """Count how tokens use their codebooks: codes used, entropies, runs, and rates.

    IN is a .syl file, a folder of them, a text file of paths, or a glob pattern. Files of each
    tokenizer are counted together.
    """
    from ..eval.token_use import count_file

    if plot is not None:
        _check_matplotlib()
    found: dict[str, TokenUse] = {}
    failed = 0
    for item in collect(inputs, suffixes=frozenset([".syl"])):
        try:
            item.check_file()
            count_file(item.path, found)
        except (SyllabaryError, OSError) as error:
            click.echo(f"failed: {error}", err=True)
            failed += 1
    if not found:
        raise ContainerError("no .syl file among the inputs can be read")
    for number, use in enumerate(found.values()):
        if as_json:
            click.echo(json.dumps(use.to_json(), ensure_ascii=False))
        else:
            click.echo("\n" * bool(number) + _text(use))
        if plot is not None:
            from ..eval.use_picture import draw_token_use

            path = Path(plot)
            if len(found) > 1:
                path = path.with_name(f"{path.stem}-{use.spec.digest[:8]}{path.suffix}")
            draw_token_use(path, use)
            click.echo(f"picture  {printable(path)}", err=as_json)
    if failed:
        sys.exit(1)


def _check_matplotlib() -> None:
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise SyllabaryError('--plot needs matplotlib: pip install "syllabary[eval]"') from None


def _text(use: "TokenUse") -> str:
    spec = use.spec
    rates = use.rates()
    lines = [
        f"{spec.tokenizer}  {spec.digest[:12]}",
        f"{use.files} files, {hours(use.seconds)}, {use.frames} frames, {size(use.size)}",
        "bit/s: " + ", ".join(f"{name} {rate:.0f}" for name, rate in rates.items()),
    ]
    if use.positions != use.frames:
        each = use.frames / use.positions
        lines.append(f"merged: {use.positions} positions of {each:.2f} frames")
    lines += ["", "codebook     used   entropy  perplexity   run  codes by frequency"]
    books = use.codebooks()
    for number, book in enumerate(books[:_SHOWN], 1):
        share = 100 * book.used / book.size
        lines.append(
            f"{number:>4} × {book.size:<6} {share:3.0f} % {book.entropy:5.2f} bit "
            f"{book.perplexity:11.1f} {book.mean_run:5.2f}  {_bars(_frequencies(book))}"
        )
    if len(books) > _SHOWN:
        lines.append(f"  and {len(books) - _SHOWN} more codebooks; --json has all")
    runs = np.sum([book.runs for book in books], axis=0)
    lines += ["", f"runs of equal codes by their length, 1 to {len(runs)} frames or more"]
    lines.append(f"  {_bars(np.sqrt(runs))}")
    return "\n".join(lines)


def _frequencies(book: "CodebookUse") -> np.ndarray:
    """Return the mean counts of equal parts of the codebook, the most frequent codes first."""
    ends = np.linspace(0, book.size, min(_WIDTH, book.size) + 1).astype(np.int64)
    sums = np.concatenate([[0], np.cumsum(book.counts)])[np.minimum(ends, book.used)]
    means: np.ndarray = np.diff(sums) / np.diff(ends)
    return means


def _bars(values: np.ndarray) -> str:
    """Draw values as a row of bars; those above 0 are visible."""
    most = float(values.max(initial=0)) or 1.0
    steps = np.ceil(values / most * (len(_BARS) - 1)).astype(int)
    return "".join(_BARS[step] for step in steps)
