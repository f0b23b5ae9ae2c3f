"""Import a package's public names only on first access.

So `from syllabary.codecs import RVQCodec` works, while `import syllabary` loads no torch.
"""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy_exports(
    package: str, places: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return `__getattr__` and `__dir__` for a package.

    Args:
        package: its `__name__`.
        places: for each public name, the full name of its module and, if it has another name
            there, a colon and that name.
    """

    def get(name: str) -> Any:
        if name not in places:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module, _, attribute = places[name].partition(":")
        return getattr(import_module(module), attribute or name)

    return get, lambda: sorted(places)
