"""A server for streams of speech and codes, its protocol and its client.

Importing this loads neither torch nor a web framework: names are looked up where they live when
they are first used.
"""

from typing import TYPE_CHECKING

from ..lazy_exports import lazy_exports

if TYPE_CHECKING:
    from .blocking_client import BlockingStream, connect_blocking
    from .client import Stream, connect
    from .input_pieces import CodeReader
    from .protocol import PCM, Message, Refusal

__all__ = [
    "PCM",
    "BlockingStream",
    "CodeReader",
    "Message",
    "Refusal",
    "Stream",
    "connect",
    "connect_blocking",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "PCM": "syllabary.serving.protocol",
        "BlockingStream": "syllabary.serving.blocking_client",
        "CodeReader": "syllabary.serving.input_pieces",
        "Message": "syllabary.serving.protocol",
        "Refusal": "syllabary.serving.protocol",
        "Stream": "syllabary.serving.client",
        "connect": "syllabary.serving.client",
        "connect_blocking": "syllabary.serving.blocking_client",
    },
)
