"""Syllabary: speech tokenizers behind one interface.

    import syllabary

    tokenizer = syllabary.load("dmel")
    tokens = tokenizer.encode(wave, 16000)
    wave = tokenizer.decode(tokens)

Importing this package loads no torch; that happens where the work starts.
"""

from typing import TYPE_CHECKING

from .codecs.families import register_family
from .lazy_exports import lazy_exports

if TYPE_CHECKING:
    from .codecs.collating import collate
    from .codecs.container import read_tokens, tokens_from_bytes, tokens_to_bytes, write_tokens
    from .codecs.interface import AudioTokenizer
    from .codecs.latents import Latents
    from .codecs.registry import list_tokenizers, load, register
    from .codecs.spec import TokenizerSpec, TokenSpec
    from .codecs.tokens import Tokens

__version__ = "0.1.0"

__all__ = [
    "AudioTokenizer",
    "Latents",
    "TokenSpec",
    "TokenizerSpec",
    "Tokens",
    "collate",
    "list_tokenizers",
    "load",
    "read_tokens",
    "register",
    "tokens_from_bytes",
    "tokens_to_bytes",
    "write_tokens",
]

# Codecs find this family's class here, since their room is below that of the units.
register_family("units", "syllabary.semantic.units.tokenizer:UnitTokenizer")

_PLACES = {
    "AudioTokenizer": "syllabary.codecs.interface",
    "Latents": "syllabary.codecs.latents",
    "TokenSpec": "syllabary.codecs.spec",
    "TokenizerSpec": "syllabary.codecs.spec",
    "Tokens": "syllabary.codecs.tokens",
    "collate": "syllabary.codecs.collating",
    "list_tokenizers": "syllabary.codecs.registry",
    "load": "syllabary.codecs.registry",
    "read_tokens": "syllabary.codecs.container",
    "register": "syllabary.codecs.registry",
    "tokens_from_bytes": "syllabary.codecs.container",
    "tokens_to_bytes": "syllabary.codecs.container",
    "write_tokens": "syllabary.codecs.container",
}

__getattr__, __dir__ = lazy_exports(__name__, _PLACES)
