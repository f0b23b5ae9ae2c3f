# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators
# Triton reads the types of a kernel's arguments from its launch.
"""`TritonResidualChain`: residual quantization with all stages in one kernel."""

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from ....errors import QuantizerError
from .device import cdiv, multiprocessors, on_device, power_of_two, require_device
from .judging import CONSTANTS, DROPPED, LONGEST, SCREENING, append, constants, margin, table_of
from .nearest import TritonSearch
from .preparation import CODES_MULTIPLE, ScreeningCodes, prepare
from .screening import join_lanes, pack_rows, round_tf32, start_lanes, track_lanes
from .settling import SettlingCodes, settle_listed

# Number of channels up to which a tile of residuals and its two parts fit on chip.
_ON_CHIP = 128


@triton.jit
def encode_chain(
    x,
    packed,
    high,
    low,
    offsets,
    raw,
    table,
    sizes,
    codes_out,
    residual_out,
    listed,
    count,
    num_rows,
    stages,
    padded_codes,
    code_rows,
    DIM: tl.constexpr,
    WIDTH: tl.constexpr,
    NARROW: tl.constexpr,
    ROWS: tl.constexpr,
    CODES: tl.constexpr,
):
    """Find codes of all stages for a tile of rows, and list rows that a stage left undecided.

    The residual stays in registers; narrow ones as the three copies of `pack_rows`. The codebooks
    are `ScreeningCodes`, stacked (stages, padded_codes, WIDTH); `raw` (stages, code_rows, DIM).
    """
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    live = row < num_rows
    column = tl.arange(0, WIDTH)
    lane = tl.arange(0, CODES)
    if NARROW:
        channel = column % DIM
        inside = column < 3 * DIM
    else:
        channel = column
        inside = column < DIM
    owner = column < DIM
    at = row[:, None].to(tl.int64) * DIM + channel[None, :]
    mask = live[:, None] & inside[None, :]
    rest = tl.load(x + at, mask=mask, other=0.0)
    opened = tl.zeros((ROWS,), tl.int32)
    for stage in range(stages):
        stage_start = tl.full((), stage, tl.int64) * padded_codes
        wide = tl.where(owner[None, :], rest, 0.0).to(tl.float64)
        length = tl.sqrt(tl.sum(wide * wide, axis=1))
        smallest, second, start = start_lanes(ROWS, CODES)
        if NARROW:
            rows = pack_rows(rest, column, DIM)
        else:
            rows_high = round_tf32(rest)
            rows_low = round_tf32(rest - rows_high)
        for first in range(0, padded_codes, CODES):
            place = (stage_start + first + lane)[None, :] * WIDTH + column[:, None]
            if NARROW:
                scores = tl.dot(rows, tl.load(packed + place), input_precision="tf32")
            else:
                codes_high = tl.load(high + place)
                products = tl.dot(rows_low, codes_high, input_precision="tf32")
                codes_low = tl.load(low + place)
                products = tl.dot(rows_high, codes_low, products, input_precision="tf32")
                products = tl.dot(rows_high, codes_high, products, input_precision="tf32")
                scores = tl.load(offsets + stage_start + first + lane)[None, :] - products
            smallest, second, start = track_lanes(scores, first, smallest, second, start)
        best, code, next_best = join_lanes(smallest, second, start, CODES)

        limits = table + stage * CONSTANTS
        bound = margin(
            length,
            0.0,
            tl.load(limits + LONGEST),
            tl.load(limits + DROPPED),
            tl.load(limits + SCREENING),
            DIM,
            True,
        )
        decided = (next_best.to(tl.float64) - best.to(tl.float64)) > 2 * bound
        opened = tl.where(decided, opened, 1)
        # Padding can win where scores overflowed; such rows are never taken as settled.
        code = tl.minimum(code, tl.load(sizes + stage) - 1)
        tl.store(codes_out + row.to(tl.int64) * stages + stage, code.to(tl.int64), mask=live)
        chosen = (tl.full((), stage, tl.int64) * code_rows + code)[:, None] * DIM
        rest = rest - tl.load(raw + chosen + channel[None, :], mask=mask, other=0.0)
    tl.store(residual_out + at, rest, mask=mask & owner[None, :])
    append(listed, count, row, live & (opened == 1))


