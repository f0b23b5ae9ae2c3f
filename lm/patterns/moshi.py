"""Moshi's rows: text, the model's codebooks, the other speaker's (Défossez et al., 2024)."""

from dataclasses import dataclass
from typing import ClassVar

from ...errors import PatternError
from .delay import Delay


@dataclass(frozen=True)
class Moshi(Delay):
    """A row of text and the codebooks of one or two speakers, each shifted right by its delay.

    The length stays that of the utterance, but for one initial step: what a delay shifts beyond
    the end is lost. Filled with each row's initial id: the size of the text vocabulary, and the
    codebooks' size. `sizes` begins with the text's; `InnerMonologue` makes the text row, and
    `Dialogue` all of them.

    Attributes:
        delays: default 0 for the text and each speaker's first codebook, and 1 for the others.
        speakers: whose codebooks there are, for the default.
    """

    name: ClassVar[str] = "moshi"
    cut: bool = True
    speakers: int = 1

    @property
    def shifts(self) -> tuple[int, ...]:
        if self.delays:
            return self.delays
        each = (self.num_codebooks - 1) // max(self.speakers, 1)
        return (0, *((0,) + (1,) * (each - 1)) * self.speakers)

    def _check(self) -> None:
        if self.speakers < 1 or (
            not self.delays and (self.num_codebooks < 2 or (self.num_codebooks - 1) % self.speakers)
        ):
            raise PatternError(
                f"moshi has a row of text and as many codebooks for each of {self.speakers} "
                f"speakers; {self.num_codebooks} rows can't be that"
            )
        super()._check()
