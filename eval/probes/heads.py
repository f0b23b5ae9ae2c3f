"""The heads of probes: small networks on frames of vectors.

Frames beyond a row's length have no influence: a head's output for an utterance does not depend on
its batch.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

WIDTH = 64
#: Frames a second at which all heads except the pooled one work.
PACE = 25.0

Head = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class Pooled(nn.Module):
    """Linear layer on the mean and standard deviation of the frames.

    Args:
        dim: of the frames.
        outputs: classes, or dimensions of an embedding.
    """

    def __init__(self, dim: int, outputs: int) -> None:
        super().__init__()
        self.output = nn.Linear(2 * dim, outputs)

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """(batch, outputs) of frames (batch, frames, dim)."""
        return self.output(statistics(frames, mask_of(frames, lengths)))


class Recurrent(nn.Module):
    """A BiLSTM at `PACE`, and a linear layer on mean and maximum of its states and of its input.

    With the input, it starts like a pooled head and does not depend on the LSTM's slower training.

    Args:
        dim: of the frames.
        outputs: classes.
        frame_rate: of the frames, Hz.
    """

    def __init__(self, dim: int, outputs: int, frame_rate: float) -> None:
        super().__init__()
        self.pace = Pace(dim, frame_rate)
        self.lstm = BiLSTM(dim)
        self.output = nn.Linear(2 * (2 * WIDTH + dim), outputs)

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """(batch, outputs) of frames (batch, frames, dim)."""
        frames, lengths = self.pace(frames, lengths)
        states = torch.cat([self.lstm(frames, lengths), frames], 2)
        mask = mask_of(states, lengths)
        mean = (states * mask).sum(1) / mask.sum(1)
        greatest = states.masked_fill(~mask, -torch.inf).amax(1)
        return self.output(torch.cat([mean, greatest], 1))


class Speaker(nn.Module):
    """A small network after ECAPA-TDNN (Desplanques et al., arXiv 2005.07143).

    Two SE-Res2 blocks, their outputs concatenated, attentive statistics, an embedding. Layer norm
    over channels replaces ECAPA's batch norm, which would mix the rows of a batch.

    Args:
        dim: of the frames.
        outputs: classes, or dimensions of an embedding.
        frame_rate: of the frames, Hz.
    """

    def __init__(self, dim: int, outputs: int, frame_rate: float) -> None:
        super().__init__()
        self.pace = Pace(dim, frame_rate)
        self.first = nn.Sequential(nn.Conv1d(dim, WIDTH, 5, padding=2), nn.ReLU())
        self.first_norm = nn.LayerNorm(WIDTH)
        self.blocks = nn.ModuleList([SERes2Block(dilation) for dilation in (2, 3)])
        self.mixed = nn.Linear(2 * WIDTH, 2 * WIDTH)
        self.attention = nn.Sequential(
            nn.Linear(2 * WIDTH, 32), nn.Tanh(), nn.Linear(32, 2 * WIDTH)
        )
        self.norm = nn.LayerNorm(4 * WIDTH)
        self.output = nn.Linear(4 * WIDTH, outputs)

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """(batch, outputs) of frames (batch, frames, dim)."""
        frames, lengths = self.pace(frames, lengths)
        mask = mask_of(frames, lengths)
        frames = self.first_norm(self.first((frames * mask).mT).mT)
        levels = []
        for block in self.blocks:
            frames = block(frames, mask)
            levels.append(frames)
        frames = self.mixed(torch.cat(levels, 2)).relu()
        attention = self.attention(frames).masked_fill(~mask, -torch.inf).softmax(1)
        return self.output(self.norm(statistics(frames, attention)))


class SERes2Block(nn.Module):
    """Dilated convolutions over four channel groups, each with the output of the one before, and
    gates.

    Args:
        dilation: of the convolutions, in frames.
    """

    def __init__(self, dilation: int) -> None:
        super().__init__()
        part = WIDTH // 4
        self.enter = nn.Linear(WIDTH, WIDTH)
        self.convolutions = nn.ModuleList(
            [nn.Conv1d(part, part, 3, padding=dilation, dilation=dilation) for _ in range(3)]
        )
        self.leave = nn.Linear(WIDTH, WIDTH)
        self.gate = nn.Sequential(
            nn.Linear(WIDTH, WIDTH // 4), nn.ReLU(), nn.Linear(WIDTH // 4, WIDTH), nn.Sigmoid()
        )
        self.norm = nn.LayerNorm(WIDTH)

    def forward(self, frames: Tensor, mask: Tensor) -> Tensor:
        """The same shape, (batch, frames, `WIDTH`)."""
        first, *others = (self.enter(frames).relu() * mask).mT.chunk(4, 1)
        parts = [first]
        last: Tensor | None = None
        for part, convolution in zip(others, self.convolutions, strict=True):
            last = convolution(part if last is None else part + last).relu() * mask.mT
            parts.append(last)
        out = self.leave(torch.cat(parts, 1).mT)
        mean = (out * mask).sum(1) / mask.sum(1)
        return self.norm(frames + out * self.gate(mean)[:, None])


class Characters(nn.Module):
    """Classes of frames at `PACE`, for CTC: by a convolution alone, or followed by a BiLSTM.

    Args:
        dim: of the frames.
        outputs: characters and the blank.
        frame_rate: of the frames, Hz.
        recurrent: with the BiLSTM.
    """

    def __init__(self, dim: int, outputs: int, frame_rate: float, recurrent: bool) -> None:
        super().__init__()
        self.pace = Pace(dim, frame_rate)
        self.convolution = nn.Conv1d(dim, WIDTH if recurrent else outputs, 5, padding=2)
        self.lstm = BiLSTM(WIDTH) if recurrent else None
        # Its input is used too, as in `Recurrent`.
        self.output = nn.Linear(3 * WIDTH, outputs) if recurrent else nn.Identity()

    def forward(self, frames: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, frames at `PACE`, outputs), and the frames of each row."""
        frames, lengths = self.pace(frames, lengths)
        frames = self.convolution((frames * mask_of(frames, lengths)).mT).mT
        if self.lstm is not None:
            frames = torch.cat([self.lstm(frames.relu(), lengths), frames], 2)
        return self.output(frames), lengths


