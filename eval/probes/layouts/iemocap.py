"""IEMOCAP's folders: ``SessionN/sentences/wav/DIALOG/UTTERANCE.wav``, and its label files.

Labels are in ``SessionN/dialog/EmoEvaluation/DIALOG.txt``, on lines
``[START - END] UTTERANCE EMOTION [V, A, D]``, apart by tabs; texts, where they are, in
``SessionN/dialog/transcriptions/DIALOG.txt``. Busso et al., "IEMOCAP", LREV 2008.
"""

import re
from pathlib import Path, PurePosixPath

from ....audio.manifests import Utterance
from ....errors import ManifestError
from .text_files import lines_of

_EXPECTED = (
    "SessionN/sentences/wav/DIALOG/UTTERANCE.wav and SessionN/dialog/EmoEvaluation/DIALOG.txt"
)
_LABEL = re.compile(r"\[[\d.]+ - [\d.]+\]\t(\S+)\t(\w+)\t\[")
_TEXT = re.compile(r"(\S+) \[[\d.]+-[\d.]+\]: (.*)")


def read(folder: Path) -> list[Utterance]:
    """The utterances that have a label, in the order of their names.

    `speaker` is the session and the gender of who speaks (``Ses01F``), and extra fields are
    ``session``, ``gender`` and ``emotion`` as the files have it: ``ang``, ``hap``, ``exc``,
    ``neu``, ``sad``, ….

    Raises:
        ManifestError: a folder or a label file is missing, or an utterance's audio is.
    """
    found = []
    for session in sorted(path for path in folder.iterdir() if path.name.startswith("Session")):
        labels = session / "dialog" / "EmoEvaluation"
        if not labels.is_dir():
            raise ManifestError(f"{session}: expected {_EXPECTED}; no {labels.name} is there")
        for file in sorted(path for path in labels.iterdir() if path.suffix == ".txt"):
            texts = _texts(session / "dialog" / "transcriptions" / file.name)
            for line in lines_of(file):
                if label := _LABEL.match(line):
                    found.append(_utterance(folder, session, file.stem, label[1], label[2], texts))
    if not found:
        raise ManifestError(f"{folder}: expected {_EXPECTED}; no label is there")
    return found


def _utterance(
    folder: Path, session: Path, dialog: str, name: str, emotion: str, texts: dict[str, str]
) -> Utterance:
    path = session / "sentences" / "wav" / dialog / f"{name}.wav"
    if not path.is_file():
        raise ManifestError(f"{path}: no such file, but {dialog}.txt has a label of it")
    # Ses01F_impro01_M003: recorded with F's markers, spoken by M.
    gender = name.rpartition("_")[2][:1]
    return Utterance(
        path,
        PurePosixPath(path.relative_to(folder)),
        speaker=name[:5] + gender,
        text=texts.get(name),
        extra={"session": session.name, "gender": gender.lower(), "emotion": emotion},
    )


def _texts(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    found = (_TEXT.match(line) for line in lines_of(path))
    return {match[1]: match[2].strip() for match in found if match}
