"""Compiled networks on all rows of a session: what is exported, refused, and left alone."""

import numpy as np
import pytest
import torch

from syllabary.codecs.streaming.state import flatten, rebuild
from syllabary.codecs.tokens import Tokens
from syllabary.errors import LevelWarning, WaveError

from .... import tiny_codecs
from ....conftest import synthetic_speech

HOP = 320
CODECS = {
    "rvq": tiny_codecs.rvq(encoder_look_ahead=1, decoder_look_ahead=2),
    "fsq": tiny_codecs.fsq(),
    "ts3": tiny_codecs.ts3(int8=True, decoder_look_ahead=1),
}


@pytest.fixture(params=CODECS)
def codec(request):
    return CODECS[request.param]


def speech(frames, seed=0):
    return torch.from_numpy(synthetic_speech(frames * HOP, seed))


def all_rows(stream, samples, counts, final, as_latents=False):
    found, frames, rest = stream.start_batch(samples, counts, final, as_latents)
    rest()
    return found, frames


def test_rows_one_by_one_and_all_at_once_go_on_from_each_other(codec):
    """`push` and `start_batch` of a stream, in turn, give what one call gives."""
    waves = torch.stack([speech(40, seed) for seed in range(3)])
    expected = codec.encode(waves, 16000).codes
    encoder, decoder = codec.start_encoder(3, expected.shape[1]), codec.start_decoder(3)
    pieces, sounds, at = [], [], 0
    for turn, size in enumerate([HOP, 7, 3 * HOP, HOP - 7, HOP, 12 * HOP, 22 * HOP]):
        part, last = waves[:, at : at + size], at + size >= waves.shape[1]
        at += size
        if turn % 2:
            codes = torch.stack(encoder.push(list(part), last))
            sound = torch.stack(decoder.push(list(codes), last))
        else:
            codes, frames = all_rows(encoder, part, [part.shape[1]] * 3, [last] * 3)
            assert frames == [codes.shape[2]] * 3
            sound, lengths = all_rows(decoder, codes, frames, [last] * 3)
            assert lengths == [sound.shape[1]] * 3
        pieces.append(codes)
        sounds.append(sound)
    assert torch.equal(torch.cat(pieces, 2), expected)
    offline = codec.decode(codec.encode(waves, 16000))
    assert torch.equal(torch.cat(sounds, 1)[:, : offline.shape[1]], offline)


def test_rows_of_different_sizes_are_placed_where_they_belong(codec):
    """Some rows have frames, others none, and others fewer: in the batch and after it."""
    waves = [speech(9, seed) for seed in range(4)]
    counts = [[HOP, 0, 2 * HOP, 5], [8 * HOP, 9 * HOP, 0, 4 * HOP], [0, 0, 7 * HOP, 5 * HOP - 5]]
    encoder = codec.start_encoder(4, codec.spec.tokens.num_codebooks)
    found, taken = [[] for _ in waves], [0] * 4
    for turn, sizes in enumerate(counts):
        chunk = torch.full((4, max(sizes)), float("nan"))  # beyond its samples, anything
        for row, size in enumerate(sizes):
            chunk[row, :size] = waves[row][taken[row] : taken[row] + size]
            taken[row] += size
        codes, frames = all_rows(encoder, chunk, sizes, [turn == 2] * 4)
        for row, count in enumerate(frames):
            found[row].append(codes[row, :, :count])
            assert not codes[row, :, count:].any()
    for row, wave in enumerate(waves):
        assert torch.equal(torch.cat(found[row], 1), codec.encode(wave, 16000).codes[0])


def test_a_row_ends_with_the_frames_that_another_still_waits_for():
    """One row gets its look-ahead at its end, and the other one has as many windows more."""
    codec, waves = CODECS["rvq"], torch.stack([speech(6, 4), speech(6, 5)])
    expected = codec.encode(waves, 16000).codes
    encoder = codec.start_encoder(2, expected.shape[1])
    codes, frames = all_rows(encoder, waves, [6 * HOP] * 2, [True, False])
    assert frames == [6, 5] and torch.equal(codes[0], expected[0])
    assert torch.equal(codes[1, :, :5], expected[1, :, :5])
    assert torch.equal(encoder.push([waves[0, :0], waves[1, :0]], True)[1], expected[1, :, 5:])


