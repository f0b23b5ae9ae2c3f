"""`train`: from a recipe and a folder to a trained tokenizer, in one or several sessions."""

import fcntl
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.distributed as dist

from ...codecs.registry import absent_device
from ...codecs.tokenizer_module import UNSTATED
from ...errors import TrainingError
from ...filesystem import printable, remove_leftovers, replacing
from ...quantizers.modules.distributed import from_first_rank
from .. import state as states
from ..recipe import Recipe
from ..recipe_file import RECIPE_FILE, as_json, write
from ..recipe_registry import find_task
from ..task import Batch
from .board import FOLDER as BOARD_FOLDER
from .board import Board
from .checkpoints import BEST, LAST, own_name, save_tokenizer
from .feed import Feed
from .journal import DONE, LOG_FILE, Journal
from .observer import Observer
from .ranks import Ranks, joined
from .step import NotFiniteError, Stepper
from .stopping import Stopping
from .validation import MEL, Metric, Validation, Validator, is_better

BAD_BATCH_FILE = "bad-batch.pt"
# Of a run. The state first: without it the others are not a run.
_FILES = (states.STATE_FILE, LOG_FILE, BAD_BATCH_FILE, RECIPE_FILE)


@dataclass(frozen=True)
class Outcome:
    """How a call of `train` ended.

    Attributes:
        step: total steps done.
        reason: "done", the time was up, or a signal was received.
        signal: its number, if one was received.
        best: score and step of `best/`, if there is one.
    """

    step: int
    reason: Literal["done", "time", "signal"]
    signal: int | None
    best: tuple[float, int] | None


def train(
    recipe: Recipe,
    output: str | Path,
    *,
    metrics: Mapping[str, Metric] | None = None,
    device: str | torch.device | None = None,
    time_budget: float | None = None,
    fresh: bool = False,
    cache: Path | None = None,
    observer: Observer | None = None,
) -> Outcome:
    """Train until the recipe's last step, the time limit, or a signal; resume an earlier run.

    A folder with a state is gone on with: on a CPU with the same number of threads, weights and
    log come out bit for bit as if nothing had happened, whatever ended the run before, `kill -9`
    included. Under `torchrun`, ranks share each batch out. Rank 0 alone writes::

        output/recipe.json       the recipe as it is used
        output/state.pt          what the run goes on from
        output/log.jsonl         losses by step, and validations
        output/best/, last/      tokenizers for `syllabary.load`, with averaged weights
        output/tensorboard/      where that package is installed
        output/bad-batch.pt      crops of a step with a loss or gradient that isn't finite

    Args:
        recipe: of a task that `recipes.find_task` knows.
        output: the folder; made where it doesn't exist.
        metrics: scores by name for validation, beside "mel".
        device: default: CUDA where there is one, else the CPU.
        time_budget: seconds from the call on; the run stops in time to save.
        fresh: delete what an earlier run left in the folder, once this one is ready to begin.
        cache: where decoded data sets are kept; default: `feed.default_cache()`.
        observer: gets progress callbacks, on rank 0.

    Raises:
        TrainingError: the folder has a run of another recipe or other data, or another process is
            at work in it; something isn't finite; the recipe asks for what isn't there, or
            starts from what `fresh` would delete.
    """
    began = time.perf_counter()
    metrics = dict(metrics or {})
    if recipe.validation.best_by not in {MEL, *metrics}:
        raise TrainingError(
            f"validation.best_by is {recipe.validation.best_by!r}, and what can be scored is "
            f"{', '.join([MEL, *metrics])}"
        )
    chosen = _device(device)
    output = Path(output)
    needed = states.field_inside(recipe, output) if fresh else None
    if needed is not None:
        raise TrainingError(
            f"{needed} is in {printable(output)}, which would be deleted; choose another output "
            "folder"
        )
    with joined(chosen) as ranks, _alone(output, ranks):
        if ranks.first:
            remove_leftovers(output / name for name in _FILES)
        _wait_for_first(ranks)
        run = _Run(recipe, output, metrics, ranks, cache, observer or Observer(), fresh)
        return run.go(Stopping(time_budget, began))


