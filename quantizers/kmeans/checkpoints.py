"""Checkpoints of a fit, from which it continues with bit-identical results."""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ...errors import QuantizerError
from ...filesystem import printable, replacing
from .config import KMeansConfig
from .fitting import FitState
from .processes import Processes
from .survey import Survey

_FORMAT = "syllabary.kmeans.checkpoint.1"


def save_checkpoint(
    path: Path, state: FitState, fit: Mapping[str, Any], processes: Processes
) -> None:
    """Replace the checkpoint by the state of all processes; rank 0 writes it.

    Raises:
        QuantizerError: the file can't be written.
    """
    sums = processes.summed(state.totals.sums)
    counts = processes.summed(state.totals.counts)
    squares = processes.summed(state.squares)
    moved = sum(processes.gathered(state.moved))
    codes = np.concatenate(processes.gathered(state.codes.cpu().numpy()))
    error: QuantizerError | None = None
    if processes.rank == 0:
        tensors = {
            "centroids": state.centroids,
            "codes": torch.from_numpy(codes),
            "sums": sums,
            "counts": counts,
            "prior_sums": state.prior.sums,
            "prior_counts": state.prior.counts,
            "squares": squares,
        }
        progress = {
            "batches": state.batches,
            "moved": moved,
            "inertias": state.inertias,
            "moves": state.moves,
            "finished": state.finished,
        }
        metadata = {
            "format": _FORMAT,
            "fit": json.dumps(fit),
            "progress": json.dumps(progress),
        }
        try:
            with replacing(path) as temporary:
                save_file(
                    {k: v.cpu().contiguous() for k, v in tensors.items()}, temporary, metadata
                )
        except (OSError, SafetensorError) as caught:
            error = QuantizerError(f"{printable(path)} can't be written: {caught}")
    processes.raise_together(error)


def load_checkpoint(
    path: Path, state: FitState, fit: Mapping[str, Any], processes: Processes
) -> bool:
    """Load the checkpoint of a fit (`fit_of`) into a new state, if rank 0 finds one.

    Returns:
        Whether there was one.

    Raises:
        QuantizerError: the file is damaged, or has other settings, features, initial centroids or
            processes.
    """
    found = processes.gathered(path.exists())[0]
    if not found:
        return False
    error: QuantizerError | None = None
    progress: dict[str, Any] = {}
    if processes.rank == 0:
        try:
            progress = _load(path, state, fit)
        except QuantizerError as caught:
            error = caught
    processes.raise_together(error)
    progress = processes.gathered(progress)[0]
    codes = processes.gathered(progress.pop("codes", None))[0]
    rows = fit["rows_of_rank"]
    first = sum(rows[: processes.rank])
    own = codes[first : first + rows[processes.rank]]
    state.codes.copy_(torch.from_numpy(own))
    for values in (state.centroids, state.prior.sums, state.prior.counts):
        processes.first(values)
    if processes.rank:
        progress["moved"] = 0
    for name, value in progress.items():
        setattr(state, name, value)
    return True


def fit_of(config: KMeansConfig, survey: Survey, start: torch.Tensor | None) -> dict[str, Any]:
    """Return the properties that a checkpoint and the continued fit must share."""
    features = hashlib.sha256(survey.largest.numpy().tobytes())
    features.update(survey.sample.numpy().tobytes())
    fit = {
        "config": config.to_dict(),
        "rows_of_rank": survey.rows_of_rank,
        "dim": survey.largest.shape[0],
        "features": features.hexdigest(),
    }
    if start is not None:
        fit["start"] = hashlib.sha256(start.cpu().numpy().tobytes()).hexdigest()
    return fit


def _load(path: Path, state: FitState, expected: Mapping[str, Any]) -> dict[str, Any]:
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != _FORMAT:
                raise QuantizerError(f"{printable(path)} is no checkpoint of k-means")
            fit, progress = json.loads(metadata["fit"]), json.loads(metadata["progress"])
            _check_same(path, fit, expected)
            get: Callable[[str], torch.Tensor] = file.get_tensor
            for target, name in (
                (state.centroids, "centroids"),
                (state.totals.sums, "sums"),
                (state.totals.counts, "counts"),
                (state.prior.sums, "prior_sums"),
                (state.prior.counts, "prior_counts"),
                (state.squares, "squares"),
            ):
                target.copy_(get(name))
            return {**progress, "codes": get("codes").numpy()}
    except QuantizerError:
        raise
    except (OSError, SafetensorError, LookupError, TypeError, RuntimeError, ValueError) as error:
        raise QuantizerError(f"{printable(path)} is damaged: {error}") from error


def _check_same(path: Path, fit: dict[str, Any], expected: Mapping[str, Any]) -> None:
    if fit == expected:
        return
    for name, value in expected["config"].items():
        if fit["config"].get(name) != value:
            raise QuantizerError(
                f"{printable(path)} is of a fit with {name} {fit['config'].get(name)!r}, "
                f"not {value!r}; give the same settings, or delete it"
            )
    if fit["rows_of_rank"] != expected["rows_of_rank"]:
        raise QuantizerError(
            f"{printable(path)} is of a fit of {fit['rows_of_rank']} rows a process, "
            f"not {expected['rows_of_rank']}"
        )
    what = "initial centroids" if fit.get("start") != expected.get("start") else "features"
    raise QuantizerError(f"{printable(path)} is of a fit of other {what}; delete it")
