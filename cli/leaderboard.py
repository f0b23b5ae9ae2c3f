"""`syllabary leaderboard`: make a page of result files, or check a result file's consistency."""

import sys
from pathlib import Path

import click

from ..filesystem import printable


class _BuildByDefault(click.Group):
    """`leaderboard results/` is `leaderboard build results/`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = ["build", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_BuildByDefault)
def leaderboard() -> None:
    """Make a page of result files, or check them.

    \b
    syllabary leaderboard results/ -o site/
    syllabary leaderboard check results/my-codec/result.json
    """


@leaderboard.command()
@click.argument("results", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option(
    "-o",
    "--output",
    metavar="FOLDER",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("site"),
    show_default=True,
    help="Folder for index.html and leaderboard.md.",
)
@click.option(
    "--title", default="Syllabary leaderboard", show_default=True, help="Title of the page."
)
@click.option(
    "--clips",
    type=click.FloatRange(0, 4096),
    default=24.0,
    show_default=True,
    metavar="MIB",
    help="Maximal size of audio in the page; further clips are left out and counted.",
)
def build(results: tuple[Path, ...], output: Path, title: str, clips: float) -> None:
    """Write a static page, and the same as Markdown, of every result.json below RESULTS.

    The page is a single file that includes its audio and loads nothing from the network. The same
    results give the same bytes. All results are checked first; if one is inconsistent, nothing is
    written.
    """
    from ..eval.leaderboard.board import collect
    from ..eval.leaderboard.build import write_site

    board = collect(results)
    for path in write_site(board, output, title, int(clips * 2**20)):
        click.echo(f"{printable(path)}  {path.stat().st_size / 2**20:.1f} MiB")


@leaderboard.command()
@click.argument(
    "files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE..."
)
def check(files: tuple[Path, ...]) -> None:
    """Check result files, or all below folders: types, ranges, and consistency of the figures.

    Every mean, count and bitrate is recomputed from the items. Prints ok, or every problem with its
    place in the file; the exit code is 2 if there are any.
    """
    from ..eval.leaderboard.board import Entry, find
    from ..eval.leaderboard.listening import clip_problems
    from ..eval.results.check import load
    from ..eval.results.files import RESULT_NAME, ResultError

    paths = find(files)
    if not paths:
        raise click.UsageError(f"no {RESULT_NAME} there")
    failed = False
    for path in paths:
        try:
            result = load(path)
            problems = tuple(clip_problems(Entry(result, path.parent)))
        except ResultError as error:
            problems = error.problems
        for problem in problems:
            click.echo(f"{printable(path)}: {problem}", err=True)
        failed = failed or bool(problems)
        if not problems:
            of = f"{result.system.name} on {result.data.name}, {len(result.items)} items"
            click.echo(f"{printable(path)}: ok ({of})")
    if failed:
        sys.exit(2)
