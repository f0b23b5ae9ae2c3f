"""`TritonSearch`: nearest-code search on a GPU."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..scores import Metric
from .device import cdiv, multiprocessors, on_device, power_of_two, require_device
from .judging import constants, judge, table_of
from .preparation import CODES_MULTIPLE, ScreeningCodes, prepare
from .screening import screen_narrow, screen_wide
from .settling import SettlingCodes, score_chosen, settle_listed, settle_tile

# Rows per round of kernels; bounds the memory beside the results, at 12 bytes per row and split,
# and 4 for the list.
_ROUND = 1 << 20


@dataclass(frozen=True)
class Tiles:
    """Tile shapes of the screening kernels; see `default_tiles` for their choice.

    Attributes:
        rows, codes, channels: of one tile; codes divide 128, channels 32.
        num_warps: warps per program.
        num_stages: tiles of codes in flight.
        rough_from: number of channels from which rows are first screened with one product instead
            of three, and only undecided ones with three.
    """

    rows: int
    codes: int
    channels: int
    num_warps: int
    num_stages: int
    rough_from: int = 256


def default_tiles(dim: int, narrow: bool) -> Tiles:
    """Tiles for Hopper, by counting registers and shared memory; not measured.

    Narrow: 64 × 64 scores and the three states of each lane are 128 registers of 128 threads, and
    a tile of packed codes is at most 16 KB. Wide: 128 × 128 scores and products are 128 registers
    of 256 threads, and a stage is 48 KB of the 227 KB that a program may use.
    """
    if narrow:
        return Tiles(rows=64, codes=64, channels=0, num_warps=4, num_stages=3)
    return Tiles(rows=128, codes=128, channels=32, num_warps=8, num_stages=3)


class TritonSearch:
    """Exact search by screening on matrix units; the same codes as `ReferenceSearch`.

    Up to 20 channels, a score is one product of at most 64 packed columns; above, three products
    per 32 channels, or from 256 channels on, one for all rows and three for undecided ones. Rows
    that the bound in `judging.py` leaves undecided are decided in float64. Everything is launched
    without waiting for the device. Beside its results, a search takes less than 80 bytes for each
    of at most 2^20 rows; the codebook is stored three to nine times.

    Args:
        codebook: (K, D) float32, finite, on a CUDA device.
        metric: "l2", "cosine" or "ip".
        tiles: shapes of the screening kernels, instead of `default_tiles`.

    Raises:
        QuantizerError: the codebook is not on a CUDA device.
    """

    def __init__(self, codebook: Tensor, metric: Metric, tiles: Tiles | None = None):
        require_device(codebook, "codebook")
        self.codebook = codebook.contiguous()
        self.metric: Metric = metric
        self._codes: ScreeningCodes = prepare(self.codebook, metric)
        packed = self._codes.packed
        dim = codebook.shape[1]
        self.tiles = tiles or default_tiles(dim, packed is not None)
        if packed is not None:
            addends = packed.shape[1]
        else:
            addends = self.tiles.channels + cdiv(dim, self.tiles.channels) + 8
        self.tables = {
            parts: table_of([constants(self._codes, addends, parts)], codebook) for parts in (1, 2)
        }
        self._settling = SettlingCodes(
            raw=self._codes.raw[None],
            unit=self._codes.unit[None],
            norms=self._codes.norms[None],
            offsets=self._codes.offsets[None],
            table=self.tables[2],
            sizes=torch.tensor([codebook.shape[0]], dtype=torch.int32, device=codebook.device),
        )

    def search(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Find codes (N,) int64 of rows (N, D) and their float64 scores (N,); `codes` is faster."""
        codes = self.codes(rows)
        return codes, self.scores(rows, codes)

    def codes(self, rows: Tensor) -> Tensor:
        """Find codes (N,) int64 of float32 rows (N, D)."""
        require_device(rows, "rows")
        rows = rows.contiguous()
        codes = torch.empty(rows.shape[0], dtype=torch.int64, device=rows.device)
        with on_device(rows):
            for start in range(0, rows.shape[0], _ROUND):
                part = slice(start, start + _ROUND)
                self._search_round(rows[part], codes[part])
        return codes

    def scores(self, rows: Tensor, codes: Tensor) -> Tensor:
        """Compute exact scores (N,) float64 of rows (N, D) and codes (N,) int64."""
        count, dim = rows.shape
        scores = torch.empty(count, dtype=torch.float64, device=rows.device)
        width, tile = settle_tile(dim)
        if count:
            with on_device(rows):
                score_chosen[(cdiv(count, tile),)](
                    rows.contiguous(),
                    codes,
                    self._codes.raw,
                    self._codes.norms,
                    scores,
                    count,
                    dim,
                    METRIC=self.metric,
                    ROWS=tile,
                    WIDTH=width,
                    HALVINGS=width.bit_length() - 1,
                    num_warps=4,
                    enable_fp_fusion=False,
                )
        return scores

    def _search_round(self, rows: Tensor, codes: Tensor) -> None:
        count = rows.shape[0]
        listed = torch.empty((2, count), dtype=torch.int32, device=rows.device)
        counts = torch.zeros(2, dtype=torch.int32, device=rows.device)
        rough = self._codes.packed is None and rows.shape[1] >= self.tiles.rough_from
        source = 0 if rough else None
        if rough:
            self._judge(rows, codes, listed, counts, parts=1, source=None, target=0)
        self._judge(rows, codes, listed, counts, parts=2, source=source, target=1)
        settle_listed(rows, listed[1], counts[1:], self._settling, self.metric, codes)

    def _judge(
        self,
        rows: Tensor,
        codes: Tensor,
        listed: Tensor,
        counts: Tensor,
        *,
        parts: int,
        source: int | None,
        target: int,
    ) -> None:
        """Screen all rows, or those of list `source`; append undecided ones to list `target`."""
        count, dim = rows.shape
        list_in = None if source is None else listed[source]
        count_in = None if source is None else counts[source:]
        best, second, code = self.screen(rows, parts, list_in, count_in)
        channels = min(32, power_of_two(dim))
        tile = min(128, 1024 // channels)
        judge[(cdiv(count, tile),)](
            rows,
            rows if list_in is None else list_in,
            rows if count_in is None else count_in,
            best,
            second,
            code,
            self.tables[parts],
            codes,
            listed[target],
            counts[target:],
            count,
            self.codebook.shape[0],
            best.shape[0],
            dim,
            PARTS=parts,
            LISTED=list_in is not None,
            L2=self.metric == "l2",
            ROWS=tile,
            CHANNELS=channels,
            num_warps=4,
        )

    def screen(
        self,
        rows: Tensor,
        parts: int = 2,
        listed: Tensor | None = None,
        count: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the two lowest scores and the lowest one's code, for each split of the codes.

        Args:
            rows: (N, D) float32, contiguous, N > 0.
            parts: 1 for one product, for wide codebooks only, or 2 for three.
            listed, count: (N,) and (1,) int32, to screen the first `count` rows in `listed`.

        Returns:
            (splits, N) float32, float32 and int32; indexed by place in the list if there is one.
            (splits, N) float32, float32 and int32; by place in the list where there is one.
        """
        total, dim = rows.shape
        tiles, prepared = self.tiles, self._codes
        padded = prepared.offsets.shape[0]
        # A list usually has few of the rows, so its programs need more splits.
        expected = total if listed is None else cdiv(total, 8)
        share, splits = _shares(padded, tiles.codes, cdiv(expected, tiles.rows), rows)
        best, second = torch.empty((2, splits, total), dtype=torch.float32, device=rows.device)
        code = torch.empty((splits, total), dtype=torch.int32, device=rows.device)
        grid = (cdiv(total, tiles.rows), splits)
        if prepared.packed is not None:
            screen_narrow[grid](
                rows,
                prepared.packed,
                best,
                second,
                code,
                total,
                share,
                padded,
                DIM=dim,
                WIDTH=prepared.packed.shape[1],
                ROWS=tiles.rows,
                CODES=tiles.codes,
                num_warps=tiles.num_warps,
                num_stages=tiles.num_stages,
            )
        else:
            screen_wide[grid](
                rows,
                rows if listed is None else listed,
                rows if count is None else count,
                prepared.high,
                prepared.low,
                prepared.offsets,
                best,
                second,
                code,
                total,
                share,
                padded,
                dim,
                prepared.high.shape[1],
                PARTS=parts,
                LISTED=listed is not None,
                ROWS=tiles.rows,
                CODES=tiles.codes,
                CHANNELS=tiles.channels,
                num_warps=tiles.num_warps,
                num_stages=tiles.num_stages,
            )
        return best, second, code


def _shares(codes: int, tile: int, row_tiles: int, like: Tensor) -> tuple[int, int]:
    """Return the number of codes per program, and the number of programs that share a row's codes.

    With few rows, multiprocessors are idle unless several share a row's codes. Two programs each
    fill the device; a share of fewer than eight tiles is not worth starting a program.
    """
    wanted = cdiv(2 * multiprocessors(like), row_tiles)
    splits = max(1, min(wanted, codes // max(8 * tile, CODES_MULTIPLE)))
    share = cdiv(cdiv(codes, splits), tile) * tile
    return share, cdiv(codes, share)
