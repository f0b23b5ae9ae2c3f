"""Tokenizers beside their peers, on the same real sentences in the same run.

    SYLLABARY_SPEECH=… python benchmarks/codec_quality.py --codec dmel --codec rvq-16k:4 \\
        --peer lyra-v2-3.2 --peer opus-6 [--scores pesq,stoi] [--words] [--limit N] [--output FILE]

The sentences are the test split's of LibriSpeech and speechocean762 (186 files, 20 minutes).
Every reconstruction is rounded to 16 bits before it is scored, as a file would hold it. Bits are
the codes' own: no container, no Ogg pages. What can't be computed is counted and named, never
imputed; a mean is over what is there. With --words, the last column is dWER: edits between the
words that pocketsphinx hears in the decoded speech and in the original, over the latter's words.

Reconstructions (.wav, to listen to) and scores are kept in the cache folder by codec, its digest
(weights, settings, delay) and the sentence, so that a second run computes only what is new. A
change of code that leaves the weights alone needs --fresh.
"""

import argparse
import hashlib
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from syllabary.audio.files import read
from syllabary.audio.manifests import Utterance, read_manifest
from syllabary.errors import SyllabaryError
from syllabary.eval.metrics.catalogue import find
from syllabary.eval.metrics.catalogue import parse as parse_metrics
from syllabary.eval.metrics.interface import Clip, Ratio
from syllabary.eval.metrics.scoring import mean, score
from syllabary.eval.recognition import Recognizer, WordErrors, word_errors
from syllabary.eval.systems import catalogue
from syllabary.eval.systems.interface import MissingSystemError, System
from syllabary.eval.systems.lyra import WEIGHTS, Lyra
from syllabary.eval.systems.tokenizers import TokenizerSystem
from syllabary.filesystem import replacing

sys.path.insert(0, __file__.rpartition("/")[0])
from peers import RATE, lag, reconstruct

from timing import machine

WORDS = "dWER"
SCORES = "pesq-wb,stoi,estoi,mel,dnsmos,speaker"
SOURCES = ("librispeech_tc100", "librispeech_test_other", "speechocean762")

LYRA = "lyra-v2-"
# Variable rates come out below their target, since pauses cost little: 7 spends about 6.
PEERS = (*catalogue.PEERS, "opus-7", "opus-6-hard-cbr", "codec2-2400")
DEFAULT_PEERS = ("lyra-v2-3.2", "lyra-v2-6", "opus-6", "opus-9", "codec2-3200", "codec2-1300")


