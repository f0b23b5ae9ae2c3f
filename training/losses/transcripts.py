"""Supervision of a codec's first codebooks by transcripts: connectionist temporal classification.

No time stamps are needed, and no pretrained model: of all ways to put the letters of the transcript
in their order into the frames, the loss is the probability of any (A. Graves et al.,
"Connectionist Temporal Classification", ICML 2006). It makes codes phonetic, as in N. Har-Tuv,
O. Tal and Y. Adi, "PAST", arXiv 2505.14470.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...audio.transcripts import words_of
from ...errors import TrainingError
from ..data.store import SpeechStore

# The letters of an utterance without a transcript.
_NOTHING = torch.zeros(0, dtype=torch.int64)


@dataclass(frozen=True)
class TranscriptLossConfig:
    """Configuration of a `TranscriptLoss`.

    Attributes:
        letters: that transcripts are written with, as `words_of` gives them (composed, in lower
            case), each once.
    """

    letters: str = "abcdefghijklmnopqrstuvwxyz'"

    def __post_init__(self) -> None:
        letters = self.letters
        usual = all("".join(words_of(f"a{letter}")) == f"a{letter}" for letter in letters)
        if not letters or len(set(letters)) < len(letters) or not usual:
            raise TrainingError(
                "letters: expected letters as transcripts are normalised, in lower case and "
                f"composed, each once, got {letters!r}"
            )


class TranscriptLoss(nn.Module):
    """Negative log probability of the transcripts' letters, per letter.

    It is of the crops that are whole utterances, since nobody knows what the transcript says of a
    part: set `data.crop_samples` to the length of most utterances. An utterance without transcript,
    or with letters or digits that are not in `letters`, counts as 0.

    Args:
        config: see `TranscriptLossConfig`.
    """

    def __init__(self, config: TranscriptLossConfig) -> None:
        super().__init__()
        self.config = config
        self._spelled: dict[str, Tensor] = {}

    @property
    def width(self) -> int:
        """Number of scores of a frame: of nothing new, then of each letter."""
        return 1 + len(self.config.letters)

    @property
    def digest(self) -> str:
        """SHA-256 of the transcripts that are used."""
        spelled = {name: letters.tolist() for name, letters in self._spelled.items()}
        return hashlib.sha256(json.dumps(spelled, sort_keys=True).encode()).hexdigest()

    def prepare(self, store: SpeechStore, texts: Mapping[str, str], crop_samples: int) -> None:
        """Spell the transcripts of the training set.

        Args:
            store: the utterances.
            texts: transcripts by the utterances' names.
            crop_samples: of the batches.

        Raises:
            TrainingError: no crop will ever have a transcript.
        """
        for entry in store.entries:
            letters = spelling(texts.get(entry.name, ""), self.config.letters)
            if letters and entry.length <= crop_samples:
                self._spelled[entry.name] = torch.tensor(letters)
        if not self._spelled:
            seconds = crop_samples / store.sample_rate
            raise TrainingError(
                f"transcript_weight: none of {len(store)} utterances is at most {seconds:.2f} s "
                "long (data.crop_samples) and has a transcript in the letters "
                f"{self.config.letters!r}"
            )

    def forward(
        self, scores: Tensor, names: Sequence[str], lengths: Tensor, hop: int
    ) -> tuple[Tensor, Tensor]:
        """Compute the loss, and the share of rows with a transcript; both are scalars.

        Args:
            scores: (batch, frames, width), unnormalised.
            names: of the rows' utterances.
            lengths: (batch,) valid samples.
            hop: samples of a frame.
        """
        found = [self._spelled.get(name, _NOTHING) for name in names]
        counts = torch.tensor([len(letters) for letters in found], device=scores.device)
        frames = (-(-lengths // hop)).clamp(max=scores.shape[1])
        losses = functional.ctc_loss(
            functional.log_softmax(scores.float(), -1).transpose(0, 1),
            torch.cat(found).to(scores.device),
            frames.to(scores.device),
            counts,
            reduction="none",
            # What is spelled with more letters than there are frames has no way into them.
            zero_infinity=True,
        )
        told = counts > 0
        per_letter = torch.where(told, losses / counts.clamp(min=1), torch.zeros_like(losses))
        return per_letter.mean(), told.float().mean()


def spelling(text: str, letters: str) -> list[int]:
    """Return the numbers of a text's letters, from 1; none if it has letters that are not known.

    The text is normalised by `words_of`, so a letter is one however it was typed. Spaces are left
    out, and apostrophes unless they are letters; a digit is no letter, as it does not say its word.
    """
    known = {letter: number for number, letter in enumerate(letters, 1)}
    written = [c for c in "".join(words_of(text)) if c != "'" or c in known]
    if any(letter not in known for letter in written):
        return []
    return [known[letter] for letter in written]
