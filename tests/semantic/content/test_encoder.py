"""The content encoder, compiled and as a module, and the means that it gives."""

import numpy as np
import pytest
import torch

from syllabary.semantic.content.compiled import CompiledContent
from syllabary.semantic.content.encoder import ContentConfig, ContentEncoder

from ... import tiny_codecs
from ...conftest import synthetic_speech


def encoder(averaged, look_ahead=4):
    torch.manual_seed(0)
    config = ContentConfig(
        layers=tiny_codecs.STACK, dim=6, look_ahead=look_ahead, averaged=averaged
    )
    return ContentEncoder(config).double().eval().requires_grad_(False)


def windows_of(made, seed=0, samples=9_600):
    wave = torch.from_numpy(synthetic_speech(samples, seed))[None]
    return made.windows_of(wave.double())


@pytest.mark.parametrize("averaged", [1, 3, 5])
def test_compiled_or_not_in_pieces_or_not_features_are_means_around_a_frame(averaged):
    made, plain = encoder(averaged), encoder(1)
    windows = windows_of(made)
    single = plain.latents(windows, plain.init_state())[0][0]
    expected = single.unfold(0, averaged, 1).mean(-1)
    whole, _ = made.latents(windows, made.init_state())
    assert torch.allclose(whole[0, averaged - 1 :], expected, atol=1e-12)
    state, pieces = made.init_state(), []
    for piece in windows.split(7, 1):
        found, state = made.latents(piece, state)
        pieces.append(found)
    assert torch.allclose(torch.cat(pieces, 1), whole, atol=1e-12)
    # Two rows together, in two calls.
    compiled = CompiledContent(made)
    other = windows_of(made, 1)[0]
    rows, states = [windows[0], other], [compiled.init_state() for _ in range(2)]
    parts = [[], []]
    for cuts in ((slice(0, 3), slice(0, 11)), (slice(3, None), slice(11, None))):
        taken = [row[cut] for row, cut in zip(rows, cuts, strict=True)]
        edges = np.cumsum([0, *(len(row) for row in taken)])
        found = compiled.latents(torch.cat(taken).float(), edges, states)
        for part, frames in zip(parts, found.split([len(row) for row in taken]), strict=True):
            part.append(frames)
    alone, _ = made.latents(other[None], made.init_state())
    assert torch.allclose(torch.cat(parts[0]), whole[0], atol=1e-5)
    assert torch.allclose(torch.cat(parts[1]), alone[0], atol=1e-5)


@pytest.mark.parametrize(("averaged", "look_ahead"), [(0, 4), (2, 4), (-1, 4), (7, 4)])
def test_means_that_have_no_middle_or_end_too_late_are_refused(averaged, look_ahead):
    with pytest.raises(ValueError, match="averaged must be an odd number"):
        ContentConfig(look_ahead=look_ahead, averaged=averaged)
