"""The checks of the promises: each changes one condition, and compares the results.

Each compares with the codes of the utterance alone, in float32, on one thread; rows of a batch are
compared with the same row alone with the same padding. So a broken promise shows only in its own
check.
"""

import copy
import dataclasses
import pickle
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from ...codecs.container import read_tokens, write_tokens
from ...codecs.interface import AudioTokenizer
from ...codecs.registry import load
from ...codecs.tokens import Tokens
from ...cores import torch_threads
from ...errors import TokenMismatchError
from ...kernels.processors import MASKS, cannot_mask
from .other_processors import saved

_BATCH = 4  # rows
_PIECES = 12  # longest stream
_CLOSE = 1e-6  # tolerance of samples on other processors


@dataclass(frozen=True, eq=False)
class Case:
    """An utterance with its tokens and, for some utterances, its samples decoded alone."""

    index: int
    name: str
    wave: np.ndarray
    tokens: Tokens
    decoded: torch.Tensor | None


@dataclass(frozen=True)
class Compared:
    """Equal parts (codes, samples or lengths), and whether the whole utterance is equal."""

    kept: bool
    same: int
    total: int


@dataclass(frozen=True, eq=False)
class Subject:
    """The tokenizer under test."""

    tokenizer: AudioTokenizer
    num_codebooks: int
    folder: Path
    seed: int

    @property
    def rate(self) -> int:
        return self.tokenizer.spec.sample_rate

    def encode(
        self, wave: np.ndarray | torch.Tensor, lengths: Sequence[int] | None = None
    ) -> Tokens:
        return self.tokenizer.encode(wave, self.rate, lengths, self.num_codebooks)

    def random(self, case: Case, purpose: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, case.index, purpose])


@dataclass(frozen=True)
class Check:
    """A column of the table of promises.

    Attributes:
        name, heading: of the column.
        promise: of the interface, as in `PROMISES`.
        compare: returns a result for each of the cases.
        group: number of cases per call; None: all.
        parts: what is counted within an utterance.
        decodes: needs cases with samples.
        impossible: returns why it can't be checked here, or None.
    """

    name: str
    heading: str
    promise: str
    compare: Callable[[Subject, Sequence[Case]], list[Compared]]
    group: int | None = 1
    parts: str = "codes"
    decodes: bool = False
    impossible: Callable[[], str | None] = lambda: None


# --- the checks ---------------------------------------------------------------------------------


def lengths_hold(subject: Subject, cases: Sequence[Case]) -> list[Compared]:
    """Lengths of the utterance, and of prefixes near whole frames: ceil(n / hop) frames, n
    samples.
    """
    hop = subject.tokenizer.spec.tokens.hop
    results = []
    for case in cases:
        some = max(1, round(0.3 * subject.rate / hop)) * hop
        right = [_counts_hold(subject, case.tokens, len(case.wave))]
        if case.decoded is not None:
            right.append(tuple(case.decoded.shape) == (1, len(case.wave)))
        for count in {0, 1, some - 1, some, some + 1}:
            if count > len(case.wave):
                continue
            tokens = subject.encode(case.wave[:count])
            holds = _counts_hold(subject, tokens, count)
            if holds:
                wave = subject.tokenizer.decode(tokens)
                holds = tuple(wave.shape) == (1, count) and bool(wave.isfinite().all())
            right.append(holds)
        results.append(Compared(all(right), sum(right), len(right)))
    return results


def _counts_hold(subject: Subject, tokens: Tokens, count: int) -> bool:
    frames = subject.tokenizer.spec.tokens.frames_for(count)
    return (
        tuple(tokens.codes.shape) == (1, subject.num_codebooks, frames)
        and tokens.lengths.tolist() == [frames]
        and tokens.num_samples.tolist() == [count]
    )


def batch_holds(subject: Subject, cases: Sequence[Case]) -> list[Compared]:
    """Encode in a batch with other lengths; compare with the row alone with the same zero
    padding.
    """
    counts = [len(case.wave) for case in cases]
    batch = np.zeros((len(cases), max(counts)), np.float32)
    for row, case in enumerate(cases):
        batch[row, : counts[row]] = case.wave
    together = subject.encode(batch, counts)
    results = []
    for row, count in enumerate(counts):
        alone = subject.encode(batch[row : row + 1], [count])
        results.append(compare_tokens(_trimmed(together[row]), alone))
    return results


def batch_samples_hold(subject: Subject, cases: Sequence[Case]) -> list[Compared]:
    """Decode in a batch with other lengths; compare with decoding alone."""
    waves = subject.tokenizer.decode(Tokens.batch([case.tokens for case in cases]))
    return [
        compare_samples(wave[: len(case.wave)], _decoded(case)[0])
        for wave, case in zip(waves, cases, strict=True)
    ]


