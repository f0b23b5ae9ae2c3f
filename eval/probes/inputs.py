"""The input of a probe: codes or features of an utterance's frames."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

#: Up to so many rows of all tables together, a product with a 0/1 matrix is faster than looking up
#: every code of every codebook: dMel has 80 codebooks of 16.
_FEW_ROWS = 2048
INIT = 0.02


@dataclass(frozen=True, eq=False)
class Rows:
    """Codes or features of some utterances.

    Attributes:
        rows: of each utterance, by name.
        frame_rate: Hz.
        failed: by name, why an utterance has none.
    """

    rows: dict[str, np.ndarray]
    frame_rate: float
    failed: dict[str, str] = field(default_factory=dict)


class Codes(Rows):
    """Codes of some utterances, (frames, codebooks) int64 each."""

    def front(self, names: Sequence[str], dim: int) -> "CodeFront":
        """Return the embedding module for the codes of these utterances."""
        return CodeFront([self.rows[name] for name in names], dim)


class Features(Rows):
    """Features of some utterances, (frames, dim) float32 each."""

    def front(self, names: Sequence[str], dim: int) -> "FeatureFront":
        """Return the projection of features, normalised by mean and deviation over these
        utterances.
        """
        return FeatureFront([self.rows[name] for name in names], dim)


Inputs = Codes | Features


class CodeFront(nn.Module):
    """An embedding table per codebook, and a weighted sum over the codebooks.

    The weights are a softmax over one learned number per codebook (DASB, arXiv 2406.14294). Tables
    are trained from scratch. Codes that occur at most once in the train part share one vector,
    which is also used for unseen codes: so a table has rows only for codes that can be learned, and
    65,536 codes cost no more than are used.

    Args:
        rows: (frames, codebooks) codes of the training utterances.
        dim: of the vectors.
    """

    owner: Tensor

    def __init__(self, rows: Sequence[np.ndarray], dim: int) -> None:
        super().__init__()
        self.known: list[np.ndarray] = []
        self.starts: list[int] = []
        count = 0
        stacked = np.concatenate(rows)
        for codes in stacked.T:
            values, counts = np.unique(codes, return_counts=True)
            self.known.append(values[counts > 1])
            self.starts.append(count)
            count += 1 + len(self.known[-1])
        sizes = [1 + len(known) for known in self.known]
        # Small initial values, so that rare codes are not noise that dominates the others.
        self.table = nn.Parameter(INIT * torch.randn(count, dim))
        self.attention = nn.Parameter(torch.zeros(len(sizes)))
        owner = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
        self.register_buffer("owner", owner, persistent=False)

    def prepare(self, rows: np.ndarray) -> Tensor:
        """Map (frames, codebooks) codes to rows of the table."""
        columns = []
        for codes, known, start in zip(rows.T, self.known, self.starts, strict=True):
            place = np.searchsorted(known, codes)
            found = place < len(known)
            found[found] = known[place[found]] == codes[found]
            columns.append(np.where(found, start + 1 + place, start))
        return torch.from_numpy(np.stack(columns, 1))

    def forward(self, frames: Tensor) -> Tensor:
        """Return vectors (frames, dim) of rows of the table (frames, codebooks)."""
        weighted = self.table * self.attention.softmax(0)[self.owner][:, None]
        if len(self.table) <= _FEW_ROWS and len(self.attention) > 8:
            chosen = torch.zeros(len(frames), len(self.table)).scatter_(1, frames, 1.0)
            return chosen @ weighted
        return nn.functional.embedding_bag(frames, weighted, mode="sum")


class FeatureFront(nn.Module):
    """A linear projection in place of the tables.

    Args:
        rows: (frames, features) of the utterances to train on.
        dim: of the vectors.
    """

    def __init__(self, rows: Sequence[np.ndarray], dim: int) -> None:
        super().__init__()
        stacked = np.concatenate(rows).astype(np.float64)
        self.mean = stacked.mean(0)
        # The scale of a constant channel must not become infinite.
        self.scale = 1 / np.maximum(stacked.std(0), 1e-4)
        self.project = nn.Linear(stacked.shape[1], dim)

    def prepare(self, rows: np.ndarray) -> Tensor:
        """Normalise (frames, features)."""
        return torch.from_numpy(((rows - self.mean) * self.scale).astype(np.float32))

    def forward(self, frames: Tensor) -> Tensor:
        """Return vectors (frames, dim) of features (frames, features)."""
        return self.project(frames)


Front = CodeFront | FeatureFront


def failures(inputs: Inputs, names: Sequence[str]) -> str | None:
    """Return a sentence on the utterances without inputs, or None."""
    failed = {name: inputs.failed[name] for name in names if name in inputs.failed}
    if not failed:
        return None
    reasons = Counter(failed.values())
    shown = "; ".join(f"{reason} ({count})" for reason, count in reasons.most_common(3))
    return f"{len(failed)} of {len(names)} utterances are left out: {shown}"
