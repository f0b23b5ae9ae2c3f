"""Scales, ticks and labels of plots."""

import math

from hypothesis import example, given, settings
from hypothesis import strategies as st

from syllabary.eval.leaderboard.axes import (
    CHARACTER,
    LINE,
    Scale,
    decade_ticks,
    linear_ticks,
    overlap,
    place_labels,
    widened,
)

NUMBERS = st.floats(-1e6, 1e6)


@given(st.lists(NUMBERS, min_size=1, max_size=20))
def test_a_range_holds_its_values_and_is_never_empty(values):
    low, high = widened(values)
    assert low < high and all(low <= value <= high for value in values)
    up = Scale(low, high, 300, 10)
    assert all(9.99 <= up(value) <= 300.01 for value in values)


@given(NUMBERS, st.floats(1e-3, 1e6), st.integers(3, 8))
def test_ticks_are_round_even_and_few(low, span, most):
    ticks = linear_ticks(low, low + span, most)
    assert 1 <= len(ticks) <= most + 1
    assert all(low - span * 1e-6 <= tick <= low + span * (1 + 1e-6) for tick in ticks)
    if len(ticks) > 1:
        step = ticks[1] - ticks[0]
        first = step / 10 ** math.floor(math.log10(step * (1 + 1e-6)))
        assert min(abs(first - round_) for round_ in (1, 2, 5, 10)) < 1e-3


def test_decades():
    assert decade_ticks(0.15, 30) == [0.2, 0.5, 1, 2, 5, 10, 20]
    scale = Scale(0.1, 10, 0, 100, logarithmic=True)
    assert [round(scale(value)) for value in (0.1, 1, 10)] == [0, 50, 100]


def test_labels_that_have_room_do_not_touch():
    points = [(60 + 45 * (i % 12), 60 + 60 * (i // 12)) for i in range(48)]
    texts = [f"sys{i}" for i in range(48)]
    labels = place_labels(points, texts, (0, 0, 700, 400))
    boxes = [(x.x, x.y - LINE + 2, x.x + CHARACTER * len(x.text), x.y + 2) for x in labels]
    assert len(labels) == 48
    assert not any(overlap(a, b) for i, a in enumerate(boxes) for b in boxes[:i])


@settings(max_examples=30, deadline=None)
@example([(10.0, 10.0), (10.75, 10.0)])
@given(st.lists(st.tuples(st.floats(10, 590), st.floats(10, 390)), max_size=15))
def test_labels_stay_inside_and_do_not_depend_on_chance(points):
    texts = ["name"] * len(points)
    labels = place_labels(points, texts, (0, 0, 600, 400))
    assert labels == place_labels(points, texts, (0, 0, 600, 400))
    assert [label.point for label in labels] == list(range(len(points)))
    right = 600 - CHARACTER * len("name")
    assert all(0 <= label.x <= right and LINE - 2 <= label.y <= 398 for label in labels)
