"""Data sets of made-up codes, and what a reader must give for them, from `Pattern.lay`."""

import numpy as np
import pytest

from syllabary.lm import Vocabulary
from syllabary.lm.dataset import write_dataset

from ..conftest import token_spec
from ..dataset.made_up import made_up_items


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """A function that writes a data set (once) and returns its folder and its items in order."""
    written = {}

    def make(count=60, seed=0, sizes=(64, 128, 32), name="codec", digest="ab", longest=60, **more):
        key = (count, seed, sizes, name, digest, longest, *sorted(more.items()))
        if key not in written:
            spec = token_spec(sizes, digest=digest, name=name)
            folder = tmp_path_factory.mktemp("sets") / "set"
            items = made_up_items(spec, count, seed, longest=longest, **more)
            data = write_dataset(folder, items, spec, more.get("codebooks"))
            written[key] = folder, list(data)
        return written[key]

    return make


@pytest.fixture
def vocabulary():
    return Vocabulary(token_spec((64, 128, 32)), first=1000)


def expected(pattern, item, begin=None, end=None):
    """Ids and targets (streams, steps) of a whole document, by `lay`."""
    steps, mask = pattern.lay(item.codes[: pattern.num_codebooks])
    around = [np.full((len(steps), 1), marker) for marker in (begin, end) if marker is not None]
    learned = np.where(mask, steps, -100)
    if begin is not None:
        steps, learned = np.hstack([around[0], steps]), np.hstack([around[0] * 0 - 100, learned])
    if end is not None:
        steps, learned = np.hstack([steps, around[-1]]), np.hstack([learned, around[-1]])
    targets = np.hstack([learned[:, 1:], np.full((len(steps), 1), -100)])
    return steps, targets
