import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from syllabary.eval.metrics.interface import MetricError
from syllabary.eval.unit_measures.purity import joint_count, purity

counts = arrays(
    np.int64, st.tuples(st.integers(2, 6), st.integers(1, 8)), elements=st.integers(0, 20)
)


def of_two_phones(count):
    return (count.sum(1) > 0).sum() >= 2


def test_counts():
    labels = [np.array([0, 0, 1]), np.array([2])]
    units = [np.array([3, 3, 0]), np.array([1])]
    count = joint_count(labels, units, num_units=4, num_phones=3)
    assert count.tolist() == [[0, 0, 0, 2], [1, 0, 0, 0], [0, 1, 0, 0]]
    for wrong, message in (
        ((labels, units[:1]), "2 utterances with labels and 1"),
        ((labels, [units[0], np.array([1, 1])]), "utterance 1: labels"),
        ((labels, [units[0], np.array([4])]), "a unit is out of range"),
        (([labels[0], np.array([-1])], units), "a label is out of range"),
    ):
        with pytest.raises(MetricError, match=message):
            joint_count(*wrong, num_units=4, num_phones=3)


def test_by_hand():
    found = purity(np.array([[30, 10], [10, 50]]))
    assert found.phone_purity == pytest.approx(0.8) and found.cluster_purity == pytest.approx(0.8)
    # H(y) = 0.6730, I = 0.3 ln(.3/.16) + 2 × 0.1 ln(.1/.24) + 0.5 ln(.5/.36)
    information = 0.3 * np.log(0.3 / 0.16) + 0.2 * np.log(0.1 / 0.24) + 0.5 * np.log(0.5 / 0.36)
    uncertainty = -0.4 * np.log(0.4) - 0.6 * np.log(0.6)
    assert found.pnmi == pytest.approx(information / uncertainty)
    assert (found.num_frames, found.num_phones, found.num_units) == (100, 2, 2)


def test_units_that_are_phones_and_units_that_are_nothing():
    every = purity(np.diag([5, 10, 20]))
    assert every.phone_purity == every.cluster_purity == 1
    assert every.pnmi == pytest.approx(1, abs=1e-12)
    assert every.pnmi_corrected == pytest.approx(1, abs=0.03)
    constant = purity(np.array([[10], [30]]))
    assert (constant.phone_purity, constant.cluster_purity) == (0.75, 1)
    assert constant.pnmi == pytest.approx(0, abs=1e-12)
    random = np.random.default_rng(0)
    labels, units = random.integers(0, 40, 23000), random.integers(0, 100, 23000)
    chance = purity(joint_count([labels], [units], 100))
    assert chance.pnmi > 0.02 > 0.005 > chance.pnmi_corrected


@given(counts.filter(of_two_phones), st.randoms())
@settings(deadline=None)
def test_laws(count, random):
    found = purity(count)
    for value in (found.phone_purity, found.cluster_purity, found.pnmi):
        assert 0 <= value <= 1 + 1e-12
    # Names of units and of phones don't matter, nor how much speech it is.
    rows, columns = list(range(count.shape[0])), list(range(count.shape[1]))
    random.shuffle(rows)
    random.shuffle(columns)
    other = purity(3 * count[rows][:, columns])
    for name in ("phone_purity", "cluster_purity", "pnmi"):
        assert getattr(other, name) == pytest.approx(getattr(found, name), abs=1e-9)
    # Two units taken for one never tell more of the phone.
    if count.shape[1] > 1:
        merged = np.concatenate([count[:, :2].sum(1, keepdims=True), count[:, 2:]], 1)
        less = purity(merged)
        assert less.pnmi <= found.pnmi + 1e-9
        assert less.phone_purity <= found.phone_purity + 1e-9
        assert less.cluster_purity >= found.cluster_purity - 1e-9


@given(counts.filter(lambda count: of_two_phones(count[1:])))
@settings(deadline=None)
def test_pnmi_is_what_scikit_learn_says(count):
    metrics = pytest.importorskip("sklearn.metrics")
    found = purity(count, without=(0,))
    y, z = np.nonzero(count[1:])
    repeats = count[1:][y, z]
    information = metrics.mutual_info_score(np.repeat(y, repeats), np.repeat(z, repeats))
    uncertainty = metrics.mutual_info_score(np.repeat(y, repeats), np.repeat(y, repeats))
    assert found.pnmi == pytest.approx(information / uncertainty, abs=1e-9)


def test_nothing_to_tell():
    with pytest.raises(MetricError, match="no frames"):
        purity(np.zeros((3, 3), int))
    with pytest.raises(MetricError, match="no frames"):
        purity(np.array([[5, 5], [0, 0]]), without=(0,))
    with pytest.raises(MetricError, match="the same phone"):
        purity(np.array([[5, 5], [0, 0]]))
