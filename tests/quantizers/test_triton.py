"""The Triton kernels against the float64 reference, on a GPU or under Triton's interpreter.

Triton decides when a kernel is defined whether it is interpreted. Without a GPU this file therefore
runs itself once more in a process of its own, where TRITON_INTERPRET is set, and compiles the
kernels for compute capability 9.0 in this one.
"""

import os
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest
import torch

from syllabary.errors import QuantizerError
from syllabary.quantizers import fsq_decode, fsq_encode
from syllabary.quantizers.search.reference import ReferenceSearch
from syllabary.quantizers.search.scores import METRICS

pytest.importorskip("triton")

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
GPU = torch.cuda.is_available() and not INTERPRETED
RUNS = GPU or INTERPRETED
DEVICE = "cuda" if GPU else "cpu"
# The interpreter takes milliseconds for what a GPU does in nanoseconds.
FEW, MANY = (1000, 100_000) if GPU else (8, 70)

if RUNS:
    from syllabary.quantizers.search import cuda
    from syllabary.quantizers.search.cuda import Tiles, TritonFSQ, TritonResidualChain, TritonSearch

# Several tiles of each kind in a small problem, and rough screening from 200 channels on.
SMALL = {"rows": 16, "codes": 32, "channels": 32, "num_warps": 4, "num_stages": 2}
SMALL["rough_from"] = 200
SCALES = [(1e-30, 1e-30), (1e30, 1e30), (1e-30, 1e30), (1e30, 1), (1e-44, 1e-40), (3e37, 1e37)]


def normal(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator).to(DEVICE)


def check(rows, codebook, metric="l2", tiles=None):
    found, scores = TritonSearch(codebook, metric, tiles).search(rows)
    codes, exact = ReferenceSearch(codebook.cpu(), metric).search(rows.cpu())
    assert torch.equal(found.cpu(), codes)
    assert torch.equal(scores.cpu(), exact)


