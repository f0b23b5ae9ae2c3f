"""Systems by name."""

import difflib
import re
from collections.abc import Callable
from pathlib import Path

from ...catalogue import Catalogue, expand
from ...codecs.registry import PRESETS, SHIPPED, list_tokenizers, load
from ...errors import SyllabaryError, UnknownTokenizerError
from .interface import MissingSystemError, System

#: Other packages add systems with entry points of this group: the entry's name is the system's,
#: and its object, called with no arguments, gives a `System`.
ENTRY_POINT_GROUP = "syllabary.systems"

#: Codecs of others. Further settings have the same patterns: opus-7, opus-6-hard-cbr, codec2-2400.
PEERS = (
    *("opus-6", "opus-9", "opus-12"),
    *("codec2-3200", "codec2-1300", "codec2-700C"),
    *("lyra-v2-3.2", "lyra-v2-6", "lyra-v2-9.2"),
)
_REFERENCES = {
    "original": "syllabary.eval.systems.references:Original",
    "original-8k": "syllabary.eval.systems.references:Narrow",
    "noise": "syllabary.eval.systems.references:Noise",
}
REFERENCES = tuple(_REFERENCES)

#: Constructors of the references, and of the systems of other packages.
SYSTEMS: Catalogue[Callable[[], System]] = Catalogue(
    "system", ENTRY_POINT_GROUP, _REFERENCES, broken=MissingSystemError
)

#: Names of groups of systems.
GROUPS = ("all", "trained", "presets", "peers", "references")


def names(text: str) -> list[str]:
    """Expand a comma-separated list of names, each once, in its order.

    Args:
        text: names as for `find`, and groups of `GROUPS`: ``all`` is every registered
            tokenizer except the presets, those with residual codebooks also with a half and a
                quarter
            of them, the systems of other packages, `PEERS` and `REFERENCES`; ``trained``, the
            bundled tokenizers with weights; ``presets``, those without, which are
            variants of one. Peers that are not installed are included.

    Raises:
        SyllabaryError: the list is empty.
    """
    found = expand(
        text,
        {
            "all": _everything,
            "trained": lambda: SHIPPED,
            "presets": lambda: PRESETS,
            "peers": lambda: PEERS,
            "references": lambda: REFERENCES,
        },
    )
    if not found:
        raise SyllabaryError(
            f"no system in {text!r}; there are {', '.join(GROUPS)}, or their names"
        )
    return list(found)


def _everything() -> list[str]:
    tokenizers = [name for name in list_tokenizers() if name not in PRESETS]
    others = [name for name in SYSTEMS.names() if name not in REFERENCES]
    settings = [setting for name in tokenizers for setting in _with_fewer(name)]
    return [*settings, *others, *PEERS, *REFERENCES]


def find(name: str) -> System:
    """Load a system.

    Args:
        name: a peer or reference, a system of another package, a JSON file for `External`,
            or a tokenizer: `NAME` or `NAME:CODEBOOKS`, where NAME may be a directory.

    Raises:
        MissingSystemError: it is not installed; the error says how to install it.
        UnknownTokenizerError: no system has that name.
        SyllabaryError: it can't be loaded, or has fewer codebooks.
    """
    peer = _peer(name)
    if peer is not None:
        return peer()
    if name in SYSTEMS:
        maker = SYSTEMS.find(name)
        try:
            return maker()
        except Exception as error:  # whatever another package's raises
            raise MissingSystemError(f"system {name}: {error}") from error
    if name.endswith(".json") and not Path(name).is_dir():
        from .external import External

        return External(name)
    from .tokenizers import TokenizerSystem

    try:
        return TokenizerSystem(name)
    except UnknownTokenizerError as error:
        near = difflib.get_close_matches(name, [*PEERS, *REFERENCES, *GROUPS], n=2, cutoff=0.6)
        if near:
            raise UnknownTokenizerError(f"{error} Or {' or '.join(near)}?") from None
        raise


def _peer(name: str) -> Callable[[], System] | None:
    """Return the constructor of another codec; None for other names."""
    if match := re.fullmatch(r"opus-(\d+(?:\.\d+)?)(-hard-cbr)?", name):
        from .opus import Opus

        kbps, constant = match.groups()
        return lambda: Opus(kbps, "hard-cbr" if constant else "vbr")
    if match := re.fullmatch(r"codec2-(\w+)", name):
        from .codec2 import Codec2

        mode = match[1]
        return (lambda: Codec2(mode)) if mode in Codec2.FRAMES else None
    if match := re.fullmatch(r"lyra-v2-([\d.]+)", name):
        from .lyra import Lyra

        rate = match[1]
        return (lambda: Lyra(rate)) if rate in Lyra.NUM_QUANTIZERS else None
    return None


def _with_fewer(name: str) -> list[str]:
    """Return a tokenizer's name, with those for a half and a quarter of residual codebooks."""
    try:
        spec = load(name).spec
    except SyllabaryError:
        return [name]  # the error is raised when it is loaded
    most, least = spec.tokens.num_codebooks, spec.min_codebooks
    fewer = {count for count in (most // 2, most // 4) if least <= count < most}
    return [name, *(f"{name}:{count}" for count in sorted(fewer, reverse=True))]
