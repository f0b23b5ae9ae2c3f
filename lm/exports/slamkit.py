"""slamkit's JSON lines: ``SPLIT.jsonl``, an object with `units`, `duration` and `file_name` a
line."""

import json

from ...errors import DatasetError
from .job import Job


def write(job: Job) -> None:
    """A file of each split. `duration` has the frames of each unit: those of merged units, or 1.

    Raises:
        DatasetError: several codebooks, which such files have no place for.
    """
    if job.dataset.num_codebooks > 1:
        raise DatasetError(
            f"{job.dataset.folder} has {job.dataset.num_codebooks} codebooks; slamkit's files have "
            "one: build the data set with --codebooks 1, or export ids (megatron, memmap)"
        )
    for split, items in job.splits():
        with (job.folder / f"{split}.jsonl").open("w", encoding="utf-8") as file:
            for item in items:
                lasting = [1] * item.frames if item.durations is None else item.durations.tolist()
                fields = {"file_name": item.source or item.id, "units": item.codes[0].tolist()}
                file.write(json.dumps(fields | {"duration": lasting}, ensure_ascii=False) + "\n")
