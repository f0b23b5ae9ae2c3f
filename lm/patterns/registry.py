"""Patterns by name, and to JSON and back."""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from ...errors import PatternError
from ...typed_fields import from_json
from .coarse_first import CoarseFirst
from .delay import Delay
from .depth import Depth
from .espnet import ESPnet
from .flatten import Flatten
from .moshi import Moshi
from .musiclm import MusicLM
from .parallel import Parallel
from .pattern import Pattern
from .several_rates import SNAC, StepAudio
from .vall_e import VallE

PATTERNS: dict[str, type[Pattern]] = {
    kind.name: kind
    for kind in (
        Parallel,
        Delay,
        Flatten,
        CoarseFirst,
        MusicLM,
        VallE,
        Depth,
        Moshi,
        SNAC,
        StepAudio,
        ESPnet,
    )
}


def pattern(name: str, sizes: Sequence[int], **settings: Any) -> Pattern:
    """A pattern by its name.

    Args:
        name: one of `PATTERNS`.
        sizes: of the codebooks, such as ``tokenizer.spec.tokens.codebook_sizes[:4]``.
        settings: what the pattern takes, such as ``delays``.

    Raises:
        PatternError: no such pattern, or settings that don't agree.
        ConfigError: a setting that the pattern doesn't have, or of another type.
    """
    return pattern_from_json({"pattern": name, "sizes": list(sizes), **settings})


def pattern_from_json(data: Mapping[str, Any]) -> Pattern:
    """What `Pattern.to_json` gave.

    Raises:
        PatternError, ConfigError: it is no such thing.
    """
    if not isinstance(data, Mapping) or "pattern" not in data:
        raise PatternError(f"expected a pattern's fields with its name, got {data!r}")
    name = data["pattern"]
    if name not in PATTERNS:
        near = difflib.get_close_matches(str(name), PATTERNS, 1, 0.5)
        hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(PATTERNS)}"
        raise PatternError(f"no pattern {name!r}; {hint}")
    return from_json(PATTERNS[name], {k: v for k, v in data.items() if k != "pattern"})
