"""Options that several commands share."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])


class ChannelsType(click.ParamType):
    name = "mix|first|mono|N"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> str | int:
        if value in ("mix", "first", "mono"):
            return value
        if str(value).isdigit():
            return int(value)
        self.fail(f"expected mix, first, mono or a channel's number, got {value!r}", param, ctx)


codec = click.option(
    "--codec",
    default="rvq-16k",
    show_default=True,
    metavar="NAME",
    help="Tokenizer: a bundled name (see `syllabary list`), a directory, or a published model.",
)
channels = click.option(
    "--channels",
    type=ChannelsType(),
    default="mix",
    show_default=True,
    help="Multi-channel audio: average, use the first or channel N (from 0), or refuse.",
)
compress = click.option(
    "--compress", is_flag=True, help="Entropy-code the tokens: smaller files, slower."
)
bpe = click.option(
    "--bpe",
    metavar="NAME",
    help="Byte-pair encoding of the tokens: a bundled name, or a folder from `syllabary fit bpe`.",
)
conceal = click.option(
    "--conceal",
    is_flag=True,
    help="Damaged or cut files: lose the frames of damaged and missing chunks only, conceal them, "
    "and say which they are.",
)
device = click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:1, …")
force = click.option("--force", is_flag=True, help="Overwrite outputs that exist.")
split = click.option("--split", metavar="NAME", help="Only this split of a manifest.")
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON lines instead of text.")
workers = click.option(
    "--workers",
    type=click.IntRange(min=1),
    metavar="N",
    help="Files processed in parallel; default: one per core.",
)


def output(meaning: str) -> Callable[[Command], Command]:
    return click.option("-o", "--output", metavar="PATH", help=meaning)
