"""Random choices that follow from a seed alone: the same on every rank and device."""

import numpy as np


def derived_seed(seed: int, *path: int) -> int:
    """A seed for one part, `path`, of something with a seed of its own."""
    return int(np.random.SeedSequence([seed, *path]).generate_state(1)[0])


def chosen_positions(total: int, count: int, seed: int, *path: int) -> list[int]:
    """`count` different positions of `total`, in random order; all where there are fewer."""
    generator = np.random.default_rng([seed, *path])
    chosen: list[int] = generator.choice(total, min(count, total), replace=False).tolist()
    return chosen


def chosen_item(items: tuple[int, ...], seed: int, *path: int) -> int:
    """One of `items`, each as likely as the others."""
    return items[int(np.random.default_rng([seed, *path]).integers(len(items)))]
