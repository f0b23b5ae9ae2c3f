"""The quantizers on a GPU: exactness against float64, timings beside others, tile shapes.

    python benchmarks/gpu_quantizers.py exactness|timings|tiles [--out FOLDER] [--interpret]

`benchmarks/gpu.sh` runs all three. `--interpret` runs them on the CPU under Triton's interpreter,
on tiny sizes: it shows that this file works, and its times mean nothing.

Times are CUDA events around a call, medians over rounds in which the contenders take turns, after
one round that does not count. Before each call a buffer larger than the second-level cache is
written, so that all start with a cold cache and with their launches already queued.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

# Triton looks at this when a kernel is defined, that is, before anything below is imported.
if "--interpret" in sys.argv:
    os.environ["TRITON_INTERPRET"] = "1"

import torch
from torch import Tensor

from syllabary.quantizers import fsq_decode, fsq_encode
from syllabary.quantizers.search.cuda import (
    Tiles,
    TritonFSQ,
    TritonResidualChain,
    TritonSearch,
)
from syllabary.quantizers.search.cuda.nearest import default_tiles
from syllabary.quantizers.search.reference import ReferenceSearch

TINY = "--interpret" in sys.argv
DEVICE = "cpu" if TINY else "cuda"
ROUNDS = 2 if TINY else 15
LEVELS = ((8, 8, 8, 5, 5, 5), (4,) * 8)
Run = Callable[[], object]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("exactness", "timings", "tiles"))
    parser.add_argument("--out", type=Path, default=Path("gpu-out"))
    parser.add_argument("--interpret", action="store_true")
    options = parser.parse_args()
    if not TINY and not torch.cuda.is_available():
        print("gpu_quantizers.py: torch sees no GPU; --interpret is a dry run", file=sys.stderr)
        return 1
    options.out.mkdir(parents=True, exist_ok=True)
    print(f"{device_name()}; torch {torch.__version__}", flush=True)
    torch.manual_seed(0)
    return {"exactness": exactness, "timings": timings, "tiles": sweep}[options.what](options.out)


def device_name() -> str:
    return "DRY RUN under the interpreter" if TINY else torch.cuda.get_device_name()


def small(size: int) -> int:
    """`size`, or in a dry run what the interpreter can do."""
    return min(size, 24) if TINY else size


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, device=DEVICE)


def codebooks_of(dim: int) -> list[Tensor]:
    return [normal(small(1024), dim) * 0.8**stage for stage in range(8)]


# Exactness


def exactness(out: Path) -> int:
    """Codes of large random problems against float64, disagreements counted; 1 if there are any."""
    searches = [
        ("10 M queries", 10_000_000, 1024, 8, "l2"),
        ("10 M queries, cosine", 10_000_000, 1024, 8, "cosine"),
        ("W2", 36_000, 65_536, 8, "l2"),
        ("W2", 9_000, 131_072, 8, "l2"),
        ("W3", 100_000, 2_000, 1_024, "l2"),
        ("W3, inner product", 100_000, 2_000, 1_024, "ip"),
    ]
    found = []
    for title, rows, size, dim, metric in searches:
        dim = min(dim, 40) if TINY else dim
        found.append(check_search(title, small(rows), small(size), dim, metric))
    for dim in (128, 8):
        found.append(check_chain(dim))
    for levels in LEVELS:
        found.append(check_fsq(levels))
    (out / "exactness.json").write_text(json.dumps(found, indent=1))
    wrong = sum(entry["disagreements"] for entry in found)
    print(f"{len(found)} problems, {wrong} disagreements")
    return int(wrong > 0)


def check_search(title: str, count: int, size: int, dim: int, metric: str) -> dict:
    codebook = normal(size, dim)
    search, reference = TritonSearch(codebook, metric), ReferenceSearch(codebook, metric)
    wrong, worst = 0, 0.0
    for start in range(0, count, 1_000_000):
        rows = normal(min(1_000_000, count - start), dim)
        codes, scores = search.search(rows)
        expected, exact = reference.search(rows)
        wrong += int((codes != expected).sum())
        worst = max(worst, float((scores - exact).abs().max()))
    # The deciding scores are to be equal bit by bit; a difference is a disagreement too.
    wrong += int(worst > 0)
    return told(f"{title}: {count:,} × {size:,} × {dim}, {metric}", wrong, score_difference=worst)


def check_chain(dim: int) -> dict:
    codebooks, x = codebooks_of(dim), normal(small(36_000), dim)
    chain = TritonResidualChain(codebooks)
    codes, residual = chain.encode(x)
    wrong, rest, total = 0, x, torch.zeros((), device=DEVICE)
    for stage, codebook in enumerate(codebooks):
        expected = ReferenceSearch(codebook, "l2").search(rest)[0]
        wrong += int((codes[:, stage] != expected).sum())
        rest, total = rest - codebook[expected], total + codebook[expected]
    wrong += int((residual != rest).any(1).sum()) + int((chain.decode(codes) != total).any(1).sum())
    return told(f"W1: {x.shape[0]:,} × 8 stages × {codebooks[0].shape[0]:,} × {dim}", wrong)


def check_fsq(levels: tuple[int, ...]) -> dict:
    z = normal(small(10_000_000), len(levels)) * 2
    quantizer = TritonFSQ(levels, DEVICE)
    codes = quantizer.encode(z)
    expected = fsq_encode(z.cpu(), levels)
    wrong = int((codes.cpu() != expected).sum())
    wrong += int((quantizer.decode(codes).cpu() != fsq_decode(expected, levels)).sum())
    return told(f"W4: {z.shape[0]:,} vectors, levels {levels}", wrong)


def told(title: str, disagreements: int, **more: float) -> dict:
    print(f"{title}: {disagreements} disagreements {more or ''}", flush=True)
    return {"problem": title, "disagreements": disagreements, **more}


# Timings


def timings(out: Path) -> int:
    """All workloads beside others; the table, and the same as JSON."""
    ceilings = measure_ceilings()
    print(", ".join(f"{name} {value:,.4g}" for name, value in ceilings.items()), flush=True)
    rows = []
    for dim in (128, 8):
        rows += residual_workload(dim)
    for size in (65_536, 131_072):
        for count in (2_000, 9_000, 36_000):
            rows += search_workload("W2", small(count), small(size), 8)
    rows += search_workload("W3", small(100_000), small(2_000), 1_024 if not TINY else 40)
    for levels in LEVELS:
        rows += fsq_workload(levels)
    lines = table(rows, ceilings)
    result = {"device": device_name(), "ceilings": ceilings, "rows": rows}
    (out / "timings.json").write_text(json.dumps(result, indent=1))
    (out / "timings.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    return 0


def measure_ceilings() -> dict[str, float]:
    """What this device reaches: bytes read and written by a large copy, and large products."""
    size = 64 if TINY else 8192
    source = normal(size * size * (1 if TINY else 8))
    target = torch.empty_like(source)
    seconds = interleaved({"copy": lambda: target.copy_(source)})["copy"]
    ceilings = {"copy GB/s": 8 * source.numel() / seconds / 1e9}
    left, right = normal(size, size), normal(size, size)
    half = left.bfloat16(), right.bfloat16()
    allowed = torch.backends.cuda.matmul.allow_tf32

    def product(tf32: bool) -> Tensor:
        torch.backends.cuda.matmul.allow_tf32 = tf32
        try:
            return left @ right
        finally:
            torch.backends.cuda.matmul.allow_tf32 = allowed

    contenders: dict[str, Run] = {
        "float32 TFLOP/s": lambda: product(False),
        "tf32 TFLOP/s": lambda: product(True),
        "bfloat16 TFLOP/s": lambda: half[0] @ half[1],
    }
    seconds_of = interleaved(contenders)
    return ceilings | {name: 2 * size**3 / value / 1e12 for name, value in seconds_of.items()}


def search_workload(title: str, count: int, size: int, dim: int) -> list[dict]:
    rows, codebook = normal(count, dim), normal(size, dim)
    search = TritonSearch(codebook, "l2")
    contenders: dict[str, Run] = {
        "syllabary": lambda: search.codes(rows),
        "torch.cdist + argmin": lambda: torch.cdist(rows, codebook).argmin(1),
    }
    other, reason = peer_search(codebook)
    if other is not None:
        contenders["vector-quantize-pytorch"] = lambda: other(rows)
    name = f"{title}: {count:,} × {size:,} × {dim}"
    products = 2.0 * count * size * dim
    moved = 4.0 * (count + size) * dim + 8.0 * count
    return measured(name, contenders, reason, operations=products, moved=moved)


def residual_workload(dim: int) -> list[dict]:
    codebooks, x = codebooks_of(dim), normal(small(36_000), dim)
    chain = TritonResidualChain(codebooks)
    codes = chain.encode(x)[0]

    def plain() -> Tensor:
        rest, found = x, []
        for codebook in codebooks:
            found.append(torch.cdist(rest, codebook).argmin(1))
            rest = rest - codebook[found[-1]]
        return torch.stack(found, 1)

    def plain_decode() -> Tensor:
        total = codebooks[0][codes[:, 0]]
        for stage in range(1, 8):
            total = total + codebooks[stage][codes[:, stage]]
        return total

    contenders: dict[str, Run] = {
        "syllabary": lambda: chain.encode(x),
        "torch.cdist + argmin": plain,
    }
    other, reason = peer_residual(codebooks)
    if other is not None:
        contenders["vector-quantize-pytorch"] = lambda: other(x)
    count, size = x.shape[0], codebooks[0].shape[0]
    name = f"W1: {count:,} × 8 stages × {size:,} × {dim}"
    moved = 4.0 * (2 * x.numel() + 8 * size * dim) + 64.0 * count
    found = measured(name, contenders, reason, operations=16.0 * count * size * dim, moved=moved)
    decoders: dict[str, Run] = {
        "syllabary": lambda: chain.decode(codes),
        "torch gathers and sums": plain_decode,
    }
    moved = 4.0 * (x.numel() + 8 * size * dim) + 64.0 * count
    return found + measured(f"{name}, decode", decoders, "", operations=0.0, moved=moved)


def fsq_workload(levels: tuple[int, ...]) -> list[dict]:
    z = normal(small(10_000_000), len(levels))
    quantizer = TritonFSQ(levels, DEVICE)
    codes = quantizer.encode(z)
    encoders: dict[str, Run] = {"syllabary": lambda: quantizer.encode(z)}
    decoders: dict[str, Run] = {"syllabary": lambda: quantizer.decode(codes)}
    peer, reason = imported("FSQ")
    if peer is not None:
        other = peer(list(levels)).to(DEVICE).eval()

        def peer_encode() -> object:
            with torch.no_grad():
                return other(z[None])

        def peer_decode() -> object:
            with torch.no_grad():
                return other.indices_to_codes(codes[None])

        encoders["vector-quantize-pytorch"] = peer_encode
        decoders["vector-quantize-pytorch"] = peer_decode
    name = f"W4: {z.shape[0]:,} FSQ vectors {levels}"
    moved = 4.0 * z.numel() + 8.0 * z.shape[0]
    return measured(f"{name}, encode", encoders, reason, operations=0.0, moved=moved) + measured(
        f"{name}, decode", decoders, reason, operations=0.0, moved=moved
    )


def imported(name: str) -> tuple[Callable | None, str]:
    """A class of vector-quantize-pytorch, or why there is none."""
    try:
        import vector_quantize_pytorch
    except ImportError as error:
        return None, f"vector-quantize-pytorch was not timed: {error}"
    return getattr(vector_quantize_pytorch, name), ""


def peer_search(codebook: Tensor) -> tuple[Run | Callable | None, str]:
    peer, reason = imported("VectorQuantize")
    if peer is None:
        return None, reason
    other = peer(dim=codebook.shape[1], codebook_size=codebook.shape[0]).to(DEVICE).eval()
    other._codebook.embed.data.copy_(codebook[None])

    def run(rows: Tensor) -> object:
        with torch.no_grad():
            return other(rows[None])

    return run, reason


def peer_residual(codebooks: list[Tensor]) -> tuple[Callable | None, str]:
    peer, reason = imported("ResidualVQ")
    if peer is None:
        return None, reason
    size, dim = codebooks[0].shape
    other = peer(dim=dim, num_quantizers=len(codebooks), codebook_size=size).to(DEVICE).eval()
    for layer, codebook in zip(other.layers, codebooks, strict=True):
        layer._codebook.embed.data.copy_(codebook[None])

    def run(x: Tensor) -> object:
        with torch.no_grad():
            return other(x[None])

    return run, reason


def measured(
    name: str, contenders: dict[str, Run], reason: str, *, operations: float, moved: float
) -> list[dict]:
    """Times and peak memory of contenders; those that fail are named with the reason."""
    rows, able = [], {}
    for who, run in contenders.items():
        try:
            rows.append({"workload": name, "who": who, "peak MB": peak_memory(run) / 1e6})
            able[who] = run
        except torch.cuda.OutOfMemoryError:
            rows.append({"workload": name, "who": who, "failed": "out of memory"})
    seconds = interleaved(able)
    for row in rows:
        if row["who"] in seconds:
            taken = seconds[row["who"]]
            row |= {
                "ms": taken * 1e3,
                "ratio": taken / seconds["syllabary"],
                "TFLOP/s": operations / taken / 1e12,
                "GB/s": moved / taken / 1e9,
            }
    if reason:
        rows.append({"workload": name, "who": "vector-quantize-pytorch", "failed": reason})
    print(f"{name}: " + ", ".join(f"{who} {value * 1e3:.3f} ms" for who, value in seconds.items()))
    sys.stdout.flush()
    return rows


def peak_memory(run: Run) -> int:
    """Bytes that one call holds at most beside what was there before, results included."""
    if TINY:
        run()
        return 0
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def interleaved(contenders: dict[str, Run], rounds: int = ROUNDS) -> dict[str, float]:
    """Median seconds of each contender."""
    if TINY:
        spent: dict[str, list[float]] = {name: [] for name in contenders}
        for _ in range(rounds):
            for name, run in contenders.items():
                start = time.perf_counter()
                run()
                spent[name].append(time.perf_counter() - start)
        return {name: statistics.median(values) for name, values in spent.items()}
    flushed = torch.empty(1 << 28, dtype=torch.uint8, device=DEVICE)
    events: dict[str, list] = {name: [] for name in contenders}
    for number in range(rounds + 1):
        for name, run in contenders.items():
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            flushed.zero_()
            start.record()
            run()
            end.record()
            if number:
                events[name].append((start, end))
    torch.cuda.synchronize()
    return {
        name: statistics.median(start.elapsed_time(end) for start, end in pairs) / 1e3
        for name, pairs in events.items()
    }


def table(rows: list[dict], ceilings: dict[str, float]) -> list[str]:
    """Markdown. Products are those that the problem asks for, bytes those that it can't avoid."""
    lines = [
        "| work | who | ms | × ours | peak extra MB | TFLOP/s (of float32 / tf32 matmul) | "
        "GB/s (of copy) |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        start = f"| {row['workload']} | {row['who']} |"
        if "failed" in row:
            lines.append(f"{start} – | – | – | {row['failed']} | – |")
            continue
        products = "–"
        if row["TFLOP/s"]:
            plain = row["TFLOP/s"] / ceilings["float32 TFLOP/s"]
            tf32 = row["TFLOP/s"] / ceilings["tf32 TFLOP/s"]
            products = f"{row['TFLOP/s']:.1f} ({plain:.0%} / {tf32:.0%})"
        moved = f"{row['GB/s']:,.0f} ({row['GB/s'] / ceilings['copy GB/s']:.0%})"
        lines.append(
            f"{start} {row['ms']:.3f} | {row['ratio']:.2f} | {row['peak MB']:,.0f} | {products} | "
            f"{moved} |"
        )
    return lines


# Tiles


def sweep(out: Path) -> int:
    """Times of other tile shapes; those that don't fit the device are named."""
    narrow = [
        Tiles(rows, codes, 0, warps, stages)
        for rows, codes, warps in ((64, 64, 4), (64, 128, 8), (128, 64, 8), (128, 128, 8))
        for stages in (2, 4)
    ]
    wide = [
        Tiles(rows, codes, channels, warps, stages, rough)
        for rows, codes, warps in ((128, 128, 8), (128, 64, 8), (64, 128, 4))
        for channels, stages in ((32, 3), (32, 4))
        for rough in (256, 1 << 30)
    ]
    works = [
        ("W2", 9_000, 65_536, 8, narrow),
        ("W2", 36_000, 131_072, 8, narrow),
        ("W3", 100_000, 2_000, 1_024, wide),
    ]
    found = []
    for title, count, size, dim, choices in works:
        dim = min(dim, 40) if TINY else dim
        rows, codebook = normal(small(count), dim), normal(small(size), dim)
        contenders, failed = {}, {}
        for tiles in [default_tiles(dim, dim <= 20), *(choices[:2] if TINY else choices)]:
            try:
                search = TritonSearch(codebook, "l2", tiles)
                search.codes(rows)
                contenders[str(tiles)] = lambda search=search, rows=rows: search.codes(rows)
            except Exception as error:  # too much shared memory, or a compiler's limit
                failed[str(tiles)] = f"{type(error).__name__}: {error}".splitlines()[0]
        seconds = interleaved(contenders, min(ROUNDS, 7))
        print(f"{title}: {rows.shape[0]:,} × {codebook.shape[0]:,} × {dim}")
        for tiles, taken in sorted(seconds.items(), key=lambda item: item[1]):
            print(f"  {taken * 1e3:8.3f} ms  {tiles}")
        for tiles, reason in failed.items():
            print(f"  failed       {tiles}: {reason}")
        found.append({"work": title, "rows": count, "ms": seconds, "failed": failed})
    (out / "tiles.json").write_text(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
