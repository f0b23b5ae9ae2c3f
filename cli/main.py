"""The `syllabary` command."""

import os
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import click

from .. import __version__
from ..errors import SyllabaryError, SyllabaryWarning
from .average import average
from .compiling import telling_of_compiling
from .convert import convert
from .dataset import dataset
from .decode import decode
from .demo import demo
from .encode import encode
from .eval import eval_command
from .export import export
from .fit import fit
from .info import info
from .leaderboard import leaderboard
from .list import list_command
from .queue import queue
from .roundtrip import roundtrip
from .serve import serve
from .stats import stats
from .stream import stream
from .train import train


class _Group(click.Group):
    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            # The reader of the output closed the pipe: exit with 128 + SIGPIPE and without a
            # message, like any program, also when Python flushes at exit. (click itself would exit
            # with 1.)
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(141)


@click.group(
    cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(__version__, "-V", "--version", prog_name="syllabary")
def cli() -> None:
    """Encode speech into discrete tokens and decode them, with any tokenizer.

    Exit codes: 0 success; 1 some of several files failed (the reasons are in errors.jsonl); 2 bad
    input or arguments.
    """


for command in (
    encode, decode, stream, convert, roundtrip, eval_command, leaderboard, info, stats,
    list_command, fit, train, queue, average, export, dataset, demo, serve,
):  # fmt: skip
    cli.add_command(command)


def _say_or(show: Callable[..., None]) -> Callable[..., None]:
    """Return a function that shows the package's warnings without a line of code."""

    def say(message: Warning | str, category: type[Warning], *where: Any) -> None:
        if issubclass(category, SyllabaryWarning):
            click.echo(f"syllabary: {message}", err=True)
        else:
            show(message, category, *where)

    return say


def _refuse_empty(arguments: Sequence[str]) -> None:
    """Reject empty arguments: none is valid, and an empty path would mean the current folder."""
    for argument in arguments:
        option, is_set, value = argument.partition("=")
        if not argument or (option.startswith("--") and is_set and not value):
            what = f"{option} is set to nothing" if argument else "an argument is empty"
            raise SyllabaryError(f"{what}; is a variable of the shell not set?")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; always ends with `SystemExit`."""
    try:
        _refuse_empty(sys.argv[1:] if arguments is None else arguments)
        with warnings.catch_warnings(), telling_of_compiling():
            warnings.showwarning = _say_or(warnings.showwarning)
            cli.main(arguments, prog_name="syllabary", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("stopped; outputs so far are whole, --resume goes on", err=True)
        sys.exit(130)
    except (SyllabaryError, OSError) as error:
        click.echo(f"syllabary: {error}", err=True)
        sys.exit(2)
    sys.exit(0)
