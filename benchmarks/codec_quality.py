"""Tokenizers beside their peers, on the same real sentences in the same run.

    SYLLABARY_SPEECH=… python benchmarks/codec_quality.py --codec dmel rvq-16k:4 runs/mine/best \\
        --peer lyra-v2-3.2 --peer opus-6 [--scores pesq,stoi] [--words] [--limit N] [--output FILE]

    # How many words a codec loses, which is what trainings are judged by:
    SYLLABARY_SPEECH=… python benchmarks/codec_quality.py --codec ts3-16k runs/mine/best \\
        --no-peers --scores none --words --asr base --sentences hard

The sentences are the test split's of LibriSpeech and speechocean762 (186 files, 20 minutes);
`hard` are every second one of LibriSpeech that has a text (35 of test-other, 650 words), `learners`
those of speechocean762, `arabic` the commands of a second.
Every reconstruction is rounded to 16 bits before it is scored, as a file would hold it. Bits are
the codes' own: no container, no Ogg pages. What can't be computed is counted and named, never
imputed; a mean is over what is there. With --words, the last columns are dWER with its 95 %
interval (sentences resampled), the words that it is over, and the sentences whose errors were
capped: edits between the words that a recogniser finds in the decoded speech and in the original,
in a sentence at most its words, over the latter's words. The recogniser is pocketsphinx, or what
--asr or $SYLLABARY_ASR names. With --latents, each codec is followed by what its decoder makes of
its latents, without quantization (their bits are those of the float32 vectors).

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
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from syllabary.audio.files import read
from syllabary.audio.manifests import Utterance, read_manifest
from syllabary.errors import LatentsError, SyllabaryError
from syllabary.eval.metrics.catalogue import find
from syllabary.eval.metrics.catalogue import parse as parse_metrics
from syllabary.eval.metrics.interface import Clip, Ratio
from syllabary.eval.metrics.scoring import mean, score
from syllabary.eval.recognition import ASR, SpeechRecognizer, open_recognizer, recognition_language
from syllabary.eval.systems import catalogue
from syllabary.eval.systems.interface import MissingSystemError, System
from syllabary.eval.systems.lyra import WEIGHTS, Lyra
from syllabary.eval.systems.tokenizers import TokenizerSystem
from syllabary.filesystem import replacing

sys.path.insert(0, __file__.rpartition("/")[0])
from continuous import LatentsSystem
from lost_words import WORDS, Originals, Row, left_out, words_cells
from peers import RATE, lag, reconstruct

from timing import machine

SCORES = "pesq-wb,stoi,estoi,mel,dnsmos,speaker"
SOURCES = ("librispeech_tc100", "librispeech_test_other", "speechocean762")
#: By name: the corpora, whether a text is asked for, and of how many sentences the first is taken.
SENTENCES = {
    "all": (SOURCES, False, 1),
    "hard": (SOURCES[:2], True, 2),
    "learners": (SOURCES[2:], False, 1),
    "arabic": (("arabic_commands",), False, 1),
}

LYRA = "lyra-v2-"
# Variable rates come out below their target, since pauses cost little: 7 spends about 6.
PEERS = (*catalogue.PEERS, "opus-7", "opus-6-hard-cbr", "codec2-2400", "original-8k", "noise")
DEFAULT_PEERS = ("lyra-v2-3.2", "lyra-v2-6", "opus-6", "opus-9", "codec2-3200", "codec2-1300")


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
                if not isinstance(fields["words"], dict):
                    fields["words"] = {}  # of nobody knows which recognizer
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


def sentences(folder: Path, limit: int | None = None, which: str = "all") -> list[Utterance]:
    """The test sentences, or `limit` of them at even distances."""
    sources, with_text, step = SENTENCES[which]
    found = [
        item
        for item in read_manifest(folder / "manifest.jsonl")
        if item.split == "test"
        and item.extra.get("source") in sources
        and (item.text or not with_text)
    ][::step]
    count = min(limit or len(found), len(found))
    return [found[index * len(found) // count] for index in range(count)]


def measure(
    codec: System,
    items: Sequence[Utterance],
    scores: Sequence[str],
    cache: Cache,
    recognizer: SpeechRecognizer | None = None,
) -> Iterator[Row | tuple[str, str]]:
    """A row for each sentence, or its name and why the codec failed on it."""
    for item in items:
        wave, _ = read(item.path, RATE, "mix")
        # Names may repeat in two corpora; the samples don't.
        key = f"{item.path.stem}-{hashlib.sha256(wave.tobytes()).hexdigest()[:8]}"
        row = cache.row(key)
        wanted = [name for name in scores if not row or name not in row.scores]
        if row and not wanted and (recognizer is None or recognizer.name in row.words):
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
        values, missing = scored(Clip(wave, decoded, RATE, item.text, item.language), wanted)
        row = replace(row, scores=row.scores | values, missing=missing)
        if recognizer is not None and recognizer.name not in row.words:
            try:
                language = recognition_language(recognizer, item.language, wave, RATE)
                recognised = recognizer.words(decoded, RATE, language)
                row = replace(row, words=row.words | {recognizer.name: recognised})
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


def shown_name(codec: System) -> str:
    """A folder as it was given: those of several runs all end in `best`."""
    given = str(getattr(codec, "given", codec.name))
    return given if "/" in given else codec.name


def scored(
    clip: Clip, names: Sequence[str]
) -> tuple[dict[str, float | list[float]], dict[str, str]]:
    """Scores of a clip and why others are missing, as a `Row` holds them."""
    found, missing = score(clip, names)
    values = {
        name: [one.numerator, one.denominator] if isinstance(one, Ratio) else one
        for name, one in found.items()
    }
    return values, missing


def score_cells(rows: Sequence[Row], scores: Sequence[str]) -> list[str]:
    """Means; one over fewer than all files says over how many."""
    cells = []
    for name in scores:
        found = [row.scores[name] for row in rows if name in row.scores]
        values = [Ratio(*one) if isinstance(one, list) else one for one in found]
        cell = f"{mean(values):.{find(name).digits}f}" if values else "–"
        cells.append(cell + (f" ({len(values)})" if len(values) < len(rows) else ""))
    return cells


def table_line(
    codec: System,
    rows: Sequence[Row],
    scores: Sequence[str],
    originals: Originals | None = None,
) -> str:
    """A markdown row of means; a mean over fewer than all files says over how many."""
    kbps = sum(row.bits for row in rows) / sum(row.seconds for row in rows) / 1000
    cells = [shown_name(codec), f"{kbps:.2f}", f"{len(rows)}", *score_cells(rows, scores)]
    if originals is not None:
        cells += words_cells(rows, originals)
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
            codecs.append(codes := TokenizerSystem(name))
            if options.latents:
                codecs.append(LatentsSystem(codes))
        except LatentsError as reason:
            skipped.append(f"skipped the latents of {name}: {reason}")
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
        action="extend",
        nargs="+",
        default=[],
        metavar="NAME[:CODEBOOKS]",
        help="tokenizers of ours, or folders of them",
    )
    parser.add_argument(
        "--latents", action="store_true", help="beside each, what it decodes its latents to"
    )
    parser.add_argument("--peer", action="append", metavar="NAME", help=f"of {', '.join(PEERS)}")
    parser.add_argument("--no-peers", action="store_true", help="only what --codec names")
    parser.add_argument("--scores", default=SCORES, help="names of metrics, all, default or none")
    parser.add_argument("--words", action="store_true", help="also dWER")
    parser.add_argument(
        "--asr",
        default=os.environ.get(ASR, ""),
        metavar="MODEL",
        help="the recogniser: a folder of CTranslate2 or transformers, a size of Whisper or "
        f"a hub id; default: ${ASR}, or pocketsphinx",
    )
    parser.add_argument("--sentences", choices=SENTENCES, default="all", help="which; default: all")
    parser.add_argument("--limit", type=int, metavar="N", help="an even sample of N sentences")
    parser.add_argument("--output", type=Path, metavar="FILE", help="JSON, a row for each file")
    parser.add_argument("--cache", type=Path, default=Path(".cache/quality"), metavar="DIR")
    parser.add_argument("--fresh", action="store_true", help="make and score everything again")
    lyra = f"Lyra's weights; default: $SYLLABARY_LYRA, or {WEIGHTS}"
    parser.add_argument("--lyra", type=Path, metavar="DIR", help=lyra)
    options = parser.parse_args(arguments)
    try:
        options.scores = () if options.scores == "none" else parse_metrics(options.scores)
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
    items = sentences(Path(speech), options.limit, options.sentences)
    codecs, remarks = contenders(options)
    headings = [find(name).heading for name in options.scores]
    recognizer: SpeechRecognizer | None = None
    originals: Originals | None = None
    if options.words:
        try:
            recognizer = open_recognizer(options.asr)
        except SyllabaryError as error:
            raise SystemExit(f"--words: {error}") from None
        originals = Originals(recognizer.name, [])
        headings += [WORDS, "words", "capped"]
        codecs.insert(0, catalogue.find("original"))
        remarks.append(f"{WORDS}: {recognizer.name}")
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
            originals = Originals(originals.recognizer, rows)
            remarks += left_out(rows, originals)
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
