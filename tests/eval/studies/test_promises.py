"""Each promise is broken on purpose, and shows in its own column."""

import dataclasses
import os
from pathlib import PurePosixPath

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import syllabary
from syllabary.audio.files import read
from syllabary.audio.manifests import Utterance, collect
from syllabary.codecs.batches import check_codebooks
from syllabary.codecs.spec import TokenizerSpec, TokenSpec
from syllabary.codecs.streaming import StreamSession
from syllabary.codecs.windowed import StatelessDecoder, WindowEncoder
from syllabary.eval.metrics.interface import MetricError
from syllabary.eval.studies import other_processors, promises
from syllabary.eval.studies.interface import Bench
from syllabary.eval.studies.other_processors import saved, work
from syllabary.eval.studies.promise_checks import CHECKS, compare_samples, compare_tokens, split
from syllabary.eval.systems import catalogue
from syllabary.eval.systems.tokenizers import TokenizerSystem
from syllabary.kernels.processors import MASKS, cannot_mask

from ...conftest import synthetic_speech

HOP, SIZE = 160, 64
COLUMNS = [check.name for check in CHECKS]


@dataclasses.dataclass(frozen=True)
class LoudnessConfig:
    hop: int = HOP


class Loudness(syllabary.AudioTokenizer):
    """The loudness of each half of a frame: it keeps every promise."""

    family = "loudness"
    Config = LoudnessConfig
    learned = 0

    def __init__(self, config=None, name=None):
        super().__init__(config or LoudnessConfig(), name)

    def describe(self):
        return TokenizerSpec(
            tokens=self.token_spec(HOP, [SIZE] * 2, 16000),
            family=self.family,
            causal=True,
            encoder_latency=HOP,
            decoder_latency=0,
            min_codebooks=1,
            parameters=0,
            macs_per_second=HOP,
            license="Apache-2.0",
            source="a test",
            description="loudness",
        )

    def start_encoder(self, batch_size, num_codebooks):
        def encode(windows):
            loud = windows.view(-1, 2, HOP // 2).double().abs().mean(-1)
            codes = (loud.sqrt() * SIZE).long() + self.learned
            return codes.clamp(0, SIZE - 1)[:, :num_codebooks]

        return WindowEncoder(
            encode,
            batch_size=batch_size,
            hop=HOP,
            window=HOP,
            before=0,
            tile=16,
            num_codebooks=num_codebooks,
            device=self.device,
        )

    def start_decoder(self, batch_size):
        def decode(codes):
            loud = codes.float().mean(-1, keepdim=True) / SIZE
            return (loud * loud).expand(-1, HOP)

        return StatelessDecoder(decode, num_codebooks=2, hop=HOP, tile=16, device=self.device)


class Shifting(Loudness):
    """Adds `shift` to every code."""

    family = "shifting"

    def shift(self, wave, lengths):
        return 0

    def encode(self, wave, sample_rate, lengths=None, num_codebooks=None):
        tokens = super().encode(wave, sample_rate, lengths, num_codebooks)
        shift = self.shift(wave, lengths)
        return dataclasses.replace(tokens, codes=(tokens.codes + shift) % SIZE)


class WrongLength(Loudness):
    """A sample too many where a frame has just begun."""

    family = "wrong-length"

    def decode(self, tokens):
        wave = super().decode(tokens)
        more = int(tokens.num_samples.max()) % HOP == 1
        return torch.nn.functional.pad(wave, (0, 1)) if more else wave


class NotInBatches(Shifting):
    family = "not-in-batches"

    def shift(self, wave, lengths):
        return int(wave.ndim == 2 and len(wave) > 1)


class QuietInBatches(Loudness):
    family = "quiet-in-batches"

    def decode(self, tokens):
        return super().decode(tokens) * (0.5 if len(tokens) > 1 else 1)


class HearsPadding(Shifting):
    family = "hears-padding"

    def shift(self, wave, lengths):
        if lengths is None:
            return 0
        return (torch.tensor(lengths) < wave.shape[-1]).long()[:, None, None]


class Sometimes(HearsPadding):
    family = "sometimes"

    def shift(self, wave, lengths):
        few = lengths is not None and len(lengths) == 1 and lengths[0] <= 5007
        return super().shift(wave, lengths) if few and np.isnan(wave).any() else 0


class NotInStreams(Shifting):
    family = "not-in-streams"

    def shift(self, wave, lengths):
        return 1  # streams go around it


class QuietInStreams(Loudness):
    family = "quiet-in-streams"

    def stream(self, batch_size=1, num_codebooks=None):
        class Quiet(StreamSession):
            def decode(self, tokens, final=False):
                return super().decode(tokens, final) * 0.5

        return Quiet(self, batch_size, check_codebooks(num_codebooks, self.spec))


class CountsThreads(Shifting):
    family = "counts-threads"

    def shift(self, wave, lengths):
        return torch.get_num_threads() - 1


class AsksTheProcessor(Shifting):
    family = "asks-the-processor"

    def shift(self, wave, lengths):
        return int(os.environ.get("ATEN_CPU_CAPABILITY") == "default")


class LouderElsewhere(Loudness):
    family = "louder-elsewhere"

    def decode(self, tokens):
        return super().decode(tokens) * (1.0001 if "ATEN_CPU_CAPABILITY" in os.environ else 1)


class LooksAtTypes(Shifting):
    family = "looks-at-types"

    def shift(self, wave, lengths):
        return int(isinstance(wave, np.ndarray) and wave.dtype == np.float64)


class UnderAutocast(Shifting):
    family = "under-autocast"

    def shift(self, wave, lengths):
        return int(torch.is_autocast_enabled("cpu"))


class Counts(Shifting):
    """Never the same twice."""

    family = "counts"
    calls = 0

    def shift(self, wave, lengths):
        self.calls += 1
        return self.calls


class Tires(Counts):
    """The same for a while."""

    family = "tires"

    def shift(self, wave, lengths):
        return int(super().shift(wave, lengths) > 150)


class MoreThanFilesHold(TokenSpec):
    """Equal to its own kind only."""


class KeepsASecret(Loudness):
    family = "keeps-a-secret"

    def describe(self):
        spec = super().describe()
        return dataclasses.replace(spec, tokens=MoreThanFilesHold(**vars(spec.tokens)))


class Forgets(Loudness):
    """What is not in its configuration, nor in its weights."""

    family = "forgets"


class Stale(Loudness):
    """Says the same of itself whatever becomes of its weights."""

    family = "stale"
    said = None

    def __init__(self, config=None, name=None):
        super().__init__(config, name)
        self.gain = torch.nn.Parameter(torch.ones(3))

    def describe(self):
        self.said = self.said or super().describe()
        return self.said


class Elsewhere(Shifting):
    """Other codes in another process."""

    family = "elsewhere"
    here = True

    def __setstate__(self, state):
        super().__setstate__({**state, "here": False})

    def __deepcopy__(self, memo):
        return type(self)(self.config, self.name)

    def shift(self, wave, lengths):
        return int(not self.here)


BROKEN = {
    WrongLength: "length-law",
    NotInBatches: "batch",
    QuietInBatches: "batch-samples",
    HearsPadding: "padding",
    NotInStreams: "streaming",
    QuietInStreams: "streaming-samples",
    CountsThreads: "threads",
    AsksTheProcessor: "processors",
    LouderElsewhere: "processors-samples",
    LooksAtTypes: "dtype",
    UnderAutocast: "dtype",
    KeepsASecret: "container",
    Forgets: "save-load",
    Stale: "identity",
    Elsewhere: "identity",
}


@pytest.fixture(scope="module")
def items():
    return [Utterance(PurePosixPath(f"{n}.wav"), PurePosixPath(f"{n}.wav")) for n in range(14)]


@pytest.fixture(autouse=True)
def here(monkeypatch):
    """Other processes are slow: what they would do is done here, with their environment.

    This process has none of that environment, even if the whole suite runs as on another processor.
    """
    for name in set().union(*MASKS.values()):
        monkeypatch.delenv(name, raising=False)

    def run_as(processor, folder, tokenizer, num_codebooks):
        module, device = type(tokenizer).__module__, str(tokenizer.device)
        with monkeypatch.context() as context:
            for name, value in MASKS[processor].items():
                context.setenv(name, value)
            work(str(folder), str(num_codebooks), module, device)

    monkeypatch.setattr(other_processors, "run_as", run_as)


@pytest.fixture
def measure(items, tmp_path):
    waves = {str(n): synthetic_speech(5000 + 7 * n, n) for n in range(14)}

    def run(tokenizer, given="x", wave=None, items=items):
        found = promises.run(
            Bench(
                system=TokenizerSystem(given, tokenizer),
                items=items,
                everything=items,
                wave=wave or (lambda item: waves[item.path.stem]),
                reconstruction=lambda item: pytest.fail("not needed"),
                tokens=lambda item: pytest.fail("not needed"),
                folder=tmp_path / "bench",
            )
        )
        assert len({value.name for value in found.values}) == len(found.values)
        assert not list((tmp_path / "bench").iterdir())  # nothing is left behind
        return found, {value.name: value for value in found.values}

    return run


@pytest.mark.parametrize("given", ["x", "x:1"])
def test_one_that_keeps_them_all(measure, given):
    threads = torch.get_num_threads()
    found, values = measure(Loudness(), given)
    assert torch.get_num_threads() == threads
    assert not found.missing and not found.notes
    assert set(values) == {"all", *COLUMNS, *(f"{name}-parts" for name in COLUMNS)}
    assert all(value.value == 100 for value in values.values())
    assert values["all"].count == values["padding"].count == promises.UTTERANCES
    assert values["batch-samples"].count == promises.DECODED
    books = 1 if given == "x:1" else 2
    waves = [5000 + 7 * (n * 14 // 12) for n in range(12)]
    assert values["identity-parts"].count == 2 * values["padding-parts"].count
    assert values["padding-parts"].count == books * sum(-(-count // HOP) for count in waves)


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_promise_shows_in_its_column_only(measure, kind):
    tokenizer = kind()
    if kind is Forgets:
        tokenizer.learned = 3
    found, values = measure(tokenizer)
    assert not found.missing
    wrong = {name for name in COLUMNS if values[name].value < 100}
    assert wrong == {BROKEN[kind]}
    assert values["all"].value < 100
    assert any(note.startswith(f"{BROKEN[kind]}: not kept on ") for note in found.notes)
    parts = {name for name in COLUMNS if values[f"{name}-parts"].value < 100}
    # What a file loses here is not in the codes.
    assert parts == ({BROKEN[kind]} if kind is not KeepsASecret else set())


def test_codes_that_change_from_run_to_run_count_once(measure):
    found, values = measure(Counts())
    assert values["determinism"].value == 0 and values["all"].value == 0
    assert set(found.missing) >= set(COLUMNS) - {"determinism"}
    assert set(found.missing.values()) == {"its codes differ from run to run"}
    assert not set(found.missing) & set(values)


def test_codes_that_change_later_count_once(measure):
    """Whatever check runs into it first."""
    tokenizer = Tires()
    _, values = measure(tokenizer)
    assert tokenizer.calls > 160
    assert values["determinism"].value < 100
    others = [values[name].value for name in COLUMNS if name in values and name != "determinism"]
    assert set(others) <= {100}


def test_some_utterances_only(measure, items):
    found, values = measure(Sometimes())
    assert values["padding"].value == pytest.approx(100 * 10 / 12)
    assert values["all"].value == pytest.approx(100 * 10 / 12)
    assert 80 < values["padding-parts"].value < 90
    assert found.notes == ["padding: not kept on 0.wav, 1.wav"]


def test_failures_are_no_scores(measure):
    class Fails(Loudness):
        family = "fails"

        def stream(self, batch_size=1, num_codebooks=None):
            raise RuntimeError("it has no streams")

        def save_pretrained(self, directory):
            raise OSError("it can't be saved")

    found, values = measure(Fails())
    assert found.missing["streaming"] == "RuntimeError: it has no streams"
    for name in ("save-load-parts", "processors", "processors-samples-parts"):
        assert found.missing[name] == "OSError: it can't be saved"
    assert not {"streaming", "streaming-samples", "save-load"} & set(values)
    assert values["all"].value == 0  # what could not be tried was not kept
    assert (
        "streaming: failed on 12 of 12 utterances: RuntimeError: it has no streams" in found.notes
    )


def test_a_failure_on_some_is_counted_and_named(measure):
    class Fails(Loudness):
        family = "fails-on-long"

        def encode(self, wave, sample_rate, lengths=None, num_codebooks=None):
            if lengths is not None and len(lengths) == 1 and lengths[0] > 5080:
                raise RuntimeError("too long to be padded")
            return super().encode(wave, sample_rate, lengths, num_codebooks)

    found, values = measure(Fails())
    assert values["padding"].count == 11 and values["padding"].value == 100
    assert (
        "padding: failed on 1 of 12 utterances: RuntimeError: too long to be padded" in found.notes
    )


def test_unreadable_utterances_are_named(measure, items):
    def wave(item):
        if item.path.stem == "0":
            raise OSError("damaged")
        return synthetic_speech(4000)

    found, values = measure(Loudness(), wave=wave)
    assert values["all"].count == 11 and found.notes == ["0.wav can't be used: OSError: damaged"]
    with pytest.raises(MetricError, match=r"0\.wav can't be used"):
        measure(Loudness(), wave=wave, items=items[:1])
    with pytest.raises(MetricError, match="no utterances"):
        measure(Loudness(), items=[])


def test_declared_ones_are_measured_too(measure):
    class Declares(CountsThreads):
        family = "declares"

        def describe(self):
            reasons = {"determinism": "it counts threads", "migration": "no state"}
            return dataclasses.replace(super().describe(), broken_promises=reasons)

    found, values = measure(Declares())
    assert values["threads"].value == 0 and values["determinism"].value == 100
    assert found.notes[-2:] == [
        "declares that it can't keep determinism (threads, dtype, determinism): it counts threads",
        "declares that it can't keep migration: no state",
    ]


def test_where_no_process_can_be_held_to_another_processor(measure, monkeypatch):
    """It is missing with the reason; nothing is counted, and the other promises are."""
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    found, values = measure(Loudness())
    assert values["all"].value == 100 and not found.notes
    assert "another kind, aarch64" in found.missing["processors"]
    assert "another kind, aarch64" in found.missing["processors-samples-parts"]
    assert not any(name.startswith("processors") for name in values)


@pytest.mark.slow
@pytest.mark.skipif(cannot_mask() is not None, reason=str(cannot_mask()))
def test_other_processes_are_held_to_processors(monkeypatch, tmp_path):
    """One whose class the package does not know, and one that another process can't find."""
    monkeypatch.undo()
    wave = synthetic_speech(4000)
    with saved(AsksTheProcessor(), tmp_path) as there:
        here = there.tokenizer.encode(wave, 16000)
        assert there.encode("avx2", [wave, wave[:900]], 2)[0].equal(here)
        (shifted,) = there.encode("sse4.2", [wave], 2)
        assert torch.equal(shifted.codes, (here.codes + 1) % SIZE)
        (decoded,) = there.decode("avx2", [here])
        assert torch.equal(decoded, there.tokenizer.decode(here)[0])
    assert not list(tmp_path.iterdir())

    class Local(Loudness):
        family = "local"

    with saved(Local(), tmp_path) as there, pytest.raises(RuntimeError, match=r"as on avx2.*local"):
        there.encode("avx2", [wave], 2)


def test_others_promise_nothing(tmp_path):
    assert "not a tokenizer" in promises.STUDY.unsuitable(catalogue.find("noise"))
    assert promises.STUDY.unsuitable(TokenizerSystem("x", Loudness())) is None
    bench = Bench(catalogue.find("noise"), [], [], None, None, None, tmp_path)
    with pytest.raises(MetricError, match="not a tokenizer"):
        promises.run(bench)


@given(total=st.integers(0, 500), seed=st.integers(0, 99))
def test_split(total, seed):
    pieces = split(total, np.random.default_rng(seed))
    assert sum(pieces) == total and min(pieces) >= 0 and 2 <= len(pieces) <= 12
    assert total == 0 or min(pieces) <= 1


def test_comparing():
    tokens = Loudness().encode(synthetic_speech(1600), 16000)
    shorter = tokens.frames(0, 7)
    assert compare_tokens(tokens, tokens) == promises.Compared(True, 20, 20)
    assert compare_tokens(shorter, tokens) == promises.Compared(False, 14, 20)
    assert compare_tokens(tokens, tokens.keep_codebooks(1)) == promises.Compared(False, 10, 20)
    wave = torch.arange(5.0)
    assert compare_samples(wave[:3], wave) == promises.Compared(False, 3, 5)
    assert compare_samples(wave, wave) == promises.Compared(True, 5, 5)


def test_real_speech(speech_folder, measure):
    chosen = collect([speech_folder], "test")[::90]
    tokenizer = syllabary.load("rvq-16k")
    found, values = measure(
        tokenizer, "rvq-16k:4", lambda item: read(item.path, 16000, "mix")[0], chosen
    )
    assert not found.missing and not found.notes
    assert all(value.value == 100 for value in values.values())
