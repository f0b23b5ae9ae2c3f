"""Streams of tiles: with functions whose results are known, and with networks, bit for bit."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from syllabary.codecs.neural.streams.tiles import TileDecoder, TileEncoder
from syllabary.codecs.rvq.tokenizer import RVQCodec
from syllabary.codecs.streaming.state import flatten, rebuild, size_in_bytes
from syllabary.errors import StateError, WaveError

from .... import tiny_codecs
from ....conftest import synthetic_speech
from .in_tiles import InTiles

HOP, TILE = 5, 4
LENGTHS = st.sampled_from([0, 1, 319, 320, 321, 5 * 320, 16 * 320, 7919])


def pieces(total, seed, count):
    """A random split of `total` into `count` pieces, some of them empty."""
    cuts = np.sort(np.random.default_rng(seed).integers(0, total + 1, count - 1))
    return np.diff([0, *cuts, total]).tolist()


def last_samples(window, tile, calls=None):
    """The last sample of each window, and how many frames came before it."""

    def encode(windows, edges, states):
        assert windows.shape == (edges[-1], window) and len(edges) == len(states) + 1
        assert tile is None or edges.tolist() == [0, tile]
        if calls is not None:
            calls.append(states[0])
        sizes = np.diff(edges).tolist()
        assert min(sizes) > 0
        before = [count + torch.arange(size) for count, size in zip(states, sizes, strict=True)]
        after = [count + size for count, size in zip(states, sizes, strict=True)]
        return torch.stack([windows[:, -1].long(), torch.cat(before)], -1), after

    return encode


def toy_encoder(look_ahead, tile, window=12, rows=1, calls=None):
    return TileEncoder(
        last_samples(window, tile, calls),
        lambda latents: latents.long(),
        lambda: 0,
        batch_size=rows,
        hop=HOP,
        window=window,
        look_ahead=look_ahead,
        tile=tile,
        num_codebooks=2,
        channels=2,
        device=torch.device("cpu"),
    )


@given(
    samples=st.integers(0, 90),
    look_ahead=st.sampled_from([0, 1, 3, 9]),
    count=st.integers(1, 9),
    seed=st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
@pytest.mark.parametrize("tile", [TILE, None])
def test_codes_are_of_the_frame_that_the_look_ahead_says(tile, samples, look_ahead, count, seed):
    wave = torch.arange(1.0, samples + 1)
    stream, parts, taken, given_frames = toy_encoder(look_ahead, tile), [], 0, 0
    for size in pieces(samples, seed, count):
        parts += stream.push([wave[taken : taken + size]], final=False)
        taken += size
        given_frames += parts[-1].shape[1]
        # No later than the look-ahead asks for.
        assert given_frames == max(0, taken // HOP - look_ahead)
    parts += stream.push([wave[taken:]], final=True)
    codes = torch.cat(parts, 1)
    frames = -(-samples // HOP)
    ends = [(frame + look_ahead + 1) * HOP for frame in range(frames)]
    assert codes[0].tolist() == [end if end <= samples else 0 for end in ends]
    # Each is computed from the state that all frames before it left.
    assert codes[1].tolist() == [frame + look_ahead for frame in range(frames)]


def test_each_full_tile_is_run_once_where_frames_come_at_once():
    calls = []
    toy_encoder(0, TILE, calls=calls).push([torch.zeros(10 * TILE * HOP)], final=True)
    assert calls == list(range(0, 10 * TILE, TILE))


def test_new_frames_of_all_rows_go_through_the_function_together():
    calls = []
    stream = toy_encoder(0, None, rows=4, calls=calls)
    stream.push([torch.zeros(HOP * n) for n in (1, 0, 2, 3)], final=False)
    assert calls == [0]
    stream.push([torch.zeros(HOP * n) for n in (0, 0, 0, 1)], final=False)
    assert calls == [0, 3]
    stream.push([torch.zeros(1)] * 4, final=False)
    assert calls == [0, 3]


def test_blocks_of_frames_are_bounded():
    sizes = []

    def encode(windows, edges, states):
        sizes.append(len(windows))
        return last_samples(12, None)(windows, edges, states)

    stream = toy_encoder(0, None, rows=5)
    stream.runner.function = encode
    counts = (700, 0, 3, 400, 90)
    codes = stream.push([torch.arange(1.0, HOP * n + 1) for n in counts], final=True)
    assert max(sizes) <= 256 and sum(sizes) == sum(counts)
    assert len(sizes) == -(-sum(counts) // 256)
    for row, count in zip(codes, counts, strict=True):
        assert row[0].tolist() == [HOP * (n + 1) for n in range(count)]
        assert row[1].tolist() == list(range(count))


@pytest.mark.parametrize("window", [5, 6, 12, 40])
def test_windows_reach_into_silence_before_the_start(window):
    heard = []

    def encode(windows, edges, states):
        heard.append(windows.clone())
        return torch.zeros(TILE, 1), states

    stream = TileEncoder(
        encode,
        lambda latents: latents.long(),
        lambda: None,
        batch_size=1,
        hop=HOP,
        window=window,
        look_ahead=0,
        tile=TILE,
        num_codebooks=1,
        channels=1,
        device=torch.device("cpu"),
    )
    stream.push([torch.arange(1.0, 14.0)], final=True)
    padded = torch.cat([torch.zeros(window - HOP), torch.arange(1.0, 14.0), torch.zeros(2)])
    expected = torch.nn.functional.pad(padded.unfold(0, window, HOP), (0, 0, 0, 1))
    assert torch.equal(heard[0], expected)


def toy_decoder(delay, tile, rows=1):
    """Samples that say their code, `delay` late; state: the samples that are still to come."""

    def decode(inputs, edges, states):
        assert inputs.shape == (edges[-1], 2) and len(edges) == len(states) + 1
        assert tile is None or edges.tolist() == [0, tile]
        waves, after = [], []
        for state, start, stop in zip(states, edges[:-1], edges[1:], strict=True):
            samples = torch.cat([state, inputs[start:stop, 0].repeat_interleave(HOP)])
            done = (stop - start) * HOP
            waves.append(samples[:done].view(-1, HOP))
            after.append(samples[done:])
        return torch.cat(waves), after

    return TileDecoder(
        decode,
        lambda: torch.full((delay,), -7.0),
        inputs=lambda codes: codes.float(),
        inputs_of_latents=lambda latents: 10 * latents,
        in_features=2,
        batch_size=rows,
        num_codebooks=2,
        hop=HOP,
        delay=delay,
        tile=tile,
        device=torch.device("cpu"),
    )


@given(
    frames=st.integers(0, 30),
    delay=st.sampled_from([0, 1, 4, 5, 6, 15, 37]),
    count=st.integers(1, 9),
    codebooks=st.integers(1, 2),
    seed=st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
@pytest.mark.parametrize("tile", [TILE, None])
def test_every_sample_comes_once_and_as_soon_as_it_can(tile, frames, delay, count, codebooks, seed):
    codes = torch.arange(1, frames + 1).expand(codebooks, -1)
    stream, parts, taken, heard = toy_decoder(delay, tile), [], 0, 0
    for size in pieces(frames, seed, count):
        parts += stream.push([codes[:, taken : taken + size]], final=False)
        taken += size
        heard += len(parts[-1])
        assert heard == max(0, taken * HOP - delay)
    parts += stream.push([codes[:, taken:]], final=True)
    expected = torch.arange(1.0, frames + 1).repeat_interleave(HOP)
    assert torch.equal(torch.cat(parts), expected)


@pytest.mark.parametrize("tile", [TILE, None])
def test_codes_and_latents_of_a_row_follow_each_other(tile):
    stream = toy_decoder(3, tile, rows=2)
    codes, latents = torch.tensor([[1, 2]] * 2), torch.full((3, 2), 0.5)
    parts = [stream.push([codes, codes[:, :0]], final=False)]
    parts.append(stream.push_latents([latents, latents[:1]], final=False))
    parts.append(stream.push([codes, codes], final=True))
    heard = [torch.cat(row).view(-1, HOP)[:, 0].tolist() for row in zip(*parts, strict=True)]
    assert heard == [[1, 2, 5, 5, 5, 1, 2], [5, 1, 2]]


@pytest.mark.parametrize("tile", [TILE, None])
def test_rows_of_a_stream_are_strangers(tile):
    stream = toy_encoder(1, tile, rows=3)
    first = stream.push([torch.arange(1.0, 31), torch.zeros(0), torch.arange(1.0, 8)], final=False)
    rest = stream.push([torch.zeros(0), torch.arange(1.0, 3), torch.zeros(0)], final=True)
    codes = [torch.cat(row, 1)[0].tolist() for row in zip(first, rest, strict=True)]
    assert codes == [[10, 15, 20, 25, 30, 0], [0], [0, 0]]
    decoder = toy_decoder(7, tile, rows=2)
    waves = decoder.push([torch.tensor([[3, 4]] * 2), torch.zeros(2, 0).long()], final=True)
    assert waves[0].tolist() == [3] * HOP + [4] * HOP and not len(waves[1])


@pytest.mark.parametrize("tile", [TILE, None])
def test_rows_end_one_by_one_and_are_fresh_then(tile):
    stream = toy_encoder(1, tile, rows=2)
    first = stream.push([torch.arange(1.0, 8), torch.arange(1.0, 31)], final=[True, False])
    assert [part[0].tolist() for part in first] == [[0, 0], [10, 15, 20, 25, 30]]
    again = stream.push([torch.zeros(0), torch.zeros(0)], final=[True, False])
    assert [part.shape[1] for part in again] == [0, 0]
    second = stream.push([torch.arange(1.0, 12), torch.zeros(0)], final=[True, True])
    assert [part[0].tolist() for part in second] == [[10, 0, 0], [0]]
    # The count of frames began again with the row.
    assert second[0][1].tolist() == [1, 2, 3] and second[1][1].tolist() == [6]
    with pytest.raises(WaveError, match="final"):
        stream.push([torch.zeros(0), torch.zeros(0)], final=[True])


@pytest.mark.parametrize("tile", [TILE, None])
@pytest.mark.parametrize("make", [lambda tile: toy_encoder(1, tile), lambda t: toy_decoder(7, t)])
def test_counts_of_a_state_must_be_possible(tile, make):
    stream = make(tile)
    decoding = isinstance(stream, TileDecoder)
    for _ in range(6):
        piece = torch.ones(2, 1).long() if decoding else torch.ones(HOP + 1)
        stream.push([piece], final=False)
        leaves = flatten(stream.export_row(0))
        stream.check_row(rebuild(stream.init_row(), leaves))
        for name in ("taken", "tile.filled", "given" if decoding else "pushed"):
            for value in (-1, 10**6):
                leaves_then = leaves | {f"state.{name}": torch.tensor(value)}
                with pytest.raises(StateError):
                    stream.check_row(rebuild(stream.init_row(), leaves_then))


@pytest.mark.parametrize("tile", [TILE, None])
def test_codebooks_and_frames_that_are_not_there_are_minus_one(tile):
    heard = []

    def decode(inputs, edges, states):
        heard.append(inputs.clone())
        return torch.zeros(len(inputs), HOP), states

    stream = TileDecoder(
        decode,
        lambda: None,
        inputs=lambda codes: codes.float(),
        inputs_of_latents=None,
        in_features=3,
        batch_size=1,
        num_codebooks=3,
        hop=HOP,
        delay=HOP + 1,
        tile=tile,
        device=torch.device("cpu"),
    )
    stream.push([torch.tensor([[5, 6], [7, 8]])], final=True)
    said = torch.cat(heard)
    assert said[:2].tolist() == [[5, 7, -1], [6, 8, -1]]
    assert len(said) >= 4 and not said[2:].any()


def test_a_stream_holds_no_more_than_a_window():
    stream = toy_encoder(0, TILE)
    before = size_in_bytes(stream.export_row(0))
    for _ in range(50):
        stream.push([torch.zeros(1003)], final=False)
    state = stream.export_row(0)
    assert size_in_bytes(state) == before
    assert state.samples.untyped_storage().nbytes() <= 4 * (12 + HOP)


def codec(hop, before, after, kind=RVQCodec):
    torch.manual_seed(0)
    look_ahead = {"encoder_look_ahead": before, "decoder_look_ahead": after}
    return kind(tiny_codecs.rvq_config(hop, **look_ahead)).eval()


SHAPES = [(320, 0, 0), (320, 1, 3), (320, 3, 1), (640, 0, 0), (640, 1, 1)]
CODECS = {shape: codec(*shape) for shape in SHAPES}
CODECS |= {(*shape, "tiles"): codec(*shape, InTiles) for shape in SHAPES[1:4]}


@pytest.mark.parametrize("shape", CODECS)
@given(
    lengths=st.lists(LENGTHS, min_size=1, max_size=3),
    count=st.integers(1, 7),
    seed=st.integers(0, 99),
)
@settings(max_examples=6, deadline=None)
def test_codecs_stream_what_they_say_offline(shape, lengths, count, seed):
    codec = CODECS[shape]
    hop = shape[0]
    waves = [
        torch.from_numpy(synthetic_speech(length, seed + row)) for row, length in enumerate(lengths)
    ]
    rows = len(waves)
    splits = [pieces(len(wave), seed + row, count) for row, wave in enumerate(waves)]
    stream, parts = codec.start_encoder(rows, 4), []
    places = np.zeros(rows, int)
    with torch.no_grad():
        for step in range(count):
            chunk = []
            for row, wave in enumerate(waves):
                chunk.append(wave[places[row] : places[row] + splits[row][step]])
                places[row] += splits[row][step]
            parts.append(stream.push(chunk, final=step == count - 1))
        codes = [torch.cat(row, 1) for row in zip(*parts, strict=True)]
        for row, wave in enumerate(waves):
            assert torch.equal(codes[row], codec.encode(wave, 16000).codes[0])
            assert codes[row].shape == (4, -(-len(wave) // hop))

        decoder, pcm = codec.start_decoder(rows), []
        splits = [pieces(row.shape[1], seed - row.shape[1] + 99, count) for row in codes]
        places[:] = 0
        for step in range(count):
            chunk = []
            for row in range(rows):
                chunk.append(codes[row][:, places[row] : places[row] + splits[row][step]])
                places[row] += splits[row][step]
            pcm.append(decoder.push(chunk, final=step == count - 1))
        for row, wave in enumerate(waves):
            streamed = torch.cat([part[row] for part in pcm])
            assert streamed.shape == (codes[row].shape[1] * hop,)
            whole = codec.decode(codec.encode(wave, 16000))[0]
            assert torch.equal(streamed[: len(wave)], whole)


@pytest.mark.parametrize("shape", CODECS)
def test_latents_stream_as_offline_and_sound_like_their_codes(shape):
    codec = CODECS[shape]
    waves = [torch.from_numpy(synthetic_speech(length, length)) for length in (7919, 321)]
    padded = torch.nn.utils.rnn.pad_sequence(waves, batch_first=True)
    batch = codec.latents(padded, 16000, [7919, 321])
    with codec.stream(batch_size=2) as session:
        parts = [session.latents(padded[:, :500], [500, 321], final=[False, True])]
        parts += [session.latents(padded[:, at : at + 700], [min(700, 7919 - at), 0])
                  for at in range(500, 7919, 700)]  # fmt: skip
        parts.append(session.flush().latents)
    assert type(batch).concat(parts).equal(batch)
    tokens = codec.encode(padded, 16000, [7919, 321])
    for row, wave in enumerate(waves):
        assert codec.latents(wave, 16000).equal(batch[row])
    assert torch.equal(codec.decode(codec.embed(tokens)), codec.decode(tokens))


@pytest.mark.parametrize("shape", CODECS)
def test_what_comes_after_the_look_ahead_changes_no_code(shape):
    codec = CODECS[shape]
    hop, ahead = shape[:2]
    wave = torch.from_numpy(synthetic_speech(24 * hop))
    codes = codec.encode(wave, 16000).codes
    other = wave.clone()
    other[12 * hop :] = 0.1 * torch.randn(12 * hop)
    changed = codec.encode(other, 16000).codes
    unheard = 12 - ahead
    assert torch.equal(codes[..., :unheard], changed[..., :unheard])
    assert not torch.equal(codes[..., unheard], changed[..., unheard])