def padding_holds(subject: Subject, cases: Sequence[Case]) -> list[Compared]:
    """Append 0.15 s of loud noise and 0.15 s of NaN beyond the length."""
    results = []
    for case in cases:
        half = round(0.15 * subject.rate)
        noise = 10 * subject.random(case, 1).standard_normal(half)
        padded = np.concatenate([case.wave, noise, np.full(half, np.nan)]).astype(np.float32)
        found = subject.encode(padded[None], [len(case.wave)])
        results.append(compare_tokens(_trimmed(found), case.tokens))
    return results


def streaming_holds(subject: Subject, cases: Sequence[Case]) -> list[Compared]:
    """Encode in random chunks, some of them empty or of one sample."""
    results = []
    for case in cases:
        wave = torch.from_numpy(case.wave)
        pieces = split(len(wave), subject.random(case, 2))
        with subject.tokenizer.stream(num_codebooks=subject.num_codebooks) as session:
            parts = [session.encode(piece) for piece in wave.split(pieces)]
            last = session.flush().tokens
        found = Tokens.concat(parts if last is None else [*parts, last])
        results.append(compare_tokens(found, case.tokens))
    return results


def streaming_samples_hold(subject: Subject, cases: Sequence[Case]) -> list[Compared]:
    """Decode in random chunks of frames."""
    results = []
    for case in cases:
        start, waves = 0, []
        with subject.tokenizer.stream(num_codebooks=subject.num_codebooks) as session:
            for count in split(int(case.tokens.lengths[0]), subject.random(case, 3)):
                waves.append(session.decode(case.tokens.frames(start, start + count))[0])
                start += count
            last = session.flush().wave
        found = torch.cat(waves if last is None else [*waves, last[0]])
        results.append(compare_samples(found, _decoded(case)[0]))
    return results


def threads_hold(subject: Subject, cases: Sequence[Case]) -> list[Compared]:
    """Encode with two threads; compare with one."""
    with torch_threads(2):
        return [compare_tokens(subject.encode(case.wave), case.tokens) for case in cases]


def dtypes_hold(subject: Subject, cases: Sequence[Case]) -> list[Compared]:
    """Encode a tensor, float64, and under bfloat16 autocast."""
    results = []
    for case in cases:
        found = [
            subject.encode(torch.from_numpy(case.wave)),
            subject.encode(case.wave.astype(np.float64)),
        ]
        with torch.autocast(subject.tokenizer.device.type, torch.bfloat16):
            found.append(subject.encode(case.wave))
        results.append(all_of([compare_tokens(tokens, case.tokens) for tokens in found]))
    return results


def processors_hold(subject: Subject, cases: Sequence[Case]) -> list[Compared]:
    """Encode on older processors; compare with the tokenizer loaded from the same folder here."""
    results: list[list[Compared]] = [[] for _ in cases]
    kept, waves = subject.num_codebooks, [case.wave for case in cases]
    with saved(subject.tokenizer, subject.folder) as there:
        rate = there.tokenizer.spec.sample_rate
        here = [there.tokenizer.encode(wave, rate, num_codebooks=kept) for wave in waves]
        for name in MASKS:
            found = there.encode(name, waves, kept)
            for tokens, expected, result in zip(found, here, results, strict=True):
                # Fields of a spec that files do not contain are tested by another promise.
                tokens = dataclasses.replace(tokens, spec=expected.spec)
                result.append(compare_tokens(tokens, expected))
    return [all_of(result) for result in results]


def processors_samples_hold(subject: Subject, cases: Sequence[Case]) -> list[Compared]:
    """Decode on older processors, with a tolerance of a millionth of full scale."""
    results: list[list[Compared]] = [[] for _ in cases]
    with saved(subject.tokenizer, subject.folder) as there:
        kept, rate = subject.num_codebooks, there.tokenizer.spec.sample_rate
        given = [there.tokenizer.encode(case.wave, rate, num_codebooks=kept) for case in cases]
        here = [there.tokenizer.decode(tokens)[0].cpu() for tokens in given]
        for name in MASKS:
            found = there.decode(name, given)
            for wave, expected, result in zip(found, here, results, strict=True):
                result.append(compare_samples(wave, expected, _CLOSE))
    return [all_of(result) for result in results]


def runs_hold(subject: Subject, cases: Sequence[Case]) -> list[Compared]:
    """Encode again."""
    return [compare_tokens(subject.encode(case.wave), case.tokens) for case in cases]


def container_holds(subject: Subject, cases: Sequence[Case]) -> list[Compared]:
    """Write and read a `.syl` file, bit-packed and entropy-coded."""
    results = []
    with tempfile.TemporaryDirectory(prefix="promises-", dir=subject.folder) as scratch:
        for case in cases:
            found = []
            for compress in (False, True):
                path = Path(scratch, f"{case.index}.syl")
                write_tokens(path, case.tokens, compress=compress)
                found.append(compare_tokens(read_tokens(path), case.tokens))
            results.append(all_of(found))
    return results


def saving_holds(subject: Subject, cases: Sequence[Case]) -> list[Compared]:
    """Encode with the tokenizer after `save_pretrained` and `load`."""
    with tempfile.TemporaryDirectory(prefix="promises-", dir=subject.folder) as scratch:
        subject.tokenizer.save_pretrained(scratch)
        loaded = load(scratch, str(subject.tokenizer.device))
        again = Subject(loaded, subject.num_codebooks, subject.folder, subject.seed)
        return [compare_tokens(again.encode(case.wave), case.tokens) for case in cases]


