"""Lost frames: never an error, never a change of time, and as little noise as can be."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

import syllabary
from syllabary.audio.mel import MelSpectrogram, log_mel
from syllabary.codecs.streaming.concealment import Concealment, silence_of
from syllabary.codecs.streaming.migration import pack, unpack
from syllabary.errors import StateError, TokenError

from ... import tiny_codecs, tiny_models
from ...conftest import synthetic_speech

CODECS = {
    "rvq": lambda: tiny_codecs.rvq(),
    "fsq": lambda: tiny_codecs.fsq(),
    "ts3": lambda: tiny_codecs.ts3(),
    "dmel": lambda: tiny_codecs.dmel(),
    "units": lambda: tiny_codecs.content_units(),  # its decoder takes codes only
    "encodec": lambda: published("tiny-encodec"),
    "snac": lambda: published("tiny-snac"),  # codes only, on whole utterances
}


def published(name):
    if name not in tiny_models.at_hand():
        pytest.skip(f"the library of {name} is not installed")
    return syllabary.load(tiny_models.folder_of(name))


@pytest.fixture(scope="module", params=CODECS)
def codec(request):
    return CODECS[request.param]()


def encoded(codec, seconds=1.0, rows=2):
    rate = codec.spec.sample_rate
    waves = [synthetic_speech(int(seconds * rate) + 37 * row, row, rate) for row in range(rows)]
    return codec.encode(waves, rate)


def losses(tokens, share=0.3, seed=0):
    shape = tokens.lengths.shape[0], tokens.codes.shape[2]
    return torch.from_numpy(np.random.default_rng(seed).random(shape) < share)


def test_nothing_lost_is_nothing_changed(codec):
    tokens = encoded(codec)
    assert torch.equal(codec.decode(tokens, lost=losses(tokens, 0.0)), codec.decode(tokens))


def test_what_was_in_lost_frames_has_no_influence(codec):
    tokens = encoded(codec)
    lost = losses(tokens)
    other = torch.where(lost[:, None], 0, tokens.codes)
    changed = syllabary.Tokens(other, tokens.lengths, tokens.num_samples, tokens.spec)
    found = codec.decode(tokens, lost=lost)
    assert found.shape == codec.decode(tokens).shape and bool(found.isfinite().all())
    assert torch.equal(found, codec.decode(changed, lost=lost))


def test_streams_equal_the_offline_call(codec):
    tokens = encoded(codec, rows=1)
    frames, hop = int(tokens.lengths[0]), tokens.spec.hop
    lost = losses(tokens, 0.4)
    offline = codec.decode(tokens, lost=lost)
    with codec.stream(num_codebooks=tokens.num_codebooks) as session:
        parts = []
        for frame in range(frames):
            if lost[0, frame] and frame < frames - 1:
                parts.append(session.decode(None))
                continue
            samples = min(hop, int(tokens.num_samples[0]) - frame * hop)
            one = syllabary.Tokens(
                tokens.codes[..., frame : frame + 1],
                torch.tensor([1]),
                torch.tensor([samples]),
                tokens.spec,
            )
            parts.append(session.decode(one, lost=lost[:, frame : frame + 1]))
        parts.append(session.flush().wave)
        assert session.frames_in == [frames]
        assert session.samples_out == tokens.num_samples.tolist()
    assert torch.equal(torch.cat(parts, 1), offline)


def test_a_stream_that_never_hears_a_frame(codec):
    with codec.stream(batch_size=2) as session:
        parts = [session.decode(None) for _ in range(20)]
        parts.append(session.decode(None, final=[True, False]))
        only = session.decode(None, final=True)  # the first row has ended
        hop = codec.spec.tokens.hop
        assert session.frames_in == [21, 22] and session.samples_out == [21 * hop, 22 * hop]
    assert bool(torch.cat([*parts, only], 1).isfinite().all())


def test_the_last_frame_is_held_and_fades_into_silence():
    codec = tiny_codecs.rvq()
    rate, silence = codec.spec.tokens.frame_rate, silence_of(codec)
    last = torch.full_like(silence, 3)
    codes = torch.zeros(len(last), 12, dtype=torch.long)
    found = Concealment(codec).fill(codes, torch.ones(12, dtype=torch.bool), last, 0)
    begin, end = codec.embed_codes(torch.stack([last, silence]), False)
    assert torch.equal(found[0], begin) and torch.equal(found[1], begin)  # 40 ms
    assert torch.equal(found[8], end) and torch.equal(found[11], end)  # 160 ms
    shares = [
        float(((frame - end) @ (begin - end)) / (begin - end).square().sum()) for frame in found
    ]
    expected = [min(1, max(0, 1 - (n / float(rate) - 0.04) / 0.12)) for n in range(1, 13)]
    assert shares == pytest.approx(expected, abs=1e-5)
    # In the middle of a gap, it goes on where it was.
    assert torch.equal(
        Concealment(codec).fill(codes[:, :5], torch.ones(5, dtype=torch.bool), last, 4), found[4:9]
    )


def test_a_row_moves_within_a_gap():
    codec = tiny_codecs.rvq()
    tokens = encoded(codec, rows=1)
    here, there = codec.stream(), codec.stream(batch_size=2)
    here.decode(tokens)
    for _ in range(3):
        here.decode(None)
    state = here.export_row(0)
    there.import_row(1, state)
    nothing = there.decode(None)
    assert torch.equal(nothing[1:], here.decode(None))
    header, tensors = unpack(state)
    tensors["progress.last"] = torch.full_like(tensors["progress.last"], 32)
    with pytest.raises(StateError, match="last codes are"):
        there.import_row(0, pack(header, tensors))


def test_masks_that_do_not_fit():
    codec = tiny_codecs.rvq()
    tokens = encoded(codec)
    frames = tokens.codes.shape[2]
    for mask, message in (
        (torch.zeros(2, frames), "must be bool"),
        (torch.zeros(frames, dtype=torch.bool), "of shape"),
        (torch.zeros(3, frames, dtype=torch.bool), "of shape"),
        (torch.zeros(2, frames - 1, dtype=torch.bool), f"for {frames - 1} frames"),
    ):
        with pytest.raises(TokenError, match=message):
            codec.decode(tokens, lost=mask)
    latents = codec.embed(tokens)
    with pytest.raises(TokenError, match=f"for {frames - 1} frames"):
        codec.decode(latents, lost=torch.zeros(2, frames - 1, dtype=torch.bool))


def test_concealed_speech_is_nearer_than_speech_with_holes():
    """A frame in ten lost: beside silence in its place, and beside what decoding code 0 gives."""
    codec = syllabary.load("rvq-16k")
    tokens = encoded(codec, 3.0, 1)
    whole = codec.decode(tokens)
    lost = losses(tokens, 0.1, seed=1)
    silence = silence_of(codec)[None, :, None]

    mel = MelSpectrogram()

    def error(wave):
        """Mean difference of log mel spectra: phases are not heard."""
        return float((log_mel(mel(wave), 1e-4) - log_mel(mel(whole), 1e-4)).abs().mean())

    def replaced(codes):
        changed = torch.where(lost[:, None], codes, tokens.codes)
        return codec.decode(
            syllabary.Tokens(changed, tokens.lengths, tokens.num_samples, tokens.spec)
        )

    concealed = error(codec.decode(tokens, lost=lost))
    others = error(replaced(silence)), error(replaced(torch.zeros_like(silence)))
    assert concealed < 0.9 * min(others), (concealed, others)


def test_what_silence_is_is_found_once_for_the_weights():
    codec = tiny_codecs.rvq()
    first = silence_of(codec)
    assert silence_of(codec) is first
    with torch.no_grad():
        for parameter in codec.parameters():
            parameter.mul_(-1.5)
    second = silence_of(codec)
    assert second is not first and not torch.equal(second, first)
    assert silence_of(copy.deepcopy(codec)) is not second


def test_codes_and_latents_in_one_stream():
    """The last frame is held, whichever it came as; one row moves in between."""
    codec = tiny_codecs.rvq()
    tokens = encoded(codec, 0.2, rows=1)
    tokens = replace(tokens, num_samples=tokens.lengths * tokens.spec.hop)
    latents = codec.embed(tokens)
    found = []
    for first, second in ((tokens, latents), (latents, tokens)):
        with codec.stream() as session, codec.stream() as other:
            session.decode(first)
            session.decode(second)
            other.import_row(0, session.export_row(0))
            found.append(other.decode(None))
            assert torch.equal(found[-1], session.decode(None))
    assert torch.equal(*found)


def test_more_codebooks_than_arrived_before():
    codec = tiny_codecs.rvq()
    with codec.stream() as session:
        session.decode(codec.encode(synthetic_speech(3200), 16_000, num_codebooks=2))
        assert session.decode(None).shape == (1, codec.spec.tokens.hop)
