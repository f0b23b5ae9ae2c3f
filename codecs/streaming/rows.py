"""Counts of a session's rows: samples and frames, in and out."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ...errors import StateError
from ..spec import TokenSpec
from .protocol import RowStream


@dataclass
class RowProgress:
    """Progress of one row.

    Attributes:
        samples_in, frames_out: samples encoded, and frames returned for them.
        frames_in, samples_out: frames decoded, and samples returned for them.
        samples_due: audio samples of the decoded tokens.
        encode_ended, decode_ended: whether the row's audio, or tokens, have ended.
        lost: frames lost since the last one that arrived.
        last: (codebooks,) int64 codes of that one; -1 where there are none.
        vector: (channels,) float32 latents of that one, if it came as latents.
        came_as_latents: whether it did.
    """

    samples_in: int = 0
    frames_out: int = 0
    frames_in: int = 0
    samples_out: int = 0
    samples_due: int = 0
    encode_ended: bool = False
    decode_ended: bool = False
    lost: int = 0
    last: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.long))
    vector: Tensor = field(default_factory=lambda: torch.zeros(0))
    came_as_latents: bool = False

    def arrived(self, frames: Tensor) -> None:
        """Note the codes (codebooks, frames), or latents (frames, channels), that arrived."""
        self.lost = 0
        self.came_as_latents = frames.is_floating_point()
        if self.came_as_latents:
            self.vector.copy_(frames[-1])
            return
        kept = frames.shape[0]
        self.last[:kept] = frames[:, -1]
        if kept < len(self.last):
            self.last[kept:] = -1

    @property
    def last_frame(self) -> Tensor | None:
        """Codes (codebooks,) or latents (channels,) of the last frame that arrived; None if none
        has.
        """
        if self.came_as_latents:
            return self.vector
        known = self.last[self.last >= 0]
        return known if len(known) else None

    def check(self, tokens: TokenSpec) -> None:
        """Check an imported state.

        Args:
            tokens: of the tokenizer.

        Raises:
            StateError: counts do not agree, or there are no such codes.
        """
        hop = tokens.hop
        sizes = torch.tensor(tokens.codebook_sizes, dtype=torch.long)
        last = self.last.cpu()
        if bool(((last < -1) | (last >= sizes)).any()):
            raise StateError(f"the row's last codes are {last.tolist()}")
        frames = -(-self.samples_in // hop)
        encoded = 0 <= self.frames_out <= frames
        if self.encode_ended:
            encoded = self.frames_out == frames
        decoded = 0 <= self.samples_out <= self.samples_due
        decoded &= -(-self.samples_due // hop) == self.frames_in
        if self.decode_ended:
            decoded &= self.samples_out == self.samples_due
        if not encoded or not decoded or self.lost < 0:
            raise self._disagree()

    def check_states(self, states: Mapping[str, tuple[RowStream[Any], Any]]) -> None:
        """Compare counts, already checked by `check`, with the states of the streams.

        Args:
            states: for `encoder` and `decoder`, if the row has used them: the stream and the row's
                state.

        Raises:
            StateError: they do not agree.
        """
        # Streams reset a row when it ends.
        encoded = (0, 0) if self.encode_ended else (self.samples_in, self.frames_out)
        decoded = (0, 0) if self.decode_ended else (self.frames_in, self.samples_out)
        for name, ended, (taken, given) in (
            ("encoder", self.encode_ended, encoded),
            ("decoder", self.decode_ended, decoded),
        ):
            if name not in states:
                if ended or taken:
                    raise self._disagree()
                continue
            machine, state = states[name]
            counted = machine.count_given(state, taken)
            if counted is not None and name == "decoder":
                counted = min(counted, self.samples_due)  # the last frame may be partial
            if counted not in (None, given):
                raise self._disagree()

    def _disagree(self) -> StateError:
        return StateError(f"the counts of the row's state do not agree: {self}")
