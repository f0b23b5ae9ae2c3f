"""What holds for every scheme: nothing is lost unseen, every unit is in one span, JSON."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from syllabary.errors import ConfigError, InterleavingError
from syllabary.lm.interleaving import (
    IGNORE,
    SCHEMES,
    CosyVoice,
    Dialogue,
    FixedRatio,
    InnerMonologue,
    SpeechThenText,
    TextThenSpeech,
    Word,
    WordAligned,
    draw_spans,
    scheme_from_json,
    words_of,
)

SPEECH = (100, 200)
TEXTS = st.lists(st.integers(0, 99), min_size=1, max_size=30)
UNITS = st.lists(st.integers(100, 199), max_size=60)
MARKER = st.none() | st.integers(200, 210)


@st.composite
def schemes(draw):
    marks = st.permutations(range(200, 210)).map(iter)
    free = draw(marks)
    maybe = lambda: next(free) if draw(st.booleans()) else None  # noqa: E731
    kind = draw(st.sampled_from([TextThenSpeech, SpeechThenText, FixedRatio, CosyVoice]))
    ratio = {"n": draw(st.integers(1, 6)), "m": draw(st.integers(1, 9))}
    if kind is CosyVoice:
        begin, task, end, fill = (next(free) for _ in range(4))
        return kind(SPEECH, begin=begin, task=task, end=end, fill=fill, **ratio)
    given_marks = {name: maybe() for name in kind.marker_fields}
    return kind(SPEECH, **given_marks, **(ratio if kind is FixedRatio else {}))


@given(schemes(), TEXTS, UNITS, st.data())
@settings(max_examples=200, deadline=None)
def test_split_is_the_inverse_for_any_pieces(scheme, text, speech, data):
    made = scheme.join(text, speech)
    whole = scheme.split(made.ids)
    assert whole[0].tolist() == text and whole[1].tolist() == speech
    cuts = sorted(data.draw(st.lists(st.integers(0, len(made)), max_size=5)))
    pieces = [scheme.split(piece) for piece in np.split(made.ids, cuts)]
    for got, expected in zip(zip(*pieces, strict=True), whole, strict=True):
        assert np.array_equal(np.concatenate(got), expected)
    assert np.array_equal(made.kinds, scheme.kinds_of(made.ids))
    runs = [run for _, run in scheme.spans(made.ids)]
    assert sum(map(len, runs)) == len(text) + len(speech)


@given(schemes(), TEXTS, UNITS)
@settings(max_examples=100, deadline=None)
def test_what_is_learned(scheme, text, speech):
    made = scheme.join(text, speech)
    assert len(made.ids) == len(made.targets) == len(made.kinds) == len(made)
    assert np.array_equal(made.loss_mask, made.targets != IGNORE)
    if isinstance(scheme, CosyVoice):
        learned = made.targets[made.loss_mask]
        assert learned[learned < 200].tolist() == speech  # all of it, and no text
        assert (learned == scheme.end).sum() == 1 and made.targets[-1] == scheme.end
        blocks = len(text) // scheme.n if scheme.streams(len(text), len(speech)) else 0
        assert (learned == scheme.fill).sum() == blocks
        assert scheme.fill not in made.ids
    else:
        assert made.targets.tolist() == [*made.ids[1:].tolist(), IGNORE]


@given(TEXTS, UNITS, st.integers(1, 5), st.integers(1, 5))
def test_blocks_of_a_fixed_ratio(text, speech, n, m):
    made = FixedRatio(SPEECH, n=n, m=m).join(text, speech)
    runs = FixedRatio(SPEECH, n=n, m=m).spans(made.ids)
    for kind, run in runs[:-2]:
        assert len(run) == (m if kind else n)


@st.composite
def aligned(draw):
    """Words in order, some of which overlap, and units that last one frame or several."""
    words, at = [], 0.0
    for number in range(draw(st.integers(1, 8))):
        start = at + draw(st.floats(0, 0.3))
        end = start + draw(st.floats(0, 0.5))
        words.append(Word([number], start, end))
        at = start + draw(st.floats(0, 0.6))
    durations = draw(st.lists(st.integers(1, 4), max_size=60))
    spoken = draw(st.lists(st.booleans(), min_size=len(words), max_size=len(words)))
    return words, np.arange(len(durations)) + 100, durations, spoken


@given(aligned(), st.booleans())
@settings(max_examples=200, deadline=None)
def test_every_unit_is_in_exactly_one_span(case, merged):
    words, units, durations, spoken = case
    scheme = WordAligned(SPEECH, frame_rate=(25, 2), text_marker=201, speech_marker=202)
    made, spans = scheme.join(words, units, spoken, durations if merged else None)
    owners = np.zeros(len(units), int)
    said = np.zeros(len(words), int)
    for span in spans:
        owners[slice(*span.units)] += 1
        said[slice(*span.words)] += 1
        assert all(spoken[n] == span.speech for n in range(*span.words))
    assert (owners == 1).all() and (said == 1).all()
    assert all(a.speech != b.speech for a, b in pairwise(spans))
    text, speech = scheme.split(made.ids)
    assert speech.tolist() == [
        u for span in spans if span.speech for u in units[slice(*span.units)]
    ]
    assert text.tolist() == [n for n in range(len(words)) if not spoken[n]]
    markers = made.ids[made.ids > 200].tolist()
    assert markers == [202 if span.speech else 201 for span in spans]


@given(aligned())
def test_one_span_has_everything(case):
    words, units, durations, _ = case
    scheme = WordAligned(SPEECH)
    made, _ = scheme.join(words, units, [True] * len(words), durations)
    assert made.ids.tolist() == units.tolist()


@given(st.integers(0, 200), st.integers(0, 5))
def test_drawn_spans(words, seed):
    drawn = draw_spans(words, seed, 3, 5)
    assert drawn.shape == (words,) and np.array_equal(drawn, draw_spans(words, seed, 3, 5))


def test_drawn_spans_have_the_lengths_asked_for():
    drawn = draw_spans(100_000, 1, 3, 7)
    assert abs(drawn.mean() - 0.7) < 0.01
    assert abs(np.diff(drawn).sum() / 2 - 10_000) < 300


@st.composite
def monologues(draw):
    words, at = [], 0.0
    for number in range(draw(st.integers(1, 8))):
        at += draw(st.floats(0, 0.5))
        ids = draw(st.lists(st.integers(10, 90), min_size=1, max_size=4))
        words.append(Word(ids, at, at + 0.1 * number))
    return words, draw(st.integers(0, 40))


def plain_monologue(words, frames, when_full, rate=12.5):
    """Frame by frame, as the definition has it."""
    row, queue, following = [], [], 0
    for t in range(frames):
        while following < len(words) and round(words[following].start * rate, 6) < t + 1:
            new = [(token, n == 0) for n, token in enumerate(words[following].ids)]
            queue = new if when_full == "drop" else queue + new
            following += 1
        if not queue:
            row.append(3)
            continue
        token, first = queue.pop(0)
        if first and row and row[-1] == 3:
            row[-1] = 0
        row.append(token)
    return row


@given(monologues(), st.sampled_from(["drop", "shift"]), st.data())
@settings(max_examples=200, deadline=None)
def test_monologue_frame_by_frame(case, when_full, data):
    words, frames = case
    scheme = InnerMonologue(when_full=when_full)
    row = scheme.lay(words, frames)
    assert row.ids.tolist() == plain_monologue(words, frames, when_full)
    said, at = scheme.restore(row.ids)
    every = [token for word in words for token in word.ids]
    assert len(said) + row.lost == len(every)
    if when_full == "shift":
        assert said.tolist() == every[: len(said)]
    cut = data.draw(st.integers(0, frames))
    parts = [scheme.restore(row.ids[:cut])[0], scheme.restore(row.ids[cut:])[0]]
    assert np.array_equal(np.concatenate(parts), said)
    assert np.array_equal(row.ids[at], said)


@given(st.integers(0, 6), st.integers(0, 6), st.integers(0, 2))
def test_dialogue_there_and_back(main_frames, other_frames, texts):
    scheme = Dialogue((8, 16), text_size=50, texts=texts, silence=(1, 2))
    rng = np.random.default_rng(0)
    main, other = (
        np.stack([rng.integers(0, size, frames) for size in (8, 16)])
        for frames in (main_frames, other_frames)
    )
    frames = max(main_frames, other_frames)
    rows = [rng.integers(0, 50, frames) for _ in range(texts)]
    made = scheme.join(main, torch.from_numpy(other), *rows)
    assert made.shape == (texts + 4, frames)
    back_main, back_other, back_texts = scheme.split(made)
    assert np.array_equal(back_main[:, :main_frames], main)
    assert np.array_equal(back_other[:, :other_frames], other)
    assert (back_other[:, other_frames:] == np.array([[1], [2]])).all()
    assert np.array_equal(back_texts, np.array(rows).reshape(texts, frames))
    pattern = scheme.pattern()
    assert pattern.shifts == (0,) * texts + (0, 1, 0, 1)
    steps, _ = pattern.lay(made)
    assert np.array_equal(pattern.restore(steps), made[:, : max(frames - 1, 0)])


def test_json():
    made = [
        TextThenSpeech(SPEECH, learn=("speech",), speech_end=3),
        SpeechThenText(SPEECH),
        FixedRatio(SPEECH, n=5, m=15, tail="drop"),
        CosyVoice(SPEECH, begin=1, task=2, end=3, fill=4),
        WordAligned(SPEECH, frame_rate=12.5, text_marker=7),
        InnerMonologue(when_full="drop"),
        Dialogue((2048,) * 8),
    ]
    assert {scheme.name for scheme in made} == set(SCHEMES)
    for scheme in made:
        assert scheme_from_json(scheme.to_json()) == scheme
    assert made[4].frame_rate == (25, 2)


# --- bad input -----------------------------------------------------------------------------------


def test_missing_text():
    for scheme in (TextThenSpeech(SPEECH), FixedRatio(SPEECH)):
        with pytest.raises(InterleavingError, match=r"needs text.*leave the utterance out"):
            scheme.join([], [100])
    for join in (
        lambda: WordAligned(SPEECH).join([], [100], []),
        lambda: InnerMonologue().lay([], 3),
    ):
        with pytest.raises(InterleavingError, match="no words: give an alignment"):
            join()
    with pytest.raises(InterleavingError, match="1 rows of text are missing"):
        Dialogue((8,)).join(np.zeros((1, 2), int), np.zeros((1, 2), int))
    with pytest.raises(InterleavingError, match="no words of speaker 'b'; there are words of a"):
        words_of([Word([1], 0, 1, "a")], "b")


@pytest.mark.parametrize(
    ("text", "speech", "message"),
    [
        ([150], [100], "text has id 150, which is speech"),
        ([1], [99], "speech has id 99; the vocabulary's are 100 to 199"),
        ([1.5], [100], "integers"),
        ([1], [[[100]]], "shape"),
        ([7], [100], "text has id 7, which is a marker"),
    ],
)
def test_ids_of_the_wrong_kind(text, speech, message):
    with pytest.raises(InterleavingError, match=message):
        TextThenSpeech(SPEECH, speech_end=7).join(text, speech)


@pytest.mark.parametrize(
    "make",
    [
        lambda: FixedRatio(SPEECH, n=0),
        lambda: FixedRatio((5, 5)),
        lambda: FixedRatio(SPEECH, end=150),
        lambda: FixedRatio(SPEECH, learn=("words",)),
        lambda: CosyVoice(SPEECH),
        lambda: CosyVoice(SPEECH, begin=1, task=1, end=2, fill=3),
        lambda: WordAligned(SPEECH, frame_rate=0),
        lambda: InnerMonologue(frame_rate=0),
        lambda: InnerMonologue(pad=0),
        lambda: Dialogue(()),
        lambda: Dialogue((8,), silence=(8,)),
        lambda: Dialogue((8,), texts=3),
        lambda: InnerMonologue().lay([Word([3], 0, 1)], 5),
        lambda: WordAligned(SPEECH).join([Word([1], 1, 2), Word([1], 0, 2)], [100], [True, True]),
        lambda: WordAligned(SPEECH).join([Word([1], 0, float("nan"))], [100], [True]),
        lambda: WordAligned(SPEECH).join([Word([1], 0, 1)], [100], [True, False]),
        lambda: WordAligned(SPEECH).join([Word([1], 0, 1)], [100], [True], [0]),
        lambda: WordAligned(SPEECH).join([Word([1], 0, 1)], [100], [True], [1, 1]),
        lambda: Dialogue((8,), texts=0).join(np.array([[8]]), np.array([[1]])),
        lambda: Dialogue((8,), texts=0).join(np.array([[1, 1]]), np.array([[1]])),
        lambda: Dialogue((8,)).join(np.array([[1]]), np.array([[1]]), np.array([32000])),
        lambda: scheme_from_json({"scheme": "fixed"}),
    ],
)
def test_settings_and_input_that_can_t_be(make):
    with pytest.raises(InterleavingError):
        make()


def test_a_setting_that_the_scheme_lacks():
    with pytest.raises(ConfigError, match="ratio"):
        scheme_from_json({"scheme": "fixed-ratio", "speech": [1, 2], "ratio": 3})
