"""Rows that join, pause, leave, begin afresh and move, over codecs of every kind of stream."""

import dataclasses
import struct
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import syllabary
from syllabary.codecs.container import read_tokens
from syllabary.codecs.dmel.config import DMelConfig
from syllabary.codecs.dmel.tokenizer import DMel
from syllabary.codecs.streaming import EncoderStream, StreamSession
from syllabary.codecs.streaming.migration import pack, unpack
from syllabary.errors import StateError, WaveError

from ... import tiny_codecs
from ...conftest import ROOT, synthetic_speech
from ..neural.streams.in_tiles import InTiles
from .random_walk import RandomWalk

RATE = 16000


def in_tiles(before=1, after=2):
    torch.manual_seed(0)
    look_ahead = {"encoder_look_ahead": before, "decoder_look_ahead": after}
    return InTiles(tiny_codecs.rvq_config(320, **look_ahead)).eval()


CODECS = {
    "rvq": tiny_codecs.rvq(),
    "rvq-look-ahead": tiny_codecs.rvq(encoder_look_ahead=1, decoder_look_ahead=2),
    "rvq-in-tiles": in_tiles(),
    "rvq-waveform": tiny_codecs.rvq_waveform(),
    "fsq": tiny_codecs.fsq(),
    "fsq-residual": tiny_codecs.fsq(640, 3),
    "ts3": tiny_codecs.ts3(int8=True, decoder_look_ahead=1),
    "dmel": DMel(DMelConfig()).eval(),
    "dmel-vocoder": tiny_codecs.dmel(look_ahead=1),
}


@pytest.fixture(params=CODECS)
def codec(request):
    return CODECS[request.param]


def speech(num_samples, seed=0):
    return torch.from_numpy(synthetic_speech(num_samples, seed))


@pytest.mark.parametrize("name", CODECS)
@given(rows=st.integers(1, 4), steps=st.integers(1, 12), seed=st.integers(0, 10**6))
@settings(max_examples=8, deadline=None)
def test_whatever_rows_do_utterances_are_those_of_offline(name, rows, steps, seed):
    RandomWalk(CODECS[name], rows, seed, longest=8000).run(steps)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_long_walks(codec, seed):
    walk = RandomWalk(codec, 8, seed, longest=12_000)
    walk.run(60)
    assert walk.compared > 15


def test_the_walk_compares_something(codec):
    walk = RandomWalk(codec, 3, 7)
    walk.run(15)
    assert walk.compared > 3


# --- single rows -------------------------------------------------------------------------------


def test_a_row_that_ended_takes_nothing_until_it_is_reset(codec):
    wave = speech(5000)
    offline = codec.encode(wave, RATE)
    session = codec.stream(batch_size=2)
    both = torch.stack([wave, wave])
    tokens = session.encode(both, final=[True, False])
    pcm = session.decode(tokens, final=[True, False])
    assert tokens[0].equal(offline)
    assert torch.equal(pcm[0, :5000], codec.decode(offline)[0])
    with pytest.raises(WaveError, match="row 0 has ended; reset it"):
        session.encode(both)
    with pytest.raises(WaveError, match="row 0 has ended; reset it"):
        session.decode(codec.encode(torch.zeros(2, 640), RATE, [320, 0]).frames(0, 1))
    # It may well be there, and end again.
    nothing = session.encode(torch.zeros(2, 0), final=[True, False])
    assert nothing.lengths.tolist()[0] == 0 and nothing.num_samples.tolist()[0] == 0
    session.reset(0)
    again = session.encode(both, [5000, 0], final=[True, False])
    assert again[0].equal(offline)
    assert session.samples_in == [5000, 5000]


def test_the_end_of_a_session_is_that_of_the_rows_left(codec):
    waves = torch.stack([speech(5000, 1), speech(5000, 2)])
    offline = codec.encode(waves, RATE)
    session = codec.stream(batch_size=2)
    first = session.encode(waves, final=[True, False])
    pcm = [session.decode(first, final=[True, False])[1, : session.samples_out[1]]]
    end = session.flush()
    assert end.tokens.lengths.tolist()[0] == 0
    assert first[0].equal(offline[0])
    assert syllabary.Tokens.concat([first[1], end.tokens[1]]).equal(offline[1])
    pcm.append(end.wave[1, : session.samples_out[1] - len(pcm[0])])
    assert torch.equal(torch.cat(pcm), codec.decode(offline)[1])
    again = session.flush()
    assert again.tokens is None and again.wave is None


def test_flush_decodes_no_more_for_rows_whose_decoder_ended():
    codec = CODECS["rvq-look-ahead"]
    session = codec.stream(batch_size=2)
    tokens = session.encode(torch.stack([speech(5000), speech(5000)]))
    session.decode(tokens, final=[True, False])
    end = session.flush()
    assert end.tokens.lengths.tolist() == [2, 2]
    assert session.frames_in == [14, 16]
    assert session.samples_out == [14 * 320, 5000]


