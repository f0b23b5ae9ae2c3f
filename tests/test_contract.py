"""The contract: what the interface promises, for every registered tokenizer.

The tokenizer of docs/write-your-own.md is registered too, codecs with random weights, and small
models of published architectures, saved to disk and loaded as their publishers' would be. A row
that a tokenizer declares it can't keep is skipped with its reason; nothing is exempted silently.
"""

import contextlib
import copy
import dataclasses
import io
import os
import pickle
import re
import subprocess
import sys
import types
from functools import cache
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.multiprocessing
from hypothesis import given, settings
from hypothesis import strategies as st

import syllabary
from syllabary.codecs.container import SylReader, SylWriter, read_tokens, write_tokens
from syllabary.errors import (
    CheckpointError,
    StateError,
    SyllabaryError,
    TokenError,
    TokenMismatchError,
    UnknownTokenizerError,
    WaveError,
    WeightsError,
)
from syllabary.kernels import processors

from . import tiny_codecs, tiny_models, tiny_units
from .codecs.streaming.random_walk import RandomWalk
from .conftest import ROOT, synthetic_speech
from .markdown import blocks

# A module, so that what it defines can be pickled.
sys.modules["docs"] = types.ModuleType("docs")
exec(blocks(ROOT / "docs" / "write-your-own.md", "python")[0], vars(sys.modules["docs"]))

tiny_models.register()
tiny_codecs.register()
tiny_units.register()

NAMES = syllabary.list_tokenizers()
#: Whose tests are slow ones: see `conftest.pytest_collection_modifyitems`.
SELDOM = frozenset(tiny_models.NAMES) - frozenset(tiny_models.OFTEN) | {
    # Other settings of what `dmel` and `dmel-fine` are.
    *("dmel-3bit", "dmel-5bit", "dmel-40ch", "dmel-narrow", "dmel-fine-narrow"),
}
MADE_HERE = ("mu-law", *tiny_models.NAMES, *tiny_codecs.NAMES, *tiny_units.NAMES)


@cache
def load(name: str) -> syllabary.AudioTokenizer:
    return syllabary.load(name)


@pytest.fixture(params=NAMES)
def tokenizer(request) -> syllabary.AudioTokenizer:
    return load(request.param)


def promise(tokenizer: syllabary.AudioTokenizer, row: str) -> None:
    reason = tokenizer.spec.broken_promises.get(row)
    if reason:
        pytest.skip(f"{tokenizer.name} declares that it can't keep {row}: {reason}")


