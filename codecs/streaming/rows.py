"""What a session knows of one of its rows beside the states of the machines."""

from dataclasses import dataclass

from ...errors import StateError


@dataclass
class RowProgress:
    """How far a row has come.

    Attributes:
        samples_in, frames_out: what was encoded, and what came of it.
        frames_in, samples_out: what was decoded, and what came of it.
        samples_due: that the decoded tokens stand for.
        encode_ended, decode_ended: nothing more may come.
    """

    samples_in: int = 0
    frames_out: int = 0
    frames_in: int = 0
    samples_out: int = 0
    samples_due: int = 0
    encode_ended: bool = False
    decode_ended: bool = False

    def check(self, hop: int) -> None:
        """Look at counts that come from elsewhere.

        Raises:
            StateError: they do not agree.
        """
        frames = -(-self.samples_in // hop)
        encoded = 0 <= self.frames_out <= frames
        if self.encode_ended:
            encoded = self.frames_out == frames
        decoded = 0 <= self.samples_out <= self.samples_due
        decoded &= -(-self.samples_due // hop) == self.frames_in
        if self.decode_ended:
            decoded &= self.samples_out == self.samples_due
        if not encoded or not decoded:
            raise StateError(f"the counts of the row's state do not agree: {self}")
