"""Data sets to export."""

from dataclasses import replace

import numpy as np
import pytest

from syllabary.lm import Vocabulary
from syllabary.lm.dataset import AlignedWord, write_dataset

from ..conftest import token_spec
from ..dataset.made_up import made_up_items


class Made:
    """A data set with its items in order, and those with frames of a split."""

    def __init__(self, folder, spec, items, codebooks=None):
        self.data = write_dataset(folder, items, spec, codebooks, codes_a_shard=1500)
        self.folder, self.spec, self.items = folder, spec, list(self.data)

    def of(self, split, frames=True):
        return [item for item in self.items if item.split == split and (item.frames or not frames)]


@pytest.fixture(scope="session")
def several(tmp_path_factory):
    """Three codebooks; texts, alignments and segments for some."""
    spec = token_spec((64, 128, 32))
    return Made(tmp_path_factory.mktemp("several") / "set", spec, made_up_items(spec, 60))


@pytest.fixture(scope="session")
def units(tmp_path_factory):
    """One codebook, merged units, and words for all."""
    spec = token_spec((500,), name="units")
    words = (AlignedWord("one", 0.0, 0.5, (3,)), AlignedWord("two", 0.5, 0.75, (4, 5)))
    items = [
        replace(item, alignment=words, source_start=None, source_samples=None)
        for item in made_up_items(spec, 40, merged=True, seed=1)
    ]
    return Made(tmp_path_factory.mktemp("units") / "set", spec, items)


@pytest.fixture
def vocabulary(several):
    return Vocabulary(several.spec, first=1000)


def same_codes(found, item):
    return found.dtype == item.codes.dtype and np.array_equal(found, item.codes)