def test_samples_that_are_not_finite_are_refused_before_any_is_taken(codec):
    wave = torch.stack([speech(6, 1), speech(6, 2)])
    with codec.stream(batch_size=2) as session:
        parts = [session.encode(wave[:, : 2 * HOP + 9])]
        for bad in (float("nan"), float("inf"), -float("inf")):
            chunk = wave[:, :HOP].clone()
            chunk[1, 17] = bad
            with pytest.raises(WaveError, match="row 1 of the wave holds NaN or infinity"):
                session.encode(chunk)
        assert session.samples_in == [2 * HOP + 9] * 2
        # Neither padding nor the largest numbers are in the way.
        chunk = torch.cat([wave[:, 2 * HOP + 9 :], torch.full((2, 3), float("nan"))], 1)
        parts.append(session.encode(chunk, [chunk.shape[1] - 3] * 2, final=True))
    assert Tokens.concat(parts).equal(codec.encode(wave, 16000))
    with codec.stream() as session, pytest.warns(LevelWarning):
        session.encode(torch.full((1, HOP), 3e38))


def test_a_stream_itself_looks_at_what_it_takes(codec):
    """A session leaves it to the compiled code after its first calls."""
    stream, wave = codec.start_encoder(2, codec.spec.tokens.num_codebooks), torch.ones(2, HOP) / 9
    for bad in (float("nan"), float("inf"), -float("inf")):
        chunk = wave.clone()
        chunk[1, 17] = bad
        with pytest.raises(WaveError, match="row 1 of the wave holds NaN or infinity"):
            stream.start_batch(chunk, [HOP, HOP], [False, False], False)
        for row in range(2):
            found, new = flatten(stream.export_row(row)), flatten(stream.init_row())
            assert all(torch.equal(found[name], leaf) for name, leaf in new.items())
    all_rows(stream, wave, [HOP, HOP], [False, False])


def test_a_state_is_a_copy_on_its_way_in_and_of_the_same_form_everywhere(codec):
    wave = speech(14)
    many, few = codec.start_encoder(5, 1), codec.start_encoder(1, 1)
    chunk = torch.zeros(5, 5 * HOP)
    chunk[3] = wave[: 5 * HOP]
    all_rows(many, chunk, [0, 0, 0, 5 * HOP, 0], [False] * 5)
    leaves = flatten(many.export_row(3))
    state = rebuild(few.init_row(), leaves)
    few.check_row(state)
    few.import_row(0, state)
    for leaf in flatten(state).values():
        leaf.zero_()  # the stream does not look at it any more
    rest = wave[None, 5 * HOP :]
    alone, _ = all_rows(few, rest, [rest.shape[1]], [True])
    chunk = torch.zeros(5, rest.shape[1])
    chunk[3] = rest
    among, _ = all_rows(many, chunk, [0, 0, 0, rest.shape[1], 0], [False, False, False, True, True])
    assert torch.equal(alone[0], among[3])
    # The rows have ended, and begin as new ones do.
    fresh = flatten(few.init_row())
    for stream, row in ((many, 3), (few, 0), (many, 0)):
        ended = flatten(stream.export_row(row))
        assert all(torch.equal(ended[name], leaf) for name, leaf in fresh.items())


def test_tokens_of_a_session_are_tokens_like_others(codec):
    wave = speech(3)[None].requires_grad_()
    with codec.stream() as session:
        first, second = session.encode(wave), session.encode(wave)
        for tokens in (first, second):
            tokens.check()
            made = Tokens(tokens.codes, tokens.lengths, tokens.num_samples, tokens.spec)
            assert vars(made).keys() == vars(tokens).keys() and made.equal(tokens)
        with torch.inference_mode():
            third = session.encode(wave)
            assert not third.codes.is_inference() and not session.decode(third).is_inference()
    assert not second.codes.requires_grad and len(second.codes) == 1


def test_vectors_of_codes_are_the_quantizers():
    codec = CODECS["ts3"]
    size = codec.spec.tokens.codebook_sizes[0]
    codes = torch.arange(-1, size)
    found = codec.dequantizing()(codes[None, :, None])[0]
    expected = codec.still_quantizer().decode(codes[1:][None, None])[0]
    assert not found[0].any()
    # Both sum in float64; the order may change the last bit of one value in 10^8.
    assert torch.equal(found[1:], expected)


def test_filters_skip_nothing_but_zeros():
    from syllabary.codecs.neural.compiled.packing import pack, pack_bands
    from syllabary.kernels.linear import banded_linear, linear

    generator = np.random.default_rng(0)
    for outputs, inputs in ((70, 90), (3, 5), (32, 7)):
        weight = generator.standard_normal((outputs, inputs)).astype(np.float32)
        places = np.arange(inputs)[None] * outputs / inputs - np.arange(outputs)[:, None]
        weight[np.abs(places) > 3] = 0
        weight[: outputs // 3] = 0
        panels, bands, bias = pack_bands(torch.from_numpy(weight), np.float64)
        x = generator.standard_normal((9, inputs))
        whole, skipped = np.empty((2, 9, len(bias)))
        linear(x, panels, pack(weight, None, np.float64)[1], False, whole)
        banded_linear(x, panels, bands, bias, skipped)
        assert np.array_equal(whole, skipped)
        assert (bands[:, 1] > bands[:, 0]).all() and bands.max() <= inputs
