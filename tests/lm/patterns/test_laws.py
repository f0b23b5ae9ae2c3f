"""What holds for every pattern: inverse, lengths, streams, batches, NumPy and torch."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from syllabary.errors import ConfigError, PatternError, TokenError
from syllabary.lm import patterns
from syllabary.lm.arrays import Arrays
from syllabary.lm.patterns import PATTERNS, pattern_from_json

SIZES = st.integers(2, 70_000)


@st.composite
def any_pattern(draw, whole=False):
    """A pattern of any kind, number of codebooks, sizes and settings, with ids of its own."""
    name = draw(st.sampled_from(sorted(PATTERNS)))
    settings_ = {}
    if name == "snac":
        settings_["rates"] = draw(st.sampled_from([(1,), (1, 2), (1, 2, 4), (1, 3), (1, 1, 2)]))
        count = sum(settings_["rates"])
    elif name == "step-audio":
        settings_["rates"] = tuple(draw(st.lists(st.integers(1, 3), min_size=1, max_size=3)))
        count = sum(settings_["rates"])
    else:
        count = draw(st.integers(2 if name == "moshi" else 1, 6))
    delays = st.tuples(*[st.integers(0, 4)] * count)
    if name in ("delay", "moshi", "espnet"):
        settings_["delays"] = draw(delays)
        settings_["cut"] = False if whole else draw(st.booleans())
    if name in ("delay", "parallel", "coarse-first", "flatten"):
        settings_["start"] = draw(st.integers(0, 3))
    if name == "coarse-first":
        settings_["delays"] = draw(delays)[1:]
    if name == "flatten":
        rises = draw(st.lists(st.integers(0, 1), min_size=count - 1, max_size=count - 1))
        settings_["groups"] = np.cumsum([0, *rises]).tolist()
        settings_["streams_of"] = draw(st.sampled_from(["auto", "each"]))
    if name == "musiclm":
        settings_["group"] = draw(st.integers(1, 4))
    sizes = [draw(SIZES) for _ in range(count)]
    made = patterns.pattern(name, sizes, **settings_)
    if draw(st.booleans()) and name != "vall-e":
        first = draw(st.integers(1, 1000))
        base = first + np.cumsum([0, *sizes[:-1]])
        made = made.with_ids(tuple(base.tolist()), draw(st.integers(0, first - 1)))
    return made


def some_codes(pattern, batch, frames, seed=0):
    rng = np.random.default_rng(seed)
    rows = [rng.integers(0, size, (batch, frames)) for size in pattern.sizes]
    return np.stack(rows, axis=1)


@given(any_pattern(), st.integers(0, 9), st.integers(1, 3))
@settings(max_examples=150, deadline=None)
def test_restore_is_the_inverse(pattern, frames, batch):
    codes = some_codes(pattern, batch, frames)
    steps, mask = pattern.lay(codes)
    assert steps.shape == (batch, pattern.streams, pattern.num_steps(frames)) == mask.shape
    assert steps.dtype == np.int64 and mask.dtype == bool
    kept = max(frames - pattern.lost_frames, 0)
    assert pattern.num_frames(steps.shape[-1]) == kept
    assert np.array_equal(pattern.restore(steps), codes[..., :kept])
    if not pattern.lost_frames:  # every code, and every end, is there once
        assert mask.sum() == codes.size + batch * len(pattern.marks)
    outside = np.where(mask, np.array(pattern.specials)[:, None], steps)
    assert (outside == np.array(pattern.specials)[:, None]).all()
    single, single_mask = pattern.lay(codes[0])
    assert np.array_equal(single, steps[0]) and np.array_equal(single_mask, mask[0])
    assert np.array_equal(pattern.restore(single), codes[0, :, :kept])


@given(any_pattern(), st.lists(st.integers(0, 7), min_size=1, max_size=4))
@settings(max_examples=150, deadline=None)
def test_rows_of_a_batch_don_t_depend_on_each_other(pattern, lengths):
    frames = max(lengths)
    codes = some_codes(pattern, len(lengths), frames)
    for row, length in enumerate(lengths):
        codes[row, :, length:] = -5  # padding may be anything
    steps, mask = pattern.lay(codes, lengths)
    counts = pattern.num_steps(np.array(lengths))
    for row, (length, count) in enumerate(zip(lengths, counts, strict=True)):
        alone, alone_mask = pattern.lay(codes[row, :, :length])
        assert np.array_equal(steps[row, :, :count], alone)
        assert np.array_equal(mask[row, :, :count], alone_mask)
        assert (steps[row, :, count:] == np.array(pattern.specials)[:, None]).all()
        assert not mask[row, :, count:].any()
    back = pattern.restore(steps, counts)
    for row, kept in enumerate(pattern.num_frames(counts)):
        assert np.array_equal(back[row, :, :kept], codes[row, :, :kept])
        assert not back[row, :, kept:].any()


@given(any_pattern(), st.integers(0, 9), st.data())
@settings(max_examples=150, deadline=None)
def test_a_stream_gives_the_frames_of_restore(pattern, frames, data):
    batch = data.draw(st.integers(1, 2))
    codes = some_codes(pattern, batch, frames)
    steps, _ = pattern.lay(codes)
    total = steps.shape[-1]
    cuts = sorted(data.draw(st.lists(st.integers(0, total), max_size=6)))
    known = pattern.needs_length and not (pattern.marks and batch == 1)
    stream = pattern.stream(batch, frames if known or data.draw(st.booleans()) else None)
    given_frames = [
        stream.push(steps[..., a:b]) for a, b in zip([0, *cuts], [*cuts, total], strict=True)
    ]
    kept = max(frames - pattern.lost_frames, 0)
    assert np.array_equal(np.concatenate(given_frames, -1), codes[..., :kept])
    if stream.frames is not None:
        assert stream.done


@given(any_pattern(), st.integers(1, 7))
@settings(max_examples=100, deadline=None)
def test_a_stream_gives_each_frame_with_its_last_code(pattern, frames):
    """Not a step later than the last of its codes, and it says what it expects before."""
    codes = some_codes(pattern, 1, frames)
    steps, _ = pattern.lay(codes)
    codebooks, times = pattern.layout(frames)
    stream = pattern.stream(frames=frames)
    came = 0
    for step in range(steps.shape[-1]):
        # What is expected: codes where the mask has them, but for an end.
        assert np.array_equal(stream.expected, codebooks[:, step])
        low, high = stream.allowed.T
        ids = steps[0, :, step]
        ends = [mark.start + mark.after * frames for mark in pattern.marks]
        assert step in ends or ((low <= ids) & (ids < high)).all() or pattern.lost_frames
        assert (
            np.where(codebooks[:, step] < 0, 1, np.array(pattern.sizes)[codebooks[:, step]])
            == high - low
        ).all()
        if not pattern.lost_frames:
            forced = stream.expected < 0
            assert step in ends or np.array_equal(steps[0, forced, step], stream.filling[forced])
        stream.push(steps[0, :, step])
        seen = times[:, : step + 1]
        counts = np.bincount(seen[seen >= 0], minlength=frames)
        came = int(np.cumprod(counts == len(pattern.sizes)).sum())
        assert stream.num_frames == came
    assert came == max(frames - pattern.lost_frames, 0)


@given(any_pattern(), st.integers(0, 9), st.data())
@settings(max_examples=150, deadline=None)
def test_a_step_stream_gives_the_steps_of_lay(pattern, frames, data):
    codes = some_codes(pattern, 2, frames)
    cuts = sorted(data.draw(st.lists(st.integers(0, frames), max_size=5)))
    stream = pattern.step_stream(2)
    parts = [stream.push(codes[..., a:b]) for a, b in zip([0, *cuts], [*cuts, frames], strict=True)]
    parts.append(stream.flush())
    for got, expected in zip(zip(*parts, strict=True), pattern.lay(codes), strict=True):
        assert np.array_equal(np.concatenate(got, -1), expected)


@pytest.mark.parametrize("name", ["parallel", "delay", "flatten"])
def test_streams_of_hours_keep_little(name):
    pattern = patterns.pattern(name, [64] * 4)
    stream, forward = pattern.stream(), pattern.step_stream()
    rng = np.random.default_rng(0)
    for _ in range(300):
        codes = rng.integers(0, 64, (4, 5))
        stream.push(forward.push(codes)[0])
        assert sum(part.shape[-1] for part in stream._kept) <= 8
        assert forward._kept.shape[-1] <= 8
    assert stream.num_frames >= 1500 - 4


@pytest.mark.parametrize("through_numpy", [True, False])
@given(pattern=any_pattern(), lengths=st.lists(st.integers(0, 5), min_size=1, max_size=3))
@settings(max_examples=60, deadline=None)
def test_tensors_give_what_arrays_give(through_numpy, pattern, lengths):
    """On the CPU by way of NumPy; the operations of other devices are run here on the CPU too."""
    devices, Arrays.numpy_devices = Arrays.numpy_devices, ("cpu",) if through_numpy else ()
    try:
        codes = some_codes(pattern, len(lengths), max(lengths))
        tensor = torch.from_numpy(codes)
        for given_lengths in (None, lengths):
            steps, mask = pattern.lay(codes, given_lengths)
            tensor_steps, tensor_mask = pattern.lay(tensor, given_lengths)
            assert isinstance(tensor_steps, torch.Tensor) and tensor_steps.dtype == torch.long
            assert np.array_equal(tensor_steps, steps) and np.array_equal(tensor_mask, mask)
            counts = None if given_lengths is None else pattern.num_steps(np.array(given_lengths))
            back = pattern.restore(
                tensor_steps, None if counts is None else torch.from_numpy(counts)
            )
            assert isinstance(back, torch.Tensor)
            assert np.array_equal(back, pattern.restore(steps, counts))
        frames = max(lengths) if pattern.needs_length else None
        stream, forward = (
            pattern.stream(len(lengths), frames),
            pattern.step_stream(len(lengths)),
        )
        steps, _ = pattern.lay(tensor)
        assert torch.equal(stream.push(steps), pattern.restore(steps))
        pieces = [forward.push(tensor)[0], forward.flush()[0]]
        assert torch.equal(torch.cat(pieces, -1), steps)
    finally:
        Arrays.numpy_devices = devices


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.uint32, np.int64])
def test_any_integers(dtype):
    pattern = patterns.Delay((256, 256), base=(70_000, 70_256), special=0)
    codes = some_codes(pattern, 1, 5).astype(dtype)
    steps, _ = pattern.lay(codes)
    assert np.array_equal(pattern.restore(steps), codes)
    assert steps.max() > 65_536  # ids that the codes' own dtype may not hold
    assert np.array_equal(pattern.restore(torch.from_numpy(steps.astype(np.int32))), codes)


@given(any_pattern())
@settings(max_examples=100, deadline=None)
def test_json(pattern):
    assert pattern_from_json(pattern.to_json()) == pattern


@given(any_pattern(), st.integers(1, 5))
@settings(max_examples=60, deadline=None)
def test_holes(pattern, frames):
    """What is no code comes back as -1, and is an error unless it may."""
    codes = some_codes(pattern, 1, frames)
    steps, _ = pattern.lay(codes)
    kept = pattern.num_frames(steps.shape[-1])
    if not kept:
        return
    place = pattern.places[-1]
    steps[0, place.stream, place.start + place.after * frames] = 10**6
    with pytest.raises(
        TokenError, match=f"id 1000000 where a code of codebook {codes.shape[1] - 1}"
    ):
        pattern.restore(steps)
    found = pattern.restore(steps, holes=True)
    codes[0, -1, 0] = -1
    assert np.array_equal(found, codes[..., :kept])


# --- bad input -----------------------------------------------------------------------------------


def test_other_codebooks_than_the_pattern_s():
    pattern = patterns.Delay((1024,) * 4)
    with pytest.raises(PatternError, match="4 codebooks, got codes of 8: keep the first 4"):
        pattern.lay(np.zeros((8, 3), int))
    with pytest.raises(PatternError, match="encode with more"):
        pattern.lay(np.zeros((2, 3), int))
    with pytest.raises(PatternError, match=r"\(4, steps\)"):
        pattern.restore(np.zeros((1, 3), int))


def test_codes_out_of_range():
    pattern = patterns.Flatten((16, 32))
    with pytest.raises(TokenError, match=r"code 16 of codebook 0, which has 16 codes .* frame 2"):
        pattern.lay(np.array([[0, 1, 16], [31, 0, 0]]))
    with pytest.raises(TokenError, match="code -1 of codebook 1"):
        pattern.lay(np.array([[0], [-1]]))
    assert pattern.lay(np.array([[0], [-1]]), check=False)[0].tolist() == [[0, -1]]


@pytest.mark.parametrize("wrong", [np.zeros((2, 3)), torch.zeros(2, 3), [[0.5], [1.0]], [[1], []]])
def test_no_integers(wrong):
    with pytest.raises(TokenError, match="integers"):
        patterns.Parallel((4, 4)).lay(wrong)


@pytest.mark.parametrize("lengths", [[4], [-1], [1, 1]])
def test_lengths_that_can_t_be(lengths):
    with pytest.raises(TokenError, match="lengths must"):
        patterns.Parallel((4,)).lay(np.zeros((1, 1, 3), int), lengths)


def test_steps_that_no_utterance_has():
    with pytest.raises(PatternError, match="n frames have 3 × n steps"):
        patterns.Flatten((4,) * 3).restore([0, 1, 2, 3])
    with pytest.raises(PatternError, match=r"n \+ 3 steps"):
        patterns.Delay((4,) * 3).restore(np.zeros((3, 2), int))


@pytest.mark.parametrize(
    ("name", "count", "settings_"),
    [
        ("delay", 3, {"delays": [0, 1]}),
        ("delay", 2, {"delays": [0, -1]}),
        ("delay", 2, {"special": [5]}),
        ("delay", 2, {"base": [5]}),
        ("delay", 2, {"special": [9, 9, 9]}),
        ("parallel", 2, {"delays": [0, 1]}),
        ("flatten", 3, {"groups": [0, 2, 1]}),
        ("flatten", 3, {"groups": [1, 1, 1]}),
        ("flatten", 3, {"groups": [0, 1, 1], "streams_of": "one"}),
        ("depth", 3, {"groups": [0, 1, 1]}),
        ("coarse-first", 3, {"delays": [1]}),
        ("musiclm", 3, {"group": 0}),
        ("vall-e", 3, {"end": 7}),
        ("moshi", 1, {}),
        ("moshi", 4, {"speakers": 2}),
        ("snac", 6, {}),
        ("snac", 5, {"rates": [2, 3]}),
        ("step-audio", 4, {}),
        ("delay", 0, {}),
        ("delai", 2, {}),
    ],
)
def test_settings_that_don_t_agree(name, count, settings_):
    with pytest.raises((PatternError, ConfigError)):
        patterns.pattern(name, [8] * count, **settings_)


def test_a_setting_that_the_pattern_lacks():
    with pytest.raises(ConfigError, match="delays"):
        patterns.pattern("delay", [8, 8], delay=[0, 1])
    with pytest.raises(PatternError, match="did you mean delay"):
        patterns.pattern("delays", [8, 8])


def test_streams_say_what_they_need():
    with pytest.raises(PatternError, match="frames=n"):
        patterns.CoarseFirst((8, 8)).stream()
    with pytest.raises(PatternError, match="the same for every row"):
        patterns.VallE((8, 8)).stream(2)
    stream = patterns.Delay((8, 8)).stream()
    with pytest.raises(PatternError, match="shape"):
        stream.push(np.zeros((2, 2), int))
    stream.push([8, 8])
    with pytest.raises(TokenError, match="codebook 1"):
        stream.push(np.array([[[0, 1], [8, 8]]]))
    assert stream.num_steps == 1  # as before the error
    assert stream.push(np.array([[[0, 1], [8, 3]]])).tolist() == [[[0], [3]]]
    ended = patterns.Parallel((8,)).stream(frames=1)
    with pytest.raises(PatternError, match="3 steps"):
        ended.push([[[8, 1, 1]]])
    forward = patterns.Parallel((8,)).step_stream()
    forward.flush()
    with pytest.raises(PatternError, match="flushed"):
        forward.push([[1]])


def test_an_end_that_is_missing():
    pattern = patterns.VallE((8, 8))
    steps, _ = pattern.lay(np.zeros((2, 3), int))
    steps[0, 3] = 5
    with pytest.raises(TokenError, match="id 5 where the end, 8, belongs"):
        pattern.restore(steps)
