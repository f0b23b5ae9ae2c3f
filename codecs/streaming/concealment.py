"""Frames that never arrived: what a decoder gets instead of them.

The last frame that arrived is held for a moment and then fades into silence, as speech coders do it
(ITU-T G.711, Appendix I: the pitch period is repeated for 10 ms, and has faded out after 60 ms). It
fades in the space of latents, where a frame between two others is one; the codes of a tokenizer
whose decoder takes codes only are repeated, and those of silence follow.
"""

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

    def fill(self, codes: Tensor, lost: Tensor, last: Tensor | None, lost_before: int) -> Tensor:
        """Return a row's frames without gaps: latents (frames, channels) if the decoder takes them,
        else codes (codebooks, frames).

        Args:
            codes: (codebooks, frames) int64; those of lost frames have no influence.
            lost: (frames,) bool.
            last: (codebooks,) of the last frame that arrived before; None: there was none.
            lost_before: frames lost since then.
        """
        kept, frames = codes.shape
        silence = self._silence[:kept]
        if last is None or len(last) < kept:  # fewer codebooks arrived before
            last = silence
        # The last frame that arrived, counted from 1; 0: none of these.
        numbers = torch.arange(1, frames + 1, device=codes.device)
        newest = torch.where(lost.to(codes.device), 0, numbers).cummax(0).values
        arrived = torch.cat([last[:kept, None], codes], 1)[:, newest]
        since = numbers - newest + torch.where(newest == 0, lost_before, 0)
        share = (1 - (since.double() / self._rate - HOLD) / FADE).clamp(0, 1)
        if not self.as_latents:
            return torch.where(share < 0.5, silence[:, None], arrived)
        vectors = self._tokenizer.embed_codes(arrived.T, False)
        end = self._tokenizer.embed_codes(silence[None], False)
        part = share.float()[:, None]
        # Frames that arrived stay as they are, to the bit.
        return torch.where(part == 1, vectors, end + part * (vectors - end))