class TestSearch:
    __test__ = RUNS

    @pytest.mark.parametrize(
        ("dim", "metric"),
        [*((dim, "l2") for dim in (1, 3, 16, 20, 100, 128)), *product((8, 21, 300), METRICS)],
    )
    def test_codes_and_scores_are_the_references(self, dim, metric):
        size = 1000 if GPU or dim in (3, 8) else 140
        check(normal(FEW + 1, dim), normal(size, dim, seed=1), metric)
        check(normal(3, dim), normal(1, dim, seed=1), metric)

    @pytest.mark.parametrize("dim", [8, 32])
    @pytest.mark.parametrize("count", [0, 1, 65])
    def test_any_number_of_rows(self, dim, count):
        check(normal(count, dim), normal(5, dim, seed=1))

    @pytest.mark.parametrize(("dim", "metric"), [(8, "l2"), (40, "cosine"), (224, "l2")])
    def test_small_tiles(self, dim, metric):
        check(normal(20, dim), normal(90, dim, seed=1), metric, Tiles(**SMALL))

    @pytest.mark.parametrize(("dim", "metric"), [*product((3,), METRICS), (33, "l2")])
    def test_ties_go_to_the_lowest_index(self, dim, metric):
        codebook = normal(20, dim).repeat(4, 1)[torch.randperm(80)]
        rows = torch.cat([codebook[10:14], normal(FEW, dim, seed=2), 0 * codebook[:1]])
        check(rows, codebook, metric)
        check(rows[-2:], torch.zeros_like(codebook), metric)

    @pytest.mark.parametrize(
        ("dim", "metric"),
        [(1, "l2"), (8, "l2"), (8, "ip"), (8, "cosine"), (48, "l2"), (256, "cosine")],
    )
    def test_near_ties(self, dim, metric):
        """Codes some float32 roundings apart, and rows in the middle of two codes."""
        base = normal(1, dim) * 3
        codebook = base * (1 + torch.arange(40, device=DEVICE)[:, None] * 2.0**-23)
        rows = torch.cat([(codebook[:4] + codebook[5:9]) / 2, base, -base, base + 1e-6])
        check(rows, codebook, metric)
        spread = normal(60, dim)
        check((spread[:8] + spread[1:9]) / 2, spread, metric)

    @pytest.mark.parametrize(("dim", "metric"), [*product((3,), METRICS), (64, "l2")])
    @pytest.mark.parametrize(("rows_scale", "codes_scale"), SCALES)
    def test_extreme_magnitudes(self, dim, metric, rows_scale, codes_scale):
        rows, codebook = normal(4, dim) * rows_scale, normal(20, dim, seed=1) * codes_scale
        rows[0], codebook[3] = 0, 0
        check(rows, codebook, metric)

    def test_one_code_of_another_magnitude(self):
        codebook = normal(100, 8)
        codebook[50] *= 1e25
        check(normal(FEW, 8, seed=1), codebook)

    @pytest.mark.parametrize("dim", [8, 64])
    def test_splits_of_the_batch_change_nothing(self, dim):
        rows, codebook = normal(FEW, dim).round(), normal(30, dim, seed=1).round()
        search = TritonSearch(codebook, "l2")
        whole, scores = search.search(rows)
        for size in (FEW // 4, FEW - 3):
            pieces = [search.search(piece) for piece in rows.split(size)]
            assert torch.equal(torch.cat([codes for codes, _ in pieces]), whole)
            assert torch.equal(torch.cat([score for _, score in pieces]), scores)

    def test_a_view_with_strides(self):
        wide, codebook = normal(FEW, 12), normal(30, 6, seed=1)
        check(wide[:, ::2], codebook)

    @pytest.mark.parametrize("metric", METRICS)
    @pytest.mark.parametrize(("dim", "parts"), [(8, 2), (20, 2), (96, 2), (256, 1)])
    def test_screening_scores_stay_within_the_bound(self, metric, dim, parts):
        """Rows whose products cancel: large partial sums, small results."""
        codebook = normal(300 if GPU else 90, dim)
        rows = normal(MANY, dim, seed=1) * 10.0 ** normal(MANY, 1, seed=2)
        half = dim // 2
        rows[::2, half : 2 * half] = -rows[::2, :half]
        codebook[::2, half : 2 * half] = codebook[::2, :half]
        search = TritonSearch(codebook, metric)
        best = search.screen(rows, parts)[0].amin(0).cpu().double()

        exact = codebook.cpu().double()
        if metric == "cosine":
            exact = exact / exact.norm(dim=1, keepdim=True)
        offsets = exact.square().sum(1) / 2 if metric == "l2" else 0
        lengths = rows.cpu().double().norm(dim=1)
        truth = torch.cat(
            [(offsets - part.cpu().double() @ exact.T).amin(1) for part in rows.split(10_000)]
        )
        longest, dropped, relative, _ = search.tables[parts][0].tolist()
        bound = relative * (lengths + (longest if metric == "l2" else 0)) * longest
        bound += lengths * (2.0**-11 * longest + dropped) if parts == 1 else 0
        used = ((best - truth).abs() / bound).max()
        assert used < 1
        print(f"{metric}, D = {dim}, {parts} part(s): {used:.3f} of the bound used")

    def test_tensors_of_another_device_are_refused(self):
        with pytest.raises(QuantizerError, match="must be on"):
            TritonSearch(torch.zeros(4, 3, device="meta"), "l2")
        with pytest.raises(QuantizerError, match="must be on"):
            TritonSearch(normal(4, 3), "l2").search(torch.zeros(2, 3, device="meta"))


class TestResidualChain:
    __test__ = RUNS

    @pytest.mark.parametrize("dim", [1, 8, 20, 24, 128, 130])
    def test_codes_and_residuals_are_the_references(self, dim):
        codebooks = [normal(size, dim, seed=size) * 0.7 for size in (130, 1, 50)]
        for count in (0, 17):
            self.check(normal(count, dim, seed=9), codebooks)

    def test_many_rows(self):
        codebooks = [normal(100, 8, seed=stage) * 0.6**stage for stage in range(2)]
        self.check(normal(MANY * 2, 8, seed=9), codebooks)

    @pytest.mark.parametrize("dim", [8, 48])
    def test_open_rows_are_settled(self, dim):
        """Duplicated codes, integers, and rows on codes: all rows of all stages are open."""
        codebook = normal(20, dim).round()
        codebooks = [codebook.repeat(2, 1), codebook.repeat(3, 1) / 2, codebook * 1e-20]
        self.check(torch.cat([codebook[:4], normal(FEW, dim, seed=3).round()]), codebooks)

    def test_extreme_magnitudes(self):
        scales = (1e30, 1, 1e-30)
        codebooks = [normal(20, 8, seed=stage) * scale for stage, scale in enumerate(scales)]
        for scale in scales:
            self.check(normal(FEW, 8, seed=9) * scale, codebooks)

    @pytest.mark.parametrize("dim", [8, 40])
    def test_splits_of_the_batch_and_fewer_stages_change_nothing(self, dim):
        chain = TritonResidualChain([normal(70, dim, seed=stage) for stage in range(3)])
        x = normal(20, dim, seed=9)
        whole, residual = chain.encode(x)
        pieces = [chain.encode(piece) for piece in x.split(7)]
        assert torch.equal(torch.cat([codes for codes, _ in pieces]), whole)
        assert torch.equal(torch.cat([rest for _, rest in pieces]), residual)
        assert torch.equal(chain.encode(x, 2)[0], whole[:, :2])

    def test_what_it_refuses(self):
        chain = TritonResidualChain([torch.full((2, 3), 3e38, device=DEVICE)])
        with pytest.raises(QuantizerError, match="overflows"):
            chain.encode(torch.full((4, 3), -3e38, device=DEVICE))
        with pytest.raises(QuantizerError, match="NaN"):
            chain.encode(torch.full((4, 3), torch.nan, device=DEVICE))
        with pytest.raises(QuantizerError, match=r"\(N, 3\)"):
            chain.encode(normal(4, 2))
        with pytest.raises(QuantizerError, match="outside"):
            chain.decode(torch.full((4, 1), 2, device=DEVICE))
        with pytest.raises(QuantizerError, match="stages"):
            chain.decode(torch.zeros((4, 2), dtype=torch.int64, device=DEVICE))
        with pytest.raises(QuantizerError, match="one D"):
            TritonResidualChain([normal(2, 3), normal(2, 4)])

    def check(self, x, codebooks):
        chain = TritonResidualChain(codebooks)
        codes, residual = chain.encode(x)
        rest, total = x.cpu(), torch.zeros(())
        for stage, codebook in enumerate(codebooks):
            expected = ReferenceSearch(codebook.cpu(), "l2").search(rest)[0]
            assert torch.equal(codes[:, stage].cpu(), expected)
            chosen = codebook.cpu()[expected]
            rest, total = rest - chosen, total + chosen
            assert torch.equal(chain.decode(codes[:, : stage + 1]).cpu(), total)
        assert torch.equal(residual.cpu(), rest)


class TestFSQ:
    __test__ = RUNS
    LEVELS = ((8, 8, 8, 5, 5, 5), (4,) * 8, (2,), (3, 100), (64,) * 8, (7, 5))

    @pytest.mark.parametrize("levels", LEVELS)
    def test_encode_is_the_reference(self, levels):
        for size in (0, 1, 301, MANY):
            z = normal(size, len(levels)) * 2
            assert torch.equal(cuda.fsq_encode(z, levels).cpu(), fsq_encode(z.cpu(), levels))

    @pytest.mark.parametrize("size", [2, 5, 8, 64])
    def test_encode_beside_the_edges(self, size):
        """Neighbouring float32 numbers on both sides of where the level changes."""
        z = torch.linspace(-4, 4, 4001)
        crossings = fsq_encode(z[:, None], (size,)).diff().nonzero()[:, 0]
        low, high = z[crossings], z[crossings + 1]
        before = fsq_encode(low[:, None], (size,))
        for _ in range(40):
            middle = (low + high) / 2
            same = fsq_encode(middle[:, None], (size,)) == before
            low, high = torch.where(same, middle, low), torch.where(same, high, middle)
        z = torch.cat([low, high, -low, -high, torch.tensor([3e38, -3e38, torch.inf, 0.0])])
        codes = cuda.fsq_encode(z.to(DEVICE)[:, None], (size,))
        assert len(codes.unique()) == size
        assert torch.equal(codes.cpu(), fsq_encode(z[:, None], (size,)))

    @pytest.mark.parametrize("levels", LEVELS)
    def test_decode_is_the_reference(self, levels):
        total = int(torch.tensor(levels).prod())
        ends = torch.tensor([0, 1, total // 2, total - 2, total - 1])
        codes = torch.cat([ends, torch.randint(total, (MANY,))]).reshape(-1, 5)
        vectors = cuda.fsq_decode(codes.to(DEVICE), levels)
        assert torch.equal(vectors.cpu(), fsq_decode(codes, levels))

    def test_codes_of_the_benchmarks_levels(self):
        for levels in ((8, 8, 8, 5, 5, 5), (4,) * 8):
            codes = torch.arange(0, int(torch.tensor(levels).prod()), 1 if GPU else 7)
            found = TritonFSQ(levels, DEVICE).decode(codes.to(DEVICE))
            assert torch.equal(found.cpu(), fsq_decode(codes, levels))

    def test_what_it_refuses(self):
        for levels in ((), (1, 4), (2,) * 63):
            with pytest.raises(QuantizerError, match="levels"):
                TritonFSQ(levels, DEVICE)
        with pytest.raises(QuantizerError, match="float32"):
            TritonFSQ((4, 4), DEVICE).encode(normal(3, 3))
        z = normal(300, 2)
        z[277, 1] = torch.nan
        with pytest.raises(QuantizerError, match="NaN"):
            TritonFSQ((4, 4), DEVICE).encode(z)


if not RUNS:

    @pytest.mark.slow
    def test_under_the_interpreter():
        """All tests above, in a process where kernels are interpreted."""
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
        run = subprocess.run(
            command,
            env=os.environ | {"TRITON_INTERPRET": "1"},
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert run.returncode == 0, run.stdout[-8000:] + run.stderr[-2000:]
        assert " passed" in run.stdout

    def test_kernels_compile_for_hopper_and_use_its_matrix_units(monkeypatch):
        """Every kernel as it is launched; the interpreter takes programs that Triton does not."""
        from triton import compiler
        from triton.backends.compiler import GPUTarget
        from triton.runtime.jit import JITFunction, mangle_type

        from syllabary.quantizers.search.cuda import TritonFSQ, TritonResidualChain, TritonSearch

        with_matrices = {"screen_narrow", "screen_wide", "encode_chain"}
        others = {"judge", "settle", "score_chosen", "sum_codes", "pack_levels", "unpack_levels"}
        assembly = {}

        def compile_launch(kernel, *args, grid, warmup, **options):
            if kernel.fn.__name__ in others & set(assembly):
                return
            values = dict(zip(kernel.arg_names, args, strict=False))
            values |= {name: options.pop(name) for name in kernel.arg_names if name in options}
            constant = {param.name for param in kernel.params if param.is_constexpr}
            signature = {
                name: "constexpr" if name in constant else mangle_type(values[name])
                for name in kernel.arg_names
            }
            constants = {(kernel.arg_names.index(name),): values[name] for name in constant}
            source = compiler.ASTSource(kernel, signature, constexprs=constants)
            target = GPUTarget("cuda", 90, 32)
            compiled = compiler.compile(source, target=target, options=options)
            assembly.setdefault(kernel.fn.__name__, []).append(compiled.asm["ptx"])

        monkeypatch.setattr(JITFunction, "run", compile_launch)
        # Only so that tensors on the CPU are let through: these kernels are not interpreted ones.
        monkeypatch.setenv("TRITON_INTERPRET", "1")
        TritonSearch(torch.zeros(9, 8), "l2").search(torch.zeros(5, 8))
        TritonSearch(torch.zeros(9, 256), "cosine").search(torch.zeros(5, 256))
        for dim in (8, 128):
            chain = TritonResidualChain([torch.zeros(9, dim)] * 2)
            # Rows enough for the large tile.
            chain._encode_on_chip(torch.zeros(300, dim), torch.zeros(300, 2, dtype=torch.int64))
        chain.decode(torch.zeros(5, 2, dtype=torch.int64))
        quantizer = TritonFSQ((8, 8, 8, 5, 5, 5), "cpu")
        quantizer.encode(torch.zeros(5, 6))
        quantizer.decode(torch.zeros(5, dtype=torch.int64))

        assert set(assembly) == with_matrices | others
        assert all("wgmma" in code for name in with_matrices for code in assembly[name])
        # Fused multiply-adds would change the last bit of a deciding score.
        for name in ("score_chosen", "settle"):
            assert "mul.f64" in assembly[name][0].replace(".rn", "")
            assert "fma.rn.f64" not in assembly[name][0]
