"""The interface's promises, checked on real speech: the share of utterances that keep each.

The contract suite tests the same on synthetic signals and passes or fails; this study counts. An
utterance whose codes differ from run to run is counted under determinism, and in no other column.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from ...codecs.interface import AudioTokenizer
from ...cores import torch_threads
from ..metrics.interface import MetricError
from ..systems.interface import System
from .interface import Bench, Findings, Study, Value
from .promise_checks import (
    CHECKS,
    DETERMINISM,
    Case,
    Check,
    Compared,
    Subject,
    all_of,
)

#: Number of evenly spaced utterances; seconds of each; and number of those whose samples are
#: compared too.
UTTERANCES, SECONDS, DECODED = 12, 4.0, 4
_NAMED = 3  # utterances named in a note


@dataclass
class Record:
    """Results of the checks by column and utterance, and reasons for missing ones."""

    results: dict[str, dict[int, Compared]] = field(default_factory=lambda: defaultdict(dict))
    failures: dict[str, dict[int, str]] = field(default_factory=lambda: defaultdict(dict))

    def run(self, check: Check, subject: Subject, cases: Sequence[Case]) -> None:
        """Add a check's results; a promise must hold in repeated checks too."""
        chosen = [case for case in cases if case.decoded is not None or not check.decodes]
        size = check.group or max(1, len(chosen))
        for start in range(0, len(chosen), size):
            group = chosen[start : start + size]
            try:
                found = check.compare(subject, group)
            except Exception as error:  # an error of a tokenizer is reported, never scored
                reason = f"{type(error).__name__}: {error}"
                self.failures[check.name] |= {case.index: reason for case in group}
                continue
            for case, result in zip(group, found, strict=True):
                before = self.results[check.name].get(case.index)
                both = [result] if before is None else [before, result]
                self.results[check.name][case.index] = all_of(both)


def run(bench: Bench) -> Findings:
    """Measure all columns on evenly spaced items."""
    reason = unsuitable(bench.system)
    tokenizer, num_codebooks = bench.system.tokenizer, bench.system.num_codebooks
    if reason or tokenizer is None:
        raise MetricError(reason or "no tokenizer")
    kept = tokenizer.spec.tokens.num_codebooks if num_codebooks is None else num_codebooks
    bench.folder.mkdir(parents=True, exist_ok=True)
    subject = Subject(tokenizer, kept, bench.folder, bench.seed)
    findings = Findings()
    with torch_threads(1):
        cases = list(_cases(bench, subject, findings.notes))
        if not cases:
            raise MetricError("; ".join(findings.notes) or "there are no utterances")
        record = Record()
        record.run(DETERMINISM, subject, cases)
        for check in CHECKS:
            if check is not DETERMINISM and not check.impossible():
                record.run(check, subject, cases)
                _blame(record, check, subject, cases)
        # Repeated after all others, as they may have left a state behind.
        record.run(DETERMINISM, subject, cases)
    _report(record, cases, tokenizer, findings)
    return findings


def _cases(bench: Bench, subject: Subject, notes: list[str]) -> Iterator[Case]:
    """Return the utterances that can be encoded, and notes on the others."""
    count = min(UTTERANCES, len(bench.items))
    most = round(SECONDS * subject.rate)
    hop = subject.tokenizer.spec.tokens.hop
    for index in range(count):
        item = bench.items[index * len(bench.items) // count]
        try:
            # Truncated ones would all end at the same position in a frame.
            wave = np.array(bench.wave(item)[: most - 37 * index % hop], np.float32)
            tokens = subject.encode(wave)
            decoded = subject.tokenizer.decode(tokens) if index < DECODED else None
        except Exception as error:  # an error of a tokenizer is reported, never scored
            notes.append(f"{item.name} can't be used: {type(error).__name__}: {error}")
            continue
        yield Case(index, str(item.name), wave, tokens, decoded)


def _blame(record: Record, check: Check, subject: Subject, cases: Sequence[Case]) -> None:
    """If a promise was not kept, encode again, to attribute the difference to determinism if
    possible.
    """
    broken = record.results[check.name]
    doubtful = [case for case in cases if case.index in broken and not broken[case.index].kept]
    record.run(DETERMINISM, subject, doubtful)


def _report(
    record: Record, cases: Sequence[Case], tokenizer: AudioTokenizer, findings: Findings
) -> None:
    names = {case.index: case.name for case in cases}
    steady = {index for index, result in record.results[DETERMINISM.name].items() if result.kept}
    values = []
    whole = {case.index: True for case in cases}
    for check in CHECKS:
        results = record.results[check.name]
        if check is not DETERMINISM:
            results = {index: result for index, result in results.items() if index in steady}
        failures = record.failures[check.name]
        if reason := check.impossible():
            findings.missing |= {check.name: reason, f"{check.name}-parts": reason}
            continue
        whole |= dict.fromkeys(failures, False)
        if failures:
            findings.notes.append(_failure_note(check, failures, len(cases)))
        if not results:
            reason = next(iter(failures.values()), "its codes differ from run to run")
            findings.missing |= {check.name: reason, f"{check.name}-parts": reason}
            continue
        broken = [index for index, result in results.items() if not result.kept]
        whole |= dict.fromkeys(broken, False)
        if broken:
            findings.notes.append(f"{check.name}: not kept on {_some(names, broken)}")
        values += _values(check, list(results.values()))
    share = 100 * sum(whole.values()) / len(whole)
    everything = Value("all", "all of them", share, True, "%", 1, count=len(whole))
    findings.values += [everything, *values]
    for promise, reason in tokenizer.spec.broken_promises.items():
        columns = ", ".join(check.name for check in CHECKS if check.promise == promise)
        there = f" ({columns})" if columns else ""
        findings.notes.append(f"declares that it can't keep {promise}{there}: {reason}")


def _values(check: Check, results: Sequence[Compared]) -> list[Value]:
    kept = 100 * sum(result.kept for result in results) / len(results)
    values = [Value(check.name, check.heading, kept, True, "%", 1, count=len(results))]
    total = sum(result.total for result in results)
    if total:
        share = 100 * sum(result.same for result in results) / total
        name, heading = f"{check.name}-parts", f"{check.heading}: {check.parts}"
        values.append(Value(name, heading, share, True, "%", 3, count=total))
    return values


def _failure_note(check: Check, failures: dict[int, str], cases: int) -> str:
    reason = next(iter(failures.values()))
    return f"{check.name}: failed on {len(failures)} of {cases} utterances: {reason}"


def _some(names: dict[int, str], chosen: Sequence[int]) -> str:
    more = len(chosen) - _NAMED
    named = ", ".join(names[index] for index in chosen[:_NAMED])
    return named + (f" and {more} more" if more > 0 else "")


def unsuitable(system: System) -> str | None:
    """Return why the promises do not apply to a system."""
    return None if system.tokenizer is not None else "not a tokenizer: it promises nothing"


STUDY = Study(
    name="promises",
    heading="Promises",
    run=run,
    description=(
        f"Share of utterances, and of codes, that keep what the interface promises, over "
        f"{UTTERANCES} utterances of at most {SECONDS:g} s, evenly over the data: the length law; "
        "the same codes in a batch, behind padding of noise and NaN, in random pieces, on two "
        "threads, of other dtypes and under autocast, run again, held to older processors' "
        "instructions, through a file, saved and loaded, and by copies that were pickled or cast, "
        "while one with other weights refuses the codes. Samples, to the last bit (of other "
        f"processors to a millionth), of {DECODED} utterances."
    ),
    unsuitable=unsuitable,
)
