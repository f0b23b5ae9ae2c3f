"""What units are worth as signs of speech: phones, discrimination, robustness, speakers, bits.

    SYLLABARY_SPEECH=… python benchmarks/unit_quality.py --tokenizer units-16k --tokenizer DIR \\
        [--bpe NAME_OR_DIR] [--split test] [--limit N] [--wer] [--skip-perturbations] [--late N]

A tokenizer is anything that `syllabary.load` takes; of several codebooks the first is measured.
With --late, its codes are about what was said so many frames before. Speech is LibriSpeech's
test-other and speechocean762 of the split. Phones are pocketsphinx's forced alignment; utterances
with words that its dictionary lacks count in nothing that needs phones, and are listed. Speakers
are compared on the sentences of speechocean762 that several people read; valid and test have none,
so those are of all splits, mostly of train. Alignments are kept in ~/.cache/syllabary.

PNMI, phone purity and cluster purity are over all frames, and over those without silence. They
depend on how many frames there are: compare rows of one table at equal K. Byte-pair encodings are
measured on the tokenizers whose units they were trained on. With --wer, words are those that
pocketsphinx hears, or the model that SYLLABARY_ASR names.
"""

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import syllabary
from syllabary.audio.files import read
from syllabary.audio.manifests import Utterance, read_manifest
from syllabary.audio.resampling import resample
from syllabary.codecs.interface import AudioTokenizer
from syllabary.codecs.spec import TokenSpec
from syllabary.errors import SyllabaryError
from syllabary.eval.metrics.interface import MetricError
from syllabary.eval.recognition import DecodedUtterance, default_recognizer, recognition_errors
from syllabary.eval.unit_measures.abx import ABX, unit_abx
from syllabary.eval.unit_measures.alignment import PHONES, SAMPLE_RATE, SILENCE
from syllabary.eval.unit_measures.alignment_cache import AlignedUtterances, align_utterances
from syllabary.eval.unit_measures.edit_distance import deduplicate
from syllabary.eval.unit_measures.invariance import parallel_sentences, speaker_invariance
from syllabary.eval.unit_measures.perturbations import PERTURBATIONS
from syllabary.eval.unit_measures.purity import joint_count, purity
from syllabary.eval.unit_measures.rates import bitrate, unit_rates, usage
from syllabary.eval.unit_measures.robustness import robustness
from syllabary.filesystem import replacing
from syllabary.semantic.token_bpe import load_bpe

sys.path.insert(0, __file__.rpartition("/")[0])
from timing import machine

SOURCES = ("librispeech_test_other", "speechocean762")
PARALLEL = "speechocean762"


@dataclass
class Speech:
    """What every tokenizer is measured on: waves are (samples,) at 16 kHz."""

    items: list[Utterance]
    waves: list[np.ndarray]
    aligned: AlignedUtterances
    sentences: list[list[Utterance]]


