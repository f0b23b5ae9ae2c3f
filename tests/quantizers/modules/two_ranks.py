"""Training runs that `test_two_ranks.py` compares: one rank with the joined batch, two with halves.

As a program: `python two_ranks.py FOLDER` runs every case on two gloo ranks and leaves the results
in FOLDER.
"""

import sys
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
from torch.nn.parallel import DistributedDataParallel

from syllabary.quantizers.modules import (
    FiniteScalarQuantizer,
    FiniteScalarQuantizerConfig,
    GroupedVectorQuantizer,
    GroupedVectorQuantizerConfig,
    MaskedChannelResidualVectorQuantizer,
    MaskedChannelResidualVectorQuantizerConfig,
    ResidualVectorQuantizer,
    ResidualVectorQuantizerConfig,
    VectorQuantizer,
    VectorQuantizerConfig,
)

DIM, ROWS, FRAMES, STEPS = 6, 4, 40, 6


def _stack(stages=3, dropout=(), dim=DIM, **settings):
    quantizer = VectorQuantizerConfig(
        dim, 16, decay=0.6, revive_below=0.2, kmeans_rounds=3, **settings
    )
    return ResidualVectorQuantizerConfig(quantizer, stages, dropout)


def _vector(size=24, **settings):
    settings = {"decay": 0.6, "revive_below": 0.2, "kmeans_rounds": 3, **settings}
    config = VectorQuantizerConfig(DIM, size, **settings)
    return VectorQuantizer(config)


CASES = {
    "ema": lambda: _vector(),
    "ema-few-frames": lambda: _vector(size=90),
    "ema-random": lambda: _vector(kmeans_rounds=0),
    "ema-cosine": lambda: _vector(metric="cosine"),
    "gradient": lambda: _vector(update="gradient"),
    "gradient-factorised": lambda: _vector(update="gradient", codebook_dim=3, metric="cosine"),
    "ema-factorised": lambda: _vector(codebook_dim=3, passing="rotation"),
    "residual-ema": lambda: ResidualVectorQuantizer(_stack(4, (1, 2, 4))),
    "residual-gradient": lambda: ResidualVectorQuantizer(
        _stack(3, range(1, 4), update="gradient", codebook_dim=3)
    ),
    "grouped": lambda: GroupedVectorQuantizer(
        GroupedVectorQuantizerConfig(_stack(2, (1, 2), dim=3), 2)
    ),
    "masked-channel": lambda: MaskedChannelResidualVectorQuantizer(
        MaskedChannelResidualVectorQuantizerConfig(_stack(3), 2)
    ),
    "fsq": lambda: FiniteScalarQuantizer(FiniteScalarQuantizerConfig((5, 4, 3), DIM)),
}


class Encoder(torch.nn.Module):
    """Something in front of the quantizer that learns, too."""

    def __init__(self, quantizer):
        super().__init__()
        self.linear = torch.nn.Linear(DIM, DIM)
        self.quantizer = quantizer

    def forward(self, x, mask):
        return self.quantizer(self.linear(x), mask)


def batch(step):
    """The joined batch (ROWS, FRAMES, DIM) and a mask that leaves the ranks unequal parts of it."""
    generator = torch.Generator().manual_seed(100 + step)
    x = torch.randn(ROWS, FRAMES, DIM, generator=generator)
    # What comes in moves, so that codes die.
    x = x + 1.5 * step
    lengths = torch.tensor([FRAMES, FRAMES - 3, 2, 1 + 2 * step])
    if step == 3:
        # The second rank has nothing at all.
        lengths[2:] = 0
    return x, torch.arange(FRAMES) < lengths[:, None]


def train(name, rank=0, ranks=1):
    """Train a case; what came out of it on this rank."""
    torch.manual_seed(0)
    model = Encoder(CASES[name]())
    wrapped = DistributedDataParallel(model) if ranks > 1 else model
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    part = slice(rank * ROWS // ranks, (rank + 1) * ROWS // ranks)
    found = {"codes": [], "losses": [], "statistics": [], "revived": 0.0}
    for step in range(STEPS):
        x, mask = batch(step)
        frames = int(mask.sum())
        x, mask = x[part], mask[part]
        result = wrapped(x, mask)
        error = torch.where(mask[..., None], result.quantized - x, 0.0).square().sum()
        loss = result.loss + 0.1 * error * ranks / (frames * DIM)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found["codes"].append(result.codes)
        found["losses"].append(loss.detach())
        found["statistics"].append(result.statistics)
        found["revived"] += float(result.statistics.get("revived", torch.zeros(1)).sum())
    found["state"] = model.state_dict()
    x, _ = batch(0)
    found["quantized"] = model.eval()(x, torch.ones(ROWS, FRAMES, dtype=torch.bool)).quantized
    return found


def work(rank, folder):
    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    torch.save({name: train(name, rank, 2) for name in CASES}, f"{folder}/rank{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    torch.set_num_threads(1)
    # Forked once imports and kernels are loaded: spawned ranks would each load them again.
    with torch.no_grad():
        CASES["ema"]()(*batch(0))
    results = str(Path(sys.argv[1]).resolve())
    multiprocessing.start_processes(work, (results,), nprocs=2, start_method="fork")
