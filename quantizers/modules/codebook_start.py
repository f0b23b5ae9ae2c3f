"""A codebook from the first training batch: Lloyd rounds over the joined frames of all ranks."""

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
    """A codebook of cluster means.

    Args:
        frames: (N, D) float32, those of this rank.
        counts: the N of each rank, not all zero.
        size: K, how many codes.
        metric: by which a frame goes to its cluster.
        rounds: Lloyd rounds.
        seed: decides the frames that clusters start from.

    Returns:
        Codebook (K, D) float32, and (K,) bool which codes have frames: fewer than K where the
        frames are fewer, or the same.
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
    """Sums (size, D) and counts (size,) of the frames (N, D) of each code, over all ranks.

    Float64, so that how frames are spread over ranks shows in a float32 codebook in its last bit
    at most.
    """
    table = torch.zeros(size, frames.shape[1] + 1, dtype=torch.float64, device=frames.device)
    counted = torch.cat([frames, frames.new_ones(frames.shape[0], 1)], 1)
    table.index_add_(0, codes, counted.double())
    table = sum_over_ranks(table)
    return table[:, :-1], table[:, -1]


def look_up(frames: Tensor, codebook: Tensor, metric: Metric) -> Tensor:
    """Nearest codes (N,) of frames (N, D), in a codebook that will have changed next time."""
    codes = nearest(frames, codebook, metric)
    assert isinstance(codes, Tensor)
    return codes
