"""The contract for latents: the promises of codes, kept for what is before and after quantization.

For every registered tokenizer, as in `test_contract.py`. One without latents raises an error that
says so.
"""

import copy
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import syllabary
from syllabary.errors import LatentsError, StateError, TokenError, TokenMismatchError, WaveError

from . import tiny_models
from .conftest import ROOT
from .test_contract import (
    MEASURE,
    NAMES,
    SELDOM,  # noqa: F401
    check_lost_frames,
    decoded_in_pieces,
    load,
    promise,
    speech,
    split,
)

Latents = syllabary.Latents
#: Without codes, and so not registered: `tests/codecs/pretrained/test_continuous.py` has the rest.
CONTINUOUS = tuple(tiny_models.CONTINUOUS) if find_spec("transformers") else ()


@pytest.fixture(params=NAMES)
def tokenizer(request) -> syllabary.AudioTokenizer:
    return with_latents(request.param)


def with_latents(name: str) -> syllabary.AudioTokenizer:
    if name in CONTINUOUS:
        return syllabary.load(tiny_models.directory(name))
    tokenizer = load(name)
    if tokenizer.spec.latent_channels is None:
        pytest.skip(f"{name} has no latents")
    return tokenizer


def latents_of(tokenizer: syllabary.AudioTokenizer, wave: torch.Tensor) -> Latents:
    return tokenizer.latents(wave, tokenizer.spec.sample_rate)


@pytest.mark.parametrize("name", NAMES)
def test_a_tokenizer_has_latents_or_says_that_it_has_none(name):
    tokenizer = load(name)
    wave, rate = speech(tokenizer, 3000), tokenizer.spec.sample_rate
    if tokenizer.spec.latent_channels is not None:
        assert tokenizer.latents(wave, rate).num_channels == tokenizer.spec.latent_channels
        return
    tokens = tokenizer.encode(wave, rate)
    for call in (
        lambda: tokenizer.latents(wave, rate),
        lambda: tokenizer.embed(tokens),
        lambda: tokenizer.stream().latents(wave),
    ):
        with pytest.raises(LatentsError, match=f"{tokenizer.name} has no latents"):
            call()
    with pytest.raises(LatentsError, match=f"{tokenizer.name} can't decode latents: it has none"):
        tokenizer.decode(Latents.from_vectors(torch.zeros(1, 3, 4), tokenizer.spec.tokens))


@given(num_samples=st.integers(0, 9_000))
@settings(max_examples=8, deadline=None)
@pytest.mark.parametrize("name", NAMES)
def test_latents_have_the_frames_of_the_codes(name, num_samples):
    tokenizer = with_latents(name)
    promise(tokenizer, "length-law")
    spec = tokenizer.spec
    found = latents_of(tokenizer, speech(tokenizer, num_samples))
    frames = spec.tokens.frames_for(num_samples)
    assert found.vectors.shape == (1, frames, spec.latent_channels)
    assert found.vectors.dtype == torch.float32
    assert found.lengths.tolist() == [frames] and found.num_samples.tolist() == [num_samples]
    assert found.spec == spec.tokens
    found.check()
    if spec.decodes_latents:
        assert tokenizer.decode(found).shape == (1, num_samples)


@given(
    lengths=st.lists(st.integers(0, 9_000), min_size=1, max_size=5),
    padding=st.integers(0, 2000),
    seed=st.integers(0, 99),
)
@settings(max_examples=8, deadline=None)
@pytest.mark.parametrize("name", NAMES)
def test_latents_do_not_depend_on_the_batch_or_the_padding(name, lengths, padding, seed):
    tokenizer = with_latents(name)
    promise(tokenizer, "batch-invariance")
    rate = tokenizer.spec.sample_rate
    batch = torch.full((len(lengths), max(lengths) + padding + 1), float("nan"))
    rows = [speech(tokenizer, length, seed + row) for row, length in enumerate(lengths)]
    for row, wave in enumerate(rows):
        batch[row, : lengths[row]] = wave
    together = tokenizer.latents(batch, rate, lengths)
    assert not together.vectors[~together.mask()].any()
    alone = [latents_of(tokenizer, wave) for wave in rows]
    for row, one in enumerate(alone):
        assert together[row].equal(one)
    assert Latents.batch(alone).equal(together)
    if tokenizer.spec.decodes_latents:
        waves = tokenizer.decode(together)
        for row, length in enumerate(lengths):
            assert torch.equal(waves[row, :length], tokenizer.decode(alone[row])[0])
            assert not waves[row, length:].any()


