"""Overlapping windows: every frame once, from the window that knows most about it."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from syllabary.errors import StateError
from syllabary.semantic.encoders.overlapping import OverlappingWindows

HOP = 5


def machine(window: int, overlap: int, seen: list[torch.Tensor] | None = None, rows: int = 1):
    """Features that tell the frame's first sample, and how far from its window's ends it is."""

    def run(samples):
        if seen is not None:
            seen.append(samples.clone())
        frames = -(-len(samples) // HOP)
        place = torch.arange(frames).float()
        return torch.stack([samples[::HOP], place, frames - 1 - place], 1)

    return OverlappingWindows(
        run, batch_size=rows, hop=HOP, window=window, overlap=overlap, dim=3,
        device=torch.device("cpu"),
    )  # fmt: skip


@given(
    total=st.integers(0, 400),
    window=st.integers(1, 20),
    half=st.integers(0, 9),
    cuts=st.lists(st.integers(0, 400), max_size=5),
)
@settings(max_examples=150, deadline=None)
def test_every_frame_once_and_whatever_the_pieces(total, window, half, cuts):
    overlap = min(2 * half, (window - 1) // 2 * 2)
    wave = torch.arange(total).float()
    whole = machine(window, overlap).push([wave], True)[0]
    assert whole[:, 0].tolist() == list(range(0, total, HOP))
    # Only the ends of the audio are nearer than half an overlap to the end of their window.
    frames = len(whole)
    if frames > window:
        inner = whole[overlap // 2 : frames - overlap // 2]
        assert bool((inner[:, 1] >= overlap // 2).all())
        assert bool((inner[:, 2] >= overlap // 2).all())
    edges = sorted({min(cut, total) for cut in cuts})
    pieces = torch.tensor_split(wave, edges)
    stream = machine(window, overlap)
    parts = [stream.push([piece], False)[0] for piece in pieces]
    given_so_far = sum(len(part) for part in parts)
    stream.check_row(stream.states[0])
    assert stream.count_given(stream.states[0], total) == given_so_far
    assert len(stream.states[0].samples) == window * HOP
    parts.append(stream.push([wave[:0]], True)[0])
    assert torch.equal(torch.cat(parts), whole)


def test_short_audio_is_one_window_and_long_audio_is_never_more():
    seen: list[torch.Tensor] = []
    machine(10, 4, seen).push([torch.arange(50.0)], True)
    assert [len(samples) for samples in seen] == [50]
    seen.clear()
    machine(10, 4, seen).push([torch.arange(1001.0)], True)
    assert max(len(samples) for samples in seen) == 50
    assert [int(samples[0]) for samples in seen] == list(range(0, len(seen) * 30, 30))


def test_states_that_can_not_be_are_refused():
    stream = machine(10, 4)
    state = stream.init_row()
    for held, given_frames in ((51, 0), (-1, 0), (30, 3), (0, 8)):
        state.held, state.given = held, given_frames
        with pytest.raises(StateError):
            stream.check_row(state)
    state.held, state.given = 25, 8
    stream.check_row(state)
    assert stream.count_given(state, 55) == 8
    with pytest.raises(StateError):
        stream.count_given(state, 56)


def test_an_overlap_must_fit():
    for overlap in (3, 10, -2):
        with pytest.raises(ValueError, match="overlap"):
            machine(10, overlap)
