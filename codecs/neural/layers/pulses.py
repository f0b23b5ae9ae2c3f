"""Pitch as a distribution over bins, and pulse trains from pitch tracks.

A pulse train is a sum of cosines at all multiples of the pitch (a band-limited impulse train;
Winham & Steiglitz, 1970), so harmonics and their common phase need not be learned, as in
source-filter vocoders (Dudley 1939; Wang et al., "Neural source-filter", arXiv 1904.12088).
"""

import math

import torch
from torch import Tensor, nn

from ....errors import StateError

PITCH_MIN, PITCH_MAX = 60.0, 450.0  # Hz
PITCH_BINS = 128  # evenly spaced in log: steps of 1.6 %
BIN_STEP = math.log(PITCH_MAX / PITCH_MIN) / (PITCH_BINS - 1)  # in log
AROUND = 3  # bins on either side of the best one that the mean pitch includes
AT_PULSE = 1e-4  # below this sine, the quotient's limit is used
PITCH_START = 150.0  # Hz, before the first frame


def check_source(pitch: float, phase: float, position: int) -> None:
    """Check the state of a source.

    Raises:
        StateError: the pitch, the phase or the position is out of range.
    """
    if not 0.99 * PITCH_MIN <= pitch <= 1.01 * PITCH_MAX:
        raise StateError(f"a pitch of {pitch} Hz; expected {PITCH_MIN:g} to {PITCH_MAX:g}")
    if not 0 <= phase <= 1 or position < 0:
        raise StateError(f"a phase of {phase} turns at {position} in the noise")


def pitch_bin(pitch: Tensor) -> Tensor:
    """Return the fractional bin index of a pitch in Hz."""
    return (pitch / PITCH_MIN).log() / BIN_STEP


def expected_pitch(logits: Tensor) -> Tensor:
    """Return the pitch in Hz (…) of logits (…, PITCH_BINS): mean log pitch near the best bin."""
    best = logits.argmax(-1, keepdim=True)
    around = torch.arange(-AROUND, AROUND + 1, device=logits.device)
    near = (best + around).clamp(0, PITCH_BINS - 1)
    weights = torch.softmax(logits.gather(-1, near), -1)
    return PITCH_MIN * ((weights * near).sum(-1) * BIN_STEP).exp()


class PulseTrain(nn.Module):
    """Generate pulses of unit power at a pitch that is linear between points.

    Args:
        sample_rate: in Hz.
        hop: samples between points of the pitch track.
        top: upper limit of the harmonics, in Hz.
    """

    ramp: Tensor

    def __init__(self, sample_rate: int, hop: int, top: float) -> None:
        super().__init__()
        self.sample_rate, self.top = sample_rate, top
        self.register_buffer("ramp", torch.arange(1, hop + 1) / hop, persistent=False)

    def forward(
        self, pitch: Tensor, before: Tensor, phase: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Generate the pulses of a pitch track.

        Args:
            pitch: (batch, points) in Hz, at the end of each hop.
            before: (batch,) the point before the first.
            phase: (batch,) float64, in turns, before the first sample.

        Returns:
            (batch, points × hop) samples, and `before` and `phase` for the next points.
        """
        earlier = torch.cat([before[:, None], pitch[:, :-1]], 1)
        track = earlier[..., None] + (pitch - earlier)[..., None] * self.ramp
        track = track.flatten(1)
        turns = torch.cumsum(track.double() / self.sample_rate, 1) + phase[:, None]
        count = (self.top / track).floor()
        angle = math.pi * (turns % 1).to(track.dtype)
        sine = angle.sin()
        at_pulse = sine.abs() < AT_PULSE
        ratio = ((2 * count + 1) * angle).sin() / torch.where(at_pulse, 1.0, sine)
        cosines = (torch.where(at_pulse, 2 * count + 1, ratio) - 1) / 2
        return cosines * (2 / count).sqrt(), pitch[:, -1], turns[:, -1] % 1
