"""Frames that never arrived: what a decoder gets instead of them.

The last frame that arrived is held for a moment and then fades into silence, as speech coders do it
(ITU-T G.711, Appendix I: the pitch period is repeated for 10 ms, and has faded out after 60 ms). It
fades in the space of latents, where a frame between two others is one; the codes of a tokenizer
whose decoder takes codes only are repeated, and those of silence follow.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from .tokenizer import StreamingTokenizer

#: Seconds for which the last frame is held, and in which it then fades.
HOLD, FADE = 0.04, 0.12


def silence_of(tokenizer: "StreamingTokenizer") -> Tensor:
    """Return the codes (codebooks,) int64 of a frame of silence, after some frames of it."""
    tokens = tokenizer.spec.tokens
    encoder = tokenizer.start_encoder(1, tokens.num_codebooks)
    nothing = torch.zeros(8 * tokens.hop, device=tokenizer.device)
    return encoder.push([nothing], True)[0][:, -1].clone()


class Concealment:
    """Fills the places of lost frames in the rows of a session.

    Args:
        tokenizer: whose frames they are.
    """

    def __init__(self, tokenizer: "StreamingTokenizer") -> None:
        self._tokenizer = tokenizer
        self._silence = silence_of(tokenizer)
        self.as_latents = tokenizer.spec.decodes_latents
        self._rate = float(tokenizer.spec.tokens.frame_rate)

    def fill(
        self, codes: Tensor, lost: Sequence[bool], last: Tensor | None, lost_before: int
    ) -> Tensor:
        """Return a row's frames without gaps: latents (frames, channels) if the decoder takes them,
        else codes (codebooks, frames).

        Args:
            codes: (codebooks, frames) int64; those of lost frames have no influence.
            lost: of each frame, whether it was lost.
            last: (codebooks,) of the last frame that arrived before; None: there was none.
            lost_before: frames lost since then.
        """
        kept = codes.shape[0]
        silence = self._silence[:kept]
        held = silence if last is None else last[:kept]
        there, weights = [], []
        count = lost_before
        for index, gone in enumerate(lost):
            count = count + 1 if gone else 0
            held = held if gone else codes[:, index]
            there.append(held)
            weights.append(self._weight(count))
        arrived = torch.stack(there, 1) if there else codes
        if not self.as_latents:
            quiet = torch.tensor(weights, device=codes.device) < 0.5
            return torch.where(quiet, silence[:, None], arrived)
        vectors = self._tokenizer.embed_codes(arrived.T, False)
        if all(weight == 1 for weight in weights):
            return vectors
        end = self._tokenizer.embed_codes(silence[None], False)
        share = torch.tensor(weights, dtype=torch.float32, device=codes.device)[:, None]
        # Frames that arrived stay as they are, to the bit.
        return torch.where(share == 1, vectors, end + share * (vectors - end))

    def _weight(self, lost: int) -> float:
        """Share of the last frame in the lost-th one after it."""
        return min(1.0, max(0.0, 1 - (lost / self._rate - HOLD) / FADE))
