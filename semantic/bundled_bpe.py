"""Load BPE vocabularies by name, and name their tokens. No torch here."""

import re
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import BPEError

if TYPE_CHECKING:
    from ..bpe import UnitBPE

#: Folder of the trained vocabularies in the package.
BUNDLED = Path(__file__).parent.parent / "assets" / "bpe"


def list_bpes() -> list[str]:
    """List the names of the vocabularies in the package."""
    if not BUNDLED.is_dir():
        return []
    return sorted(path.name for path in BUNDLED.iterdir() if (path / "bpe.json").exists())


@lru_cache(maxsize=8)
def bundled_bpe(name: str) -> "UnitBPE":
    """Load a vocabulary of the package.

    Raises:
        BPEError: none has that name.
    """
    from ..bpe import UnitBPE

    if name not in list_bpes():
        raise BPEError(f"no byte-pair encoding {name!r} inside the package: {_there()}")
    return UnitBPE.load(BUNDLED / name)


def load_bpe(name: str | Path) -> "UnitBPE":
    """Load a vocabulary by its bundled name, or from its folder or file.

    Raises:
        BPEError: there is none, or it is damaged.
    """
    from ..bpe import UnitBPE

    if str(name) in list_bpes():
        return bundled_bpe(str(name))
    if not Path(name).exists():
        raise BPEError(
            f"{name}: no such folder or file, and no byte-pair encoding inside the package: "
            f"{_there()}"
        )
    return UnitBPE.load(name)


def _there() -> str:
    return f"there are {', '.join(list_bpes())}" if list_bpes() else "there are none"


def piece_name(tokenizer: str, bpe: str) -> str:
    """Return the tokenizer name in the spec of a tokenizer's BPE pieces."""
    return f"{tokenizer}+{bpe}"


def split_name(tokenizer: str) -> tuple[str, str] | None:
    """Split a name from `piece_name` into the tokenizer's and the BPE's; None for other names."""
    found = re.fullmatch(r"(.+)\+([A-Za-z0-9][A-Za-z0-9._-]*)", tokenizer, re.DOTALL)
    return None if found is None else (found[1], found[2])
