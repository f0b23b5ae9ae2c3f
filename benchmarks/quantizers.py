"""The quantizer core beside its peers, in one process, in turns: a Markdown table.

    python benchmarks/quantizers.py [--threads 1 2] [--rounds 5] [--only W1 W2 …] [--memory]
    SYLLABARY_SPEECH=… python benchmarks/quantizers.py --speech

Each row is the median of the rounds, on prepared codebooks (faiss's index, our `NearestCode`).
"wrong" counts codes that float64 arithmetic rejects, among 2,000 queries. The share is of the
float32 matrix peak of this machine, measured beside. `--memory` adds the memory that a contender
takes beyond what is there, on one thread, each in a process of its own. `--speech` searches a
codebook trained on real speech.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import faiss
import numpy as np
import torch
from torch import Tensor

from syllabary.quantizers import NearestCode, ResidualChain, fsq_decode, fsq_encode

sys.path.insert(0, __file__.rpartition("/")[0])
from timing import interleaved, machine, speech_manifest

OURS = "syllabary"
CHECKED = 2000


@dataclass
class Workload:
    """Contenders for one task.

    Attributes:
        contenders: name to a function that does the whole task.
        truth: the codes of the first CHECKED queries, by float64; and how to see a result's codes.
        operations: floating-point operations of a search that looks at everything; 0 for FSQ.
    """

    title: str
    contenders: dict[str, Callable[[], object]]
    operations: float
    truth: Tensor | None = None
    codes_of: Callable[[str, object], Tensor] = field(default=lambda name, result: result)


def random(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def faiss_index(codebook: Tensor) -> faiss.IndexFlatL2:
    index = faiss.IndexFlatL2(codebook.shape[1])
    index.add(codebook.numpy())
    return index


def faiss_codes(index: faiss.IndexFlatL2, x: np.ndarray) -> np.ndarray:
    return index.search(x, 1)[1][:, 0]


def faiss_chain(indexes: list, codebooks: list[np.ndarray], x: np.ndarray) -> np.ndarray:
    residual, codes = x.copy(), []
    for index, codebook in zip(indexes, codebooks, strict=True):
        codes.append(faiss_codes(index, residual))
        residual -= codebook[codes[-1]]
    return np.stack(codes, 1)


def cdist_codes(x: Tensor, codebook: Tensor) -> Tensor:
    """Tiles of 512 rows: faster than the whole matrix, and in less memory."""
    return torch.cat([torch.cdist(part, codebook).argmin(1) for part in x.split(512)])


def cdist_chain(x: Tensor, codebooks: list[Tensor]) -> Tensor:
    residual, codes = x, []
    for codebook in codebooks:
        codes.append(cdist_codes(residual, codebook))
        residual = residual - codebook[codes[-1]]
    return torch.stack(codes, 1)


def residual(dim: int) -> Workload:
    """W1: EnCodec's and SpeechTokenizer's shape; DAC's with dim 8."""
    from transformers import EncodecConfig, MimiConfig
    from transformers.models.encodec.modeling_encodec import EncodecResidualVectorQuantizer
    from transformers.models.mimi.modeling_mimi import MimiResidualVectorQuantizer
    from vector_quantize_pytorch import ResidualVQ

    rows, stages, size = 36_000, 8, 1024
    x = random(rows, dim, seed=0)
    codebooks = [random(size, dim, seed=1 + stage) * 0.8**stage for stage in range(stages)]
    chain = ResidualChain(codebooks)
    indexes = [faiss_index(codebook) for codebook in codebooks]
    encodec = EncodecResidualVectorQuantizer(
        EncodecConfig(
            codebook_size=size, codebook_dim=dim, hidden_size=dim, target_bandwidths=[6.0]
        )
    ).eval()
    mimi = MimiResidualVectorQuantizer(
        MimiConfig(
            codebook_size=size,
            codebook_dim=dim,
            hidden_size=dim,
            vector_quantization_hidden_dimension=dim,
            num_quantizers=stages,
        )
    ).eval()
    theirs = ResidualVQ(dim=dim, num_quantizers=stages, codebook_size=size).eval()
    for stage, codebook in enumerate(codebooks):
        encodec.layers[stage].codebook.embed.copy_(codebook)
        mimi.layers[stage].codebook.embed_sum.copy_(codebook)
        theirs.layers[stage]._codebook.embed.data.copy_(codebook[None])
    frames = x.T[None].contiguous()
    contenders: dict[str, Callable[[], object]] = {
        OURS: lambda: chain.encode(x)[0],
        "faiss, in a loop": partial(
            faiss_chain, indexes, [c.numpy() for c in codebooks], x.numpy()
        ),
        "torch.cdist + argmin": partial(cdist_chain, x, codebooks),
        "transformers, EnCodec": lambda: encodec.encode(frames, 6.0)[:stages],
        "transformers, Mimi": lambda: mimi.encode(frames, stages),
        "vector-quantize-pytorch": lambda: theirs(x[None])[1],
    }
    truth = ResidualChain(codebooks, backend="torch").encode(x[:CHECKED])[0]

    def codes_of(name: str, result: object) -> Tensor:
        codes = torch.as_tensor(result)
        return codes[:, 0].T if name.startswith("transformers") else codes.reshape(rows, stages)

    title = f"W1: {rows:,} × {size} × {dim}, {stages} stages"
    return Workload(title, contenders, 2.0 * rows * size * dim * stages, truth, codes_of)


