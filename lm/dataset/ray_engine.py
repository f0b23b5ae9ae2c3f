"""The engine on a Ray cluster: a worker for each core, anywhere; the building process writes.

Workers send their pieces back and write nothing, so machines need no common disk for the data set:
only the sources have to have the same paths everywhere.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any

from ...errors import DatasetError, SyllabaryError
from .encoding import Piece, PieceEncoder, Recipe
from .engines import Engine, OpenEngine, Task, WorkerDiedError
from .plan import Planned


def ray_engine(workers: int | None = None, address: str | None = None) -> OpenEngine:
    """An engine on Ray.

    Args:
        workers: how many, with a core each; default: as many as the cluster has cores.
        address: of the cluster, such as ``auto`` or ``ray://host:10001``; default: Ray is started
            on this machine, and stopped afterwards.
    """
    return lambda recipe: RayWorkers(recipe, workers, address)


class RayWorkers(Engine):
    """Workers that are Ray actors of one core and one thread of computation.

    Raises:
        DatasetError: there is no `ray` package, or no cluster at the address.
    """

    def __init__(self, recipe: Recipe, workers: int | None, address: str | None) -> None:
        super().__init__(recipe)
        try:
            import ray
        except ImportError:
            raise DatasetError(
                "the engine ray needs its package: pip install 'syllabary[ray]'"
            ) from None
        self._ray = ray
        self._workers, self._address = workers, address
        self._actor: Any = None

    def run(self, tasks: Iterable[Task]) -> Iterator[tuple[int, Piece]]:
        own = not self._ray.is_initialized()
        self._start()
        try:
            yield from self._run(iter(tasks))
        finally:
            if own:
                self._ray.shutdown()

    def _start(self) -> None:
        ray = self._ray
        if not ray.is_initialized():
            try:
                ray.init(
                    address=self._address,
                    num_cpus=self._workers if self._address is None else None,
                    include_dashboard=False if self._address is None else None,
                    log_to_driver=False,
                    logging_level="error",
                )
            except Exception as error:  # Ray raises many kinds
                raise DatasetError(
                    f"no Ray cluster at {self._address or 'this machine'}: {error}"
                ) from None
        if self._workers is None:
            self._workers = max(1, int(ray.cluster_resources().get("CPU", 1)))
        devices = 1 if self.recipe.device.startswith("cuda") else 0
        self._actor = ray.remote(num_cpus=1, num_gpus=devices, max_restarts=0)(_Worker)

    def _run(self, coming: Iterator[Task]) -> Iterator[tuple[int, Piece]]:
        ray = self._ray
        assert self._workers is not None
        idle = [self._actor.remote(self.recipe) for _ in range(self._workers)]
        busy: dict[Any, tuple[Any, Task]] = {}
        while True:
            while idle and (task := next(coming, None)) is not None:
                worker = idle.pop()
                busy[worker.encode.remote(task[1])] = (worker, task)
            if not busy:
                break
            ready, _ = ray.wait(list(busy), num_returns=1)
            worker, (number, rows) = busy.pop(ready[0])
            try:
                piece = self._get(ready[0])
            except WorkerDiedError:
                with suppress(Exception):
                    ray.kill(worker)
                piece = self.rescue(rows)
                worker = self._actor.remote(self.recipe)
            idle.append(worker)
            yield number, piece
        for worker in idle:
            ray.kill(worker)

    def alone(self, rows: Sequence[Planned]) -> Piece:
        worker = self._actor.remote(self.recipe)
        try:
            return self._get(worker.encode.remote(rows))
        finally:
            with suppress(Exception):
                self._ray.kill(worker)

    def _get(self, reference: Any) -> Piece:
        from ray.exceptions import RayActorError, RayTaskError, WorkerCrashedError

        try:
            piece: Piece = self._ray.get(reference)
        except (RayActorError, WorkerCrashedError) as error:
            raise WorkerDiedError(str(error).splitlines()[0]) from None
        except RayTaskError as error:
            cause = error.cause
            if isinstance(cause, SyllabaryError):
                raise type(cause)(str(cause)) from None
            raise
        return piece


class _Worker:
    """What runs on the cluster."""

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        self._encoder: PieceEncoder | None = None

    def encode(self, rows: Sequence[Planned]) -> Piece:
        from ...cores import use_one_thread

        # Loaded here, so that what is wrong with it is an error of the task, with its message.
        if self._encoder is None:
            use_one_thread()
            self._encoder = PieceEncoder(self._recipe)
        return self._encoder.encode(rows)