def load_speech(folder: Path, split: str, limit: int | None) -> Speech:
    everything = read_manifest(folder / "manifest.jsonl")
    items = [i for i in everything if i.split == split and i.extra.get("source") in SOURCES]
    if not items:
        raise SystemExit(f"no speech of split {split!r} of {', '.join(SOURCES)} in {folder}")
    count = min(limit or len(items), len(items))
    items = [items[index * len(items) // count] for index in range(count)]
    waves = [read(item.path, SAMPLE_RATE, "mix")[0] for item in items]
    shared = [item for item in everything if item.extra.get("source") == PARALLEL]
    return Speech(items, waves, align_utterances(items), parallel_sentences(shared))


def encoder(tokenizer: AudioTokenizer, late: int = 0) -> Callable[[np.ndarray], np.ndarray]:
    """From (samples,) at 16 kHz to (frames,) units, one a frame even if it de-duplicates.

    Of several codebooks they are those of the first; the first `late` are left out.
    """
    rate = tokenizer.spec.sample_rate
    kept = 1 if tokenizer.spec.tokens.num_codebooks > 1 else None

    def encode(wave: np.ndarray) -> np.ndarray:
        given = resample(wave, SAMPLE_RATE, rate)
        tokens = tokenizer.encode(given, rate, num_codebooks=kept).restore()
        return tokens.codes[0, 0, late : int(tokens.lengths[0])].numpy()

    return encode


def centroids_of(tokenizer: AudioTokenizer) -> np.ndarray | None:
    """(K, dim) if the tokenizer has one table of centroids."""
    found = getattr(tokenizer, "centroids", None)
    tables = [found] if isinstance(found, torch.Tensor) else list(found or [])
    return tables[0].detach().double().cpu().numpy() if len(tables) == 1 else None


def measure(name: str, speech: Speech, options: argparse.Namespace) -> dict[str, Any]:
    """A row; what can't be computed is missing in it, with a reason under `missing`."""
    tokenizer = syllabary.load(name)
    spec = tokenizer.spec.tokens
    if spec.num_codebooks > 1 and tokenizer.spec.min_codebooks > 1:
        raise MetricError(f"{name} can't be used with its first codebook alone")
    encode, size = encoder(tokenizer, options.late), spec.codebook_sizes[0]
    row: dict[str, Any] = {"tokenizer": name, "digest": spec.digest, "K": size, "missing": {}}
    start = time.perf_counter()
    units = [encode(wave) for wave in speech.waves]
    seconds = sum(map(len, speech.waves)) / SAMPLE_RATE
    row["encoding ×"] = seconds / (time.perf_counter() - start)
    row |= _of_phones(tokenizer, speech, units)
    rates = unit_rates(units, size, seconds)
    row |= {"bit/s": rates.frames, "dedup bit/s": rates.deduplicated}
    row["runs/s"] = rates.usage.num_symbols / seconds
    row |= {"Huffman bit/s": rates.huffman, "used": rates.usage.used / size}
    row["perplexity"] = rates.usage.perplexity
    row |= _of_pieces(spec, units, options.bpe, seconds)
    attempts: dict[str, Callable[[], dict[str, Any]]] = {
        "speakers": lambda: _of_speakers(tokenizer, speech, encode)
    }
    if not options.skip_perturbations:
        attempts["perturbations"] = lambda: _of_perturbations(speech, encode)
    if options.wer:
        attempts["words"] = lambda: _of_words(tokenizer, speech)
    for what, attempt in attempts.items():
        try:
            row |= attempt()
        except SyllabaryError as error:
            row["missing"][what] = str(error)
    return row


def _of_phones(
    tokenizer: AudioTokenizer, speech: Speech, units: Sequence[np.ndarray]
) -> dict[str, Any]:
    rate = float(tokenizer.spec.frame_rate)
    kept = [index for index, item in enumerate(speech.items) if item.name in speech.aligned.found]
    alignments = [speech.aligned.found[speech.items[index].name] for index in kept]
    chosen = [units[index] for index in kept]
    labels = [a.labels(rate, len(u)) for a, u in zip(alignments, chosen, strict=True)]
    count = joint_count(labels, chosen, tokenizer.spec.tokens.codebook_sizes[0])
    every, spoken = purity(count), purity(count, without=(PHONES.index(SILENCE),))
    row: dict[str, Any] = {
        "frames": every.num_frames,
        "PNMI": every.pnmi,
        "PNMI corr.": every.pnmi_corrected,
        "PNMI no SIL": spoken.pnmi,
        "phone purity": every.phone_purity,
        "cluster purity": every.cluster_purity,
    }
    centroids = centroids_of(tokenizer)
    row["ABX on"] = "one-hot" if centroids is None else "centroids"
    speakers = [speech.items[index].speaker or str(speech.items[index].name) for index in kept]
    for kind, prefix in (("triphone", "ABX"), ("phone", "ABX phone")):
        found: ABX = unit_abx(chosen, alignments, speakers, rate, centroids, items=kind)
        for where, score in (("within", found.within), ("across", found.across)):
            row[f"{prefix} {where}"] = score.error if score else math.nan
            if score:
                row[f"{prefix} {where} details"] = asdict(score)
    return row


def _of_pieces(
    spec: TokenSpec, units: Sequence[np.ndarray], names: Sequence[str], seconds: float
) -> dict[str, Any]:
    """Of the first byte-pair encoding that was trained on these units."""
    for bpe in map(load_bpe, names):
        if bpe.source != spec.digest:
            continue
        rows = [deduplicate(row) if bpe.deduplicated else row for row in units]
        pieces = bpe.encode_batch(rows)
        for given, coded in zip(rows, pieces, strict=True):
            if not np.array_equal(bpe.decode(coded), given):
                raise MetricError(f"{bpe.name} does not give the units back")
        count = sum(map(len, pieces))
        return {
            "BPE": bpe.vocab_size,
            "units a piece": sum(map(len, rows)) / count,
            "BPE bit/s": bitrate([count], [bpe.vocab_size], seconds),
            "BPE Huffman bit/s": count * usage(pieces, bpe.vocab_size).huffman / seconds,
        }
    return {}


def _of_perturbations(
    speech: Speech, encode: Callable[[np.ndarray], np.ndarray]
) -> dict[str, float]:
    found = robustness(encode, speech.waves, SAMPLE_RATE)
    return {f"UED {name}": errors.rate for name, errors in found.items()}


def _of_speakers(
    tokenizer: AudioTokenizer, speech: Speech, encode: Callable[[np.ndarray], np.ndarray]
) -> dict[str, float]:
    """Over everything, and without silence: pauses may be longer than the words."""
    rate = float(tokenizer.spec.frame_rate)
    items = [item for group in speech.sentences for item in group]
    units = {item.name: encode(read(item.path, SAMPLE_RATE, "mix")[0]) for item in items}
    aligned = align_utterances(items)
    spoken = {
        name: units[name][alignment.labels(rate, len(units[name])) != PHONES.index(SILENCE)]
        for name, alignment in aligned.found.items()
    }
    row = {}
    for suffix, chosen in (("", units), (" no SIL", spoken)):
        kept = [[item for item in group if item.name in chosen] for group in speech.sentences]
        found = speaker_invariance([group for group in kept if len(group) > 1], chosen)
        row |= {
            f"UED speakers{suffix}": found.same.rate,
            f"UED other words{suffix}": found.different.rate,
            f"speakers / other{suffix}": found.normalised,
        }
    return row


def _of_words(tokenizer: AudioTokenizer, speech: Speech) -> dict[str, Any]:
    rate = tokenizer.spec.sample_rate

    def decoded(wave: np.ndarray) -> np.ndarray:
        back = tokenizer.decode(tokenizer.encode(resample(wave, SAMPLE_RATE, rate), rate))
        return resample(back.reshape(-1).cpu().numpy(), rate, SAMPLE_RATE)

    report = recognition_errors(
        DecodedUtterance(str(item.name), wave, decoded(wave), item.text, item.language)
        for item, wave in zip(speech.items, speech.waves, strict=True)
    )
    return {
        "dWER": report.against_original.rate,
        "WER": report.against_text.rate,
        "WER original": report.original_against_text.rate,
        "dWER capped": report.against_original.capped,
        "words by": default_recognizer().name,
        "not recognized": report.failures,
    }


COLUMNS = (
    *(
        "K",
        "frames",
        "PNMI",
        "PNMI corr.",
        "PNMI no SIL",
        "phone purity",
        "cluster purity",
        "ABX on",
    ),
    *("ABX within", "ABX across", "ABX phone within", "ABX phone across"),
    *(f"UED {change.name}" for change in PERTURBATIONS),
    *("UED speakers", "UED other words", "speakers / other"),
    *("UED speakers no SIL", "UED other words no SIL", "speakers / other no SIL"),
    *("bit/s", "dedup bit/s", "Huffman bit/s", "runs/s", "used", "perplexity"),
    *("BPE", "units a piece", "BPE bit/s", "BPE Huffman bit/s", "encoding ×"),
    *("dWER", "dWER capped", "WER", "WER original", "words by"),
)


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown, a tokenizer a column: there are more measures than tokenizers."""
    lines = [f"| | {' | '.join(row['tokenizer'] for row in rows)} |", "| --- " * (len(rows) + 1)]
    lines[1] += "|"
    for column in COLUMNS:
        if any(column in row for row in rows):
            cells = [_cell(row.get(column)) for row in rows]
            lines.append(f"| {column} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, float):
        return f"{value:.3f}" if abs(value) < 10 else f"{value:.0f}"
    return str(value)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tokenizer", action="append", required=True, metavar="NAME_OR_DIR")
    parser.add_argument("--bpe", action="append", default=[], metavar="NAME_OR_DIR")
    parser.add_argument("--split", default="test")
    parser.add_argument("--limit", type=int, metavar="N", help="an even sample of N utterances")
    parser.add_argument("--wer", action="store_true", help="also words in the decoded speech")
    parser.add_argument("--skip-perturbations", action="store_true")
    parser.add_argument("--late", type=int, default=0, metavar="N", help="frames that units lag")
    parser.add_argument("--output", type=Path, metavar="FILE", help="JSON, with every detail")
    options = parser.parse_args(arguments)
    folder = os.environ.get("SYLLABARY_SPEECH")
    if not folder:
        raise SystemExit("set SYLLABARY_SPEECH to a folder of real speech with a manifest.jsonl")
    if options.limit is not None and options.limit < 1:
        parser.error(f"--limit {options.limit}: expected at least 1")
    if options.late < 0:
        parser.error(f"--late {options.late}: expected at least 0")
    torch.set_num_threads(1)
    speech = load_speech(Path(folder), options.split, options.limit)
    minutes = sum(map(len, speech.waves)) / SAMPLE_RATE / 60
    people = [len(group) for group in speech.sentences]
    print(
        f"{len(speech.items)} utterances of {options.split}, {minutes:.1f} min, "
        f"{len(speech.aligned.found)} aligned; {len(people)} parallel sentences, {sum(people)} "
        f"utterances; {machine()}\n"
    )
    rows = []
    for name in options.tokenizer:
        try:
            rows.append(measure(name, speech, options))
        except SyllabaryError as error:
            raise SystemExit(f"--tokenizer {name}: {error}") from None
    print(table(rows) + "\n")
    for row in rows:
        for what, reason in row["missing"].items():
            print(f"- {row['tokenizer']}: {what} missing: {reason}")
        for utterance, reason in row.get("not recognized", {}).items():
            print(f"- {row['tokenizer']}: {utterance} not in word errors: {reason}")
    for utterance, reason in speech.aligned.missing.items():
        print(f"- {utterance}: {reason}")
    if options.output:
        missing = {str(key): reason for key, reason in speech.aligned.missing.items()}
        report = {"machine": machine(), "split": options.split, "rows": rows, "missing": missing}
        with replacing(options.output) as temporary:
            temporary.write_text(json.dumps(report, ensure_ascii=False, indent=1))


if __name__ == "__main__":
    main()
