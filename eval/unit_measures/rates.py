"""Rates of units: bitrate after de-duplication and BPE, entropy, Huffman code, vocabulary use."""

import heapq
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ..requirements import MetricError
from .edit_distance import deduplicate


def bitrate(num_tokens: Sequence[int], vocabularies: Sequence[int], seconds: float) -> float:
    """Bits per second, B = Σ N log2 |V| / T, over the streams of tokens.

    As in the Interspeech 2024 discrete speech challenge (Chang et al., arXiv 2406.07725): N tokens
    of a stream whose vocabulary has |V|, T seconds of speech. No bits for durations: what B counts
    of de-duplicated units does not restore their timing.

    Args:
        num_tokens: of each stream.
        vocabularies: size of each stream's.
        seconds: of speech.

    Raises:
        MetricError: no seconds, an empty vocabulary, or counts that don't agree.
    """
    if not seconds > 0:
        raise MetricError(f"bitrate: {seconds} seconds of speech")
    if len(num_tokens) != len(vocabularies) or min(vocabularies, default=1) < 1:
        raise MetricError("bitrate: expected a vocabulary of at least 1 for each stream")
    streams = zip(num_tokens, vocabularies, strict=True)
    return sum(count * math.log2(size) for count, size in streams) / seconds


def huffman_lengths(counts: np.ndarray) -> np.ndarray:
    """Bits of each symbol in a Huffman code for these counts.

    Args:
        counts: (symbols,) non-negative integers.

    Returns:
        (symbols,) int64: 0 where the count is 0, 1 for a symbol that is the only one.
    """
    lengths = np.zeros(len(counts), np.int64)
    present = np.flatnonzero(counts)
    if len(present) == 1:
        lengths[present] = 1
        return lengths
    # Nodes are numbered as they are made, and ties are broken by number, for a deterministic code.
    heap = [(int(counts[symbol]), node) for node, symbol in enumerate(present)]
    heapq.heapify(heap)
    parents = np.zeros(max(2 * len(present) - 1, 0), np.int64)
    for node in range(len(present), len(parents)):
        first, second = heapq.heappop(heap), heapq.heappop(heap)
        parents[[first[1], second[1]]] = node
        heapq.heappush(heap, (first[0] + second[0], node))
    depths = np.zeros(len(parents), np.int64)
    for node in range(len(parents) - 2, -1, -1):
        depths[node] = depths[parents[node]] + 1
    lengths[present] = depths[: len(present)]
    return lengths


@dataclass(frozen=True)
class Usage:
    """How a stream of symbols uses its vocabulary.

    Attributes:
        num_symbols: total.
        vocabulary: its size.
        used: symbols that occur.
        entropy: bits per symbol, of the frequencies.
        huffman: bits per symbol, of a Huffman code for the frequencies (without its table).
    """

    num_symbols: int
    vocabulary: int
    used: int
    entropy: float
    huffman: float

    @property
    def perplexity(self) -> float:
        """2 ** entropy: the size of a uniformly used vocabulary with the same entropy."""
        return 2.0**self.entropy


def usage(sequences: Iterable[np.ndarray], vocabulary: int) -> Usage:
    """Entropy, Huffman bits and use of symbols.

    Args:
        sequences: (symbols,) integers below `vocabulary`, each.
        vocabulary: its size.

    Raises:
        MetricError: no symbols, or a symbol is out of range.
    """
    counts = np.zeros(vocabulary, np.int64)
    for sequence in sequences:
        if sequence.size and (sequence.min() < 0 or sequence.max() >= vocabulary):
            raise MetricError(f"a unit is out of range: the vocabulary has {vocabulary}")
        counts += np.bincount(sequence.astype(np.int64), minlength=vocabulary)
    total = int(counts.sum())
    if not total:
        raise MetricError("usage: no units")
    shares = counts[counts > 0] / total
    return Usage(
        num_symbols=total,
        vocabulary=vocabulary,
        used=len(shares),
        entropy=abs(float((shares * np.log2(shares)).sum())),
        huffman=float((counts * huffman_lengths(counts)).sum() / total),
    )


@dataclass(frozen=True)
class UnitRates:
    """Rates of units, in bits a second.

    Attributes:
        frames: one unit per frame, log2 of the codebook each.
        deduplicated: one unit per run, log2 of the codebook each.
        entropy, huffman: one unit per run, coded by the runs' frequencies.
        compression: ratio of lengths before and after de-duplication.
        usage: of de-duplicated units.
    """

    frames: float
    deduplicated: float
    entropy: float
    huffman: float
    compression: float
    usage: Usage


def unit_rates(units: Sequence[np.ndarray], num_units: int, seconds: float) -> UnitRates:
    """Bitrates of units before and after de-duplication.

    Args:
        units: (frames,) integers below `num_units`, each.
        num_units: size of the codebook.
        seconds: total speech.

    Raises:
        MetricError: no units, a unit is out of range, or no seconds.
    """
    runs = [deduplicate(sequence) for sequence in units]
    spent = usage(runs, num_units)
    frames = sum(map(len, units))
    return UnitRates(
        frames=bitrate([frames], [num_units], seconds),
        deduplicated=bitrate([spent.num_symbols], [num_units], seconds),
        entropy=spent.num_symbols * spent.entropy / seconds,
        huffman=spent.num_symbols * spent.huffman / seconds,
        compression=frames / spent.num_symbols,
        usage=spent,
    )
