"""Training of one probe: a front, a head, a fixed number of epochs, and a seed for all random
choices.

The last weights are used: epochs are not selected, so there is no validation part.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...cores import torch_threads
from .heads import Characters, Pooled, Recurrent, Speaker
from .inputs import Front

DIM = 64
#: Scale and margin of additive-margin softmax (Wang et al., arXiv 1801.05599), for verification.
_SCALE, _MARGIN = 20.0, 0.1


@dataclass(frozen=True)
class Budget:
    """The training budget of a probe.

    Attributes:
        epochs: over the train part.
        steps: at least, for small parts.
        batch: utterances in a step.
        rate: maximal learning rate; it rises over a tenth of the steps, and falls as a cosine.
        dropout: of the vectors of frames.
        decay: weight decay.
        crop: seconds of a random crop of each utterance in each step; 0: all of it.
    """

    epochs: int = 14
    steps: int = 150
    batch: int = 32
    rate: float = 1e-2
    dropout: float = 0.3
    decay: float = 0.01
    crop: float = 1.5


class Probe(nn.Module):
    """A front and a head: frames to vectors to outputs.

    Args:
        front: embeds the frames.
        head: of padded vectors (batch, frames, dim) and lengths (batch,).
        dropout: of the vectors.
    """

    def __init__(self, front: Front, head: nn.Module, dropout: float) -> None:
        super().__init__()
        self.front, self.head = front, head
        self.norm = nn.LayerNorm(DIM)
        self.dropout = nn.Dropout(dropout)

    def forward(self, rows: Sequence[Tensor]) -> Tensor | tuple[Tensor, Tensor]:
        """Return the head's output for prepared rows (frames, …)."""
        lengths = torch.tensor([len(row) for row in rows])
        padded = nn.utils.rnn.pad_sequence(list(rows), batch_first=True)
        vectors = self.norm(self.front(padded.flatten(0, 1))).unflatten(0, padded.shape[:2])
        # Dropout of the same dimensions in all frames of an utterance.
        return self.head(vectors * self.dropout(vectors.new_ones(len(rows), 1, DIM)), lengths)


class Margin(nn.Module):
    """Additive-margin softmax loss of embeddings, with a vector of each speaker.

    Args:
        dim: of the embeddings.
        speakers: number of training speakers.
    """

    def __init__(self, dim: int, speakers: int) -> None:
        super().__init__()
        self.centres = nn.Parameter(torch.randn(speakers, dim))

    def forward(self, embeddings: Tensor, speakers: Tensor) -> Tensor:
        """The mean loss of embeddings (batch, dim) of speakers (batch,)."""
        cosines = F.normalize(embeddings) @ F.normalize(self.centres).T
        margin = _MARGIN * F.one_hot(speakers, len(self.centres))
        return F.cross_entropy(_SCALE * (cosines - margin), speakers)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed PyTorch's random numbers, and use one thread for a fixed order of sums.

    Both are restored afterwards.
    """
    with (
        torch_threads(1),
        torch.random.fork_rng(devices=[]),
        torch.inference_mode(False),
        torch.enable_grad(),
    ):
        torch.manual_seed(seed)
        yield


def make_head(kind: str, outputs: int, frame_rate: float) -> nn.Module:
    """Make a head by name: ``linear``, ``BiLSTM``, ``ECAPA-like``, ``CTC linear``, ``CTC
    BiLSTM``.
    """
    if kind == "linear":
        return Pooled(DIM, outputs)
    if kind == "BiLSTM":
        return Recurrent(DIM, outputs, frame_rate)
    if kind == "ECAPA-like":
        return Speaker(DIM, outputs, frame_rate)
    return Characters(DIM, outputs, frame_rate, recurrent=kind == "CTC BiLSTM")


def learn(
    probe: Probe,
    rows: Sequence[Tensor],
    loss_of: Callable[[Any, list[int]], Tensor],
    budget: Budget,
    frame_rate: float,
    others: Sequence[nn.Module] = (),
) -> None:
    """Train a probe in place; used within `seeded`.

    Args:
        probe: new.
        rows: prepared frames of each training utterance.
        loss_of: computes the loss from the head's output for some of them, and their indices.
        budget: of training.
        frame_rate: of the rows, Hz.
        others: modules of the loss, trained too.
    """
    parameters = [p for module in (probe, *others) for p in module.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=budget.rate, weight_decay=budget.decay, fused=True)
    each = math.ceil(len(rows) / budget.batch)
    total = max(budget.epochs * each, budget.steps)
    warm = max(1, total // 10)
    probe.train()
    longest = round(budget.crop * frame_rate)
    order: list[int] = []
    for step in range(total):
        if not order:
            order = torch.randperm(len(rows)).tolist()
        chosen, order = order[: budget.batch], order[budget.batch :]
        progress = (step - warm) / max(1, total - warm)
        factor = (step + 1) / warm if step < warm else (1 + math.cos(math.pi * progress)) / 2
        optimizer.param_groups[0]["lr"] = budget.rate * factor
        loss = loss_of(probe([_crop(rows[at], longest) for at in chosen]), chosen)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 5.0)
        optimizer.step()
    probe.eval()


def _crop(row: Tensor, longest: int) -> Tensor:
    """Return a random crop of at most `longest` frames; all of it if that is 0."""
    if not longest or len(row) <= longest:
        return row
    start = int(torch.randint(len(row) - longest + 1, ()))
    return row[start : start + longest]


@torch.no_grad()
def answers(probe: Probe, rows: Sequence[Tensor], batch: int = 64) -> list[Tensor]:
    """Return the head's output for each row: (outputs,), or (frames, outputs) of a CTC head."""
    found: list[Tensor | None] = [None] * len(rows)
    # Sorted by length, so that there is little padding.
    order = sorted(range(len(rows)), key=lambda at: len(rows[at]))
    for start in range(0, len(order), batch):
        chosen = order[start : start + batch]
        answer = probe([rows[at] for at in chosen])
        if isinstance(answer, tuple):
            outputs, lengths = answer
            parts = [row[:count] for row, count in zip(outputs, lengths.tolist(), strict=True)]
        else:
            parts = list(answer)
        for at, part in zip(chosen, parts, strict=True):
            found[at] = part
    return [part for part in found if part is not None]
