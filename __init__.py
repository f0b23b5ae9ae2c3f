"""Syllabary: speech tokenizers behind one interface.

    import syllabary

    tokenizer = syllabary.load("dmel")
    tokens = tokenizer.encode(wave, 16000)
    wave = tokenizer.decode(tokens)

Importing this package loads no torch; that happens where the work starts.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .codecs.container import read_tokens, write_tokens
    from .codecs.interface import AudioTokenizer
    from .codecs.registry import list_tokenizers, load, register
    from .codecs.spec import TokenizerSpec, TokenSpec
    from .codecs.tokens import Tokens

__version__ = "0.1.0"

_HOMES = {
    "AudioTokenizer": ".codecs.interface",
    "TokenSpec": ".codecs.spec",
    "TokenizerSpec": ".codecs.spec",
    "Tokens": ".codecs.tokens",
    "list_tokenizers": ".codecs.registry",
    "load": ".codecs.registry",
    "read_tokens": ".codecs.container",
    "register": ".codecs.registry",
    "write_tokens": ".codecs.container",
}

__all__ = [
    "AudioTokenizer",
    "TokenSpec",
    "TokenizerSpec",
    "Tokens",
    "list_tokenizers",
    "load",
    "read_tokens",
    "register",
    "write_tokens",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
