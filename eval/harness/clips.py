"""A few clips for listening, the same for every system."""

import shutil
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import soundfile

from ...audio.manifests import Utterance
from ...errors import SyllabaryError
from ...filesystem import printable, replacing
from ..results.schema import ClipEntry
from ..systems.samples import to_int16
from .plan import Data, domain
from .reconstructions import kept_at

COUNT = 4
#: Long enough for listening, short enough for a page with many of them.
SECONDS = (2.5, 6.0)
ORIGINALS = "originals"


def choose_clips(data: Data) -> list[Utterance]:
    """Choose sentences for listening, from as many domains and speakers as possible.

    The domains with the most audio come first; within a domain, the item of median length among
    those that fit, then one of another speaker.
    """
    fitting: dict[str, list[Utterance]] = defaultdict(list)
    seconds: dict[str, float] = defaultdict(float)
    for item in data.items:
        length = item.duration_s or 0.0
        seconds[domain(item)] += length
        if SECONDS[0] <= length <= SECONDS[1]:
            fitting[domain(item)].append(item)
    queues = []
    for name in sorted(fitting, key=lambda name: (-seconds[name], name)):
        by_length = sorted(fitting[name], key=lambda item: (item.duration_s or 0.0, str(item.name)))
        middle = len(by_length) // 2
        order = [*by_length[middle:], *reversed(by_length[:middle])]
        first: dict[str | None, Utterance] = {}
        for item in order:
            first.setdefault(item.speaker, item)
        rest = [item for item in order if item is not first[item.speaker]]
        queues.append([*first.values(), *rest])
    chosen: list[Utterance] = []
    while len(chosen) < COUNT and any(queues):
        for queue in queues:
            if queue and len(chosen) < COUNT:
                chosen.append(queue.pop(0))
    return chosen


def write_originals(items: Sequence[Utterance], folder: Path) -> None:
    """Write the original clips into `folder`/originals; clips that can't be read are skipped."""
    for number, item in enumerate(items):
        path = folder / ORIGINALS / f"{number:02d}.flac"
        try:
            wave, rate = item.read(channels="mix")
        except (SyllabaryError, OSError):
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            soundfile.write(temporary, to_int16(wave), rate, "PCM_16", format="FLAC")


def copy_clips(items: Sequence[Utterance], audio: Path, folder: Path) -> list[ClipEntry]:
    """Copy a system's clips into `folder`/clips, and return their entries.

    Args:
        items: see `choose_clips`.
        audio: folder of the reconstructions; missing ones are skipped.
        folder: of its results.
    """
    found = []
    for number, item in enumerate(items):
        kept, original = kept_at(audio, item), folder.parent / ORIGINALS / f"{number:02d}.flac"
        if not kept.exists() or not original.exists():
            continue
        path = folder / "clips" / f"{number:02d}.flac"
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            shutil.copyfile(kept, temporary)
        found.append(
            ClipEntry(
                item=printable(item.name),
                text=item.text,
                audio=f"clips/{path.name}",
                original=f"../{ORIGINALS}/{original.name}",
            )
        )
    return found
