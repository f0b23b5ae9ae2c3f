"""The reader of language-model data beside other loaders, in one process on one core.

    python benchmarks/lm_loader.py
    python benchmarks/lm_loader.py --tokens 1e9 --seconds 10

A synthetic data set of units: documents of 50 to 1,500, 500 on average, 1,024 codes. Everybody
gives batches of 8 rows of 2,048 int64 tensors in random order, from files in the page cache:

- ours, packed and concatenated, with targets, positions and sequence lengths; and 8 codebooks in
  the delay pattern, which are eight streams of ids;
- Megatron's `IndexedDataset` (megatron-core), read as its `GPTDataset` does: parts of documents of
  a window, concatenated; ids only;
- litdata's `StreamingDataset` with its `TokensLoader`: windows of one long run; ids only;
- Mosaic's `StreamingDataset` (mosaicml-streaming): a window a sample, from MDS shards; ids only.

Tokens are counted for each second of processor time, of all threads, so that other work on the
machine doesn't matter. What is not installed is named and left out. The data set has `--tokens`
tokens for ours, and at most 20 million for the others, whose files take long to write; all are in
memory anyway. Below: the
seconds until the first batch, and the memory of the process while ours goes over all of it.
"""

import argparse
import gc
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch

from syllabary.codecs.spec import TokenSpec
from syllabary.lm.loading.filling import layout_of
from syllabary.lm.loading.flat_file import flat_file, read_flat
from syllabary.lm.loading.mixture import Mixture
from syllabary.lm.loading.packing import best_fit, concatenated
from syllabary.lm.loading.reader import Reader
from syllabary.lm.loading.samples import Samples, Source
from syllabary.lm.loading.shuffle import Shuffle
from syllabary.lm.loading.store import FlatStore
from syllabary.lm.patterns import Delay, Flatten
from syllabary.lm.vocabulary import Vocabulary
from timing import machine

CONTEXT, ROWS, SIZE = 2048, 8, 1024
MOST_FOR_OTHERS = 20_000_000


def made_up(tokens: int, seed: int = 0) -> Iterator[np.ndarray]:
    """Documents of codes, about a million in a piece: (lengths, codes)."""
    rng = np.random.default_rng(seed)
    while tokens > 0:
        lengths = np.clip(rng.gamma(3, 167, 2000).astype(np.int64), 50, 1500)
        kept = lengths[np.cumsum(lengths) <= max(tokens, lengths[0])]
        yield kept, rng.integers(0, SIZE, kept.sum(), dtype=np.uint16)
        tokens -= int(kept.sum())


def store(folder: Path, tokens: int, codebooks: int) -> FlatStore:
    """As the reader keeps a data set, without the Parquet shards."""

    def write(writer):
        starts = [np.zeros(1, np.int64)]
        for lengths, codes in made_up(tokens):
            whole = lengths // codebooks * codebooks
            writer.append("values", codes[: whole.sum()])
            starts.append(starts[-1][-1] + np.cumsum(whole))
        writer.append("starts", np.concatenate(starts))
        return {}

    arrays, _ = read_flat(flat_file(folder / f"{codebooks}.flat", write))
    return FlatStore(
        folder, arrays["values"], arrays["starts"],
        np.empty((len(arrays["starts"]) - 1, 0), np.int64), codebooks, False,
        [SIZE - 1] * codebooks,
    )  # fmt: skip


def ours(kept: FlatStore, pattern, packing) -> Reader:
    spec = TokenSpec("codec", "ab" * 32, 16000, Fraction(50), (SIZE,) * kept.rows)
    vocabulary = Vocabulary(spec, first=32_000)

    def plan(source):
        lengths = source.lengths()
        return packing(Shuffle(len(lengths), 1).all(), lengths, CONTEXT)

    source = Source(kept, layout_of(vocabulary.bind(pattern(spec.codebook_sizes))), plan)
    return Reader(Samples([source], Mixture((1.0,), 0), CONTEXT), ROWS)


def megatron(folder: Path, tokens: int):
    from megatron.core.datasets.indexed_dataset import IndexedDataset, IndexedDatasetBuilder

    builder = IndexedDatasetBuilder(str(folder / "m.bin"), dtype=np.uint16)
    count = 0
    for lengths, codes in made_up(tokens):
        for document in np.split(codes, np.cumsum(lengths)[:-1]):
            builder.add_document(torch.from_numpy(document.astype(np.int32)), [len(document)])
            count += 1
    builder.finalize(str(folder / "m.idx"))
    data = IndexedDataset(str(folder / "m"))
    order = np.random.default_rng(1).permutation(count)
    ends = np.cumsum(data.sequence_lengths[order])
    windows = int(ends[-1] - 1) // CONTEXT

    def batches():
        shuffled = np.random.default_rng(2).permutation(windows)
        while True:
            for first in range(0, windows - ROWS, ROWS):
                rows = []
                for window in shuffled[first : first + ROWS]:
                    low, high = window * CONTEXT, (window + 1) * CONTEXT + 1
                    document = int(np.searchsorted(ends, low, side="right"))
                    parts = []
                    while low < high:
                        begin = int(ends[document] - data.sequence_lengths[order[document]])
                        taken = min(high, int(ends[document])) - low
                        parts.append(data.get(int(order[document]), low - begin, taken))
                        low, document = low + taken, document + 1
                    rows.append(torch.from_numpy(np.concatenate(parts).astype(np.int64))[:-1])
                yield torch.stack(rows)

    return batches()


