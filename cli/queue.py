"""`syllabary queue`: run a list of trainings, or print their progress."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .batch import clock_of

if TYPE_CHECKING:
    from ..training.queue import RunStatus


@click.command()
@click.argument("runs", metavar="LIST")
@click.option(
    "--at-a-time",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="Number of runs in parallel.",
)
@click.option("--idle", is_flag=True, help="Run at idle priority (Linux).")
@click.option("--status", is_flag=True, help="Print the progress of each run, and exit.")
def queue(runs: str, at_a_time: int, idle: bool, status: bool) -> None:
    """Run the trainings in LIST, one after another; the same command resumes them.

    A line of LIST has the arguments of `syllabary train`, such as

        rvq-16k steps=20000 --data corpus -o runs/long

    Lines may be added while it runs. A run that starts from another run of the list, or learns
    from it, waits for it. Ctrl-C or SIGTERM make the runs save and stop. Exit code 1: not all are
    done.
    """
    from ..training.queue import Queue, read_list, status_of

    path = Path(runs)
    if status:
        known = read_list(path)
        for run in known:
            click.echo(_line(run.output, run.steps, status_of(run, known)))
        return
    command = (sys.executable, "-m", "syllabary", "train")
    try:
        work = Queue(path, at_a_time, _print_line, command=command, idle=idle).work
    except OSError as error:
        raise click.UsageError(f"--idle: this system has no idle scheduling ({error})") from None
    sys.exit(0 if work() else 1)


def _print_line(text: str) -> None:
    click.echo(text, err=True)


def _line(output: Path, steps: int, status: "RunStatus") -> str:
    left = "" if status.seconds_left is None else f"  {clock_of(status.seconds_left)} left"
    if status.state == "done":
        left = ""
    scores = "".join(f"  {name} {value:.4g}" for name, value in status.scores.items())
    best = f"  best {status.best[0]:.4g} at {status.best[1]}" if status.best else ""
    return f"{output}  {status.state}  {status.step}/{steps}{left}{scores}{best}"