@dataclass
class Row:
    """One codec on one sentence.

    Attributes:
        codec, file: their names.
        seconds: of audio.
        bits: spent.
        lag: samples by which the reconstruction's envelope is still late (peak of the
            cross-correlation; a few samples are nothing, tens are a wrong delay).
        scores: by metric, those that could be computed; numerator and denominator of a ratio.
        missing: by metric, why a score is missing.
        words: that the recognizer hears in it, once it was asked.
    """

    codec: str
    file: str
    seconds: float
    bits: float
    lag: int
    scores: dict[str, float | list[float]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    words: list[str] | None = None


class Cache:
    """What is known of one codec: reconstructions, and rows by file and digest of its samples."""

    def __init__(self, folder: Path, codec: System, fresh: bool = False) -> None:
        name = codec.name.replace("/", "_").replace(":", "-")
        self.folder = folder / f"{name}-{codec.digest[:12]}"
        self._path = self.folder / "rows.jsonl"
        self._rows: dict[str, Row] = {}
        self._fresh = fresh
        if self._path.exists() and not fresh:
            for line in self._path.read_text().splitlines():
                key, fields = json.loads(line)
                self._rows[key] = Row(**fields)

    def row(self, key: str) -> Row | None:
        return self._rows.get(key)

    def wave(self, key: str) -> np.ndarray | None:
        path = self.folder / f"{key}.wav"
        return soundfile.read(path, dtype="float32")[0] if path.exists() else None

    def keep(self, key: str, row: Row, wave: np.ndarray | None = None) -> None:
        """Add a row or replace it, with its reconstruction if that is new."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if wave is not None:
            path = self.folder / f"{key}.wav"
            samples = (wave * 32768).astype(np.int16)  # floats would be scaled by 32767
            with replacing(path) as temporary:
                soundfile.write(temporary, samples, RATE, "PCM_16", format="WAV")
        mode = "w" if self._fresh and not self._rows else "a"
        self._rows[key] = row
        with self._path.open(mode) as file:
            # A missing score is tried again next time: a package may have come.
            file.write(json.dumps([key, asdict(row) | {"missing": {}}]) + "\n")


def sentences(folder: Path, limit: int | None = None) -> list[Utterance]:
    """The test sentences, or `limit` of them at even distances."""
    found = [
        item
        for item in read_manifest(folder / "manifest.jsonl")
        if item.split == "test" and item.extra.get("source") in SOURCES
    ]
    count = min(limit or len(found), len(found))
    return [found[index * len(found) // count] for index in range(count)]


def measure(
    codec: System,
    items: Sequence[Utterance],
    scores: Sequence[str],
    cache: Cache,
    recognizer: Recognizer | None = None,
) -> Iterator[Row | tuple[str, str]]:
    """A row for each sentence, or its name and why the codec failed on it."""
    for item in items:
        wave, _ = read(item.path, RATE, "mix")
        # Names may repeat in two corpora; the samples don't.
        key = f"{item.path.stem}-{hashlib.sha256(wave.tobytes()).hexdigest()[:8]}"
        row = cache.row(key)
        wanted = [name for name in scores if not row or name not in row.scores]
        if row and not wanted and (recognizer is None or row.words is not None):
            yield row
            continue
        decoded = cache.wave(key) if row else None
        new = row is None or decoded is None
        if new:
            try:
                decoded, bits = sixteen_bit_reconstruction(codec, wave)
            except (ValueError, RuntimeError, OSError) as error:
                yield str(item.name), f"{type(error).__name__}: {error}"
                continue
            late = lag(wave, decoded)
            row = Row(codec.name, str(item.name), len(wave) / RATE, bits, late)
            wanted = list(scores)
        clip = Clip(wave, decoded, RATE, item.text, item.extra.get("lang"))
        found, missing = score(clip, wanted)
        values = {
            name: [one.numerator, one.denominator] if isinstance(one, Ratio) else one
            for name, one in found.items()
        }
        row = replace(row, scores=row.scores | values, missing=missing)
        if recognizer is not None and row.words is None:
            try:
                row = replace(row, words=recognizer.words(decoded, RATE))
            except SyllabaryError as error:
                row.missing[WORDS] = str(error)
        cache.keep(key, row, decoded if new else None)
        yield row


def sixteen_bit_reconstruction(codec: System, wave: np.ndarray) -> tuple[np.ndarray, float]:
    """What a file would hold of it, (samples,) float32, and the bits spent.

    Raises:
        ValueError: the codec gave another number of samples, or NaN or infinity.
    """
    decoded, bits = reconstruct(codec, wave)
    if decoded.shape != wave.shape or not np.isfinite(decoded).all():
        raise ValueError(f"it gave {decoded.shape} samples for {wave.shape}, or NaN")
    return (np.clip(decoded, -1, 32767 / 32768) * 32768).round().astype("<f4") / 32768, bits


def words_cell(rows: Sequence[Row], originals: Sequence[Row]) -> str:
    """Total edits over the total of the originals' words, where both were heard."""
    expected = {row.file: row.words for row in originals if row.words}
    errors, heard = WordErrors(), 0
    for row in rows:
        if row.words is not None and row.file in expected:
            errors += word_errors(expected[row.file] or [], row.words)
            heard += 1
    if not errors.words:
        return "–"
    return f"{errors.rate:.2f}" + (f" ({heard})" if heard < len(rows) else "")


def table_line(
    codec: System,
    rows: Sequence[Row],
    scores: Sequence[str],
    originals: Sequence[Row] | None = None,
) -> str:
    """A markdown row of means; a mean over fewer than all files says over how many."""
    kbps = sum(row.bits for row in rows) / sum(row.seconds for row in rows) / 1000
    cells = [codec.name, f"{kbps:.2f}", f"{len(rows)}"]
    for name in scores:
        found = [row.scores[name] for row in rows if name in row.scores]
        values = [Ratio(*one) if isinstance(one, list) else one for one in found]
        cell = f"{mean(values):.{find(name).digits}f}" if values else "–"
        cells.append(cell + (f" ({len(values)})" if len(values) < len(rows) else ""))
    if originals is not None:
        cells.append(words_cell(rows, originals))
    return f"| {' | '.join(cells)} |"


def notes(codec: System, rows: Sequence[Row]) -> Iterator[str]:
    """How the codec was run, and what is missing, counted by reason."""
    lags = np.percentile([row.lag for row in rows], [10, 50, 90]) if rows else [np.nan] * 3
    left = "/".join(f"{value:.0f}" for value in lags)
    yield (
        f"{codec.name}: {codec.setting}; delay taken off {codec.delay} samples; envelope lag left, "
        f"10/50/90 %: {left}"
    )
    reasons = Counter(reason for row in rows for reason in row.missing.items())
    for (name, reason), count in reasons.most_common():
        heading = name if name == WORDS else find(name).heading
        yield f"{codec.name}: {heading} missing for {count} of {len(rows)}: {reason}"


def contenders(options: argparse.Namespace) -> tuple[list[System], list[str]]:
    """The codecs asked for, and a line for each peer that is not there."""
    codecs: list[System] = []
    skipped = []
    for name in options.codec:
        try:
            codecs.append(TokenizerSystem(name))
        except SyllabaryError as error:
            raise SystemExit(f"--codec {name}: {error}") from None
    for name in options.peer:
        try:
            if name.startswith(LYRA):
                codecs.append(Lyra(name.removeprefix(LYRA), options.lyra))
            else:
                codecs.append(catalogue.find(name))
        except MissingSystemError as reason:
            skipped.append(f"skipped {name}: {reason}")
    return codecs, skipped


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--codec",
        action="append",
        default=[],
        metavar="NAME[:CODEBOOKS]",
        help="a tokenizer of ours",
    )
    parser.add_argument("--peer", action="append", metavar="NAME", help=f"of {', '.join(PEERS)}")
    parser.add_argument("--no-peers", action="store_true", help="only what --codec names")
    parser.add_argument("--scores", default=SCORES, help="names of metrics, all or default")
    parser.add_argument("--words", action="store_true", help="also dWER, by pocketsphinx")
    parser.add_argument("--limit", type=int, metavar="N", help="an even sample of N sentences")
    parser.add_argument("--output", type=Path, metavar="FILE", help="JSON, a row for each file")
    parser.add_argument("--cache", type=Path, default=Path(".cache/quality"), metavar="DIR")
    parser.add_argument("--fresh", action="store_true", help="make and score everything again")
    lyra = f"Lyra's weights; default: $SYLLABARY_LYRA, or {WEIGHTS}"
    parser.add_argument("--lyra", type=Path, metavar="DIR", help=lyra)
    options = parser.parse_args(arguments)
    try:
        options.scores = parse_metrics(options.scores)
    except SyllabaryError as error:
        parser.error(str(error))
    if options.limit is not None and options.limit < 1:
        parser.error(f"--limit {options.limit}: expected at least 1")
    options.peer = [] if options.no_peers else options.peer or list(DEFAULT_PEERS)
    unknown = [name for name in options.peer if name not in PEERS]
    if unknown:
        parser.error(f"no peer {unknown[0]!r}; there are {', '.join(PEERS)}")
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    speech = os.environ.get("SYLLABARY_SPEECH")
    if not speech:
        raise SystemExit("set SYLLABARY_SPEECH to a folder of real speech with a manifest.jsonl")
    torch.set_num_threads(1)
    items = sentences(Path(speech), options.limit)
    codecs, remarks = contenders(options)
    headings = [find(name).heading for name in options.scores]
    recognizer, originals = None, None
    if options.words:
        recognizer, originals = Recognizer(), []
        headings.append(WORDS)
        codecs.insert(0, catalogue.find("original"))
    print(f"{len(items)} sentences of the test split; {machine()}\n")
    print(f"| codec | kbit/s | files | {' | '.join(headings)} |")
    print("| --- " * (3 + len(headings)) + "|", flush=True)
    report: dict[str, Any] = {"machine": machine(), "codecs": [], "rows": [], "failures": []}
    for codec in codecs:
        rows: list[Row] = []
        start = time.perf_counter()
        cache = Cache(options.cache, codec, options.fresh)
        for done in measure(codec, items, options.scores, cache, recognizer):
            if isinstance(done, Row):
                rows.append(done)
            else:
                report["failures"].append({"codec": codec.name, "file": done[0], "error": done[1]})
                remarks.append(f"{codec.name}: failed on {done[0]}: {done[1]}")
            if sys.stderr.isatty():
                print(f"\r{codec.name} {len(rows)}/{len(items)}", end="\r", file=sys.stderr)
        print(f"{codec.name}: {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
        if originals is not None and codec.name == "original":
            originals = rows
        if rows:
            print(table_line(codec, rows, options.scores, originals), flush=True)
        remarks += notes(codec, rows)
        known = {name: getattr(codec, name) for name in ("name", "setting", "digest", "delay")}
        report["codecs"].append(known)
        report["rows"] += [asdict(row) for row in rows]
    print("\n" + "\n".join(f"- {remark}" for remark in remarks))
    if options.output:
        report["remarks"] = remarks
        with replacing(options.output) as temporary:
            temporary.write_text(json.dumps(report, ensure_ascii=False, indent=1))


if __name__ == "__main__":
    main()