def one_codebook(rows: int, size: int) -> Workload:
    """W2: TS3's codebooks."""
    from scipy.spatial import KDTree
    from vector_quantize_pytorch import VectorQuantize

    dim = 8
    x, codebook = random(rows, dim, seed=0), random(size, dim, seed=1)
    search, index = NearestCode(codebook), faiss_index(codebook)
    tree = KDTree(codebook.numpy())
    contenders: dict[str, Callable[[], object]] = {
        OURS: lambda: search(x),
        "faiss": lambda: faiss_codes(index, x.numpy()),
        "scipy KDTree": lambda: tree.query(x.numpy(), workers=torch.get_num_threads())[1],
    }
    if rows <= 2000:  # minutes, and gigabytes, beyond
        contenders["torch.cdist + argmin"] = lambda: cdist_codes(x, codebook)
        theirs = VectorQuantize(dim=dim, codebook_size=size).eval()
        theirs._codebook.embed.data.copy_(codebook[None])
        contenders["vector-quantize-pytorch"] = lambda: theirs(x[None])[1][0]
    truth = NearestCode(codebook, backend="torch")(x[:CHECKED])
    title = f"W2: {rows:,} × {size:,} × {dim}"
    return Workload(title, contenders, 2.0 * rows * size * dim, truth, _as_codes)


def single_queries(size: int, count: int = 200) -> Workload:
    """W2 in a stream: one query at a time."""
    from scipy.spatial import KDTree

    queries, codebook = random(count, 1, 8, seed=0), random(size, 8, seed=1)
    search, index = NearestCode(codebook), faiss_index(codebook)
    tree = KDTree(codebook.numpy())
    contenders: dict[str, Callable[[], object]] = {
        OURS: lambda: torch.cat([search(x) for x in queries]),
        "faiss": lambda: np.concatenate([faiss_codes(index, x.numpy()) for x in queries]),
        "scipy KDTree": lambda: np.concatenate([tree.query(x.numpy())[1] for x in queries]),
        "torch.cdist + argmin": lambda: torch.cat([cdist_codes(x, codebook) for x in queries]),
    }
    truth = NearestCode(codebook, backend="torch")(queries[:, 0])
    title = f"W2: {count} × one query × {size:,} × 8"
    return Workload(title, contenders, 2.0 * count * size * 8, truth, _as_codes)


def assignment(rows: int = 100_000, dim: int = 1024) -> Workload:
    """W3: frames of a self-supervised encoder to k-means units."""
    from sklearn.metrics import pairwise_distances_argmin

    size = 2000
    x, codebook = random(rows, dim, seed=0), random(size, dim, seed=1)
    search, index = NearestCode(codebook), faiss_index(codebook)
    contenders = {
        OURS: lambda: search(x),
        "faiss": lambda: faiss_codes(index, x.numpy()),
        "sklearn": lambda: pairwise_distances_argmin(x.numpy(), codebook.numpy()),
        "torch.cdist + argmin": lambda: cdist_codes(x, codebook),
    }
    truth = NearestCode(codebook, backend="torch")(x[:CHECKED])
    title = f"W3: {rows:,} × {size:,} × {dim}"
    return Workload(title, contenders, 2.0 * rows * size * dim, truth, _as_codes)


