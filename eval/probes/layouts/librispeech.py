"""LibriSpeech's folders: ``SUBSET/SPEAKER/CHAPTER/SPEAKER-CHAPTER-NUMBER.flac``.

Each chapter has its texts in ``SPEAKER-CHAPTER.trans.txt``, a line ``ID TEXT`` each. Genders are in
``SPEAKERS.TXT`` at the top, where it is.
Panayotov et al., "Librispeech: an ASR corpus based on public domain audio books", ICASSP 2015.
"""

from pathlib import Path, PurePosixPath

from ....audio.manifests import Utterance
from ....errors import ManifestError
from ....filesystem import files_below
from .text_files import lines_of

_EXPECTED = "SUBSET/SPEAKER/CHAPTER/SPEAKER-CHAPTER-NUMBER.flac beside SPEAKER-CHAPTER.trans.txt"


def read(folder: Path) -> list[Utterance]:
    """The utterances, in the order of their names.

    `split` is the subset's folder (``test-clean``), where `folder` is above it; extra fields are
    ``gender`` (``m`` or ``f``, where known) and ``chapter``.

    Raises:
        ManifestError: nothing is there, or a text is missing; what is expected is named.
    """
    genders = _genders(folder / "SPEAKERS.TXT")
    found = []
    for chapter in sorted({path.parent for path in files_below(folder) if path.suffix == ".flac"}):
        texts = _texts(chapter)
        for path in sorted(chapter.glob("*.flac")):
            if path.stem not in texts:
                raise ManifestError(
                    f"{path}: no text of {path.stem} in {_texts_file(chapter).name}"
                )
            inside = path.relative_to(folder)
            extra = {"chapter": chapter.name}
            speaker = chapter.parent.name
            if speaker in genders:
                extra["gender"] = genders[speaker]
            split = inside.parts[-4] if len(inside.parts) > 3 else None
            name = PurePosixPath(inside)
            found.append(
                Utterance(path, name, None, speaker, texts[path.stem], split, extra=dict(extra))
            )
    if not found:
        raise ManifestError(f"{folder}: expected {_EXPECTED}; no .flac file is there")
    return found


def _texts_file(chapter: Path) -> Path:
    return chapter / f"{chapter.parent.name}-{chapter.name}.trans.txt"


def _texts(chapter: Path) -> dict[str, str]:
    path = _texts_file(chapter)
    if not path.is_file():
        raise ManifestError(f"{chapter}: expected {_EXPECTED}; no {path.name} is there")
    texts = {}
    for line in lines_of(path):
        name, _, text = line.partition(" ")
        texts[name] = text.strip()
    return texts


def _genders(path: Path) -> dict[str, str]:
    """By speaker, from lines ``ID | F | SUBSET | MINUTES | NAME``; lines with ``;`` are remarks."""
    if not path.is_file():
        return {}
    genders = {}
    for line in lines_of(path):
        fields = [field.strip() for field in line.split("|")]
        if not line.startswith(";") and len(fields) > 1:
            genders[fields[0]] = fields[1].lower()
    return genders
