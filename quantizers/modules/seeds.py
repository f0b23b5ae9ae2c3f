"""Random choices determined by a seed, the same on every rank and device."""

import numpy as np


def derived_seed(seed: int, *path: int) -> int:
    """Derive the seed of a part, identified by `path`, from a seed."""
    return int(np.random.SeedSequence([seed, *path]).generate_state(1)[0])


def chosen_positions(total: int, count: int, seed: int, *path: int) -> list[int]:
    """Choose `count` of `total` positions in random order; all if there are fewer."""
    generator = np.random.default_rng([seed, *path])
    chosen: list[int] = generator.choice(total, min(count, total), replace=False).tolist()
    return chosen


def chosen_item(items: tuple[int, ...], seed: int, *path: int) -> int:
    """Choose one of `items` uniformly."""
    return items[int(np.random.default_rng([seed, *path]).integers(len(items)))]
