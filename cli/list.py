"""`syllabary list`: list the tokenizers and their properties."""

import json

import click

from . import options


@click.command("list")
@options.as_json
def list_command(as_json: bool) -> None:
    """List the tokenizer names for `--codec`."""
    from ..codecs.registry import list_tokenizers, load

    specs = [load(name).spec for name in list_tokenizers()]
    if as_json:
        for spec in specs:
            click.echo(json.dumps(spec.to_json(), default=str))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, header_style="bold")
    table.add_column("name", no_wrap=True)
    table.add_column("description", ratio=1)
    for heading in ("kHz", "frames/s", "codebooks", "kbit/s", "latency"):
        table.add_column(heading, justify="right", no_wrap=True)
    for spec in specs:
        tokens = spec.tokens
        sizes = set(tokens.codebook_sizes)
        of = f" × {sizes.pop()}" if len(sizes) == 1 else ""
        table.add_row(
            tokens.tokenizer,
            spec.description,
            f"{tokens.sample_rate / 1000:g}",
            f"{float(tokens.frame_rate):g}",
            f"{tokens.num_codebooks}{of}",
            f"{spec.bitrate / 1000:g}",
            "–" if spec.latency_ms is None else f"{spec.latency_ms:.0f} ms",
        )
    console = Console()
    console.print(table)
    console.print("Published models load by their ids: `syllabary list --published`.")
