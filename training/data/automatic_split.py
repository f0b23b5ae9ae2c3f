"""Divide speech without splits into training and validation: by speakers where they are known.

A speaker in both parts would make validation scores too good, since the model has learned the
voice.
"""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from ...audio.manifests import Utterance
from ...errors import TrainingError


@dataclass(frozen=True)
class AutomaticSplit:
    """Utterances divided into two parts.

    Attributes:
        train, valid: the parts, each in the order given.
        note: how they were divided, for the user.
    """

    train: tuple[Utterance, ...]
    valid: tuple[Utterance, ...]
    note: str


def split_automatically(items: Sequence[Utterance], valid_share: float = 0.1) -> AutomaticSplit:
    """Divide utterances without splits: whole speakers, until `valid_share` of all files.

    A file's speaker is the manifest's, or else the first folder below which the paths differ, as in
    ``p225/001.wav`` and ``wav/p225/001.wav``. If that gives fewer than two speakers, files are
    divided. Speakers and files are taken in the order of a hash of their names, so the same folder
    is always divided in the same way.

    Raises:
        TrainingError: there are fewer than two utterances.
    """
    if len(items) < 2:
        raise TrainingError(
            f"{len(items)} utterance is too few to train on some and validate on others; give a "
            "folder with more files, or a manifest that cuts this one into segments"
        )
    items = _with_speakers(items)
    speakers: dict[str, list[Utterance]] = {}
    for item in items:
        speakers.setdefault(item.speaker or "", []).append(item)
    known = len(speakers) > 1 and "" not in speakers
    groups = speakers if known else {str(item.name): [item] for item in items}
    wanted, held = max(1, round(valid_share * len(items))), 0
    chosen: set[str] = set()
    for name in sorted(groups, key=_order):
        size = len(groups[name])
        # A speaker with half of all files would leave too little to train on.
        if held < wanted and (held + size) * 2 <= len(items):
            chosen.add(name)
            held += size
    if not chosen:  # one speaker has nearly everything: validate on the other
        chosen = {min(groups, key=lambda name: (len(groups[name]), _order(name)))}

    def part(is_valid: bool) -> tuple[Utterance, ...]:
        split = "valid" if is_valid else "train"
        return tuple(
            replace(item, split=split)
            for item in items
            if ((item.speaker if known else str(item.name)) in chosen) == is_valid
        )

    train, valid = part(False), part(True)
    how = (
        f"by speakers ({len(groups) - len(chosen)} and {len(chosen)})"
        if known
        else "by files, as no speakers are known: scores are better than for new voices"
    )
    note = f"no splits: {len(train)} files for training, {len(valid)} for validation, {how}"
    return AutomaticSplit(train, valid, note)


def _with_speakers(items: Sequence[Utterance]) -> list[Utterance]:
    """Return the utterances with speakers by their folders, where none is known."""
    if any(item.speaker is not None for item in items):
        return list(items)
    folders = [item.name.parent for item in items]
    common = len(PurePosixPath(os.path.commonpath(folders)).parts)
    return [
        item
        if len(item.name.parts) <= common + 1
        else replace(item, speaker=item.name.parts[common])
        for item in items
    ]


def _order(name: str) -> bytes:
    return hashlib.sha256(name.encode(errors="replace")).digest()
