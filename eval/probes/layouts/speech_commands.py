"""Speech Commands' folders: ``WORD/SPEAKER_nohash_NUMBER.wav``.

``validation_list.txt`` and ``testing_list.txt`` name the held-out files; ``_background_noise_`` is
skipped. Any data set with a folder per label can be read. Warden, arXiv 1804.03209.
"""

from pathlib import Path, PurePosixPath

from ....audio.files import SUFFIXES
from ....audio.manifests import Utterance
from ....errors import ManifestError
from ....filesystem import files_below
from .text_files import lines_of

_EXPECTED = "a folder for each label, with audio files in it"
_LISTS = {"validation_list.txt": "valid", "testing_list.txt": "test"}


def read(folder: Path) -> list[Utterance]:
    """The utterances, in the order of their names.

    `text` is the folder's name, `speaker` what comes before ``_nohash_``, and `split` ``train``,
    ``valid`` or ``test`` by the lists; without lists there is none.

    Raises:
        ManifestError: nothing is there, or a list names a file that is not.
    """
    listed: dict[str, str] = {}
    lists = [name for name in _LISTS if (folder / name).is_file()]
    for name in lists:
        listed |= {line.strip(): _LISTS[name] for line in lines_of(folder / name)}
    found = []
    for path in sorted(files_below(folder)):
        label = path.parent.name
        if path.parent.parent != folder or path.suffix.lower() not in SUFFIXES:
            continue
        if label.startswith(("_", ".")):
            continue
        name = f"{label}/{path.name}"
        speaker, mark, _ = path.stem.partition("_nohash_")
        found.append(
            Utterance(
                path,
                PurePosixPath(name),
                speaker=speaker if mark else None,
                text=label,
                split=listed.pop(name, "train") if lists else None,
            )
        )
    if not found:
        raise ManifestError(f"{folder}: expected {_EXPECTED}; no audio file is there")
    if listed:
        raise ManifestError(f"{folder}: no {min(listed)}, which {' or '.join(lists)} names")
    return found
