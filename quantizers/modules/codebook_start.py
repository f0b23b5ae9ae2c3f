"""Initialize a codebook from the first training batch: k-means over the frames of all ranks."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..nearest import nearest
from ..search.scores import Metric
from .distributed import rows_of_all_ranks, sum_over_ranks
from .seeds import chosen_positions


def kmeans_codebook(
    frames: Tensor, counts: Sequence[int], size: int, metric: Metric, rounds: int, seed: int
) -> tuple[Tensor, Tensor]:
    """Fit a codebook of cluster means.

    Args:
        frames: (N, D) float32, of this rank.
        counts: the N of each rank, not all zero.
        size: K, the number of codes.
        metric: for assigning frames to clusters.
        rounds: Lloyd rounds.
        seed: for choosing the frames that clusters start from.

    Returns:
        Codebook (K, D) float32, and (K,) bool: which codes have frames. Some have none if there are
        fewer than K different frames.
    """
    total = sum(counts)

    def draw(number: int, *path: int) -> Tensor:
        chosen = chosen_positions(total, number, seed, *path)
        repeated = [chosen[i % len(chosen)] for i in range(number)]
        return rows_of_all_ranks(frames, counts, repeated)

    codebook = draw(size, 0)
    for turn in range(rounds):
        sums, members = cluster_sums(frames, look_up(frames, codebook, metric), size)
        empty = members == 0
        codebook = (sums / members.clamp(min=1)[:, None]).float()
        if bool(empty.any()):
            codebook[empty] = draw(int(empty.sum()), 1 + turn)
    _, members = cluster_sums(frames, look_up(frames, codebook, metric), size)
    return codebook, members > 0


def cluster_sums(frames: Tensor, codes: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Return sums (size, D) and counts (size,) of the frames (N, D) of each code, over all ranks.

    Float64, so that the distribution of frames over ranks changes at most the last bit of a float32
    codebook.
    """
    table = torch.zeros(size, frames.shape[1] + 1, dtype=torch.float64, device=frames.device)
    counted = torch.cat([frames, frames.new_ones(frames.shape[0], 1)], 1)
    table.index_add_(0, codes, counted.double())
    table = sum_over_ranks(table)
    return table[:, :-1], table[:, -1]


def look_up(frames: Tensor, codebook: Tensor, metric: Metric) -> Tensor:
    """Find nearest codes (N,) of frames (N, D) in a codebook that changes after each call."""
    codes = nearest(frames, codebook, metric)
    assert isinstance(codes, Tensor)
    return codes
