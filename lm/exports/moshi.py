"""What moshi-finetune reads beside stereo audio: ``SPLIT.jsonl``, and each file's words as JSON.

A line has `path` and `duration` in seconds. Beside the audio file it expects one of the same name
that ends in ``.json``, with ``alignments``: ``[word, [start, end], speaker]`` of the words that the
model says, which is the left channel. Here these have the relative paths of the sources; they
belong in the audio's folder.
"""

import json
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from ...errors import DatasetError
from .job import Job

if TYPE_CHECKING:
    from ..dataset.items import Item

#: Of the words that the model says.
SPEAKER = "SPEAKER_MAIN"


def write(job: Job) -> None:
    """A manifest of each split, and the words of each item.

    Raises:
        DatasetError: an item without an alignment, without a source, or of a part of a file.
    """
    rate, taken = job.dataset.spec.sample_rate, set()
    for split, items in job.splits():
        with (job.folder / f"{split}.jsonl").open("w", encoding="utf-8") as file:
            for item in _checked(items):
                fields = {"path": item.source, "duration": item.num_samples / rate}
                file.write(json.dumps(fields, ensure_ascii=False) + "\n")
                place = PurePosixPath(item.source).with_suffix(".json")
                if place.is_absolute() or ".." in place.parts or place in taken:
                    raise DatasetError(
                        f"{item.id}: no file of words can be written for the source "
                        f"{item.source!r}: it must be a relative path, and the only one of its name"
                    )
                taken.add(place)
                path = job.folder / place
                path.parent.mkdir(parents=True, exist_ok=True)
                words = [[w.word, [w.start, w.end], SPEAKER] for w in item.alignment or ()]
                path.write_text(
                    json.dumps({"alignments": words}, ensure_ascii=False), encoding="utf-8"
                )


def _checked(items: "Iterator[Item]") -> "Iterator[Item]":
    for item in items:
        if item.alignment is None:
            raise DatasetError(
                f"{item.id} has no times of words, which moshi-finetune needs: build the data set "
                "with an alignment"
            )
        if not item.source or item.source_start is not None:
            raise DatasetError(
                f"{item.id} is no whole audio file, and moshi-finetune reads whole files: cut the "
                "audio into files first"
            )
        yield item