@given(
    num_samples=st.integers(0, 9_000),
    pieces=st.integers(1, 9),
    rows=st.integers(1, 3),
    seed=st.integers(0, 999),
)
@settings(max_examples=8, deadline=None)
@pytest.mark.parametrize("name", NAMES)
def test_streamed_latents_equal_offline_ones(name, num_samples, pieces, rows, seed):
    tokenizer = with_latents(name)
    promise(tokenizer, "streaming-equality")
    wave = torch.stack([speech(tokenizer, num_samples, seed + row) for row in range(rows)])
    offline = latents_of(tokenizer, wave)
    with tokenizer.stream(batch_size=rows) as session:
        parts = [
            session.latents(piece) for piece in wave.split(split(num_samples, seed, pieces), 1)
        ]
        parts.append(session.flush().latents)
    if parts[-1] is None:  # no piece
        assert not num_samples
        return
    assert Latents.concat(parts).equal(offline)
    if tokenizer.spec.decodes_latents:
        assert torch.equal(
            decoded_in_pieces(tokenizer, offline, seed, pieces), tokenizer.decode(offline)
        )


def test_a_loop_of_latents_gives_every_sample_once(tokenizer):
    promise(tokenizer, "streaming-equality")
    if not tokenizer.spec.decodes_latents:
        pytest.skip(f"{tokenizer.name} decodes codes only")
    wave = speech(tokenizer, tokenizer.spec.sample_rate + 123)
    with tokenizer.stream() as session:
        pcm = [session.decode(session.latents(chunk)) for chunk in wave.split(997)]
        end = session.flush()
    assert end.tokens is None
    assert torch.equal(
        torch.cat([*pcm, end.wave], 1), tokenizer.decode(latents_of(tokenizer, wave))
    )


def test_a_stream_may_change_between_codes_and_latents(tokenizer):
    """Each frame comes out once, as what it was asked for, in both directions."""
    promise(tokenizer, "streaming-equality")
    hop, rate = tokenizer.spec.tokens.hop, tokenizer.spec.sample_rate
    wave = speech(tokenizer, 9 * hop + 5)
    codes, latents = tokenizer.encode(wave, rate), latents_of(tokenizer, wave)
    with tokenizer.stream() as session:
        first = session.encode(wave[: 4 * hop + 3])
        second = session.latents(wave[4 * hop + 3 : 7 * hop])
        third = session.encode(wave[7 * hop :], final=True)
    starts = int(first.lengths), int(first.lengths + second.lengths)
    assert first.equal(codes.frames(0, starts[0]))
    assert second.equal(latents.frames(*starts))
    assert third.equal(codes.frames(starts[1], 10))
    if tokenizer.spec.decodes_latents:
        embedded = tokenizer.embed(codes)
        with tokenizer.stream() as session:
            pcm = [session.decode(codes.frames(0, 3)), session.decode(embedded.frames(3, 6))]
            pcm.append(session.decode(codes.frames(6, 10), final=True))
        assert torch.equal(torch.cat(pcm, 1), tokenizer.decode(codes))


def test_a_row_moves_between_frames_of_latents(tokenizer):
    promise(tokenizer, "migration")
    wave = speech(tokenizer, 9 * tokenizer.spec.tokens.hop + 5)
    here, there = tokenizer.stream(), tokenizer.stream(batch_size=2)
    half = len(wave) // 2
    before = here.latents(wave[:half])
    there.import_row(1, here.export_row(0))
    rest = torch.stack([torch.zeros(len(wave) - half), wave[half:]])
    after = there.latents(rest, lengths=[0, len(wave) - half], final=True)
    assert Latents.concat([before, after[1]]).equal(latents_of(tokenizer, wave))


def test_embedded_codes_sound_like_the_codes(tokenizer):
    """To the bit: the decoder works on the same vectors."""
    tokens = tokenizer.encode(speech(tokenizer, 7001), tokenizer.spec.sample_rate)
    embedded = tokenizer.embed(tokens)
    assert embedded.vectors.shape[:2] == (1, int(tokens.lengths))
    assert embedded.num_channels == tokenizer.spec.latent_channels
    assert embedded.num_samples.tolist() == [7001] and not embedded.vectors.requires_grad
    assert tokenizer.embed(tokens.deduplicate()).equal(embedded)
    if tokenizer.spec.decodes_latents:
        assert torch.equal(tokenizer.decode(embedded), tokenizer.decode(tokens))


def test_embeddings_do_not_depend_on_the_batch(tokenizer):
    promise(tokenizer, "batch-invariance")
    rate = tokenizer.spec.sample_rate
    parts = [tokenizer.encode(speech(tokenizer, n, n), rate) for n in (3000, 0, 5001)]
    together = tokenizer.embed(syllabary.Tokens.batch(parts))
    for row, part in enumerate(parts):
        assert together[row].equal(tokenizer.embed(part))


def test_the_parts_of_the_codebooks_add_up(tokenizer):
    tokens = tokenizer.encode(speech(tokenizer, 6000), tokenizer.spec.sample_rate)
    kept = {tokenizer.spec.min_codebooks, tokens.num_codebooks}
    for count in kept:
        some = tokens.keep_codebooks(count)
        parts = tokenizer.embed(some, per_codebook=True)
        assert len(parts) == count
        total = torch.stack([part.vectors for part in parts]).double().sum(0)
        expected = tokenizer.embed(some).vectors
        torch.testing.assert_close(total.float(), expected, rtol=1e-5, atol=1e-5)


