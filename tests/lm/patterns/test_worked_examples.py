"""Patterns by example: what published systems do, code by code."""

import numpy as np
import pytest

from syllabary.errors import PatternError
from syllabary.lm import patterns

S = 1024
Q0, Q1, Q2, Q3 = ([first + t for t in range(4)] for first in (10, 20, 30, 40))


def laid(pattern, *codes):
    return pattern.lay(np.array(codes))[0].tolist()


def test_parallel():
    pattern = patterns.Parallel((S,) * 2)
    assert laid(pattern, Q0[:2], Q1[:2]) == [[S, 10, 11], [S, 20, 21]]
    assert pattern.num_steps(2) == 3


def test_delay():
    pattern = patterns.Delay((S,) * 3, delays=(0, 1, 2))
    steps = laid(pattern, Q0, Q1, Q2)
    assert steps[0] == [S, 10, 11, 12, 13, S, S]
    assert steps[2] == [S, S, S, 30, 31, 32, 33]
    assert pattern == patterns.Delay((S,) * 3, delays=(0, 1, 2))
    assert pattern.num_steps(4) == 7


def test_delay_as_trained():
    """T + 1 steps: codebook q loses its last delays[q] codes."""
    pattern = patterns.Delay((S,) * 3, cut=True)
    assert laid(pattern, Q0, Q1, Q2)[2] == [S, S, S, 30, 31]
    assert pattern.num_steps(4) == 5 and pattern.num_frames(5) == 2


def test_flatten():
    pattern = patterns.Flatten((S,) * 3)
    assert laid(pattern, Q0[:2], Q1[:2], Q2[:2]) == [[10, 20, 30, 11, 21, 31]]


def test_flatten_partially():
    pattern = patterns.Flatten((S,) * 3, groups=(0, 1, 1), start=1)
    steps = laid(pattern, Q0[:2], Q1[:2], Q2[:2])
    assert steps == [[S, 10, S, 11, S], [S, S, 20, S, 21], [S, S, 30, S, 31]]


def test_coarse_first():
    pattern = patterns.CoarseFirst((S,) * 2)
    assert laid(pattern, Q0[:3], Q1[:3]) == [[S, 10, 11, 12, S, S, S], [S, S, S, S, 20, 21, 22]]
    delayed = patterns.CoarseFirst((S,) * 3, delays=(0, 1))
    assert laid(delayed, Q0[:2], Q1[:2], Q2[:2]) == [
        [S, 10, 11, S, S, S],
        [S, S, S, 20, 21, S],
        [S, S, S, S, 30, 31],
    ]


def test_coarse_first_of_one_codebook():
    assert laid(patterns.CoarseFirst((S,)), Q0) == [[S, 10, 11, 12, 13]]


def test_musiclm():
    pattern = patterns.MusicLM((S,) * 4)
    assert laid(pattern, Q0[:2], Q1[:2], Q2[:2], Q3[:2]) == [[10, 20, 11, 21, 30, 40, 31, 41]]


def test_vall_e():
    pattern = patterns.VallE((S,) * 2)
    codes = np.array([Q0[:3], Q1[:3]])
    (seen, first), (context, second) = pattern.stages(codes)
    assert first.tolist() == [10, 11, 12, S] and seen.shape == (0, 3)
    assert second.tolist() == [20, 21, 22] and context.tolist() == [[10, 11, 12]]
    steps, mask = pattern.lay(codes)
    assert steps.tolist() == [[10, 11, 12, S, 20, 21, 22]] and mask.all()


def test_vall_e_of_eight_codebooks():
    codes = np.arange(24).reshape(1, 8, 3)
    stages = patterns.VallE((S,) * 8, end=S + 7).stages(codes)
    assert stages[0][1].tolist() == [[0, 1, 2, S + 7]]
    for j, (context, target) in enumerate(stages[1:], start=1):
        assert np.array_equal(context, codes[:, :j]) and np.array_equal(target, codes[:, j])


def test_depth():
    pattern = patterns.Depth((S,) * 3)
    steps, _ = pattern.lay(np.array([[Q0[:2], Q1[:2], Q2[:2]]]))
    assert pattern.grid(steps).tolist() == [[[10, 20, 30], [11, 21, 31]]]
    assert np.array_equal(pattern.from_grid(pattern.grid(steps)), steps)


def test_moshi():
    pattern = patterns.Moshi((32000, 2048, 2048), delays=(0, 0, 1))
    steps = laid(pattern, [7, 8, 9, 7], Q0, Q1)
    assert steps == [[32000, 7, 8, 9, 7], [2048, 10, 11, 12, 13], [2048, 2048, 20, 21, 22]]


def test_moshi_of_two_speakers():
    pattern = patterns.Moshi((32000, *(2048,) * 16), speakers=2)
    assert pattern.shifts == (0, 0, 1, 1, 1, 1, 1, 1, 1, 0, 1, 1, 1, 1, 1, 1, 1)


def test_espnet():
    pattern = patterns.ESPnet((3, 3))
    frames = np.array([[0, 1], [2, 0], [1, 2]])
    steps, _ = pattern.lay(frames.T)
    assert steps.T.tolist() == [[1, 4], [3, 6], [2, 5], [0, 7]]


def test_snac():
    base = tuple(128266 + 4096 * slot for slot in range(7))
    pattern = patterns.SNAC((4096,) * 7, base=base)
    levels = [np.array([1]), np.array([11, 12]), np.array([21, 22, 23, 24])]
    steps, _ = pattern.lay(pattern.from_levels(levels))
    assert steps.tolist() == [[128267, 132373, 136479, 140576, 144662, 148769, 152866]]
    for level, back in zip(levels, pattern.to_levels(pattern.restore(steps)), strict=True):
        assert np.array_equal(level, back)


def test_snac_of_four_levels():
    """The 44 kHz model: fifteen codes a frame, each before the finer ones below it."""
    pattern = patterns.SNAC((4096,) * 15, rates=(1, 2, 4, 8))
    levels = [np.arange(2 * rate) + 1000 * rate // 2 for rate in (1, 2, 4, 8)]
    codes = pattern.from_levels(levels)
    first = [500, 1000, 2000, 4000, 4001, 2001, 4002, 4003]
    first += [1001, 2002, 4004, 4005, 2003, 4006, 4007]
    assert codes[:, 0].tolist() == first
    for level, back in zip(levels, pattern.to_levels(codes), strict=True):
        assert np.array_equal(level, back)


def test_step_audio():
    pattern = patterns.StepAudio((1024,) * 2 + (4096,) * 3, base=(65536,) * 2 + (66560,) * 3)
    levels = [np.arange(1, 6), np.arange(10, 17)]
    steps, _ = pattern.lay(pattern.from_levels(levels, drop=True))
    assert steps.tolist() == [
        [65537, 65538, 66570, 66571, 66572, 65539, 65540, 66573, 66574, 66575]
    ]
    assert pattern.incomplete(levels) == (1, 1)


def test_step_audio_drops_nothing_unasked():
    pattern = patterns.StepAudio((1024,) * 2 + (4096,) * 3)
    with pytest.raises(PatternError, match=r"leave \(1, 1\) over"):
        pattern.from_levels([np.arange(1, 6), np.arange(10, 17)])
