"""Arrow files for `datasets.load_from_disk`: a folder for each split, with the columns of the
shards.

The schema's metadata have the tokenizer's name, spec and digest, as those of the Parquet shards.
"""

import json
from typing import Any

from .job import Job


def write(job: Job) -> None:
    """A `DatasetDict` of the splits, or a `Dataset` if one was chosen."""
    import pyarrow as pa

    dataset = job.dataset
    names = list(dict.fromkeys(shard.split for shard in dataset.shards))
    for name in names:
        numbers = [number for number, shard in enumerate(dataset.shards) if shard.split == name]
        folder = job.folder / name
        folder.mkdir()
        files = []
        for place, number in enumerate(numbers):
            file_name = f"data-{place:05}-of-{len(numbers):05}.arrow"
            files.append({"filename": file_name})
            with (
                pa.OSFile(str(folder / file_name), "wb") as file,
                pa.ipc.new_stream(file, dataset.schema) as out,
            ):
                for group in range(dataset.num_groups(number)):
                    out.write_table(dataset.group_table(number, group).cast(dataset.schema))
        _write_json(folder / "state.json", {
            "_data_files": files,
            "_fingerprint": dataset.digest[:16],
            "_format_columns": None,
            "_format_kwargs": {},
            "_format_type": None,
            "_output_all_columns": False,
            "_split": name,
        })  # fmt: skip
        spec = dataset.spec
        _write_json(folder / "dataset_info.json", {
            "citation": "",
            "description": f"Tokens of {spec.tokenizer} ({spec.digest}), data set {dataset.digest}",
            "homepage": "",
            "license": "",
        })  # fmt: skip
    _write_json(job.folder / "dataset_dict.json", {"splits": names})


def _write_json(path: Any, fields: dict[str, Any]) -> None:
    path.write_text(json.dumps(fields, indent=2), encoding="utf-8")
