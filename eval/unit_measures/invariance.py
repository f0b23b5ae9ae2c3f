"""Speaker invariance: similarity of the units of a sentence read by different speakers."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import PurePosixPath

import numpy as np

from ...audio.manifests import Utterance
from ...audio.transcripts import words_of
from ..requirements import MetricError
from .edit_distance import UnitErrorRate, unit_error_rate


@dataclass(frozen=True)
class SpeakerInvariance:
    """Unit edit distances between speakers.

    Attributes:
        same: of the same sentence by two speakers.
        different: of different sentences of about the same length by two speakers: the value for
            units that do not represent the words.
        num_sentences: read by several speakers.
    """

    same: UnitErrorRate
    different: UnitErrorRate
    num_sentences: int

    @property
    def normalised(self) -> float:
        """Rate for the same sentence over that for different ones: 0 is invariant, 1 is chance."""
        return self.same.rate / self.different.rate


def parallel_sentences(
    utterances: Iterable[Utterance], least_words: int = 1
) -> list[list[Utterance]]:
    """Find utterances with equal words (ignoring case and punctuation) by at least two speakers.

    Args:
        utterances: those without text or speaker are left out.
        least_words: of a sentence.

    Returns:
        For each sentence the first utterance by each of its speakers, in the given order.
    """
    groups: dict[tuple[str, ...], dict[str, Utterance]] = defaultdict(dict)
    for item in utterances:
        if item.text is not None and item.speaker is not None:
            groups[tuple(words_of(item.text))].setdefault(item.speaker, item)
    return [
        list(found.values())
        for words, found in groups.items()
        if len(found) > 1 and len(words) >= least_words
    ]


def speaker_invariance(
    sentences: Sequence[Sequence[Utterance]], units: Mapping[PurePosixPath, np.ndarray]
) -> SpeakerInvariance:
    """Unit edit distance over all pairs of speakers of each sentence.

    Each pair counts in both directions, so that the divisor is the length of both. For each
    direction, the other utterance is also replaced by one of another sentence and speaker whose
    number of frames is nearest to its own (the first among equals).

    Args:
        sentences: of `parallel_sentences`, at least two.
        units: by name of the utterance (frames,) integers.

    Raises:
        MetricError: fewer than two sentences, units of an utterance are missing, or no other
            sentence by another speaker.
    """
    if len(sentences) < 2:
        raise MetricError(f"speaker invariance: {len(sentences)} parallel sentences; expected 2")
    everything = [(number, item) for number, group in enumerate(sentences) for item in group]
    for _, item in everything:
        if item.name not in units:
            raise MetricError(f"speaker invariance: no units of {item.name}")
    same, different = [], []
    for number, group in enumerate(sentences):
        for one, other in combinations(group, 2):
            for reference, compared in ((one, other), (other, one)):
                same.append((units[reference.name], units[compared.name]))
                length = len(units[compared.name])
                strangers = [
                    units[item.name]
                    for sentence, item in everything
                    if sentence != number and item.speaker != reference.speaker
                ]
                if not strangers:
                    raise MetricError(
                        f"speaker invariance: no other sentence than that of {reference.name} by "
                        "another speaker"
                    )
                nearest = min(strangers, key=lambda found: abs(len(found) - length))
                different.append((units[reference.name], nearest))
    return SpeakerInvariance(unit_error_rate(same), unit_error_rate(different), len(sentences))
