"""Parameters that get no gradient for a while."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from torch.nn import Parameter


@contextmanager
def held_still(parameters: Iterable[Parameter]) -> Iterator[None]:
    """Let what is computed inside give these parameters no gradient; it still passes through."""
    held = [parameter for parameter in parameters if parameter.requires_grad]
    for parameter in held:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in held:
            parameter.requires_grad_(True)
