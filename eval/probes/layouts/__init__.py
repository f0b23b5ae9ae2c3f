"""Readers of well-known data sets in their original folder layouts, as utterances."""

from collections.abc import Callable
from pathlib import Path

from ....audio.manifests import Utterance
from . import iemocap, librispeech, slurp, speech_commands, voxceleb

LAYOUTS: dict[str, Callable[[Path], list[Utterance]]] = {
    "librispeech": librispeech.read,
    "voxceleb": voxceleb.read,
    "slurp": slurp.read,
    "iemocap": iemocap.read,
    "speech-commands": speech_commands.read,
}