class Pace(nn.Module):
    """Resampling from any frame rate to about `PACE`, by merging or repeating frames.

    Args:
        dim: of the frames.
        frame_rate: of the input, Hz.
    """

    def __init__(self, dim: int, frame_rate: float) -> None:
        super().__init__()
        self.dim = dim
        self.merged = max(1, round(frame_rate / PACE))
        self.made = max(1, round(PACE / frame_rate))
        self.project = nn.Linear(self.merged * dim, self.made * dim)

    def forward(self, frames: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, frames, dim) and the frames of each row, at the other rate."""
        frames = frames * mask_of(frames, lengths)
        frames = nn.functional.pad(frames, (0, 0, 0, -frames.shape[1] % self.merged))
        frames = self.project(frames.reshape(len(frames), -1, self.merged * self.dim))
        frames = frames.reshape(len(frames), -1, self.dim)
        return frames, -(-lengths // self.merged) * self.made


class BiLSTM(nn.Module):
    """An LSTM in each direction, `WIDTH` states each.

    Rows are reversed within their lengths, which is ten times as fast as packed sequences.

    Args:
        dim: of the frames.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.forwards = nn.LSTM(dim, WIDTH, batch_first=True)
        self.backwards = nn.LSTM(dim, WIDTH, batch_first=True)

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """(batch, frames, 2 × `WIDTH`)."""
        ahead, _ = self.forwards(frames)
        back, _ = self.backwards(turned(frames, lengths))
        return torch.cat([ahead, turned(back, lengths)], 2)


def turned(frames: Tensor, lengths: Tensor) -> Tensor:
    """Reverse each row (frames, dim) within its length."""
    places = torch.arange(frames.shape[1])
    back = lengths[:, None] - 1 - places
    index = torch.where(back >= 0, back, places)
    return frames.gather(1, index[..., None].expand_as(frames))


def mask_of(frames: Tensor, lengths: Tensor) -> Tensor:
    """Mask (batch, frames, 1) bool of frames within each row's length."""
    return (torch.arange(frames.shape[1]) < lengths[:, None])[..., None]


def statistics(frames: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean and standard deviation over the frames, (batch, 2 × dim).

    Args:
        frames: (batch, frames, dim).
        weights: (batch, frames, 1 or dim), of any sum over the frames.
    """
    weights = weights / weights.sum(1, keepdim=True)
    mean = (frames * weights).sum(1)
    variance = ((frames - mean[:, None]) ** 2 * weights).sum(1)
    return torch.cat([mean, (variance + 1e-5).sqrt()], 1)
