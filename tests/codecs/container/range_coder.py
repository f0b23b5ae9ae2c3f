"""The entropy coder in plain Python: what the compiled one is compared with.

Written by itself from docs/token-format.md's rules: a dictionary of nodes, and numbers without end.
"""

from collections.abc import Sequence

CONTEXTS = (
    lambda codebook, before, below: codebook,
    lambda codebook, before, below: (codebook, before),
    lambda codebook, before, below: (before, below),
)
LEAST, OLDEST = 1024, 60


def encode(rows: Sequence[Sequence[int]], widths: Sequence[int]) -> bytes:
    coded = [bytes([model]) + _encode(rows, widths, model) for model in range(len(CONTEXTS))]
    return min(coded, key=len)


def _encode(rows: Sequence[Sequence[int]], widths: Sequence[int], model: int) -> bytes:
    """The interval as one number with a growing count of bytes; carries come out by themselves."""
    low, span, shifted = 0, 2**32 - 1, 0
    nodes: dict[object, tuple[int, int]] = {}
    before = [0] * len(widths)
    for row in rows:
        below = 0
        for codebook, (code, width) in enumerate(zip(row, widths, strict=True)):
            context = CONTEXTS[model](codebook, before[codebook], below)
            node = 1
            for bit in map(int, f"{code:0{width}b}"):
                probability, age = nodes.get((context, node), (2**15, 0))
                bound = (span >> 16) * probability
                rate = 65536 // (age + 2)
                if bit:
                    low, span = low + bound, span - bound
                    probability = max(probability - (probability * rate >> 16), LEAST)
                else:
                    span = bound
                    gain = (65536 - probability) * rate >> 16
                    probability = min(probability + gain, 65536 - LEAST)
                nodes[context, node] = probability, min(age + 1, OLDEST)
                node = 2 * node + bit
                while span < 2**24:
                    low, span, shifted = low << 8, span << 8, shifted + 1
            before[codebook] = below = code
    return low.to_bytes(shifted + 4, "big")