def scalar(levels: tuple[int, ...], decode: bool = False) -> Workload:
    """W4: FSQ, beside a copy of its input."""
    from vector_quantize_pytorch import FSQ

    rows = 10_000_000
    z = random(rows, len(levels), seed=0)
    theirs = FSQ(list(levels)).eval()
    if decode:
        codes = fsq_encode(z, levels)
        narrow = codes.int()
        contenders: dict[str, Callable[[], object]] = {
            OURS: lambda: fsq_decode(codes, levels),
            "vector-quantize-pytorch": lambda: theirs.indices_to_codes(narrow[None]),
            "a copy": lambda: z.clone(),
        }
        return Workload(f"W4: decode {rows:,} × {levels}", contenders, 0)
    contenders = {
        OURS: lambda: fsq_encode(z, levels),
        "vector-quantize-pytorch": lambda: theirs(z[None])[1],
        "a copy": lambda: z.clone(),
    }
    return Workload(f"W4: encode {rows:,} × {levels}", contenders, 0)


def speech(size: int) -> Workload:
    """W2 on a trained codebook with real queries: 8 principal components of log-mel frames."""
    from scipy.spatial import KDTree

    from syllabary.audio.files import read
    from syllabary.audio.mel import log_mel
    from syllabary.codecs.dmel.config import DMelConfig
    from syllabary.codecs.dmel.tokenizer import DMel

    mel = DMel(DMelConfig(hop_length=200)).mel

    def frames(split: str) -> Tensor:
        waves = (torch.from_numpy(read(path)[0]) for path in speech_manifest(split))
        return torch.cat([log_mel(mel(wave)).float().T for wave in waves])

    train, test = frames("train"), frames("test")
    mean, deviation = train.mean(0), train.std(0)
    train = (train - mean) / deviation
    basis = torch.linalg.eigh(train.T @ train / len(train))[1][:, -8:]
    train, test = train @ basis, ((test - mean) / deviation @ basis)[:36_000].contiguous()
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))
    codebook = train[order[:size]].clone()
    for _ in range(3):  # Lloyd's rounds
        codes = NearestCode(codebook)(train)
        counts = torch.bincount(codes, minlength=size)
        sums = torch.zeros_like(codebook).index_add_(0, codes, train)
        codebook = torch.where(counts[:, None] > 0, sums / counts[:, None].clamp(min=1), codebook)
    search, index, tree = NearestCode(codebook), faiss_index(codebook), KDTree(codebook.numpy())
    contenders = {
        OURS: lambda: search(test),
        "faiss": lambda: faiss_codes(index, test.numpy()),
        "scipy KDTree": lambda: tree.query(test.numpy(), workers=torch.get_num_threads())[1],
    }
    truth = NearestCode(codebook, backend="torch")(test[:CHECKED])
    title = f"W2, speech: {len(test):,} frames × {size:,} × 8, trained on {len(train):,}"
    return Workload(title, contenders, 2.0 * len(test) * size * 8, truth, _as_codes)


WORKLOADS: dict[str, Callable[[], Workload]] = {
    "W1": partial(residual, 128),
    "W1-8": partial(residual, 8),
    **{
        f"W2-{rows}-{size}": partial(one_codebook, rows, size)
        for size in (65_536, 131_072)
        for rows in (2_000, 9_000, 36_000)
    },
    **{f"W2-1-{size}": partial(single_queries, size) for size in (65_536, 131_072)},
    "W3": assignment,
    "W4-a": partial(scalar, (8, 8, 8, 5, 5, 5)),
    "W4-b": partial(scalar, (4,) * 8),
    "W4-c": partial(scalar, (8, 8, 8, 5, 5, 5), decode=True),
    **{f"speech-{size}": partial(speech, size) for size in (65_536, 131_072)},
}


