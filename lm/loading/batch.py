"""`Batch`: rows of ids for one step of training, as tensors."""

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch

from .fill_kernels import sequence_bounds

if TYPE_CHECKING:
    from .samples import Rows


@dataclass(frozen=True, eq=False)
class Batch:
    """Rows of ids, what a model should say after each, and where documents begin and end.

    Patterns of one stream have no axis of streams.

    Attributes:
        ids: (rows, steps) or (rows, streams, steps) int64.
        targets: of the same shape, int64: the id that follows in the same document, -100 where
            there is nothing to learn. They are shifted already: compare them with the logits as
            they are.
        positions: (rows, steps) int64, from 0 in each document (and in the padding of a row).
        lengths: (rows,) int64, steps that are not padding.
        cu_seqlens: (sequences + 1,) int32, where the documents of all rows begin, one row after the
            other, and the end; for attention of variable length. A row's padding is a sequence.
        max_seqlen: steps of the longest of them.
        parts: (parts, 5) int64: row, number of the data set, item, first step and last step + 1 of
            the item's document, for each part in order.
        next: the position after this step of training, on all ranks: all that a checkpoint needs.
    """

    ids: torch.Tensor
    targets: torch.Tensor
    positions: torch.Tensor
    lengths: torch.Tensor
    cu_seqlens: torch.Tensor
    max_seqlen: int
    parts: torch.Tensor
    next: int

    def documents(self) -> torch.Tensor:
        """(rows, steps) int64: number of the document that a step is of, from 0 in each row, and -1
        for padding."""
        begins = (self.positions == 0).long()
        found = begins.cumsum(1) - 1
        steps = torch.arange(self.positions.shape[1], device=found.device)
        return torch.where(steps < self.lengths[:, None], found, -1)

    def mask(self) -> torch.Tensor:
        """(rows, 1, steps, steps) bool: which steps each step sees: those before it of its own
        document, and itself. For `scaled_dot_product_attention`; long rows need `cu_seqlens`."""
        numbers = self.documents()
        steps = numbers.shape[1]
        causal = torch.ones(steps, steps, dtype=torch.bool, device=numbers.device).tril()
        return ((numbers[:, :, None] == numbers[:, None, :]) & causal)[:, None]

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """All tensors elsewhere, as `Tensor.to` does it."""
        return self._map(lambda tensor: tensor.to(*args, **kwargs))

    def pin_memory(self) -> Self:
        """For the DataLoader of torch."""
        return self._map(lambda tensor: tensor.pin_memory())

    def _map(self, function: Any) -> Self:
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        return type(self)(
            **{k: function(v) if isinstance(v, torch.Tensor) else v for k, v in values.items()}
        )


def batch_of(rows: "Rows", following: int) -> Batch:
    """Rows as a batch; `following` is its `next`."""
    ids, targets = torch.from_numpy(rows.ids), torch.from_numpy(rows.targets)
    one = ids.shape[1] == 1
    bounds = sequence_bounds(rows.parts, rows.lengths, rows.positions.shape[1])
    return Batch(
        ids[:, 0] if one else ids,
        targets[:, 0] if one else targets,
        torch.from_numpy(rows.positions),
        torch.from_numpy(rows.lengths),
        torch.from_numpy(bounds),
        int(np.diff(bounds).max()),
        torch.from_numpy(rows.parts),
        following,
    )
