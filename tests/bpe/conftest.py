import pytest

from syllabary.bpe import UnitBPE

from .vocabularies import unit_likeness

NUM_UNITS = 60
SIZE = 200


@pytest.fixture(scope="session")
def sequences():
    return [unit_likeness(300, NUM_UNITS, seed) for seed in range(80)]


@pytest.fixture(scope="session", params=["bpe", "unigram"])
def bpe(request, sequences):
    return UnitBPE.train(sequences, NUM_UNITS + 1, SIZE, kind=request.param, deduplicated=True)
