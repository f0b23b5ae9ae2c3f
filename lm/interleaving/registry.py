"""Schemes by name, and to JSON and back."""

from collections.abc import Mapping
from typing import Any

from ...errors import InterleavingError
from ...typed_fields import from_json
from .dialogue import Dialogue
from .fixed_ratio import CosyVoice, FixedRatio
from .monologue import InnerMonologue
from .turns import SpeechThenText, TextThenSpeech
from .words import WordAligned

SCHEMES: dict[str, Any] = {
    kind.name: kind
    for kind in (
        TextThenSpeech,
        SpeechThenText,
        FixedRatio,
        CosyVoice,
        WordAligned,
        InnerMonologue,
        Dialogue,
    )
}


def scheme_from_json(data: Mapping[str, Any]) -> Any:
    """What a scheme's `to_json` gave.

    Raises:
        InterleavingError, ConfigError: it is no such thing.
    """
    if not isinstance(data, Mapping) or data.get("scheme") not in SCHEMES:
        raise InterleavingError(f"expected a scheme, one of {', '.join(SCHEMES)}; got {data!r}")
    return from_json(SCHEMES[data["scheme"]], {k: v for k, v in data.items() if k != "scheme"})
