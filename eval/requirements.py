"""Packages that measurements need, and the error of a measurement that can't be made."""

import importlib
from types import ModuleType
from typing import Any

from ..errors import SyllabaryError


class MetricError(SyllabaryError):
    """A metric can't be computed; the message has the reason."""


class NotApplicableError(MetricError):
    """A measurement does not apply to the data, which lack what it is made of: not a failure."""


def package(name: str, extra: str = "eval") -> ModuleType:
    """Import a package (or a module of it) that only a measurement needs.

    Args:
        name: of the module.
        extra: of this distribution that installs it.

    Raises:
        MetricError: it, or one of its imports, is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        missing = error.name or name
        raise MetricError(f'no {missing} package; pip install "syllabary[{extra}]"') from None


def onnx_session(path: str) -> Any:
    """Load a network to run on one thread: workers would compete for the cores otherwise.

    Raises:
        MetricError: no `onnxruntime` package.
    """
    onnxruntime = package("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options)
