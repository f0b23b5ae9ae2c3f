"""How the tokens of many `.syl` files use their codebooks, counted file by file."""

from collections import Counter
from dataclasses import dataclass, field
from math import log2
from pathlib import Path
from typing import Any

import numpy as np

from ..codecs.container import SylReader
from ..codecs.spec import TokenSpec
from ..filesystem import printable

#: Lengths of runs that are counted by themselves; longer ones are counted together.
LONGEST_RUN = 20


@dataclass(frozen=True)
class CodebookUse:
    """The use of one codebook.

    Attributes:
        size: number of its codes.
        counts: (used codes,) how often each that occurs does, the most frequent first.
        runs: (LONGEST_RUN,) number of runs of equal codes of 1, 2, … frames; the last of all
            longer ones too.
        mean_run: frames of a run.
    """

    size: int
    counts: np.ndarray
    runs: np.ndarray
    mean_run: float

    @property
    def used(self) -> int:
        """Number of different codes."""
        return len(self.counts)

    @property
    def entropy(self) -> float:
        """Observed entropy, bits a code: too low for few tokens."""
        if not len(self.counts):
            return 0.0
        shares = self.counts / self.counts.sum()
        return float(-(shares * np.log2(shares)).sum())

    @property
    def perplexity(self) -> float:
        """Number of equally frequent codes of the same entropy."""
        return 2.0**self.entropy

    def to_json(self) -> dict[str, Any]:
        return {
            "size": self.size,
            "used": self.used,
            "entropy_bits": round(self.entropy, 4),
            "perplexity": round(self.perplexity, 2),
            "mean_run_frames": round(self.mean_run, 3),
            "runs": self.runs.tolist(),
        }


@dataclass
class TokenUse:
    """Counts of the tokens of one tokenizer; `add` one file after the other.

    Runs do not go on from one chunk of a file to the next (10 s), nor over files.

    Attributes:
        spec: of the tokens.
        num_codebooks: that the files hold; the fewest, where they differ.
        files, samples, frames, positions, size: sums over the files; `size` in bytes. A position is
            a frame, or several merged ones.
    """

    spec: TokenSpec
    num_codebooks: int
    files: int = 0
    samples: int = 0
    frames: int = 0
    positions: int = 0
    size: int = 0
    _counts: list[Counter[int]] = field(default_factory=list)
    _runs: list[Counter[int]] = field(default_factory=list)

    def add(self, reader: SylReader) -> None:
        """Count the rest of a file.

        Raises:
            ContainerError: it is damaged; nothing of it was counted.
        """
        chunks = list(reader.chunks())
        self.files += 1
        self.samples += reader.num_samples or 0
        self.size += reader.bytes_read
        self.num_codebooks = min(self.num_codebooks, reader.num_codebooks)
        for chunk in chunks:
            lengths = chunk.durations
            self.positions += chunk.codes.shape[1]
            self.frames += chunk.codes.shape[1] if lengths is None else int(lengths.sum())
            for number, codes in enumerate(chunk.codes):
                if number == len(self._counts):
                    self._counts.append(Counter())
                    self._runs.append(Counter())
                _count(self._counts[number], codes)
                _count(self._runs[number], _runs_of(codes, lengths))

    @property
    def seconds(self) -> float:
        """Seconds of audio."""
        return self.samples / self.spec.sample_rate

    def codebooks(self) -> list[CodebookUse]:
        """Return the use of each codebook that all files hold."""
        found = []
        for number in range(self.num_codebooks):
            counts = self._counts[number] if number < len(self._counts) else Counter()
            runs = self._runs[number] if number < len(self._runs) else Counter()
            lengths = np.zeros(LONGEST_RUN, np.int64)
            for length, count in runs.items():
                lengths[min(length, LONGEST_RUN) - 1] += count
            total = sum(length * count for length, count in runs.items())
            found.append(
                CodebookUse(
                    self.spec.codebook_sizes[number],
                    np.array(sorted(counts.values(), reverse=True), np.int64),
                    lengths,
                    total / max(1, sum(runs.values())),
                )
            )
        return found

    def rates(self) -> dict[str, float]:
        """Return bits per second: nominal, of the files, of the codes, and of their entropies.

        ``codes`` counts log2(size) bits for each position that there is, and ``entropy`` the
        observed entropy of each codebook by itself; durations are not counted.
        """
        seconds = max(self.seconds, 1e-9)
        sizes = self.spec.codebook_sizes[: self.num_codebooks]
        return {
            "nominal": self.spec.bitrate(self.num_codebooks),
            "files": 8 * self.size / seconds,
            "codes": self.positions * sum(map(log2, sizes)) / seconds,
            "entropy": self.positions * sum(c.entropy for c in self.codebooks()) / seconds,
        }

    def to_json(self) -> dict[str, Any]:
        return {
            "tokenizer": self.spec.tokenizer,
            "digest": self.spec.digest,
            "files": self.files,
            "seconds": round(self.seconds, 3),
            "frames": self.frames,
            "positions": self.positions,
            "bytes": self.size,
            "bits_per_second": {name: round(rate, 1) for name, rate in self.rates().items()},
            "codebooks": [codebook.to_json() for codebook in self.codebooks()],
        }


def count_file(path: Path, found: dict[str, TokenUse]) -> None:
    """Count a `.syl` file among those of the same digest.

    Args:
        path: of the file.
        found: counts by the digest of the tokens; changed.

    Raises:
        ContainerError: it is damaged or no such file.
        OSError: it can't be read.
    """
    with path.open("rb") as file:
        reader = SylReader(file, printable(path))
        use = found.get(reader.spec.digest) or TokenUse(reader.spec, reader.num_codebooks)
        use.add(reader)
        found[reader.spec.digest] = use


def _count(counts: Counter[int], values: np.ndarray) -> None:
    different, numbers = np.unique(values, return_counts=True)
    counts.update(dict(zip(different.tolist(), numbers.tolist(), strict=True)))


def _runs_of(codes: np.ndarray, durations: np.ndarray | None) -> np.ndarray:
    """Return the frames of each run of equal codes."""
    if not len(codes):
        return np.zeros(0, np.int64)
    starts = np.flatnonzero(np.concatenate([[True], codes[1:] != codes[:-1]]))
    frames = np.ones(len(codes), np.int64) if durations is None else durations
    return np.add.reduceat(frames.astype(np.int64), starts)