@pytest.mark.parametrize("rows", [0, [0], (0, 1), None])
def test_reset_rows_are_fresh_and_the_others_go_on(codec, rows):
    session = codec.stream(batch_size=2)
    wave = speech(7000)
    first = session.encode(torch.stack([speech(3000, 5), wave[:3000]]))
    pcm = session.decode(first)[1:, : session.samples_out[1]]
    session.reset(rows)
    others_go_on = rows in (0, [0])
    assert session.samples_in == [0, 3000 if others_go_on else 0]
    parts = session.encode(torch.stack([wave, wave]), [7000, 4000], final=[True, False])
    parts_1 = [first[1], parts[1]] if others_go_on else [parts[1]]
    tokens = session.encode(torch.stack([wave, wave[3000:].repeat(2)[:7000]]), [0, 0], final=True)
    offline = codec.encode(wave, RATE)
    assert parts[0].equal(offline)
    expected = wave if others_go_on else wave[:4000]
    offline_1 = codec.encode(expected, RATE)
    if others_go_on:
        session_1 = codec.stream()
        whole = [session_1.encode(wave[:3000]), session_1.encode(wave[:4000], final=True)]
        offline_1 = syllabary.Tokens.concat(whole)
    assert syllabary.Tokens.concat([*parts_1, tokens[1]]).equal(offline_1)
    assert pcm.shape[0] == 1


def test_bad_rows_and_flags(codec):
    session = codec.stream(batch_size=2)
    for call in (session.reset, session.export_row, lambda row: session.import_row(row, b"")):
        for row in (2, -1, "0", 0.5):
            with pytest.raises(WaveError, match="row"):
                call(row)
    wave = torch.zeros(2, 100)
    tokens = codec.encode(torch.zeros(2, 0), RATE)
    for final in ([True], [True] * 3, "ab", 1, [1, 0], None):
        with pytest.raises(WaveError, match="final must be one bool or one for each of 2 rows"):
            session.encode(wave, final=final)
        with pytest.raises(WaveError, match="final"):
            session.decode(tokens, final=final)
    assert session.samples_in == [0, 0]
    session.encode(wave, final=torch.tensor([True, False]))
    session.encode(wave, [0, 100], final=np.array([False, True]))
    session.decode(tokens, final=[np.bool_(False), False])
    session.decode(tokens, final=np.bool_(True))
    with pytest.raises(WaveError, match="has ended"):
        session.decode(codec.encode(torch.zeros(2, 320), RATE))
    assert session.samples_in == [100, 200]
    session.__exit__()
    for call in (session.reset, session.export_row):
        with pytest.raises(WaveError, match="ended"):
            call(0)


class NoRows(EncoderStream):
    """A machine of old, which knows nothing of rows."""

    def push(self, rows, final):
        assert isinstance(final, bool)
        return [torch.zeros(1, 0).long() for _ in rows]


def test_machines_that_do_not_know_their_rows_say_so():
    codec = tiny_codecs.rvq()
    codec.start_encoder = lambda *_: NoRows()
    session = codec.stream(num_codebooks=1)
    session.encode(torch.zeros(5))
    for call in (session.reset, session.export_row):
        with pytest.raises(StateError, match="NoRows does not say"):
            call(0)


# --- states ------------------------------------------------------------------------------------