def identity_holds(subject: Subject, cases: Sequence[Case]) -> list[Compared]:
    """Encode with a pickled copy, and with one in a module that was cast; tokens are refused with
    other weights.
    """
    copied = pickle.loads(pickle.dumps(subject.tokenizer))
    cast, other = copy.deepcopy(subject.tokenizer), copy.deepcopy(subject.tokenizer)
    torch.nn.ModuleList([cast]).to(torch.bfloat16)
    others = [replace(subject, tokenizer=each) for each in (copied, cast)]
    changed = _change_a_weight(other)
    results = []
    for case in cases:
        found = [compare_tokens(each.encode(case.wave), case.tokens) for each in others]
        if changed:
            found.append(_refused(other, case.tokens))
        results.append(all_of(found))
    return results


@torch.no_grad()
def _change_a_weight(tokenizer: AudioTokenizer) -> bool:
    """Change a weight that affects codes; return whether there is one."""
    meant = tokenizer.token_tensors()
    for name, tensor in tokenizer.state_dict().items():
        if name in meant and tensor.is_floating_point() and tensor.numel():
            tensor.mul_(1.01).add_(0.01)
            return True
    return False


def _refused(tokenizer: AudioTokenizer, tokens: Tokens) -> Compared:
    try:
        tokenizer.decode(tokens)
    except TokenMismatchError:
        return Compared(True, 1, 1)
    return Compared(False, 0, 1)


_STREAMING, _ROUND, _SAME = "streaming-equality", "round-trips", "determinism"
DETERMINISM = Check("determinism", "runs", _SAME, runs_hold)
CHECKS = (
    Check("length-law", "lengths", "length-law", lengths_hold, parts="lengths"),
    Check("batch", "batch", "batch-invariance", batch_holds, group=_BATCH),
    Check(
        "batch-samples", "batch, decoded", "batch-invariance", batch_samples_hold,
        group=_BATCH, parts="samples", decodes=True,
    ),
    Check("padding", "padding", "batch-invariance", padding_holds),
    Check("streaming", "streaming", _STREAMING, streaming_holds),
    Check(
        "streaming-samples", "streaming, decoded", _STREAMING, streaming_samples_hold,
        parts="samples", decodes=True,
    ),
    Check("threads", "threads", _SAME, threads_hold),
    Check("dtype", "dtypes", _SAME, dtypes_hold),
    DETERMINISM,
    Check(
        "processors", "processors", "processors", processors_hold,
        group=None, impossible=cannot_mask,
    ),
    Check(
        "processors-samples", "processors, decoded", "processors-samples", processors_samples_hold,
        group=None, parts="samples", decodes=True, impossible=cannot_mask,
    ),
    Check("container", "container", _ROUND, container_holds),
    Check("save-load", "save, load", _ROUND, saving_holds, group=None),
    Check("identity", "identity", "identity", identity_holds, group=None),
)  # fmt: skip


# --- comparing ----------------------------------------------------------------------------------


def compare_tokens(found: Tokens, expected: Tokens) -> Compared:
    """Compare codes (1, codebooks, frames); frames that only one has count as different."""
    mine, its = found.codes.cpu(), expected.codes.cpu()
    total = max(mine.shape[1], its.shape[1]) * max(mine.shape[2], its.shape[2])
    books, frames = min(mine.shape[1], its.shape[1]), min(mine.shape[2], its.shape[2])
    same = int((mine[0, :books, :frames] == its[0, :books, :frames]).sum())
    return Compared(found.equal(expected), same, total)


def compare_samples(
    found: torch.Tensor, expected: torch.Tensor, tolerance: float = 0.0
) -> Compared:
    """Compare samples (samples,) for bit equality, or within a tolerance."""
    shared = min(len(found), len(expected))
    same = int(((found[:shared] - expected[:shared]).abs() <= tolerance).sum())
    total = max(len(found), len(expected))
    return Compared(same == total, same, total)


def split(total: int, rng: np.random.Generator) -> list[int]:
    """A random split of `total` into 2 to 12 pieces, one of which is a single unit or empty."""
    cuts = rng.integers(0, total + 1, int(rng.integers(1, _PIECES - 1))).tolist()
    cuts.append(min(total, cuts[0] + 1))
    return np.diff([0, *sorted(cuts), total]).tolist()


def _trimmed(tokens: Tokens) -> Tokens:
    """Return a row without the part beyond its length."""
    return tokens.frames(0, int(tokens.lengths[0]))


def _decoded(case: Case) -> torch.Tensor:
    assert case.decoded is not None
    return case.decoded


def all_of(parts: Sequence[Compared]) -> Compared:
    return Compared(
        all(part.kept for part in parts),
        sum(part.same for part in parts),
        sum(part.total for part in parts),
    )