class _Run:
    """One call of `train`."""

    def __init__(
        self,
        recipe: Recipe,
        output: Path,
        metrics: Mapping[str, Metric],
        ranks: Ranks,
        cache: Path | None,
        observer: Observer,
        fresh: bool,
    ) -> None:
        self.recipe, self.output, self.ranks, self.observer = recipe, output, ranks, observer
        self.state_path = output / states.STATE_FILE
        # Before the data, which may take long to decode.
        exists = self.state_path.exists() and not fresh
        saved = states.load(self.state_path) if exists else None
        if saved is not None:
            states.check_same_recipe(self.state_path, saved["recipe"], recipe)
        progress = observer.preparing if ranks.first else None
        self.feed = Feed(recipe, ranks, cache, progress)
        torch.manual_seed(recipe.seed)
        self.task = find_task(recipe.task)(recipe).to(ranks.device)
        self.task.prepare(self.feed.training_set)
        self.stepper = Stepper(self.task, ranks)
        self.step = 0
        self.seconds = 0.0
        self.validated_at = -1
        self.best: tuple[float, int] | None = None
        #: Sum and count of each figure since the last line of the log.
        self.sums: dict[str, list[float]] = {}
        if saved is not None:
            self._take(saved)
        elif recipe.start_from:
            anew = self.stepper.start_from(states.beginning(Path(recipe.start_from)))
            if anew and ranks.first:
                observer.said(f"not in {recipe.start_from}, begins anew: {', '.join(anew)}")
        _check_same_step(self.step, ranks)
        self.stepper.share()
        self.saved_at, self.saved_when = self.step if saved else -1, time.perf_counter()
        self.save_seconds = self.validation_seconds = self.step_seconds = 0.0
        if ranks.first:
            judged = self.feed.validation()
            if fresh:
                _delete(output)
            write(recipe, output / RECIPE_FILE)
            self.journal = Journal(output / LOG_FILE, self.step)
            self.board = Board(output, self.step, recipe.data.sample_rate)
            if not self.board.is_there:
                observer.said('no TensorBoard: pip install "syllabary[train]"')
            self.validator = Validator(
                judged,
                recipe.data.sample_rate,
                metrics,
                recipe.validation.pictures if self.board.is_there else 0,
            )
            for note in (*self.feed.notes, *self.task.notes()):
                observer.said(note)
            for store in self.feed.stores:
                if store.failures:
                    first = store.failures[0]
                    observer.said(
                        f"{len(store.failures)} files can't be used; the first, {first.name}: "
                        f"{first.error}"
                    )
            train_set = self.feed.train
            size = sum(p.numel() for p in self.task.generator.parameters())
            observer.said(
                f"{train_set.hours:.2f} h of {len(train_set)} utterances, {size:,} parameters, "
                f"{ranks.size} rank{'s' if ranks.size > 1 else ''} on {ranks.device}"
            )

    def go(self, stopping: Stopping) -> Outcome:
        """Take the remaining steps, until a stop is requested."""
        if self.ranks.first:
            self.observer.started(self.recipe, self.step)
        try:
            return self._steps(stopping)
        finally:
            if self.ranks.first:
                self.journal.close()
                self.board.close()

    def _steps(self, stopping: Stopping) -> Outcome:
        stop = False
        with stopping, self.feed.batches(self.step) as batches:
            while True:
                if self.ranks.first and not stop and self._validation_is_due(self.step):
                    self._validate()
                if stop or self.step >= self.recipe.steps:
                    break
                stop = self._one_step(batches, stopping)
                if self.ranks.first:
                    self._log()
                    if self._save_is_due():
                        self._save()
        if self.ranks.first:
            if self.saved_at != self.step:
                self._save()
            if self.validated_at != self.step:
                save_tokenizer(self._tokenizer(), self.recipe, self.output / LAST)
        reason: Literal["done", "time", "signal"] = "done"
        if self.step < self.recipe.steps or stop:
            reason = "time" if stopping.signal is None else "signal"
        elif self.ranks.first:
            self.journal.write(DONE, self.step, seconds=round(self.seconds, 3))
        return Outcome(self.step, reason, stopping.signal, self.best)

    def _one_step(self, batches: Iterator[Batch], stopping: Stopping) -> bool:
        """Take a step; return whether to stop now."""
        start = time.perf_counter()
        ahead = 2 * self.step_seconds + self.save_seconds
        if self._validation_is_due(self.step + 1):
            ahead += self.validation_seconds
        try:
            figures, stop = self.stepper.take(next(batches), self.step, stopping.wanted(ahead))
        except NotFiniteError as error:
            raise TrainingError(self._keep_bad_batch(str(error))) from None
        self.step += 1
        self.step_seconds = time.perf_counter() - start
        self.seconds += self.step_seconds
        for name, value in figures.items():
            found = self.sums.setdefault(name, [0.0, 0])
            found[0] += value
            found[1] += 1
        if self.ranks.first:
            self.observer.stepped(self.step, figures)
        return stop

    def _log(self) -> None:
        if self.step % self.recipe.log_every:
            return
        means = {name: total / count for name, (total, count) in self.sums.items()}
        self.sums = {}
        self.journal.write("train", self.step, **means, seconds=round(self.seconds, 3))
        self.board.figures(self.step, means)

    # --- validation -------------------------------------------------------------------------------

    def _validation_is_due(self, step: int) -> bool:
        every = self.recipe.validation.every
        regular = every > 0 and step > 0 and step % every == 0
        due = regular or step == self.recipe.steps
        return step != self.validated_at and due and self.task.is_whole(step)

    def _tokenizer(self) -> Any:
        made = self.task.tokenizer(self.stepper.average.module).to(self.ranks.device).eval()
        made.name = own_name(made, self.recipe, self.output)
        made.license = self.recipe.license or UNSTATED
        made.caution = self.task.caution(self.step)
        return made

    def _validate(self) -> None:
        # First, so that an error here does not cost training time.
        if self.saved_at != self.step:
            self._save()
        start = time.perf_counter()
        tokenizer = self._tokenizer()
        result = self.validator(tokenizer, self.step)
        score = result.means.get(self.recipe.validation.best_by)
        best = score is not None and is_better(
            self.recipe.validation.best_by, score, self.best[0] if self.best else None
        )
        if best and score is not None:
            self.best = (score, self.step)
            save_tokenizer(tokenizer, self.recipe, self.output / BEST)
        save_tokenizer(tokenizer, self.recipe, self.output / LAST)
        self.validated_at = self.step
        self._report(result, best)
        self._save()
        self.validation_seconds = time.perf_counter() - start

    def _report(self, result: Validation, best: bool) -> None:
        self.journal.write(
            "validation",
            self.step,
            scores=result.means,
            counts=result.counts,
            utterances=result.utterances,
            missing=result.missing,
            best=best,
            seconds=round(result.seconds, 3),
        )
        self.board.validation(result)
        self.observer.validated(result, best)

    # --- the state --------------------------------------------------------------------------------

    def _save_is_due(self) -> bool:
        by_steps = self.recipe.save_every > 0 and self.step % self.recipe.save_every == 0
        waited = time.perf_counter() - self.saved_when
        return by_steps or 0 < self.recipe.save_minutes * 60 <= waited

    def _save(self) -> None:
        start = time.perf_counter()
        self.journal.sync()
        content = {
            "recipe": as_json(self.recipe),
            "data": self._digests(),
            "step": self.step,
            "seconds": self.seconds,
            "sums": self.sums,
            "validated_at": self.validated_at,
            "best": list(self.best) if self.best else None,
            **self.stepper.state(),
        }
        states.save(self.state_path, content)
        self.saved_at, self.saved_when = self.step, time.perf_counter()
        self.save_seconds = self.saved_when - start

    def _digests(self) -> dict[str, str]:
        """Return digests of all inputs that must be unchanged when the run is resumed."""
        return self.feed.digests() | self.task.digests()

    def _take(self, saved: Mapping[str, Any]) -> None:
        data, here = saved["data"], self._digests()
        if data != here:
            names = sorted(data | here)
            changed = ", ".join(name for name in names if data.get(name) != here.get(name))
            raise TrainingError(
                f"{printable(self.state_path)}: the run was on other data ({changed} "
                "differ); give it the data that it had, or choose another output folder"
            )
        self.stepper.load_state(saved)
        self.step, self.seconds = saved["step"], saved["seconds"]
        self.sums = {name: list(found) for name, found in saved["sums"].items()}
        self.validated_at = saved["validated_at"]
        self.best = tuple(saved["best"]) if saved["best"] else None

    def _keep_bad_batch(self, reason: str) -> str:
        """Save the rows of all ranks of this step, and return the path in a message."""
        # Written by the rank that found it, as it may be the only one; others would write the same.
        path = self.output / BAD_BATCH_FILE
        batch = self.feed.joined_batch(self.step)
        content = {
            "reason": reason,
            "step": self.step,
            "names": list(batch.names),
            "starts": list(batch.starts),
            "lengths": batch.lengths,
            "inputs": batch.inputs,
            "targets": batch.targets,
        }
        with replacing(path) as temporary:
            torch.save(content, temporary)
        saved = self.saved_at
        kept = f"the last state is of step {saved}" if saved >= 0 else "no state yet"
        return (
            f"step {self.step}: {reason}; training stopped. The batch is in {printable(path)} "
            f"({kept})"
        )


