"""Work on files: one file in constant memory, and many files resumably."""

from typing import TYPE_CHECKING

from ..lazy_exports import lazy_exports

if TYPE_CHECKING:
    from .files import FileReport, decode_file, encode_file
    from .live import LiveReport, decode_pcm, encode_pcm

__all__ = [
    "FileReport",
    "LiveReport",
    "decode_file",
    "decode_pcm",
    "encode_file",
    "encode_pcm",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "FileReport": "syllabary.jobs.files",
        "LiveReport": "syllabary.jobs.live",
        "decode_file": "syllabary.jobs.files",
        "decode_pcm": "syllabary.jobs.live",
        "encode_file": "syllabary.jobs.files",
        "encode_pcm": "syllabary.jobs.live",
    },
)
