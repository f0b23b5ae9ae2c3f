"""Rows of ids as one NumPy array a split: ``SPLIT_input_ids.memmap`` and its ``…_shape.npy``.

As Llasa trains: ``numpy.memmap(path, dtype="int32", mode="r", shape=tuple(numpy.load(shape)))``.
Rows are `context` ids, packed as by `reader`, in the order of the data set; the padding is the id
that fills patterns.
"""

import numpy as np

from ...errors import DatasetError, VocabularyError
from .job import Job

_ROWS = 256


def write(job: Job) -> None:
    """An array of each split; items without frames are left out.

    Raises:
        DatasetError: another dtype than int32, or packing by length, whose rows differ.
        VocabularyError: a pattern of several streams, or several codebooks without a vocabulary.
    """
    from ..dataset.stored import open_dataset
    from ..loading.opening import reader

    if job.dtype not in (None, "int32") or job.packing == "by-length":
        raise DatasetError("memmap has rows of int32 of one length: no other dtype, no by-length")
    job.check_vocabulary()
    for split, items in job.splits():
        for _ in job.with_frames(items):
            pass
        rows = reader(
            open_dataset(job.dataset.folder, split), job.pattern, job.vocabulary,
            context=job.context, packing=job.packing, batch=_ROWS, begin=job.begin, end=job.end,
            scheme=job.scheme, text=job.text, shuffle=False, epochs=1, rank=0, ranks=1,
            cache=job.folder / ".flat",
        )  # fmt: skip
        if rows.samples.streams > 1:
            raise VocabularyError(
                f"{job.pattern} has {rows.samples.streams} streams of ids; this format holds one: "
                "take a pattern of one stream, such as flatten"
            )
        shape = np.array([rows.num_samples, job.context])
        np.save(job.folder / f"{split}_input_ids_shape.npy", shape)
        with (job.folder / f"{split}_input_ids.memmap").open("wb") as file:
            for batch in rows:
                file.write(batch.ids.numpy().astype("<i4").tobytes())
    for path in (job.folder / ".flat").iterdir():
        path.unlink()
    (job.folder / ".flat").rmdir()