@contextmanager
def _alone(output: Path, ranks: Ranks) -> Iterator[None]:
    """Refuse to run if another process trains here; the system releases the lock of a dead one."""
    if not ranks.first:
        yield
        return
    output.mkdir(parents=True, exist_ok=True)
    with (output / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TrainingError(f"{printable(output)}: another process trains here") from None
        yield


def _device(name: str | torch.device | None) -> torch.device:
    """Return the device of a name; default: CUDA where there is one, else the CPU."""
    any_cuda = torch.cuda.is_available()
    try:
        chosen = torch.device(name or ("cuda" if any_cuda else "cpu"))
        if chosen != torch.device("cuda") or not any_cuda:  # there each rank has its own
            torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:  # torch raises these for an absent device
        raise TrainingError(absent_device(name, error)) from None
    return chosen


def _delete(output: Path) -> None:
    """Delete a run."""
    for name in _FILES:
        (output / name).unlink(missing_ok=True)
    for name in (BEST, LAST, BOARD_FOLDER):
        shutil.rmtree(output / name, ignore_errors=True)


def _wait_for_first(ranks: Ranks) -> None:
    if ranks.size > 1:
        dist.barrier()


def _check_same_step(step: int, ranks: Ranks) -> None:
    first = int(from_first_rank(torch.tensor(float(step), device=ranks.device)))
    if step != first:
        raise TrainingError(
            f"rank {ranks.rank} found a state of step {step} and the first one of step {first}; "
            "all ranks must see the same output folder"
        )