def test_gradients_reach_the_weights_on_request(tokenizer):
    tokens = tokenizer.encode(speech(tokenizer, 6000), tokenizer.spec.sample_rate)
    plain = tokenizer.embed(tokens)
    with torch.no_grad():  # asked for, whatever the surroundings
        found = tokenizer.embed(tokens, differentiable=True)
    torch.testing.assert_close(found.vectors, plain.vectors, rtol=1e-5, atol=1e-5)
    if found.vectors.requires_grad:
        before = tokenizer.full_digest
        found.vectors.square().sum().backward()
        gradients = [p.grad for p in tokenizer.parameters() if p.grad is not None]
        assert any(bool(gradient.any()) for gradient in gradients)
        tokenizer.zero_grad(set_to_none=True)
        assert tokenizer.full_digest == before


def test_latents_are_deterministic(tokenizer):
    promise(tokenizer, "determinism")
    rate = tokenizer.spec.sample_rate
    wave = speech(tokenizer, rate)
    expected = tokenizer.latents(wave, rate)
    assert tokenizer.latents(wave.double().numpy(), rate).equal(expected)
    with torch.autocast("cpu", torch.bfloat16), torch.inference_mode():
        assert tokenizer.latents(wave, rate).equal(expected)
    torch.set_num_threads(2)
    assert tokenizer.latents(wave, rate).equal(expected)


@pytest.mark.parametrize("name", ["dmel", pytest.param("tiny-rvq", marks=pytest.mark.slow)])
def test_memory_does_not_grow_with_the_latents(name):
    """Hours: nothing of the past is kept but the state."""
    script = MEASURE.format(name=name, root=str(ROOT)).replace(".encode(", ".latents(")
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    minute, twenty_minutes = map(float, done.stdout.split())
    assert twenty_minutes - minute < 30, f"{minute:.0f} MB grew to {twenty_minutes:.0f} MB"


@given(seed=st.integers(0, 999), share=st.sampled_from([0.0, 0.3, 1.0]))
@settings(max_examples=4, deadline=None)
@pytest.mark.parametrize("name", [*NAMES, *CONTINUOUS])
def test_lost_latents_keep_their_time(name, seed, share):
    tokenizer = with_latents(name)
    if not tokenizer.spec.decodes_latents:
        pytest.skip(f"{tokenizer.name} decodes codes only")
    check_lost_frames(tokenizer, latents_of(tokenizer, speech(tokenizer, 6001, seed)), seed, share)


# --- bad input ---------------------------------------------------------------------------------


def test_bad_latents(tokenizer):
    promise(tokenizer, "bad-input")
    found = latents_of(tokenizer, speech(tokenizer, 4000))
    if not tokenizer.spec.decodes_latents:
        for call in (tokenizer.decode, tokenizer.stream().decode):
            with pytest.raises(LatentsError, match="codes only"):
                call(found)
        return
    broken = found.vectors.clone()
    broken[0, -1, 0] = float("nan")
    wrong = {
        "NaN": {"vectors": broken},
        "lengths": {"lengths": found.lengths + 1},
        "samples": {"num_samples": found.num_samples + 10**6},
        "channels": {"vectors": found.vectors[..., 1:]},
    }
    for word, changes in wrong.items():
        for call in (tokenizer.decode, tokenizer.stream().decode):
            with pytest.raises(LatentsError, match=word):
                call(replace(found, **changes))
    other = load("dmel-fine" if tokenizer.name != "dmel-fine" else "dmel")
    with pytest.raises(TokenMismatchError, match="these latents were made by"):
        tokenizer.decode(latents_of(other, speech(other, 4000)))


def test_bad_waves_for_latents(tokenizer):
    promise(tokenizer, "bad-input")
    wave, rate = speech(tokenizer, 4000), tokenizer.spec.sample_rate
    with pytest.raises(WaveError, match="Hz"):
        tokenizer.latents(wave, rate + 1)
    with pytest.raises(WaveError, match="NaN"):
        tokenizer.latents(torch.full((500,), float("nan")), rate)
    with pytest.raises(TokenError, match="expected Tokens"):
        tokenizer.embed(wave)
    session = tokenizer.stream()
    session.latents(wave, final=True)
    with pytest.raises(WaveError, match="ended"):
        session.latents(wave)


def test_latents_follow_the_weights(tokenizer):
    promise(tokenizer, "identity")
    changed = copy.deepcopy(tokenizer)
    meaning = [name for name, t in changed.token_tensors().items() if t.is_floating_point()]
    if not meaning:
        pytest.skip(f"{tokenizer.name} has no weights")
    wave = speech(tokenizer, 4 * tokenizer.spec.tokens.hop)
    before, session = latents_of(changed, wave), changed.stream()
    session.latents(wave)
    tensors = dict((*changed.named_parameters(), *changed.named_buffers()))
    with torch.no_grad():
        tensors[max(meaning, key=lambda name: tensors[name].numel())].add_(0.01)
    assert latents_of(changed, wave).spec.digest != before.spec.digest
    with pytest.raises(StateError, match="weights"):
        session.latents(wave)
    if changed.spec.decodes_latents:
        with pytest.raises(TokenMismatchError):
            changed.decode(before)