def _as_codes(name: str, result: object) -> Tensor:
    return torch.as_tensor(result)


def matrix_peak() -> tuple[float, float]:
    """Float32 and bfloat16 rates of torch's matrix products here, operations a second."""
    a, b = random(2048, 2048, seed=0), random(2048, 2048, seed=1)
    c, d = a.bfloat16(), b.bfloat16()
    times = interleaved({"float32": lambda: a @ b, "bfloat16": lambda: c @ d}, 7)
    return 2 * 2048**3 / times["float32"], 2 * 2048**3 / times["bfloat16"]


def memory_of(key: str, contender: str) -> int:
    """Bytes at most beyond what the inputs and the prepared codebook take, in a fresh process."""
    command = [sys.executable, __file__, "--measure", key, contender]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return int(json.loads(output.splitlines()[-1]))


def measure(key: str, contender: str) -> int:
    work = WORKLOADS[key]().contenders[contender]
    status = Path("/proc/self/status")

    def figure(name: str) -> int:
        line = next(line for line in status.read_text().splitlines() if line.startswith(name))
        return int(line.split()[1]) * 1024

    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    before = figure("VmRSS")
    work()
    return figure("VmHWM") - before


def report(key: str, workload: Workload, threads: int, rounds: int, memory: bool) -> str:
    """Print a workload's table; its line of the summary."""
    torch.set_num_threads(threads)
    faiss.omp_set_num_threads(threads)
    peak = matrix_peak()[0]
    wrong = {}
    if workload.truth is not None:
        for name, work in workload.contenders.items():
            codes = workload.codes_of(name, work())[: len(workload.truth)]
            wrong[name] = int((codes != workload.truth).sum())
    times = interleaved(workload.contenders, rounds)
    peers = {name: seconds for name, seconds in times.items() if name not in (OURS, "a copy")}
    best = min(peers, key=lambda name: peers[name])
    print(f"\n{workload.title}, {threads} thread(s)\n")
    print("| | ms | ours is … × faster | wrong | of the float32 peak | extra memory |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, seconds in sorted(times.items(), key=lambda item: item[1]):
        share = f"{workload.operations / seconds / peak:.0%}" if workload.operations else ""
        extra = f"{memory_of(key, name) / 2**20:.0f} MB" if memory and threads == 1 else ""
        ratio = f"{seconds / times[OURS]:.1f}"
        missed = wrong.get(name, "")
        print(f"| {name} | {seconds * 1e3:.3g} | {ratio} | {missed} | {share} | {extra} |")
    sys.stdout.flush()
    theirs = peers.get("vector-quantize-pytorch")
    columns = [
        workload.title,
        str(threads),
        f"{times[OURS] * 1e3:.3g}",
        f"{peers[best] / times[OURS]:.1f} × ({best})",
        f"{theirs / times[OURS]:.0f} ×" if theirs else "",
    ]
    return f"| {' | '.join(columns)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="+", default=[], help="prefixes of " + ", ".join(WORKLOADS))
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--speech", action="store_true")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_grad_enabled(False)
    if arguments.measure:
        torch.set_num_threads(1)
        faiss.omp_set_num_threads(1)
        print(measure(*arguments.measure))
        return
    print(f"{machine()}, faiss {faiss.__version__}")
    float32, bfloat16 = matrix_peak()
    print(f"matrix products: float32 {float32 / 1e9:.0f}, bfloat16 {bfloat16 / 1e9:.0f} GFLOP/s")
    summary = []
    for key, make in WORKLOADS.items():
        if key.startswith("speech") != arguments.speech:
            continue
        if arguments.only and not any(key.startswith(prefix) for prefix in arguments.only):
            continue
        workload = make()
        for threads in arguments.threads:
            line = report(key, workload, threads, arguments.rounds, arguments.memory)
            summary.append(line)
    print("\n| work | threads | ours, ms | than the fastest peer | than vector-quantize-pytorch |")
    print("| --- | --- | --- | --- | --- |")
    print("\n".join(summary))


if __name__ == "__main__":
    main()
