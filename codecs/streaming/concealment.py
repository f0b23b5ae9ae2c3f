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
#: Frames of silence, of which the last is taken: the first ones still hear the beginning.
_SILENT_FRAMES = 8


def silence_of(tokenizer: "StreamingTokenizer") -> Tensor:
    """Return the codes (codebooks,) int64 of a frame of silence, after some frames of it.

    A continuous tokenizer's are its latents (channels,) float32. They are computed once for the
    tokenizer's present weights.
    """
    found: Tensor = tokenizer.identity(False).prepared(lambda: _silence(tokenizer), "silence")
    return found


def _silence(tokenizer: "StreamingTokenizer") -> Tensor:
    tokens = tokenizer.spec.tokens
    encoder = tokenizer.start_encoder(1, tokens.num_codebooks)
    nothing = torch.zeros(_SILENT_FRAMES * tokens.hop, device=tokenizer.device)
    if not tokens.num_codebooks:
        return encoder.push_latents([nothing], True)[0][-1].clone()
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

    def fill(self, frames: Tensor, lost: Tensor, last: Tensor | None, lost_before: int) -> Tensor:
        """Return a row's frames without gaps: latents (frames, channels) if the decoder takes them,
        else codes (codebooks, frames).

        Args:
            frames: codes (codebooks, frames) int64 or latents (frames, channels) float32; those of
                lost frames have no influence.
            lost: (frames,) bool.
            last: codes (codebooks,) or latents (channels,) of the last frame that arrived before;
                None: there was none.
            lost_before: frames lost since then.
        """
        numbers = torch.arange(1, len(lost) + 1, device=frames.device)
        # The last frame that arrived, counted from 1; 0: none of these.
        newest = torch.where(lost.to(frames.device), 0, numbers).cummax(0).values
        since = numbers - newest + torch.where(newest == 0, lost_before, 0)
        share = (1 - (since.double() / self._rate - HOLD) / FADE).clamp(0, 1)
        if not self.as_latents:
            silence, last = self._silence[: len(frames)], self._kept(last, len(frames))
            arrived = torch.cat([last[:, None], frames], 1)[:, newest]
            return torch.where(share < 0.5, silence[:, None], arrived)
        kept = len(last if last is not None else self._silence)  # codebooks, if these are codes
        vectors = frames
        if not frames.is_floating_point():
            kept = len(frames)
            vectors = self._tokenizer.embed_codes(frames.T, False)
        before = self._vector(self._kept(last, kept))
        vectors = torch.cat([before[None], vectors])[newest]
        end = self._vector(self._kept(None, kept))
        part = share.float()[:, None]
        # Frames that arrived stay as they are, to the bit.
        return torch.where(part == 1, vectors, end + part * (vectors - end))

    def _kept(self, last: Tensor | None, kept: int) -> Tensor:
        """Return the last frame, its codes cut to so many; silence if there is none, or fewer."""
        if last is None or (len(last) < kept and not last.is_floating_point()):
            last = self._silence
        return last if last.is_floating_point() else last[:kept]

    def _vector(self, frame: Tensor) -> Tensor:
        """Return the latents (channels,) of a frame, which may be its codes."""
        if frame.is_floating_point():
            return frame
        return self._tokenizer.embed_codes(frame[None], False)[0]
