"""Audio files, resampling, mel features and manifests."""

from typing import TYPE_CHECKING

from ..lazy_exports import lazy_exports

if TYPE_CHECKING:
    from .files import AudioReader, AudioWriter, read, write
    from .manifests import Utterance, collect, read_manifest, write_manifest
    from .resampling import Resampler, resample

__all__ = [
    "AudioReader",
    "AudioWriter",
    "Resampler",
    "Utterance",
    "collect",
    "read",
    "read_manifest",
    "resample",
    "write",
    "write_manifest",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "AudioReader": "syllabary.audio.files",
        "AudioWriter": "syllabary.audio.files",
        "Resampler": "syllabary.audio.resampling",
        "Utterance": "syllabary.audio.manifests",
        "collect": "syllabary.audio.manifests",
        "read": "syllabary.audio.files",
        "read_manifest": "syllabary.audio.manifests",
        "resample": "syllabary.audio.resampling",
        "write": "syllabary.audio.files",
        "write_manifest": "syllabary.audio.manifests",
    },
)
