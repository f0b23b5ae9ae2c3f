"""Training for a fixed budget, and the code length of utterances under the trained model."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...cores import torch_threads
from ..metrics.interface import MetricError
from .mixture import CountedSymbols, best_weights, mixed_bits
from .network import FrameModel, NetworkConfig
from .packing import Stream, pack, shuffled_batches
from .symbols import FrameSymbols

_BLOCK = 512  # frames per evaluation of probabilities


@dataclass(frozen=True)
class Budget:
    """The training budget; the same for every tokenizer.

    Attributes:
        frames: total number of training frames, counting repeated passes.
        length, batch: frames of a block, and blocks of a step.
        rate: maximal learning rate.
        warm_up: share of the steps in which it rises; then it falls to 0 along a cosine.
        weight_decay: of AdamW.
        checks: number of evaluations on the held-out utterances; the best state is kept.
    """

    frames: int = 120_000
    length: int = 128
    batch: int = 2
    rate: float = 5e-3
    warm_up: float = 0.05
    weight_decay: float = 0.1
    checks: int = 5

    @property
    def steps(self) -> int:
        """Number of optimizer steps."""
        return max(1, self.frames // self.frames_a_step)

    @property
    def frames_a_step(self) -> int:
        """Frames of a full batch; fewer if there is less speech than a block."""
        return self.length * self.batch


@dataclass(frozen=True, eq=False)
class TokenLM:
    """A trained model.

    Attributes:
        symbols: how codes are written as symbols.
        network: trained network.
        counted: frequencies that it is mixed with.
        weights: (experts, symbols) of the mixture.
        held_out: bits per frame of the held-out utterances under the network alone, at each
            evaluation; the first one is before the first step.
        kept: index of the evaluation whose state was kept.
    """

    symbols: FrameSymbols
    network: FrameModel
    counted: CountedSymbols
    weights: np.ndarray
    held_out: tuple[float, ...]
    kept: int

    def bits(self, utterances: Sequence[np.ndarray]) -> np.ndarray:
        """Code length of each utterance, summed over codebooks: (utterances,) float64.

        Except for rounding, an utterance's bits do not depend on the others. Its length is not
        coded.

        Args:
            utterances: codes (codebooks, frames) each.

        Raises:
            MetricError: another number of codebooks, or a code is out of range.
        """
        totals = np.zeros(len(utterances))
        split = [self.symbols.split(codes) for codes in utterances]
        if sum(map(len, split)):
            stream = pack(split)
            frames = mixed_bits(_chances(self.network, self.counted, stream), self.weights).sum(1)
            np.add.at(totals, stream.utterance, frames)
        return totals


def train(
    utterances: Sequence[np.ndarray],
    held_out: Sequence[np.ndarray],
    codebook_sizes: Sequence[int],
    budget: Budget | None = None,
    config: NetworkConfig | None = None,
    seed: int = 0,
) -> TokenLM:
    """Train on some utterances, keep the state with the best held-out code length, and mix it with
    counts.

    The network is initialized with the frequencies of symbols. Everything runs on one thread, and
    all random choices come from `seed`: two runs on a machine give the same model.

    Args:
        utterances: codes (codebooks, frames) each.
        held_out: others, for selecting the best state, and the weights of the mixture.
        codebook_sizes: number of codes of each codebook.
        budget: of training.
        config: of the model.
        seed: of weights, order and dropout.

    Raises:
        MetricError: no frames to train on or to hold out, codes that don't fit, or the loss
            became infinite.
    """
    budget = budget or Budget()
    symbols = FrameSymbols(tuple(codebook_sizes))
    shown = [split for codes in utterances if len(split := symbols.split(codes))]
    asked = [split for codes in held_out if len(split := symbols.split(codes))]
    if not shown or not asked:
        raise MetricError("language model: no frames to train on, or none to hold out")
    with torch_threads(1):
        model = FrameModel(symbols.sizes, config, seed)
        model.set_frequencies(_counts(shown, symbols.sizes))
        checks = _run(model, shown, asked, budget, seed)
    kept = int(np.argmin([bits for bits, _ in checks]))
    model.load_state_dict(checks[kept][1])
    counted = CountedSymbols(pack(shown), symbols.sizes)
    weights = best_weights(_chances(model, counted, pack(asked)))
    return TokenLM(symbols, model, counted, weights, tuple(bits for bits, _ in checks), kept)


def _run(
    model: FrameModel,
    shown: Sequence[np.ndarray],
    asked: Sequence[np.ndarray],
    budget: Budget,
    seed: int,
) -> list[tuple[float, dict[str, Tensor]]]:
    """Bits per frame of the held-out utterances, and the state, at each evaluation."""
    stream = pack(asked)

    def check() -> tuple[float, dict[str, Tensor]]:
        bits = float(_losses(model, stream).sum()) / len(stream) / math.log(2)
        if not math.isfinite(bits):
            raise MetricError("language model: training diverged")
        return bits, {name: value.clone() for name, value in model.state_dict().items()}

    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=budget.rate,
        betas=(0.9, 0.98),
        weight_decay=budget.weight_decay,
        fused=True,
    )
    generator = torch.Generator().manual_seed(seed)
    batches = shuffled_batches(shown, budget.length, budget.batch, np.random.default_rng(seed))
    due = {round(budget.steps * number / budget.checks) for number in range(1, budget.checks + 1)}
    found = [check()]
    for step in range(budget.steps):
        for group in optimizer.param_groups:
            group["lr"] = budget.rate * _schedule(step / budget.steps, budget.warm_up)
        loss = model(*_tensors(next(batches)), generator=generator).sum(-1).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step + 1 in due:
            found.append(check())
    return found


def _schedule(done: float, warm_up: float) -> float:
    if done < warm_up:
        return (done + 1e-3) / (warm_up + 1e-3)
    return 0.5 + 0.5 * math.cos(math.pi * (done - warm_up) / (1 - warm_up))


def _counts(utterances: Sequence[np.ndarray], sizes: Sequence[int]) -> list[Tensor]:
    everything = np.concatenate(utterances)
    return [
        torch.from_numpy(np.bincount(column, minlength=size))
        for column, size in zip(everything.T, sizes, strict=True)
    ]


def _chances(network: FrameModel, counted: CountedSymbols, stream: Stream) -> np.ndarray:
    """(experts, frames, symbols) float64."""
    neural = np.exp(-_losses(network, stream))
    return np.concatenate([neural[None], counted.chances(stream)])


@torch.no_grad()
def _losses(network: FrameModel, stream: Stream) -> np.ndarray:
    """-ln of the network's probabilities, (frames, symbols) float64."""
    reach, found = network.config.reach, []
    with torch_threads(1):
        for start in range(0, len(stream), _BLOCK):
            # Frames farther back than `reach` have no influence: blocks give the same as the whole.
            first = max(0, start - reach)
            tensors = (tensor[None] for tensor in _tensors(stream.cut(first, start + _BLOCK)))
            found.append(network(*tensors)[0, start - first :].double().numpy())
    return np.concatenate(found)


def _tensors(stream: Stream) -> tuple[Tensor, Tensor, Tensor]:
    return (
        torch.from_numpy(stream.symbols),
        torch.from_numpy(stream.previous),
        torch.from_numpy(stream.utterance),
    )
