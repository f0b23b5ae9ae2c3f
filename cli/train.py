"""`syllabary train`: run a recipe."""

import importlib.util
import json
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import TrainingError
from . import options
from .batch import clock_of

if TYPE_CHECKING:
    from ..training.loop.observer import Observer

_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}
_SHOWN = 4


class Duration(click.ParamType):
    name = "TIME"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        if isinstance(value, float):
            return value
        parts = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", str(value).strip())
        if parts is None:
            self.fail(f"expected a time such as 90s, 9m or 1.5h, got {value!r}", param, ctx)
        return float(parts[1]) * _UNITS[parts[2]]


@click.command()
@click.argument("recipe", required=False)
@click.argument("overrides", nargs=-1, metavar="[FIELD=VALUE]...")
@options.output("Folder of the run; default: runs/NAME, with the recipe's name.")
@click.option("--recipe", "recipe_option", metavar="RECIPE", help="The same as the first argument.")
@click.option("--device", metavar="NAME", help="cpu, cuda, cuda:1, …; default: cuda if there.")
@click.option(
    "--time-budget",
    type=Duration(),
    metavar="TIME",
    help="Save and stop within this time, such as 90s, 9m or 1.5h; the same command resumes.",
)
@click.option("--fresh", is_flag=True, help="Delete the run in the output folder.")
@click.option("--cache", metavar="FOLDER", help="Folder of decoded data sets.")
@click.option(
    "--data",
    metavar="PATH",
    help="Speech: a manifest, or any folder of audio; the same as data.manifest=PATH.",
)
@click.option(
    "--from",
    "start",
    metavar="CODEC",
    help="Fine-tune a bundled codec, a run or a saved one; RECIPE is that which made it.",
)
@click.option("--list", "list_recipes", is_flag=True, help="Print the bundled recipes.")
@click.option("--show", is_flag=True, help="Print the recipe with its overrides, as JSON.")
def train(
    recipe: str | None,
    overrides: tuple[str, ...],
    output: str | None,
    recipe_option: str | None,
    device: str | None,
    time_budget: float | None,
    fresh: bool,
    cache: str | None,
    data: str | None,
    start: str | None,
    list_recipes: bool,
    show: bool,
) -> None:
    """Train a tokenizer by a RECIPE: the name of a bundled one, or a .json file.

    FIELD=VALUE changes the recipe: optimizer.lr=2e-4 batch_size=16

    Speech without splits is divided by speakers, 10 % for validation. `--from rvq-16k --data
    my-folder` trains the bundled rvq-16k on.

    If the output folder has a run of the same recipe, it is resumed, exactly as if it had never
    stopped. Under torchrun, several processes share each batch. Exit codes are as for all commands,
    and 128 + the signal's number if one ended the run; its state is saved then, too.
    """
    from ..training.recipe_registry import DESCRIPTIONS, RECIPES, as_json

    if list_recipes:
        width = max(map(len, RECIPES))
        for name in RECIPES:
            click.echo(f"{name:<{width}}  {DESCRIPTIONS.get(name, '')}".rstrip())
        return
    from ..training.arguments import requested_recipe, usual_folder

    words = (*(() if recipe is None else (recipe,)), *overrides)
    chosen = requested_recipe(words, recipe_option, start, data)
    if show:
        click.echo(json.dumps(as_json(chosen), indent=2))
        return
    from ..training.loop import train as run

    folder = Path(output) if output else usual_folder(chosen, start)
    outcome = run(
        chosen,
        folder,
        metrics=_metrics(chosen.validation.best_by),
        device=device,
        time_budget=time_budget,
        fresh=fresh,
        cache=Path(cache) if cache else None,
        observer=_observer(),
    )
    best = ""
    if outcome.best is not None:
        score, step = outcome.best
        best = f"; best {chosen.validation.best_by} {score:.4g} at step {step}"
    if outcome.reason == "done":
        click.echo(f"done: {outcome.step} steps in {folder}{best}")
        return
    why = "time is up" if outcome.reason == "time" else signal.Signals(outcome.signal or 0).name
    click.echo(f"{why}: stopped at step {outcome.step} of {chosen.steps}{best}; again goes on")
    if outcome.signal is not None:
        sys.exit(128 + outcome.signal)


def _metrics(wanted: str) -> dict[str, Callable[..., float]]:
    """Return the validation scores whose packages are installed.

    Raises:
        TrainingError: the recipe selects the best checkpoint by a score that isn't.
    """
    from ..eval.metrics.catalogue import find
    from ..eval.metrics.interface import Clip
    from ..eval.metrics.scoring import value

    def scorer(name: str) -> Callable[..., float]:
        compute = find(name).compute
        return lambda reference, estimate, rate: value(compute(Clip(reference, estimate, rate)))

    known = {"PESQ-wb": ("pesq", scorer("pesq-wb")), "STOI": ("pystoi", scorer("stoi"))}
    if wanted in known and importlib.util.find_spec(known[wanted][0]) is None:
        raise TrainingError(
            f"validation.best_by is {wanted}, which needs the package {known[wanted][0]}: "
            'pip install "syllabary[eval]", or set validation.best_by=mel'
        )
    return {
        name: metric
        for name, (package, metric) in known.items()
        if importlib.util.find_spec(package) is not None
    }


def _observer() -> "Observer":
    """Report progress by a line that is updated on a terminal, and by a line now and then
    elsewhere.
    """
    from ..training.loop.observer import Observer

    class Progress(Observer):
        live = sys.stderr.isatty()

        def preparing(self, files: int, total: int) -> None:
            if self.live:
                self._line(f"decoding {files} of {total} files")

        def started(self, recipe: Any, step: int) -> None:
            self.recipe, self.first = recipe, step
            self.began = self.shown = time.perf_counter()
            self.pause = 0.0
            if step:
                self.said(f"going on from step {step}")

        def stepped(self, step: int, figures: Mapping[str, float]) -> None:
            now = time.perf_counter()
            if now - self.shown < (0.2 if self.live else 30.0):
                return
            self.shown = now
            speed = (step - self.first) / max(now - self.began - self.pause, 1e-9)
            left = (self.recipe.steps - step) / speed
            line = (
                f"step {step}/{self.recipe.steps}  {speed:.3g} steps/s  {clock_of(left)} left  "
                f"{_figures(figures)}"
            )
            if self.live:
                self._line(line)
            else:
                click.echo(line, err=True)

        def validated(self, result: Any, best: bool) -> None:
            self.pause += result.seconds
            scores = "  ".join(
                f"{name} {mean:.4g} ({result.counts[name]}/{result.utterances})"
                for name, mean in result.means.items()
            )
            self.said(f"step {result.step}: {scores}{'  best so far' if best else ''}")
            for name, reason in result.missing.items():
                lacking = result.utterances - result.counts[name]
                self.said(f"  {name} is missing for {lacking} of {result.utterances}: {reason}")

        def said(self, message: str) -> None:
            if self.live:
                self._line("")
            click.echo(message, err=True)

        def _line(self, text: str) -> None:
            width = shutil.get_terminal_size().columns
            sys.stderr.write("\r\x1b[2K" + text[: width - 1])
            sys.stderr.flush()

    return Progress()


def _figures(figures: Mapping[str, float]) -> str:
    chosen = [name for name in figures if "/" not in name and name not in ("lr", "gradient_norm")]
    shown = ["total", *(name for name in chosen if name != "total")][: 1 + _SHOWN]
    return "  ".join(f"{name} {figures[name]:.3g}" for name in shown if name in figures)
