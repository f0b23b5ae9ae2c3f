import pytest

from syllabary.eval.harness.summary import figure_of, merged
from syllabary.eval.results.schema import Figure


def test_failures_count_and_nothing_is_imputed():
    found = figure_of([1.0, None, 3.0], seed=0)
    assert (found.value, found.count, found.failed) == (2.0, 2, 1)
    assert figure_of([None, None], 0) == Figure(None, None, None, count=0, failed=2)


def test_ratios_are_of_totals():
    found = figure_of([(1, 10), (3, 2), None], seed=0)
    assert found.value == pytest.approx(4 / 12)
    assert found.low <= found.value <= found.high


def test_later_lines_add_to_earlier_ones():
    first = {"item": "a", "seconds": 1.0, "bits": 8.0}
    lines = [
        {"item": "a", "error": "no such file"},
        first | {"scores": {"x": 1.0}, "failures": {"y": "why"}},
        {"study": "cost", "findings": {}},
        first | {"scores": {"y": 2.0}, "failures": {"x": "now it fails"}},
    ]
    assert merged(lines) == {"a": first | {"scores": {"y": 2.0}, "failures": {"x": "now it fails"}}}
    assert merged(lines[:1])["a"]["error"] == "no such file"


def test_scores_that_were_capped_are_kept_beside_the_score():
    first = {"item": "a", "seconds": 1.0, "bits": 8.0, "failures": {}}
    loop = first | {"scores": {"dwer": [3, 3], "x": 1.0}, "capped": {"dwer": 90.0}}
    assert merged([loop])["a"]["capped"] == {"dwer": 90.0}
    later = first | {"scores": {"wer": [4, 4]}, "capped": {"wer": 91.0}}
    assert merged([loop, later])["a"]["capped"] == {"dwer": 90.0, "wer": 91.0}
    # Computed again without a cap, the old one is gone.
    mended = first | {"scores": {"dwer": [1, 3]}}
    assert merged([loop, later, mended])["a"]["capped"] == {"wer": 91.0}
