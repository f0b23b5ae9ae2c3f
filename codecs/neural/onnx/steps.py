"""Run the graphs of `onnx.export` as a stream, with ONNX Runtime and NumPy only."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from ....errors import CheckpointError, ExportError
from .export import DESCRIPTION_FILE, FORMAT, FORMAT_VERSION


class OnnxSteps:
    """One of the two graphs, and the state of one stream.

    Args:
        directory: written by `export_onnx`.
        part: "encoder" or "decoder".
        threads: of ONNX Runtime, per operation.

    Raises:
        CheckpointError: the directory's `onnx.json` is missing or not from this package.
        ExportError: the package onnxruntime is missing.
    """

    def __init__(self, directory: Path, part: str, threads: int = 1) -> None:
        self.description = read_description(directory)
        self.part = self.description[part]
        try:
            import onnxruntime
        except ImportError:
            raise ExportError(
                "onnxruntime not installed; try: pip install 'syllabary[onnx]'"
            ) from None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(
            directory / self.part["file"], options, providers=["CPUExecutionProvider"]
        )
        self.reset()

    def reset(self) -> None:
        """Reset the state, for a new stream."""
        self.state = {
            tensor["name"]: np.full(tensor["shape"], tensor["start"], tensor["dtype"])
            for tensor in self.part["state"]
        }

    def __call__(self, frames: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Process the next frames (frames, window or codebooks).

        Returns:
            Codes (frames, codebooks) int64, or samples (frames × hop,) float32.
        """
        wanted = self.part["input"]
        first = frames[None].astype(wanted["dtype"], copy=False)
        names = [self.part["output"], *(tensor["output"] for tensor in self.part["state"])]
        result, *after = self.session.run(names, {wanted["name"]: first, **self.state})
        self.state = dict(zip(self.state, after, strict=True))
        whole: np.ndarray[Any, Any] = result[0]
        return whole


def read_description(directory: Path) -> dict[str, Any]:
    """Read and check `onnx.json`.

    Raises:
        CheckpointError: it is missing or not from this package.
    """
    path = directory / DESCRIPTION_FILE
    try:
        description: dict[str, Any] = json.loads(path.read_text())
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise CheckpointError(f"{path}: not JSON: {error}") from None
    version = description.get("format_version") if isinstance(description, dict) else None
    if version != FORMAT_VERSION or description.get("format") != FORMAT:
        raise CheckpointError(
            f"{path}: not a codec exported by syllabary, version {FORMAT_VERSION}"
        )
    return description
