"""Packages whose public names are imported when they are first asked for.

So `from syllabary.codecs import RVQCodec` works, and `import syllabary` loads no torch.
"""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy_exports(
    package: str, places: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The `__getattr__` and `__dir__` of a package.

    Args:
        package: its `__name__`.
        places: where each public name is: a module's full name and, after a colon, what it is
            called there, if not the same.
    """

    def get(name: str) -> Any:
        if name not in places:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module, _, attribute = places[name].partition(":")
        return getattr(import_module(module), attribute or name)

    return get, lambda: sorted(places)
