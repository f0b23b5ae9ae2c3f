"""`syllabary list`: list the tokenizers and their properties."""

import json
from typing import TYPE_CHECKING, Any

import click

from . import options

if TYPE_CHECKING:
    from rich.table import Table

    from ..codecs.spec import TokenSpec


@click.command("list")
@click.option(
    "--published",
    "others",
    is_flag=True,
    help="List published models of others that load by their id or from a folder, instead.",
)
@options.as_json
def list_command(others: bool, as_json: bool) -> None:
    """List the tokenizer names for `--codec`."""
    (_list_published if others else _list_bundled)(as_json)


def _list_bundled(as_json: bool) -> None:
    from ..codecs.registry import list_tokenizers, load

    specs = [load(name).spec for name in list_tokenizers()]
    if as_json:
        for spec in specs:
            click.echo(json.dumps(spec.to_json(), default=str))
        return
    from rich.console import Console

    table = _table("name", "description", ("kHz", "frames/s", "codebooks", "kbit/s", "latency"))
    for spec in specs:
        table.add_row(
            spec.tokens.tokenizer,
            spec.description,
            *_figures(spec.tokens),
            "–" if spec.latency_ms is None else f"{spec.latency_ms:.0f} ms",
        )
    console = Console()
    console.print(table)
    console.print("Published models load by their ids: `syllabary list --published`.")


def _list_published(as_json: bool) -> None:
    from ..codecs.pretrained.architectures import published

    if as_json:
        for architecture, model in published():
            click.echo(json.dumps(_fields(architecture, model)))
        return
    from rich.console import Console

    table = _table("id", "architecture; licence", ("kHz", "frames/s", "codebooks", "kbit/s"))
    for architecture, model in published():
        name = model.id + (" (folder)" if model.folder else "")
        figures = _figures(model.tokens)
        if model.channels is not None:
            figures = [*figures[:2], f"{model.channels} channels", "–"]
        table.add_row(name, f"{architecture.name}; {model.license}", *figures)
    console = Console()
    console.print(table)
    console.print(
        "An id of the Hugging Face hub is a name for `--codec`; (folder): download, and name the "
        "folder. Licences are as far as known here: the publisher's card decides."
    )


def _fields(architecture: Any, model: Any) -> dict[str, Any]:
    tokens = model.tokens
    return {
        "id": model.id,
        "architecture": architecture.name,
        "library": architecture.library,
        "source": architecture.source,
        "license": model.license,
        "folder": model.folder,
        "sample_rate": tokens.sample_rate,
        "decoded_sample_rate": model.native_rate or tokens.sample_rate,
        "frame_rate": [tokens.frame_rate.numerator, tokens.frame_rate.denominator],
        "codebooks": [list(run) for run in model.codebooks],
        "latent_channels": model.channels,
        "bitrate": tokens.bitrate(),
    }


def _table(first: str, second: str, figures: tuple[str, ...]) -> "Table":
    from rich.table import Table

    table = Table(box=None, header_style="bold")
    table.add_column(first, no_wrap=first == "name", overflow="fold")
    table.add_column(second, ratio=1)
    for heading in figures:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _figures(tokens: "TokenSpec") -> list[str]:
    """Sample rate, frame rate, codebooks and bitrate."""
    sizes = set(tokens.codebook_sizes)
    of = f" × {sizes.pop()}" if len(sizes) == 1 else ""
    return [
        f"{tokens.sample_rate / 1000:g}",
        f"{float(tokens.frame_rate):.4g}",
        f"{tokens.num_codebooks}{of}",
        f"{tokens.bitrate() / 1000:.4g}",
    ]