@triton.jit
def sum_codes(
    codes,
    raw,
    sums_out,
    num_rows,
    stages,
    code_rows,
    dim,
    ROWS: tl.constexpr,
    WIDTH: tl.constexpr,
):
    """Sum codes (num_rows, stages) in the order of the stages: (num_rows, dim)."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    channel = tl.program_id(1) * WIDTH + tl.arange(0, WIDTH)
    live = row < num_rows
    mask = live[:, None] & (channel < dim)[None, :]
    column = codes + row.to(tl.int64) * stages
    code = tl.load(column, mask=live, other=0)
    total = tl.load(raw + code[:, None] * dim + channel[None, :], mask=mask, other=0.0)
    for stage in range(1, stages):
        code = tl.load(column + stage, mask=live, other=0) + stage * code_rows
        total += tl.load(raw + code[:, None] * dim + channel[None, :], mask=mask, other=0.0)
    tl.store(sums_out + row[:, None].to(tl.int64) * dim + channel[None, :], total, mask=mask)


class TritonResidualChain:
    """Greedy residual search by squared distance; the same codes and residuals as `ResidualChain`.

    Up to 128 channels, one kernel does all stages of a tile of rows, and a second one repeats, in
    float64, the rows that a stage left undecided. Above, stages are searched one after the other.
    Args:
        codebooks: S of (K_s, D) float32, finite, on a CUDA device.

    Raises:
        QuantizerError: no codebooks, different D, or not on a CUDA device.
    """

    name = "triton"

    def __init__(self, codebooks: Sequence[Tensor]):
        if not codebooks or len({codebook.shape[1] for codebook in codebooks}) != 1:
            shapes = [tuple(codebook.shape) for codebook in codebooks]
            raise QuantizerError(f"codebooks must be (K, D) with one D, got {shapes}")
        for codebook in codebooks:
            require_device(codebook, "codebooks")
        sizes = [codebook.shape[0] for codebook in codebooks]
        self._sizes = torch.tensor(sizes, dtype=torch.int32, device=codebooks[0].device)
        self._raw = torch.stack([_with_rows(codebook, max(sizes)) for codebook in codebooks])
        self._dim = codebooks[0].shape[1]
        self._searches: list[TritonSearch] = []
        if self._dim > _ON_CHIP:
            self._searches = [TritonSearch(codebook, "l2") for codebook in codebooks]
            return
        prepared = [prepare(codebook.contiguous(), "l2") for codebook in codebooks]
        self._narrow = prepared[0].packed is not None
        rows = max(codes.offsets.shape[0] for codes in prepared)
        self._offsets = torch.stack([_with_offsets(codes.offsets, rows) for codes in prepared])
        self._operands = _stacked(prepared, rows, self._narrow, self._dim)
        self._width = self._operands[0].shape[2]
        table = [constants(codes, self._width + 8, parts=2) for codes in prepared]
        self._settling = SettlingCodes(
            raw=self._raw,
            unit=self._raw,
            norms=torch.stack([_with_rows(codes.norms, max(sizes)) for codes in prepared]),
            offsets=self._offsets,
            table=table_of(table, codebooks[0]),
            sizes=self._sizes,
        )

    @property
    def stages(self) -> int:
        return self._raw.shape[0]

    @torch.no_grad()
    def encode(self, x: Tensor, num_codebooks: int | None = None) -> tuple[Tensor, Tensor]:
        """Find codes and return the residuals.

        Args:
            x: (N, D) floating point; rounded to float32 if it is wider.
            num_codebooks: number of stages to use, from the first; None: all.

        Returns:
            Codes (N, S) int64, and the float32 residuals (N, D) after the last stage.

        Raises:
            QuantizerError: a wrong shape, dtype or device; NaN or infinite values, or a residual
                beyond float32.
        """
        stages = self.stages if num_codebooks is None else num_codebooks
        require_device(x, "x")
        if x.ndim != 2 or x.shape[1] != self._dim or not x.is_floating_point():
            raise QuantizerError(
                f"x must be floating point (N, {self._dim}), got {x.dtype} {tuple(x.shape)}"
            )
        x = x.float().contiguous()
        codes = torch.empty((x.shape[0], stages), dtype=torch.int64, device=x.device)
        with on_device(x):
            residual = self._encode_on_chip(x, codes) if not self._searches else x
            for stage, search in enumerate(self._searches[:stages]):
                codes[:, stage] = search.codes(residual)
                residual = residual - search.codebook[codes[:, stage]]
        # Non-finite values stay so through all stages: one check at the end is enough.
        if not bool(residual.isfinite().all()):
            raise QuantizerError("x has NaN or infinite values, or a residual overflows float32")
        return codes, residual

    def decode(self, codes: Tensor) -> Tensor:
        """Sum the codes (N, S'), integers, in the order of the stages: (N, D) float32.

        Raises:
            QuantizerError: more stages than codebooks, or a code out of range.
        """
        require_device(codes, "codes")
        codes = codes.long()
        count, stages = codes.shape
        if not 1 <= stages <= self.stages:
            raise QuantizerError(f"codes must have 1 to {self.stages} stages, got {stages}")
        if bool(((codes < 0) | (codes >= self._sizes[:stages])).any()):
            raise QuantizerError("codes are outside of their codebooks")
        sums = torch.empty((count, self._dim), dtype=torch.float32, device=codes.device)
        width = min(128, power_of_two(self._dim))
        # 16 bytes for each of 128 threads: several independent loads in flight, for any D.
        rows = max(1, 2048 // width)
        if count:
            with on_device(codes):
                sum_codes[(cdiv(count, rows), cdiv(self._dim, width))](
                    codes.contiguous(),
                    self._raw,
                    sums,
                    count,
                    stages,
                    self._raw.shape[1],
                    self._dim,
                    ROWS=rows,
                    WIDTH=width,
                    num_warps=4,
                )
        return sums

    def _encode_on_chip(self, x: Tensor, codes: Tensor) -> Tensor:
        count, dim = x.shape
        residual = torch.empty_like(x)
        if not count:
            return residual
        listed = torch.empty(count, dtype=torch.int32, device=x.device)
        open_rows = torch.zeros(1, dtype=torch.int32, device=x.device)
        rows, tile, num_warps, num_stages = self._tiles(x)
        first, second = self._operands[0], self._operands[-1]
        encode_chain[(cdiv(count, rows),)](
            x,
            first,
            first,
            second,
            self._offsets,
            self._raw,
            self._settling.table,
            self._sizes,
            codes,
            residual,
            listed,
            open_rows,
            count,
            codes.shape[1],
            self._offsets.shape[1],
            self._raw.shape[1],
            DIM=dim,
            WIDTH=self._width,
            NARROW=self._narrow,
            ROWS=rows,
            CODES=tile,
            num_warps=num_warps,
            num_stages=num_stages,
        )
        settle_listed(x, listed, open_rows, self._settling, "l2", codes, residual)
        return residual

    def _tiles(self, x: Tensor) -> tuple[int, int, int, int]:
        """Rows and codes of a tile, warps and stages; by counting registers, not measured.

        Wide: 64 × 128 residuals, their two parts, scores and three states of 64 × 64 are at most
            144
        registers of 256 threads, and codes in two parts 64 KB per stage. If there are too few rows
        to
        fill the device, tiles are smaller: each stage waits for the one before, so only more
            programs
        help.
        """
        rows = 64 if x.shape[0] > 32 * multiprocessors(x) else 16
        if self._narrow:
            return rows, 64, 4, 3
        return rows, 64 if self._width <= 64 else 32, 8 if rows == 64 else 4, 2


def _with_rows(values: Tensor, rows: int) -> Tensor:
    """Append rows of zeros to (K, …)."""
    missing = values.new_zeros((rows - values.shape[0], *values.shape[1:]))
    return torch.cat([values, missing])


def _with_offsets(offsets: Tensor, rows: int) -> Tensor:
    """Append offsets that no row comes near to (K',), up to `rows`."""
    return torch.cat([offsets, offsets.new_full((rows - offsets.shape[0],), 2.0**126)])


def _stacked(
    prepared: list[ScreeningCodes], rows: int, narrow: bool, dim: int
) -> tuple[Tensor, ...]:
    """Stack the factors of the products, (S, rows, W): packed codes, or high and low parts."""
    assert rows % CODES_MULTIPLE == 0
    if narrow:
        packed = torch.stack([_with_rows(_packed(codes), rows) for codes in prepared])
        for stage, codes in enumerate(prepared):
            packed[stage, codes.offsets.shape[0] :, 3 * dim] = 2.0**126
        return (packed,)
    missing = power_of_two(prepared[0].high.shape[1]) - prepared[0].high.shape[1]
    parts = ([codes.high for codes in prepared], [codes.low for codes in prepared])
    return tuple(
        torch.stack(
            [_with_rows(torch.nn.functional.pad(values, (0, missing)), rows) for values in part]
        )
        for part in parts
    )


def _packed(codes: ScreeningCodes) -> Tensor:
    assert codes.packed is not None
    return codes.packed