def speech(tokenizer: syllabary.AudioTokenizer, num_samples: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(synthetic_speech(num_samples, seed, tokenizer.spec.sample_rate))


def split(total: int, seed: int, pieces: int) -> list[int]:
    """A random split of `total` into pieces, some of them empty or of one unit."""
    rng = np.random.default_rng(seed)
    cuts = np.sort(rng.integers(0, total + 1, pieces - 1)) if pieces > 1 else np.array([], int)
    return np.diff([0, *cuts, total]).tolist()


# --- 1. the length law -------------------------------------------------------------------------


def test_length_law_near_whole_frames(tokenizer):
    promise(tokenizer, "length-law")
    for frames in (0, 1, 2, 33):
        for plus in (-1, 0, 1):
            check_length(tokenizer, max(0, frames * tokenizer.spec.tokens.hop + plus))


@given(num_samples=st.integers(0, 20_000))
@settings(max_examples=15, deadline=None)
@pytest.mark.parametrize("name", NAMES)
def test_length_law_anywhere(name, num_samples):
    promise(load(name), "length-law")
    check_length(load(name), num_samples)


@pytest.mark.slow
def test_length_law_of_minutes(tokenizer):
    promise(tokenizer, "length-law")
    check_length(tokenizer, 180 * tokenizer.spec.sample_rate + 7919)


def check_length(tokenizer, num_samples):
    tokens = tokenizer.encode(speech(tokenizer, num_samples), tokenizer.spec.sample_rate)
    frames = -(-num_samples // tokenizer.spec.tokens.hop)
    assert tokens.codes.shape == (1, tokenizer.spec.tokens.num_codebooks, frames)
    assert tokens.codes.dtype == torch.int64
    assert tokens.lengths.tolist() == [frames]
    assert tokens.num_samples.tolist() == [num_samples]
    tokens.check()
    wave = tokenizer.decode(tokens)
    assert wave.shape == (1, num_samples)
    assert wave.dtype == torch.float32
    assert bool(wave.isfinite().all())


# --- 2. batch and padding ----------------------------------------------------------------------


@given(
    lengths=st.lists(st.integers(0, 12_000), min_size=1, max_size=6),
    padding=st.integers(0, 3000),
    seed=st.integers(0, 99),
)
@settings(max_examples=12, deadline=None)
@pytest.mark.parametrize("name", NAMES)
def test_codes_do_not_depend_on_the_batch_or_the_padding(name, lengths, padding, seed):
    tokenizer = load(name)
    promise(tokenizer, "batch-invariance")
    rate = tokenizer.spec.sample_rate
    batch = torch.randn(len(lengths), max(lengths) + padding) * 10
    batch[:, -1:] = float("nan")  # padding may hold anything
    batch = torch.nn.functional.pad(batch, (0, 1), value=float("nan"))
    rows = [speech(tokenizer, length, seed + row) for row, length in enumerate(lengths)]
    for row, wave in enumerate(rows):
        batch[row, : lengths[row]] = wave
    together = tokenizer.encode(batch, rate, lengths)
    for row, wave in enumerate(rows):
        assert together[row].equal(tokenizer.encode(wave, rate))
    waves = tokenizer.decode(together)
    for row, length in enumerate(lengths):
        alone = tokenizer.decode(together[row].frames(0, int(together.lengths[row])))
        assert torch.equal(waves[row, :length], alone[0])
        assert not waves[row, length:].any()


def test_batches_of_real_speech(tokenizer, speech_folder):
    promise(tokenizer, "batch-invariance")
    from syllabary.audio.files import read
    from syllabary.audio.manifests import collect

    rate = tokenizer.spec.sample_rate
    items = [i for i in collect([speech_folder], "test") if i.duration_s < 4][::40]
    waves = [torch.from_numpy(read(item.path, rate)[0]) for item in items]
    batch = torch.nn.utils.rnn.pad_sequence(waves, batch_first=True)
    together = tokenizer.encode(batch, rate, [len(wave) for wave in waves])
    differing = 0
    for row, wave in enumerate(waves):
        alone = tokenizer.encode(wave, rate)
        length = int(alone.lengths)
        differing += int((together.codes[row, :, :length] != alone.codes[0]).any(0).sum())
    assert differing == 0


# --- 3. streaming ------------------------------------------------------------------------------


@given(
    num_samples=st.integers(0, 15_000),
    pieces=st.integers(1, 12),
    rows=st.integers(1, 3),
    seed=st.integers(0, 999),
)
@settings(max_examples=12, deadline=None)
@pytest.mark.parametrize("name", NAMES)
def test_streaming_equals_offline(name, num_samples, pieces, rows, seed):
    tokenizer = load(name)
    promise(tokenizer, "streaming-equality")
    wave = torch.stack([speech(tokenizer, num_samples, seed + row) for row in range(rows)])
    offline = tokenizer.encode(wave, tokenizer.spec.sample_rate)
    with tokenizer.stream(batch_size=rows) as session:
        parts = [session.encode(piece) for piece in wave.split(split(num_samples, seed, pieces), 1)]
        parts.append(session.flush().tokens)
    assert syllabary.Tokens.concat(parts).equal(offline)

    assert torch.equal(
        decoded_in_pieces(tokenizer, offline, seed, pieces), tokenizer.decode(offline)
    )


def decoded_in_pieces(tokenizer, offline, seed, pieces):
    """What a stream makes of tokens or latents, whose rows have as many frames each."""
    start = 0
    with tokenizer.stream(batch_size=len(offline.lengths)) as session:
        pcm = []
        for count in split(int(offline.lengths[0]), seed + 1, pieces):
            pcm.append(session.decode(offline.frames(start, start + count)))
            start += count
        pcm.append(session.flush().wave)
    return torch.cat(pcm, 1)


@given(seed=st.integers(0, 999), share=st.sampled_from([0.0, 0.3, 1.0]))
@settings(max_examples=4, deadline=None)
@pytest.mark.parametrize("name", NAMES)
def test_lost_frames_keep_their_time(name, seed, share):
    tokenizer = load(name)
    tokens = tokenizer.encode(speech(tokenizer, 6001, seed), tokenizer.spec.sample_rate)
    check_lost_frames(tokenizer, tokens, seed, share)


def check_lost_frames(tokenizer, frames, seed, share):
    """Of tokens or latents of one row: no error, the same time, no influence of what was lost."""
    total, hop = int(frames.lengths[0]), tokenizer.spec.tokens.hop
    lost = torch.from_numpy(np.random.default_rng(seed).random((1, total)) < share)
    whole = tokenizer.decode(frames)
    found = tokenizer.decode(frames, lost=lost)
    assert found.shape == whole.shape and bool(found.isfinite().all())
    if not lost.any():
        assert torch.equal(found, whole)
    kind = "codes" if isinstance(frames, syllabary.Tokens) else "vectors"
    gone = lost[:, None] if kind == "codes" else lost[..., None]
    other = dataclasses.replace(frames, **{kind: getattr(frames, kind).masked_fill(gone, 0)})
    assert torch.equal(tokenizer.decode(other, lost=lost), found)
    if "streaming-equality" in tokenizer.spec.broken_promises:
        return
    with tokenizer.stream() as session:
        pcm = []
        for frame in range(total):
            if lost[0, frame] and frame < total - 1:
                pcm.append(session.decode(None))
            else:
                one = frames.frames(frame, frame + 1)
                pcm.append(session.decode(one, lost=lost[:, frame : frame + 1]))
        pcm.append(session.flush().wave)
        assert session.samples_out == frames.num_samples.tolist() == [whole.shape[1]]
        assert session.frames_in == [total] and total == -(-whole.shape[1] // hop)
    torch.testing.assert_close(torch.cat(pcm, 1), found, rtol=0, atol=0)


def test_one_sample_at_a_time(tokenizer):
    promise(tokenizer, "streaming-equality")
    wave = speech(tokenizer, 3 * tokenizer.spec.tokens.hop + 5)
    with tokenizer.stream() as session:
        parts = [session.encode(sample) for sample in wave.split(1)]
        parts.append(session.flush().tokens)
    whole = tokenizer.encode(wave, tokenizer.spec.sample_rate)
    assert syllabary.Tokens.concat(parts).equal(whole)


def test_a_loop_of_encode_and_decode_gives_every_sample_once(tokenizer):
    promise(tokenizer, "streaming-equality")
    rate = tokenizer.spec.sample_rate
    wave = speech(tokenizer, rate + 123)
    with tokenizer.stream() as session:
        pcm = [session.decode(session.encode(chunk)) for chunk in wave.split(997)]
        pcm.append(session.flush().wave)
    assert torch.equal(torch.cat(pcm, 1), tokenizer.decode(tokenizer.encode(wave, rate)))


def test_the_declared_latency_holds(tokenizer):
    promise(tokenizer, "streaming-equality")
    spec = tokenizer.spec
    if spec.latency_ms is None:
        pytest.skip(f"{tokenizer.name} declares that it needs whole utterances")
    hop = spec.tokens.hop
    wave = speech(tokenizer, 40 * hop)
    with tokenizer.stream() as session:
        for chunk in wave.split(hop // 3):
            session.encode(chunk)
            due = max(0, (session.samples_in[0] - spec.encoder_latency) // hop + 1)
            assert session.frames_out[0] >= due
    tokens = tokenizer.encode(wave, spec.sample_rate)
    with tokenizer.stream() as session:
        for frame in range(40):
            session.decode(tokens.frames(frame, frame + 1))
            assert session.samples_out[0] >= (frame + 1) * hop - spec.decoder_latency


def test_rows_of_a_stream_may_move_at_their_own_pace(tokenizer):
    promise(tokenizer, "streaming-equality")
    hop = tokenizer.spec.tokens.hop
    waves = [speech(tokenizer, 7 * hop + 3, 1), speech(tokenizer, 2 * hop, 2)]
    with tokenizer.stream(batch_size=2) as session:
        parts = [session.encode(torch.stack([waves[0][:hop], waves[1][:hop]]), lengths=[hop, 9])]
        rest = torch.nn.utils.rnn.pad_sequence([waves[0][hop:], waves[1][9:]], batch_first=True)
        lengths = [len(waves[0]) - hop, len(waves[1]) - 9]
        parts.append(session.encode(rest, lengths, final=True))
    streamed = [syllabary.Tokens.concat([part[row] for part in parts]) for row in range(2)]
    for row, wave in enumerate(waves):
        assert streamed[row].equal(tokenizer.encode(wave, tokenizer.spec.sample_rate))


# --- 4. constant memory ------------------------------------------------------------------------

MEASURE = """
import resource, sys, torch, syllabary
sys.path.insert(0, {root!r})
from pathlib import Path
from tests import tiny_codecs
from tests.markdown import blocks
tiny_codecs.register()
exec(blocks(Path({root!r}) / "docs" / "write-your-own.md", "python")[0], {{"__name__": "docs"}})
torch.set_num_threads(1)
tokenizer = syllabary.load({name!r})
second = torch.randn(tokenizer.spec.sample_rate) / 10
with tokenizer.stream() as session:
    def run(seconds):
        for _ in range(seconds):
            session.encode(second)
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(run(60), run(1140))
"""


@pytest.mark.parametrize(
    "name", ["dmel", "mu-law", pytest.param("tiny-rvq", marks=pytest.mark.slow)]
)
def test_memory_does_not_grow_with_the_audio(name):
    promise(load(name), "constant-memory")
    script = MEASURE.format(name=name, root=str(ROOT))
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    minute, twenty_minutes = map(float, done.stdout.split())
    assert twenty_minutes - minute < 30, f"{minute:.0f} MB grew to {twenty_minutes:.0f} MB"


# --- 5. determinism ----------------------------------------------------------------------------


def test_codes_do_not_depend_on_threads_or_autocast(tokenizer):
    promise(tokenizer, "determinism")
    rate = tokenizer.spec.sample_rate
    wave = speech(tokenizer, 2 * rate)
    expected = tokenizer.encode(wave, rate)
    assert tokenizer.encode(wave, rate).equal(expected)
    assert tokenizer.encode(wave.double(), rate).equal(expected)
    assert tokenizer.encode(wave.numpy(), rate).equal(expected)
    assert tokenizer.encode(wave.numpy().astype(">f4"), rate).equal(expected)
    assert tokenizer.encode(wave.flip(0).numpy()[::-1], rate).equal(expected)
    with torch.autocast("cpu", torch.bfloat16):
        assert tokenizer.encode(wave, rate).equal(expected)
    with torch.inference_mode(), tokenizer.stream() as session:
        assert tokenizer.encode(wave, rate).equal(expected)
        first = session.encode(wave[:1000])
    assert tokenizer.encode(wave, rate).equal(expected)
    with tokenizer.stream() as session:
        with torch.inference_mode():
            first = session.encode(wave[:1000])
        rest = session.encode(wave[1000:], final=True)
    assert syllabary.Tokens.concat([first, rest]).equal(expected)
    torch.set_num_threads(2)
    assert tokenizer.encode(wave, rate).equal(expected)


ANOTHER_PROCESS = """
import sys, numpy, syllabary
from syllabary.codecs.container import write_tokens
for name in sys.argv[1:]:
    tokenizer = syllabary.load(name)
    wave = numpy.load(f"{name}.npy")
    write_tokens(f"{name}.syl", tokenizer.encode(wave, tokenizer.spec.sample_rate))
"""


def test_another_process_gives_the_same_codes(tmp_path):
    """One process for all: most of its time is the start."""
    names = [name for name in NAMES if name not in MADE_HERE]  # the others live in this one only
    names = [name for name in names if "determinism" not in load(name).spec.broken_promises]
    assert {"dmel", "fsq-16k", "rvq-16k", "ts3-16k", "units-16k"} <= set(names)
    for name in names:
        np.save(tmp_path / f"{name}.npy", speech(load(name), load(name).spec.sample_rate).numpy())
    script = [sys.executable, "-c", ANOTHER_PROCESS, *names]
    subprocess.run(script, check=True, cwd=tmp_path)
    for name in names:
        wave = np.load(tmp_path / f"{name}.npy")
        mine = load(name).encode(wave, load(name).spec.sample_rate)
        assert read_tokens(tmp_path / f"{name}.syl").equal(mine), name


# --- 5b. processors -----------------------------------------------------------------------------

ELSEWHERE = """
import sys, numpy, torch, syllabary
sys.path.insert(0, {root!r})
from pathlib import Path
import tests.test_contract
torch.set_num_threads(1)
for folder in map(Path, sys.argv[1:]):
    tokenizer = syllabary.load(folder / "tokenizer")
    tokens = tokenizer.encode(numpy.load(folder / "wave.npy"), tokenizer.spec.sample_rate)
    numpy.savez(folder / "found.npz", codes=tokens.codes, samples=tokenizer.decode(tokens))
"""


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """What all tokenizers give in one process that is held to a processor, by its name."""

    @cache
    def run(processor: str) -> dict[str, Path]:
        folders = {}
        for name in NAMES:
            if "processors" not in load(name).spec.broken_promises:
                folders[name] = tmp_path_factory.mktemp(f"{processor}-{name}")
                load(name).save_pretrained(folders[name] / "tokenizer")
                np.save(folders[name] / "wave.npy", speech(load(name), 20_011).numpy())
        script = ELSEWHERE.format(root=str(ROOT))
        environment = processors.masked_environment(processor)
        environment["PYTHONPATH"] = os.pathsep.join(part or str(ROOT) for part in sys.path)
        command = [sys.executable, "-c", script, *map(str, folders.values())]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return folders

    return run


@pytest.mark.slow
@pytest.mark.skipif(processors.cannot_mask() is not None, reason=str(processors.cannot_mask()))
@pytest.mark.parametrize("processor", processors.MASKS)
def test_older_processors_give_the_same_codes(tokenizer, processor, elsewhere):
    promise(tokenizer, "processors")
    tokens = tokenizer.encode(speech(tokenizer, 20_011), tokenizer.spec.sample_rate)
    with np.load(elsewhere(processor)[tokenizer.name] / "found.npz") as found:
        assert np.array_equal(found["codes"], tokens.codes)


@pytest.mark.slow
@pytest.mark.skipif(processors.cannot_mask() is not None, reason=str(processors.cannot_mask()))
@pytest.mark.parametrize("processor", processors.MASKS)
def test_older_processors_give_the_same_samples(tokenizer, processor, elsewhere):
    promise(tokenizer, "processors")
    promise(tokenizer, "processors-samples")
    tokens = tokenizer.encode(speech(tokenizer, 20_011), tokenizer.spec.sample_rate)
    with np.load(elsewhere(processor)[tokenizer.name] / "found.npz") as found:
        np.testing.assert_allclose(found["samples"], tokenizer.decode(tokens), rtol=0, atol=1e-6)


# --- 6. round trips ----------------------------------------------------------------------------


@pytest.mark.parametrize("compress", [False, True])
def test_container_round_trip(tokenizer, tmp_path, compress):
    promise(tokenizer, "round-trips")
    tokens = tokenizer.encode(speech(tokenizer, 9001), tokenizer.spec.sample_rate)
    write_tokens(tmp_path / "x.syl", tokens, compress=compress)
    assert read_tokens(tmp_path / "x.syl").equal(tokens)
    for part in (tokens.deduplicate(), tokens.frames(0, 0)):
        write_tokens(tmp_path / "y.syl", part, compress=compress)
        assert read_tokens(tmp_path / "y.syl").equal(part)


def test_streamed_container_is_the_same_file(tokenizer):
    promise(tokenizer, "round-trips")
    tokens = tokenizer.encode(speech(tokenizer, 30_000), tokenizer.spec.sample_rate)
    files = []
    for step in (1, 7, 10_000):
        file = io.BytesIO()
        with SylWriter(file, tokens.spec) as writer:
            for start in range(0, int(tokens.lengths), step):
                writer.write(tokens.frames(start, start + step))
        files.append(file.getvalue())
    assert files[0] == files[1] == files[2]
    reader = SylReader(io.BytesIO(files[0]))
    assert sum(chunk.codes.shape[1] for chunk in reader.chunks()) == int(tokens.lengths)
    assert reader.num_samples == 30_000


def test_save_and_load(tokenizer, tmp_path):
    promise(tokenizer, "round-trips")
    tokenizer.save_pretrained(tmp_path)
    loaded = type(tokenizer).from_pretrained(tmp_path)
    assert loaded.spec == tokenizer.spec
    wave = speech(tokenizer, 8000)
    tokens = tokenizer.encode(wave, tokenizer.spec.sample_rate)
    assert loaded.encode(wave, tokenizer.spec.sample_rate).equal(tokens)
    assert torch.equal(loaded.decode(tokens), tokenizer.decode(tokens))


def test_deduplicate_and_restore(tokenizer):
    promise(tokenizer, "round-trips")
    rate = tokenizer.spec.sample_rate
    batch = torch.zeros(2, rate)
    batch[0, : rate // 4] = speech(tokenizer, rate // 4)
    tokens = tokenizer.encode(batch, rate, [rate, rate // 2])
    merged = tokens.deduplicate()
    assert torch.equal(merged.num_frames, tokens.lengths)
    assert int(merged.lengths[1]) < int(tokens.lengths[1])
    assert merged.restore().equal(tokens)
    assert torch.equal(tokenizer.decode(merged), tokenizer.decode(tokens))


# --- 7. bad input ------------------------------------------------------------------------------

BAD_WAVES = {
    "rate": (lambda w, r: (w, r + 1, None), "Hz"),
    "nan": (lambda w, r: (w.index_fill(0, torch.tensor([5]), float("nan")), r, None), "NaN"),
    "infinity": (lambda w, r: (w.index_fill(0, torch.tensor([5]), float("inf")), r, None), "NaN"),
    "integers": (lambda w, r: ((w * 100).to(torch.int32), r, None), "full scale"),
    "shape": (lambda w, r: (w[None, None, None], r, None), "shape"),
    "channels": (lambda w, r: (w.expand(1, 2, -1), r, None), 'channels="mix"'),
    "list": (lambda w, r: (w.tolist(), r, None), "tensor"),
    "lengths": (lambda w, r: (w, r, [len(w) + 1]), "lengths"),
    "negative": (lambda w, r: (w, r, [-1]), "lengths"),
    "rows": (lambda w, r: (w, r, [1, 2]), "rows"),
    "one length": (lambda w, r: (w, r, 5), "lengths"),
    "fractions": (lambda w, r: (w, r, [5.5]), "lengths"),
    "table": (lambda w, r: (w, r, [[5]]), "lengths"),
    "objects": (lambda w, r: (w.numpy().astype(object), r, None), "float32"),
    "channels last": (lambda w, r: (w[:2000].view(1000, 2), r, None), "channels"),
    "text": (lambda w, r: (w.numpy().astype(str), r, None), "float32"),
}


def test_bad_waves(tokenizer):
    promise(tokenizer, "bad-input")
    good = speech(tokenizer, 4000)
    for case, (make, word) in BAD_WAVES.items():
        wave, rate, lengths = make(good, tokenizer.spec.sample_rate)
        try:
            tokenizer.encode(wave, rate, lengths)
        except WaveError as error:
            assert re.search(word, str(error)), f"{case}: {error}"
        else:
            pytest.fail(f"{case}: no error")


def test_bad_numbers_of_codebooks(tokenizer):
    promise(tokenizer, "bad-input")
    wave, rate = speech(tokenizer, 4000), tokenizer.spec.sample_rate
    for count in (0, -1, tokenizer.spec.tokens.num_codebooks + 1):
        with pytest.raises(TokenError, match="codebooks"):
            tokenizer.encode(wave, rate, num_codebooks=count)
        with pytest.raises(TokenError, match="codebooks"):
            tokenizer.stream(num_codebooks=count)


def test_bad_tokens(tokenizer):
    promise(tokenizer, "bad-input")
    tokens = tokenizer.encode(speech(tokenizer, 4000), tokenizer.spec.sample_rate)
    too_high, too_low = tokens.codes.clone(), tokens.codes.clone()
    too_high[0, 0, 0] = tokenizer.spec.tokens.codebook_sizes[0]
    too_low[0, -1, -1] = -1
    for codes in (too_high, too_low):
        with pytest.raises(TokenError, match="out of range"):
            tokenizer.decode(dataclasses.replace(tokens, codes=codes))
    with pytest.raises(TokenError, match="samples"):
        tokenizer.decode(dataclasses.replace(tokens, num_samples=tokens.num_samples + 10**6))
    with pytest.raises(TokenError, match="lengths"):
        tokenizer.decode(dataclasses.replace(tokens, lengths=tokens.lengths + 1))
    with pytest.raises(TokenError, match="integers"):
        dataclasses.replace(tokens, codes=tokens.codes.float())
    with pytest.raises(TokenError, match="shape"):
        dataclasses.replace(tokens, codes=tokens.codes[0])
    with pytest.raises(TokenError, match="expected Tokens"):
        tokenizer.decode(tokens.codes)


def test_tokens_of_another_tokenizer(tokenizer):
    promise(tokenizer, "bad-input")
    other = load("dmel-fine" if tokenizer.name != "dmel-fine" else "dmel")
    tokens = other.encode(speech(other, 4000), other.spec.sample_rate)
    with pytest.raises(TokenMismatchError, match=f"(?s){other.name}.*{tokenizer.name}"):
        tokenizer.decode(tokens)
    with pytest.raises(TokenMismatchError):
        tokenizer.stream().decode(tokens)
    own = tokenizer.encode(speech(tokenizer, 4000), tokenizer.spec.sample_rate)
    forged = dataclasses.replace(own.spec, codebook_sizes=(2**20,) * own.spec.num_codebooks)
    with pytest.raises(TokenMismatchError):
        tokenizer.decode(dataclasses.replace(own, spec=forged))


def test_nothing_follows_a_frame_that_was_cut_short(tokenizer):
    promise(tokenizer, "bad-input")
    hop = tokenizer.spec.tokens.hop
    tokens = tokenizer.encode(speech(tokenizer, hop + 1), tokenizer.spec.sample_rate)
    session = tokenizer.stream()
    session.decode(tokens)
    with pytest.raises(TokenError, match="ended already"):
        session.decode(tokens)


def test_ended_streams(tokenizer):
    promise(tokenizer, "bad-input")
    wave = speech(tokenizer, 4000)
    with tokenizer.stream() as session:
        session.encode(wave, final=True)
        with pytest.raises(WaveError, match="ended"):
            session.encode(wave)
    with pytest.raises(WaveError, match="ended"):
        session.decode(tokenizer.encode(wave, tokenizer.spec.sample_rate))
    with pytest.raises(WaveError, match="rows"):
        tokenizer.stream(batch_size=2).encode(wave)
    with pytest.raises(WaveError, match="batch_size"):
        tokenizer.stream(batch_size=0)


def test_a_changed_checkpoint_is_refused(tokenizer, tmp_path):
    promise(tokenizer, "bad-input")
    tokenizer.save_pretrained(tmp_path)
    config = tmp_path / "config.json"
    config.write_text(config.read_text().replace(tokenizer.spec.tokens.digest, "0" * 64))
    with pytest.raises(CheckpointError, match="digest"):
        type(tokenizer).from_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"nonsense")
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        type(tokenizer).from_pretrained(tmp_path)
    config.unlink()
    with pytest.raises(CheckpointError, match=r"config\.json"):
        type(tokenizer).from_pretrained(tmp_path)


# --- 8. rows that come, go and move ------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1])
def test_reset_pause_and_migration_in_the_middle_give_the_offline_codes(tokenizer, seed):
    promise(tokenizer, "streaming-equality")
    can_move = "migration" not in tokenizer.spec.broken_promises
    walk = RandomWalk(tokenizer, rows=2, seed=seed, move=can_move)
    walk.run(8)
    assert walk.compared


def test_machines_are_as_new_for_a_row_that_has_ended(tokenizer):
    promise(tokenizer, "streaming-equality")
    hop, kept = tokenizer.spec.tokens.hop, tokenizer.spec.tokens.num_codebooks
    wave = speech(tokenizer, 7 * hop + 5)
    offline = tokenizer.encode(wave, tokenizer.spec.sample_rate)
    encoder, decoder = tokenizer.start_encoder(2, kept), tokenizer.start_decoder(2)
    nothing, no_codes = wave[:0], offline.codes[0, :, :0]
    with torch.no_grad():
        for _ in range(2):
            codes = encoder.push([wave[: 2 * hop + 7], wave[:hop]], [False, False])[0]
            rest = encoder.push([wave[2 * hop + 7 :], nothing], [True, False])[0]
            assert torch.equal(torch.cat([codes, rest], 1), offline.codes[0])
            pcm = decoder.push([offline.codes[0, :, :3], offline.codes[0, :, :2]], [False, False])
            end = decoder.push([offline.codes[0, :, 3:], no_codes], [True, False])
            whole = torch.cat([pcm[0], end[0]])
            assert torch.equal(whole[: len(wave)], tokenizer.decode(offline)[0])
            for machine, empty in ((encoder, nothing), (decoder, no_codes)):
                given = machine.push([empty, empty], [True, False])
                assert [part.numel() for part in given] == [0, 0]


def test_the_state_of_a_row_moves_to_another_session(tokenizer):
    promise(tokenizer, "migration")
    wave = speech(tokenizer, 9 * tokenizer.spec.tokens.hop + 5)
    offline = tokenizer.encode(wave, tokenizer.spec.sample_rate)
    here, there = tokenizer.stream(batch_size=2), tokenizer.stream()
    half = len(wave) // 2
    first = here.encode(torch.stack([torch.zeros(half), wave[:half]]))
    pcm = [here.decode(first)[1:, : here.samples_out[1]]]
    state = here.export_row(1)
    assert here.export_row(1) == state
    there.import_row(0, state)
    assert there.export_row(0) == state
    pcm.append(there.decode(there.encode(wave[half:])))
    end = there.flush()
    assert torch.equal(torch.cat([*pcm, end.wave], 1), tokenizer.decode(offline))
    assert there.samples_in == [len(wave)] and there.frames_out == offline.lengths.tolist()


def test_states_that_do_not_move_are_refused_and_change_nothing(tokenizer):
    session = tokenizer.stream()
    session.decode(session.encode(speech(tokenizer, 3000)))
    if reason := tokenizer.spec.broken_promises.get("migration"):
        for call in (session.export_row, lambda row: session.import_row(row, b"")):
            with pytest.raises(StateError, match=reason):
                call(0)
        return
    state = session.export_row(0)
    other = load("dmel-fine" if tokenizer.name != "dmel-fine" else "dmel").stream()
    with pytest.raises(StateError, match=rf"of '{tokenizer.name}'.*not of this 'dmel"):
        other.import_row(0, state)
    for wrong in (b"", b"no state", state[:-1], state[: len(state) // 2], state + b"x"):
        with pytest.raises(StateError):
            session.import_row(0, wrong)
    for place in range(8, len(state), max(1, len(state) // 50)):
        flipped = bytearray(state)
        flipped[place] ^= 4
        with pytest.raises(StateError, match="damaged"):
            session.import_row(0, bytes(flipped))
    assert session.export_row(0) == state


# --- 9. identity -------------------------------------------------------------------------------


class Holder(torch.nn.Module):
    """A model that a tokenizer is a part of."""

    def __init__(self, tokenizer: syllabary.AudioTokenizer) -> None:
        super().__init__()
        self.tokenizer = tokenizer


def answers(tokenizer: syllabary.AudioTokenizer) -> tuple[syllabary.Tokens, torch.Tensor]:
    """Codes of some speech, and the samples of those codes."""
    hop = tokenizer.spec.tokens.hop
    tokens = tokenizer.encode(speech(tokenizer, 9 * hop + 5), tokenizer.spec.sample_rate)
    return tokens, tokenizer.decode(tokens)


def check_same(tokenizer, expected) -> None:
    tokens, wave = answers(tokenizer)
    assert tokens.equal(expected[0])
    assert torch.equal(wave, expected[1])


def scaled(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {k: 1.05 * v if v.is_floating_point() else v.clone() for k, v in state.items()}


def in_place(tokenizer, name, tensor):
    with torch.no_grad():
        tensor.add_(0.01)


def through_data(tokenizer, name, tensor):
    tensor.data.mul_(1.01)


def other_data(tokenizer, name, tensor):
    tensor.data = tensor.data * 1.01


def through_numpy(tokenizer, name, tensor):
    values = tensor.detach().numpy()
    values *= 1.01


def in_inference_mode(tokenizer, name, tensor):
    with torch.inference_mode():
        tensor.mul_(1.01)


def by_an_optimizer(tokenizer, name, tensor):
    tensor.grad = torch.ones_like(tensor)
    torch.optim.SGD([tensor], lr=0.01).step()
    tensor.grad = None


def by_state(tokenizer, name, tensor):
    tokenizer.load_state_dict({name: tensor * 1.01}, strict=False)


def by_a_holders_state(tokenizer, name, tensor):
    Holder(tokenizer).load_state_dict({f"tokenizer.{name}": tensor * 1.01}, strict=False)


def by_a_parts_state(tokenizer, name, tensor):
    place, _, last = name.rpartition(".")
    tokenizer.get_submodule(place).load_state_dict({last: tensor * 1.01}, strict=False)


def assigned(tokenizer, name, tensor):
    tokenizer.load_state_dict({name: tensor.detach() * 1.01}, strict=False, assign=True)


def by_a_parts_apply(tokenizer, name, tensor):
    place, _, _ = name.rpartition(".")
    tokenizer.get_submodule(place)._apply(lambda each: each * 1.01 if each is tensor else each)


WAYS = (
    in_place, through_data, other_data, through_numpy, in_inference_mode, by_an_optimizer,
    by_state, by_a_holders_state, by_a_parts_state, assigned, by_a_parts_apply,
)  # fmt: skip


def largest(tokenizer, names) -> str | None:
    state = tokenizer.state_dict()
    floating = [name for name in names if state[name].is_floating_point()]
    return max(floating, key=lambda name: state[name].numel(), default=None)


def tensor_of(tokenizer, name) -> torch.Tensor:
    return dict((*tokenizer.named_parameters(), *tokenizer.named_buffers()))[name]


#: On which each way and each setting is tried: what tells them apart is no tokenizer's own code.
SOME = [
    name
    for name in ("tiny-rvq", "tiny-content-units", "tiny-mfcc-units", "tiny-encodec")
    if name in NAMES
]


@pytest.mark.parametrize(
    "name, way",
    [(name, in_place) for name in NAMES] + [(name, way) for name in SOME for way in WAYS[1:]],
)
def test_a_changed_weight_is_another_digest_and_old_tokens_are_refused(name, way):
    tokenizer = load(name)
    promise(tokenizer, "identity")
    changed = copy.deepcopy(tokenizer)
    meaning = changed.token_tensors().keys()
    name = largest(changed, meaning) or largest(changed, changed.state_dict())
    if name is None:
        pytest.skip(f"{tokenizer.name} has no weights")
    tokens, _ = answers(changed)
    full = changed.full_digest
    way(changed, name, tensor_of(changed, name))
    assert changed.full_digest != full
    if name not in meaning:
        assert changed.spec == tokenizer.spec  # other sound of the same tokens
        return
    assert changed.spec.tokens.digest != tokens.spec.digest
    assert changed.spec.tokens.tokenizer != tokens.spec.tokenizer
    with pytest.raises(TokenMismatchError):
        changed.decode(tokens)
    with pytest.raises(TokenMismatchError), changed.stream() as session:
        session.decode(tokens)


def test_what_runs_are_the_weights_that_are_there(tokenizer, tmp_path):
    """Loaded after use, by a module that holds it; as ones that were there from the start."""
    promise(tokenizer, "identity")
    new = scaled(tokenizer.state_dict())
    fresh, used = copy.deepcopy(tokenizer), copy.deepcopy(tokenizer)
    fresh.load_state_dict(new)
    answers(used)
    Holder(used).load_state_dict({f"tokenizer.{name}": value for name, value in new.items()})
    expected = answers(fresh)
    check_same(used, expected)
    used.save_pretrained(tmp_path)
    loaded = syllabary.load(tmp_path)
    assert loaded.spec == used.spec
    check_same(loaded, expected)
    used.load_state_dict(tokenizer.state_dict())
    assert used.spec == tokenizer.spec
    check_same(used, answers(tokenizer))


def test_an_open_stream_does_not_go_on_with_other_weights(tokenizer):
    promise(tokenizer, "identity")
    changed = copy.deepcopy(tokenizer)
    name = largest(changed, changed.state_dict())
    if name is None:
        pytest.skip(f"{tokenizer.name} has no weights")
    wave = speech(tokenizer, 4 * tokenizer.spec.tokens.hop)
    session = changed.stream()
    session.decode(session.encode(wave))
    torch.nn.ModuleList([changed]).share_memory()  # moves the weights, and no more
    session.decode(session.encode(wave))
    in_place(changed, name, tensor_of(changed, name))
    for call in (lambda: session.encode(wave), lambda: session.export_row(0), session.flush):
        with pytest.raises(StateError, match="weights"):
            call()


def copies(tokenizer):
    yield pickle.loads(pickle.dumps(tokenizer))
    yield pickle.loads(ForkingPickler.dumps(tokenizer))  # for a worker that is spawned
    yield copy.copy(tokenizer)
    yield copy.deepcopy(tokenizer)
    yield pickle.loads(pickle.dumps(Holder(tokenizer))).tokenizer


def test_copies_of_a_used_tokenizer_give_its_codes_and_so_does_it(tokenizer):
    promise(tokenizer, "identity")
    used = copy.deepcopy(tokenizer)
    expected = answers(used)
    for copied in copies(used):
        # Memory that was freed under what is still at work would be overwritten.
        rubbish = [np.full(size, np.nan, np.float32) for size in (512, 4096, 16384, 65536) * 20]
        assert copied.spec == used.spec and copied.training == used.training
        assert [*copied.state_dict()] == [*used.state_dict()]
        check_same(copied, expected)
        check_same(used, expected)
        del rubbish


def test_a_pickle_takes_no_shared_memory_and_moves_no_weight(tokenizer):
    """A fork server passes on 256 files, and torch would take one for each tensor."""
    promise(tokenizer, "identity")
    used = copy.deepcopy(tokenizer)
    before = [tensor.data_ptr() for tensor in used.state_dict().values()]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.UntypedStorage, "_share_fd_cpu_", None)
        ForkingPickler.dumps(Holder(used))
    assert [tensor.data_ptr() for tensor in used.state_dict().values()] == before


CASTS = {
    "half": lambda module: module.half(),
    "bfloat16": lambda module: module.bfloat16(),
    "double": lambda module: module.double(),
    "to": lambda module: module.to(torch.float16),
    "type": lambda module: module.type(torch.bfloat16),
    "there and back": lambda module: module.half().float(),
    "train": lambda module: module.train(),
    "share": lambda module: module.share_memory(),
    "frozen": lambda module: module.requires_grad_(False),
}


def test_casts_and_modes_change_no_code(tokenizer):
    promise(tokenizer, "identity")
    expected = answers(tokenizer)
    for held in (False, True):
        used = copy.deepcopy(tokenizer)
        module = Holder(used) if held else used
        for cast in CASTS.values():
            cast(module)
            check_same(used, expected)


def test_a_part_that_was_cast_is_an_error(tokenizer):
    promise(tokenizer, "identity")
    for dtype in (torch.float16, torch.float64):
        used = copy.deepcopy(tokenizer)
        expected = answers(used)
        for part in used.children():
            part.to(dtype)
        try:
            check_same(used, expected)  # parts that keep their dtypes, or have none
        except WeightsError as error:
            assert "must stay" in str(error)
            assert tokenizer.name in repr(Holder(used))


def test_weights_without_values_are_an_error(tokenizer):
    promise(tokenizer, "identity")
    empty = copy.deepcopy(tokenizer).to("meta")
    with pytest.raises(WeightsError, match="meta"):
        empty.encode(np.zeros(100, np.float32), tokenizer.spec.sample_rate)


def test_constants_that_were_changed_are_an_error(tokenizer):
    """What no state dict has, and no digest tells."""
    promise(tokenizer, "identity")
    changed = copy.deepcopy(tokenizer)
    kept = changed.state_dict()
    for name, tensor in changed.named_buffers():
        ours = type(changed.get_submodule(name.rpartition(".")[0])).__module__
        if name in kept or not tensor.numel() or not ours.startswith("syllabary"):
            continue
        before = tensor.clone()
        with torch.no_grad():
            tensor.copy_(tensor.flatten().flip(0).reshape(tensor.shape) + 1)
        with pytest.raises(WeightsError, match=name):
            answers(changed)
        tensor.copy_(before)
    check_same(changed, answers(tokenizer))


@contextlib.contextmanager
def default_dtype(dtype):
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


SETTINGS = {
    "float64": lambda: default_dtype(torch.float64),
    "bfloat16": lambda: default_dtype(torch.bfloat16),
    "float16": lambda: default_dtype(torch.float16),
    "meta": lambda: torch.device("meta"),
    "inference mode": torch.inference_mode,
    "no gradients": torch.no_grad,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
}


def all_of_them():
    stack = contextlib.ExitStack()
    for name in ("float16", "meta", "autocast", "inference mode"):
        stack.enter_context(SETTINGS[name]())
    return stack


@pytest.mark.parametrize(
    "name, setting",
    [(name, "all") for name in NAMES] + [(name, each) for name in SOME for each in SETTINGS],
)
def test_loaded_and_used_under_other_defaults(name, setting):
    promise(load(name), "identity")
    expected = answers(load(name))
    wave = speech(load(name), 9 * load(name).spec.tokens.hop + 5)
    with all_of_them() if setting == "all" else SETTINGS[setting]():
        before = torch.get_default_dtype(), torch.get_default_device()
        tokenizer = syllabary.load(name)
        tokens = tokenizer.encode(wave, tokenizer.spec.sample_rate)
        decoded = tokenizer.decode(tokens)
        with tokenizer.stream() as session:
            first = session.encode(wave, final=True)
        assert before == (torch.get_default_dtype(), torch.get_default_device())
    assert tokens.equal(expected[0]) and first.equal(expected[0])
    assert torch.equal(decoded, expected[1])
    assert tokenizer.spec == load(name).spec
    check_same(tokenizer, expected)
    in_place_of_any(tokenizer)


def in_place_of_any(tokenizer):
    """Weights can be changed, and are followed, wherever they were loaded."""
    name = largest(tokenizer, tokenizer.state_dict())
    if name is not None:
        before = tokenizer.full_digest
        in_place(tokenizer, name, tensor_of(tokenizer, name))
        assert tokenizer.full_digest != before


# --- the spec ----------------------------------------------------------------------------------


def test_the_spec_says_what_a_user_must_know(tokenizer):
    spec = tokenizer.spec
    assert spec.tokens.tokenizer == tokenizer.name
    assert len(spec.tokens.digest) == 64
    assert spec.bitrate == spec.tokens.bitrate() > 0
    assert spec.latency_ms is None or spec.latency_ms >= 1000 / float(spec.frame_rate) - 1e-9
    assert spec.description and spec.source and spec.license
    tokens = tokenizer.encode(speech(tokenizer, 10 * spec.tokens.hop), spec.sample_rate)
    assert tokens.bitrate() == pytest.approx(spec.bitrate)


def test_unknown_names():
    with pytest.raises(UnknownTokenizerError, match="did you mean dmel"):
        syllabary.load("dmell")
    with pytest.raises(UnknownTokenizerError, match="syllabary list"):
        syllabary.load("no such thing at all")
    with pytest.raises(SyllabaryError, match="no field 'hop' in DMelConfig; there are: "):
        syllabary.load("dmel", hop=3)
