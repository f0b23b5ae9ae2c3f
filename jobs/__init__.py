"""Encode and decode files: single files in constant memory, and many files resumably."""

from typing import TYPE_CHECKING

from ..lazy_exports import lazy_exports

if TYPE_CHECKING:
    from .one_file import FileReport, decode_file, encode_file
    from .pcm_stream import LiveReport, decode_pcm, encode_pcm

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
        "FileReport": "syllabary.jobs.one_file",
        "LiveReport": "syllabary.jobs.pcm_stream",
        "decode_file": "syllabary.jobs.one_file",
        "decode_pcm": "syllabary.jobs.pcm_stream",
        "encode_file": "syllabary.jobs.one_file",
        "encode_pcm": "syllabary.jobs.pcm_stream",
    },
)
