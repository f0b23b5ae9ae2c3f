"""Items of made-up codes."""

from dataclasses import replace

import numpy as np

from syllabary.lm.dataset import AlignedWord, Item


def made_up_items(spec, count, seed=0, codebooks=None, merged=False, longest=60):
    """Items of random lengths; every third has no text, some are aligned, some are in `valid`."""
    rng = np.random.default_rng(seed)
    dtype = np.uint16 if max(spec.codebook_sizes) <= 1 << 16 else np.uint32
    made = []
    for number in range(count):
        frames = int(rng.integers(0, longest))
        sizes = spec.codebook_sizes[:codebooks]
        codes = np.stack([rng.integers(0, size, frames) for size in sizes]).astype(dtype)
        item = Item(
            id=f"speaker-{number % 5}/é {number}",
            codes=codes,
            num_samples=max(0, frames * spec.hop - int(rng.integers(0, spec.hop))),
            text=None if number % 3 == 0 else f"text of {number}",
            speaker=f"speaker-{number % 5}",
            language="en" if number % 2 else None,
            split="valid" if number % 5 == 4 else "train",
            source=f"speaker-{number % 5}/{number}.flac",
            source_sha256=f"{number:064x}",
        )
        if number % 4 == 1:
            words = (AlignedWord("two", 0.0, 0.25, (3, 4)), AlignedWord("words", 0.25, 0.5))
            item = replace(item, alignment=words, text_ids=(3, 4, 70_000), extra={"take": number})
        if number % 4 == 2:
            item = replace(item, source_start=10, source_samples=frames * 160, alignment=())
        if merged:
            durations = rng.integers(1, 9, frames).astype(np.uint32)
            item = replace(item, durations=durations, num_samples=int(durations.sum()) * spec.hop)
        made.append(item)
    return made