def litdata(folder: Path, tokens: int):
    from litdata import StreamingDataset, TokensLoader
    from litdata.streaming.writer import BinaryWriter

    loader = TokensLoader(block_size=CONTEXT)
    writer = BinaryWriter(str(folder / "l"), chunk_size=CONTEXT * 4096, item_loader=loader)
    number = 0
    for lengths, codes in made_up(tokens):
        for document in np.split(codes, np.cumsum(lengths)[:-1]):
            writer[number] = torch.from_numpy(document.astype(np.uint16))
            number += 1
    writer.done()
    writer.merge()
    data = StreamingDataset(
        str(folder / "l"), item_loader=TokensLoader(block_size=CONTEXT), shuffle=True
    )

    def batches():
        while True:
            rows = []
            for row in data:
                rows.append(row.long())
                if len(rows) == ROWS:
                    yield torch.stack(rows)
                    rows = []

    return batches()


def mosaic(folder: Path, tokens: int):
    from streaming import MDSWriter, StreamingDataset

    with MDSWriter(out=str(folder / "s"), columns={"ids": "ndarray:uint16"}) as out:
        for _, codes in made_up(tokens):
            for window in codes[: len(codes) // CONTEXT * CONTEXT].reshape(-1, CONTEXT):
                out.write({"ids": window})
    data = StreamingDataset(local=str(folder / "s"), shuffle=True, batch_size=ROWS)

    def batches():
        while True:
            rows = []
            for sample in data:
                rows.append(torch.from_numpy(sample["ids"].astype(np.int64)))
                if len(rows) == ROWS:
                    yield torch.stack(rows)
                    rows = []

    return batches()


def timed(name: str, batches, seconds: float, codebooks: int = 1) -> None:
    start = time.perf_counter()
    stream = iter(batches)
    next(stream)
    first = time.perf_counter() - start
    rates = []
    for _ in range(5):
        count, begin = 0, time.process_time()
        while time.process_time() - begin < seconds / 5:
            batch = next(stream)
            real = batch if isinstance(batch, torch.Tensor) else batch.lengths.sum() * codebooks
            count += batch.numel() if isinstance(batch, torch.Tensor) else int(real)
        rates.append(count / (time.process_time() - begin))
    print(f"| {name} | {np.median(rates) / 1e6:.1f} | {first:.2f} s |", flush=True)


def own_memory() -> float:
    """MB of this process that no file backs."""
    fields = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in fields if line.startswith("RssAnon")) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=float, default=1e8)
    parser.add_argument("--seconds", type=float, default=5, help="for each contender")
    parser.add_argument("--folder", help="for the files; default: a temporary one")
    given = parser.parse_args()
    torch.set_num_threads(1)
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    folder = Path(tempfile.mkdtemp(prefix="lm-loader-", dir=given.folder))
    try:
        tokens = int(given.tokens)
        print(f"{machine()}; {tokens / 1e6:.0f} million tokens; pinned to one core\n")
        print("| loader | million tokens/s | first batch |\n|-|-|-|")
        units, books = store(folder, tokens, 1), store(folder, tokens, 8)
        timed("ours, flat units, packed", ours(units, Flatten, best_fit), given.seconds)
        timed("ours, flat units, concatenated", ours(units, Flatten, concatenated), given.seconds)
        timed("ours, 8 codebooks delayed, packed", ours(books, Delay, best_fit), given.seconds, 8)
        timed("ours, 8 codebooks flat, packed", ours(books, Flatten, best_fit), given.seconds)
        for name, make in (
            ("Megatron's indexed data set", megatron), ("litdata", litdata),
            ("Mosaic streaming", mosaic),
        ):  # fmt: skip
            try:
                batches = make(folder, min(tokens, MOST_FOR_OTHERS))
            except ImportError as error:
                print(f"| {name} | not installed ({error}) | |")
                continue
            timed(name, batches, given.seconds)
        gc.collect()
        reader = ours(units, Flatten, best_fit)
        next(iter(reader))
        before, most = own_memory(), 0.0
        steps = reader.num_samples // ROWS
        start = time.process_time()
        for step, batch in enumerate(reader):  # noqa: B007
            if step % 1000 == 0 or step == steps:
                most = max(most, own_memory())
            if step == steps:
                break
        took = time.process_time() - start
        print(
            f"\nall of {tokens / 1e6:.0f} million tokens, packed: {took:.1f} s; own memory "
            f"{before:.0f} MB after the first batch, at most {most:.0f} MB; next {batch.next}"
        )
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
