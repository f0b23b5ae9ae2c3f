"""The GE2E cosine at which same and different speakers are confused equally often.

    SYLLABARY_SPEECH=… python benchmarks/speaker_threshold.py

Pairs of LibriSpeech sentences of at least 4 s, of the test split: below this cosine a voice is more
likely another person's. The leaderboard marks no system as best below it (`ACCEPTABLE`).
"""

import os
from itertools import combinations
from pathlib import Path

import numpy as np

from syllabary.audio.manifests import collect
from syllabary.eval.metrics.speaker import _ge2e

RATE, LEAST_S, PER_SPEAKER = 16_000, 4.0, 4


def main() -> None:
    manifest = str(Path(os.environ["SYLLABARY_SPEECH"]) / "manifest.jsonl")
    found: dict[str, list[np.ndarray]] = {}
    for item in collect([manifest], "test"):
        if "librispeech" not in str(item.path) or (item.duration_s or 0) < LEAST_S:
            continue
        mine = found.setdefault(item.speaker or "", [])
        if len(mine) < PER_SPEAKER:
            embedding = _ge2e(np.asarray(item.read(RATE, "mix")[0]), RATE)
            if embedding is not None:
                mine.append(embedding)
    voices = [(speaker, vector) for speaker, vectors in found.items() for vector in vectors]
    same, other = [], []
    for (one, a), (two, b) in combinations(voices, 2):
        (same if one == two else other).append(float(a @ b))
    cosines = np.sort([*same, *other])
    missed = np.searchsorted(np.sort(same), cosines) / len(same)
    taken = 1 - np.searchsorted(np.sort(other), cosines) / len(other)
    at = int(np.argmin(np.abs(missed - taken)))
    print(
        f"{len(voices)} sentences of {len(found)} speakers, {len(same)} pairs of the same: equal "
        f"errors of {missed[at]:.1%} at a cosine of {cosines[at]:.3f}; means {np.mean(same):.3f} "
        f"and {np.mean(other):.3f}"
    )


if __name__ == "__main__":
    main()