def test_states_stay_as_large_as_they_were(codec):
    second = speech(RATE)
    session = codec.stream()
    assert session.state_bytes == [0]
    sizes, exported = set(), set()
    for count in (1, 319, 1, 5, 4000, 12_000, 640):
        session.decode(session.encode(second[:count]))
        sizes.add(session.state_bytes[0])
        exported.add(len(session.export_row(0)) // 64)
    assert len(sizes) == 1 and max(sizes) > 0
    # Numbers in the header of the tensors may have another digit.
    assert max(exported) - min(exported) <= 1


@pytest.mark.slow
def test_states_stay_as_large_for_ten_minutes(codec):
    second = speech(RATE)
    session = codec.stream()
    sizes = []
    for _ in range(600):
        session.decode(session.encode(second))
        sizes.append(session.state_bytes[0])
    assert len(set(sizes)) == 1


def exported(codec, num_samples=4321, **options):
    session = codec.stream(**options)
    session.decode(session.encode(speech(num_samples)))
    return session.export_row(0)


def forged(state, header=(), **tensors):
    """Another content under a checksum that is right."""
    fields, leaves = unpack(state)
    return pack({**fields, **dict(header)}, leaves | tensors)


def test_states_of_other_tokenizers_are_refused():
    state = exported(CODECS["rvq"])
    with pytest.raises(StateError, match=r"of 'rvq'.*not of this 'fsq'"):
        CODECS["fsq"].stream().import_row(0, state)
    # Another network of the same name.
    with pytest.raises(StateError, match="not of this 'rvq'"):
        tiny_codecs.rvq(seed=5).stream().import_row(0, state)
    renamed = tiny_codecs.rvq(name="other")
    with pytest.raises(StateError, match="tokenizer 'rvq', this session 'other'"):
        renamed.stream().import_row(0, state)


def test_another_decoder_of_the_same_codes():
    codec, other = tiny_codecs.rvq(), tiny_codecs.rvq()
    with torch.no_grad():
        other.decoder.head.gains.bias.add_(1)
    assert codec.spec.tokens == other.spec.tokens
    session = codec.stream()
    session.encode(speech(1000))
    only_encoded = session.export_row(0)
    session.decode(codec.encode(speech(640), RATE))
    there = other.stream()
    there.import_row(0, only_encoded)
    with pytest.raises(StateError, match="another decoder"):
        there.import_row(0, session.export_row(0))


def test_sessions_of_another_number_of_codebooks_or_kind_of_network():
    state = exported(CODECS["rvq"])
    with pytest.raises(StateError, match="num_codebooks 4, this session 2"):
        CODECS["rvq"].stream(num_codebooks=2).import_row(0, state)
    compiled = InTiles(tiny_codecs.rvq_config())
    compiled.load_state_dict(CODECS["rvq"].state_dict())
    compiled.name = "rvq"
    compiled.family = "rvq"  # as the same weights on another kind of device
    with pytest.raises(StateError, match=r"missing|expected"):
        compiled.stream().import_row(0, state)


def test_forged_states_are_refused_and_change_nothing(codec):
    state = exported(codec)
    session = codec.stream()
    session.decode(session.encode(speech(3000, 3)))
    before = session.export_row(0)
    _, leaves = unpack(state)
    cases = [forged(state, {"parts": parts}) for parts in (None, ["x"], ["encoder"], [])]
    cases.append(forged(state, {"format": "x"}))
    cases.append(forged(state, extra=torch.zeros(1)))
    for name in leaves:
        if name.startswith(("progress.samples", "progress.frames")):
            # Any number of samples may lie between a row and its first frame.
            for value in (-1,) if name == "progress.samples_in" else (-1, 10**6):
                cases.append(forged(state, **{name: torch.tensor(value)}))
    for wrong in cases:
        with pytest.raises(StateError):
            session.import_row(0, wrong)
    assert session.export_row(0) == before


def test_refused_states_start_no_machine(codec):
    state = exported(codec)
    session = codec.stream()
    before = session.export_row(0)
    for wrong in (
        forged(state, extra=torch.zeros(1)),
        forged(state, **{"progress.samples_out": torch.tensor(-1)}),
        forged(state, {"parts": ["encoder"]}),
    ):
        with pytest.raises(StateError):
            session.import_row(0, wrong)
        assert session.export_row(0) == before and session.state_bytes == [0]
    end = session.flush()
    assert end.tokens is None and end.wave is None


def test_counts_of_parts_that_are_not_there_are_zero(codec):
    session = codec.stream()
    state = session.export_row(0)
    for names in (
        {"samples_in": 100},
        {"encode_ended": True},
        {"decode_ended": True},
        {"frames_in": 1, "samples_due": 320},
    ):
        leaves = {f"progress.{name}": torch.tensor(value) for name, value in names.items()}
        with pytest.raises(StateError, match="do not agree"):
            session.import_row(0, forged(state, **leaves))
    session.import_row(0, state)


@pytest.mark.parametrize("name", CODECS)
def test_counts_agree_with_the_machines(name):
    codec = CODECS[name]
    hop = codec.spec.tokens.hop
    session = codec.stream()
    session.decode(session.encode(speech(10 * hop + 7)))
    state = session.export_row(0)
    (frames,), (samples,), (given,) = session.frames_out, session.samples_in, session.samples_out
    for counts in (
        {"samples_in": samples + 1},
        {"samples_in": samples + hop},
        {"samples_in": samples - hop, "frames_out": frames - 2},
        {"frames_out": frames - 1},
        {"frames_in": frames + 1, "samples_due": (frames + 1) * hop},
        {"frames_in": frames - 1, "samples_due": (frames - 1) * hop},
        {"samples_out": given + 1},
        {"encode_ended": True, "frames_out": -(-samples // hop)},
        {"decode_ended": True, "samples_out": frames * hop},
    ):
        leaves = {f"progress.{name}": torch.tensor(value) for name, value in counts.items()}
        with pytest.raises(StateError):
            codec.stream().import_row(0, forged(state, **leaves))
    codec.stream().import_row(0, state)


def test_a_source_is_looked_at():
    codec = CODECS["rvq"]
    session = codec.stream()
    session.decode(session.encode(speech(8000)))
    state = session.export_row(0)
    place = "decoder.tile.network."
    for leaf, value in (
        ("pitch", torch.tensor(1e9)),
        ("pitch", torch.tensor(-100.0)),
        ("phase", torch.tensor(1e308, dtype=torch.float64)),
        ("position", torch.tensor(-1)),
    ):
        with pytest.raises(StateError, match=r"pitch of|phase of"):
            codec.stream().import_row(0, forged(state, **{place + leaf: value}))


def test_frames_held_for_a_block_are_looked_at():
    codec = CODECS["dmel"]
    session = codec.stream()
    session.decode(codec.encode(speech(4000), RATE).frames(0, 1))
    state = session.export_row(0)
    _, leaves = unpack(state)
    cells = leaves["decoder.cells"]
    for wrong in (
        {"decoder.cells": torch.full_like(cells, 1e9)},
        {"decoder.cells": cells.flip(0) + torch.tensor([1.0, 0.0, 0.0])[:, None, None]},
        {"decoder.held": torch.tensor(50)},
        {"decoder.owed": torch.tensor(-1)},
        {"decoder.delay": torch.tensor(10**6)},
    ):
        with pytest.raises(StateError):
            codec.stream().import_row(0, forged(state, **wrong))
    session.encode(speech(100))
    wrong = {"encoder.missing": torch.tensor(5000)}
    with pytest.raises(StateError, match="without a frame"):
        codec.stream().import_row(0, forged(session.export_row(0), **wrong))


GO_ON = """
import sys, numpy as np, torch
sys.path.insert(0, {root!r})
from syllabary.codecs.container import write_tokens
from tests import tiny_codecs
import syllabary
torch.set_num_threads(1)
tiny_codecs.register()
wave = torch.from_numpy(np.load("wave.npy"))
for name in sys.argv[1:]:
    session = syllabary.load(name).stream(batch_size=2)
    with open(f"{{name}}.state", "rb") as file:
        session.import_row(1, file.read())
    tokens = session.encode(torch.stack([wave.flip(0), wave]), final=True)
    pcm = session.decode(tokens, final=True)[1, : session.samples_out[1]]
    write_tokens(f"{{name}}.syl", tokens[1])
    np.save(f"{{name}}.npy", pcm.numpy())
"""


def test_another_process_goes_on(tmp_path):
    tiny_codecs.register()
    names = ["tiny-rvq-look-ahead", "tiny-dmel-vocoder", "dmel-3bit", "rvq-16k"]
    wave = speech(20_000)
    begun = {}
    for name in names:
        session = syllabary.load(name).stream()
        first = session.encode(wave[:7777])
        begun[name] = first, session.decode(first)[0]
        (tmp_path / f"{name}.state").write_bytes(session.export_row(0))
    np.save(tmp_path / "wave.npy", wave[7777:].numpy())
    script = GO_ON.format(root=str(ROOT))
    subprocess.run([sys.executable, "-c", script, *names], cwd=tmp_path, check=True)
    for name, (first, pcm) in begun.items():
        codec = syllabary.load(name)
        offline = codec.encode(wave, RATE)
        rest = read_tokens(tmp_path / f"{name}.syl")
        assert syllabary.Tokens.concat([first, rest]).equal(offline), name
        pcm = torch.cat([pcm, torch.from_numpy(np.load(tmp_path / f"{name}.npy"))])
        assert torch.equal(pcm, codec.decode(offline)[0]), name


def test_a_row_moves_with_its_end(codec):
    session = codec.stream(batch_size=2)
    wave = torch.stack([speech(2000), speech(2000)])
    session.decode(session.encode(wave, final=[True, False]), final=[True, False])
    there = codec.stream(batch_size=2)
    there.import_row(1, session.export_row(0))
    with pytest.raises(WaveError, match="row 1 has ended"):
        there.encode(wave)
    assert there.samples_out == [0, 2000]


def test_a_fresh_row_may_move(codec):
    session = codec.stream(batch_size=1)
    state = session.export_row(0)
    there = codec.stream()
    there.encode(speech(3000), final=True)
    there.import_row(0, state)
    assert there.encode(speech(2000), final=True).equal(codec.encode(speech(2000), RATE))


def test_nothing_is_pickled():
    state = exported(CODECS["rvq"])
    (length,) = struct.unpack_from("<I", state, 8)
    assert state[12 : 12 + length].startswith(b"{")
    assert b"pickle" not in state and b"syllabary.codecs" not in state


def test_the_counts_are_new_lists(codec):
    session = codec.stream()
    session.samples_in.append(3)
    assert session.samples_in == [0] and isinstance(session, StreamSession)
    assert dataclasses.is_dataclass(session.stats)
