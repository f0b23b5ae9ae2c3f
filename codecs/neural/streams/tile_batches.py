"""Tiles of many rows in one call, for processors that want much work at once (CUDA).

A tile of one row costs a GPU little more than starting its kernels. So the tiles of many rows go
through the network together, in calls of one fixed shape: `places` rows, of which some may be
empty. Which rows share a call, and in which places they are, changes nothing of a row's results
but, at most, the rounding of the matrix library; networks are run in float64, where codes don't
depend on that.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .tile_state import TileState

#: Maps tiles (places, tile, …) and a state of so many rows, which it must not change, to results
#: (places, tile, …) and the new state.
TilesFunction = Callable[[Tensor, list[Tensor]], tuple[Tensor, list[Tensor]]]

#: The most rows of a call.
PLACES = 256
# Tiles of each row that are laid out at once; a bound on memory.
_ROUNDS = 8


def places_for(rows: int) -> int:
    """Rows of each call for a stream of so many: a power of two."""
    return min(PLACES, 1 << max(0, rows - 1).bit_length())


class TileBatches:
    """Run a causal network over the frames of rows, a tile of each in every call.

    Args:
        function: see `TilesFunction`.
        init_state: creates the state of one row: tensors (1, …).
        empty: (tile, …) a tile without frames.
        places: rows of each call.
    """

    def __init__(
        self,
        function: TilesFunction,
        init_state: Callable[[], Any],
        empty: Tensor,
        places: int,
    ) -> None:
        self.function, self.init_state = function, init_state
        self.empty, self.places = empty, places

    def push(
        self,
        rows: Sequence[Tensor],
        states: Sequence[TileState[list[Tensor]]],
        after: Callable[[Tensor], Tensor] | None = None,
    ) -> list[list[Tensor]]:
        """Process new frames (new frames, …) of each row; return its results as a list of pieces.

        The states are updated.

        Args:
            after: maps results (frames, …) to other results, each frame on its own.
        """
        # Rows of like lengths share calls, so that few places stay empty.
        order = sorted(
            (row for row, frames in enumerate(rows) if frames.shape[0]),
            key=lambda row: rows[row].shape[0],
            reverse=True,
        )
        results: list[list[Tensor]] = [[] for _ in rows]
        for start in range(0, len(order), self.places):
            members = order[start : start + self.places]
            found = self._run(
                [rows[row] for row in members], [states[row] for row in members], after
            )
            for row, pieces in zip(members, found, strict=True):
                results[row] = pieces
        return results

    def _run(
        self,
        rows: list[Tensor],
        states: list[TileState[list[Tensor]]],
        after: Callable[[Tensor], Tensor] | None,
    ) -> list[list[Tensor]]:
        """`push` for at most as many rows as there are places."""
        missing = [self.init_state()] * (self.places - len(rows))
        networks = [*(state.network for state in states), *missing]
        network = [torch.cat(parts) for parts in zip(*networks, strict=True)]
        results: list[list[Tensor]] = [[] for _ in rows]
        size = len(self.empty)
        while any(row.shape[0] for row in rows):
            begins = [state.filled for state in states]
            counts = [
                min(row.shape[0], _ROUNDS * size - begin)
                for row, begin in zip(rows, begins, strict=True)
            ]
            ends = [begin + count for begin, count in zip(begins, counts, strict=True)]
            tiles = self._laid_out(rows, states, ends)
            found = []
            for number in range(tiles.shape[1]):
                result, advanced = self.function(tiles[:, number], network)
                if after is not None:
                    result = after(result.flatten(0, 1)).unflatten(0, (self.places, size))
                found.append(result)
                network = self._where(
                    [end >= (number + 1) * size for end in ends], advanced, network
                )
            whole = torch.cat(found, 1)
            for place, state in enumerate(states):
                results[place].append(whole[place, begins[place] : ends[place]])
                last, state.filled = divmod(ends[place], size)
                assert state.frames is not None
                state.frames.copy_(tiles[place, last] if state.filled else self.empty)
            rows = [row[count:] for row, count in zip(rows, counts, strict=True)]
        for state, *parts in zip(
            states, *(part.split(1)[: len(states)] for part in network), strict=True
        ):
            state.network = parts
        return results

    def _laid_out(
        self, rows: list[Tensor], states: list[TileState[Any]], ends: list[int]
    ) -> Tensor:
        """Return the rows' next tiles (places, tiles, tile, …), each from its unfinished one on."""
        size = len(self.empty)
        tiles = self.empty.expand(self.places, -(-max(ends) // size), *self.empty.shape).clone()
        frames = tiles.flatten(1, 2)
        for place, (row, state, end) in enumerate(zip(rows, states, ends, strict=True)):
            assert state.frames is not None
            frames[place, : state.filled] = state.frames[: state.filled]
            frames[place, state.filled : end] = row[: end - state.filled]
        return tiles

    def _where(self, full: list[bool], then: list[Tensor], now: list[Tensor]) -> list[Tensor]:
        """The state after a call: that of rows whose tile is not full stays as it was."""
        if all(full):
            return then
        mask = torch.tensor(full + [False] * (self.places - len(full)), device=then[0].device)
        return [
            torch.where(mask.view(-1, *[1] * (new.ndim - 1)), new, old)
            for new, old in zip(then, now, strict=True)
        ]
