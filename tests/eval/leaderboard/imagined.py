"""Results of systems that do not exist: random, plausible, and consistent with their items."""

import hashlib
import json
import math

import numpy as np
import soundfile

from syllabary.eval.bootstrap import interval

from ...conftest import synthetic_speech

DOMAINS = {"digits": 0.3, "commands": 0.25, "learners": 0.25, "read_speech": 0.2}
# Name, kind, bit/s, and how good it is for its bits.
SYSTEMS = [
    *[(f"rvq-16k:{n}", "tokenizer", 500 * n, 0.1) for n in (1, 2, 4, 8)],
    *[(f"ts3-16k:{n}", "tokenizer", 425 * n, 0.25) for n in (1, 2, 4)],
    ("fsq-0.8", "tokenizer", 800, 0.15),
    ("fsq-1.6", "tokenizer", 1600, 0.15),
    ("units-500", "tokenizer", 210, -0.35),
    ("units-2000", "tokenizer", 265, -0.3),
    ("units-500-bpe", "tokenizer", 150, -0.35),
    ("dmel", "tokenizer", 12800, -0.2),
    ("dmel-narrow", "tokenizer", 12800, -0.1),
    ("dmel-fine-narrow", "tokenizer", 25600, 0.0),
    ("dmel-3bit", "tokenizer", 9600, -0.15),
    ("lyra-3.2", "codec", 3200, 0.1),
    ("lyra-6", "codec", 6000, 0.1),
    ("lyra-9.2", "codec", 9200, 0.05),
    ("opus-6", "codec", 6100, 0.0),
    ("opus-9", "codec", 9050, 0.05),
    ("opus-12", "codec", 12100, 0.15),
    ("codec2-700", "codec", 700, -0.35),
    ("codec2-1300", "codec", 1300, -0.3),
    ("codec2-3200", "codec", 3200, -0.25),
    ("original", "reference", None, 9),
    ("original-8k", "reference", None, 1.2),
    ("noise", "reference", None, -9),
]
# Name, heading, worst, best, bounds, unit, digits.
METRICS = [
    ("pesq-wb", "PESQ-wb", 1.04, 4.64, [1.04, 4.64], "", 3),
    ("stoi", "STOI", 0.3, 1.0, [0, 1], "", 3),
    ("estoi", "ESTOI", 0.1, 1.0, [0, 1], "", 3),
    ("si-sdr", "SI-SDR", -30.0, 40.0, [None, None], "dB", 1),
    ("mel", "Mel", 12.0, 0.5, [0, None], "dB", 2),
    ("mcd", "MCD", 9.0, 0.5, [0, None], "dB", 2),
    ("speaker", "Speaker", 0.3, 1.0, [-1, 1], "", 3),
    ("dnsmos", "DNSMOS", 1.2, 4.2, [1, 5], "", 2),
    ("dwer", "dWER", 1.2, 0.01, [0, None], "", 3),
    ("lag", "Lag", None, None, [None, None], "ms", 1),
]


def result(name, kind, rate, skill, items=24, seed=0, metrics=METRICS):
    """A result, as JSON values."""
    rng = np.random.default_rng(int.from_bytes(hashlib.sha256(name.encode()).digest()[:4]) + seed)
    domains = np.random.default_rng(seed).choice(list(DOMAINS), items, p=list(DOMAINS.values()))
    lengths = np.round(np.random.default_rng(seed + 1).uniform(0.4, 9, items), 3)
    quality = 1 / (1 + math.exp(-(0.8 * math.log2((rate or 2000) / 2000) + 4 * skill)))
    rows = []
    for index in range(items):
        bits = None if rate is None else round(lengths[index] * rate * rng.uniform(0.97, 1.03))
        row = {
            "name": f"{domains[index]}/{index:03}.flac",
            "domain": str(domains[index]),
            "seconds": float(lengths[index]),
            "bits": bits,
            "scores": {},
            "failures": {},
            "error": None,
        }
        if name == "codec2-700" and index == 3:
            row |= {"seconds": None, "bits": None, "error": "c2enc ended with 1: file is too short"}
        rows.append(row)
        for metric, _, worst, best, bounds, _, _ in metrics:
            if row["error"] or (metric in ("speaker", "dwer") and index % 2):
                continue
            if metric == "pesq-wb" and index % 11 == 0:
                row["failures"][metric] = f"PESQ: {lengths[index]} s, but it needs speech"
            elif metric == "dwer":
                words = int(rng.integers(1, 20))
                share = worst + (best - worst) * quality
                row["scores"][metric] = [float(rng.binomial(words, min(1, share))), float(words)]
            elif worst is None:
                row["scores"][metric] = float(rng.normal(0, 2))
            else:
                value = worst + (best - worst) * np.clip(quality + rng.normal(0, 0.05), 0, 1)
                row["scores"][metric] = float(np.clip(value, bounds[0], bounds[1]))
    spent = [row for row in rows if row["bits"] is not None]
    return {
        "schema": "syllabary-result/1",
        "system": {
            "name": name,
            "kind": kind,
            "setting": "4 of 8 codebooks" if ":" in name else "as shipped",
            "digest": hashlib.sha256(name.encode()).hexdigest(),
            "sample_rate": 16000,
            "delay": 0 if kind != "codec" else 104,
            "license": "Apache-2.0",
            "source": "https://example.org/codec",
            "versions": {"opusenc": "0.2"} if "opus" in name else {},
            "num_codebooks": None,
            "tokenizer": {"tokens": {"sample_rate": 16000}} if kind == "tokenizer" else None,
            "delay_ms": 6.5 if kind == "codec" else 0.0,
        },
        "data": {
            "name": "speech16k",
            "split": "test",
            "digest": hashlib.sha256(b"data" + bytes([seed])).hexdigest(),
            "items": items,
            "seconds": sum(r["seconds"] for r in rows if r["error"] is None),
            "domains": {d: int((domains == d).sum()) for d in DOMAINS if (domains == d).any()},
        },
        "command": "syllabary eval --codecs all --data speech16k --split test -o results/",
        "seed": 0,
        "bitrate": sum(r["bits"] for r in spent) / sum(r["seconds"] for r in spent)
        if spent
        else None,
        "environment": {
            "syllabary": "0.1.0",
            "python": "3.11.2",
            "machine": "x86_64, 2 cores",
            "packages": {"pesq": "0.0.4", "torch": "2.11.0"},
        },
        "metrics": [_metric(metric, rows) for metric in metrics],
        "studies": _studies(name, kind, quality, rng),
        "items": rows,
        "clips": [],
    }


def _metric(metric, rows):
    name, heading, worst, best, bounds, unit, digits = metric
    figures = {}
    for domain in ["all", *sorted({row["domain"] for row in rows})]:
        within = [row for row in rows if domain in ("all", row["domain"])]
        scores = [row["scores"][name] for row in within if name in row["scores"]]
        failed = sum(
            name in row["failures"]
            or (row["error"] is not None and not (name in ("speaker", "dwer") and i % 2))
            for i, row in enumerate(rows)
            if row in within
        )
        value = None
        pairs = [score if isinstance(score, list) else [score, 1.0] for score in scores]
        if scores:
            value = sum(pair[0] for pair in pairs) / sum(pair[1] for pair in pairs)
        low, high = interval(*zip(*pairs, strict=True)) or (None, None) if scores else (None, None)
        figures[domain] = {
            "value": value, "low": low, "high": high, "count": len(scores), "failed": failed,
        }  # fmt: skip
    return {
        "name": name,
        "heading": heading,
        "description": f"What {heading} measures, in a sentence of the usual length.",
        "unit": unit,
        "digits": digits,
        "higher_is_better": None if worst is None else best > worst,
        "bounds": bounds,
        "needs": ["reference"],
        "paper": "ITU-T P.862.2" if name == "pesq-wb" else "",
        "package": "pesq" if name == "pesq-wb" else None,
        "version": "0.0.4" if name == "pesq-wb" else None,
        "asked": figures["all"]["count"] + figures["all"]["failed"],
        "domains": figures,
    }


def _studies(name, kind, quality, rng):
    if kind == "reference":
        nothing = {"values": [], "curves": [], "missing": {}, "notes": []}
        return [
            {"name": study, "heading": heading, "description": "…", "paper": "",
             "error": None, "unsuitable": "a reference has no tokens", **nothing}
            for study, heading in (("promises", "Promises"), ("damage", "Damage"))
        ]  # fmt: skip
    broken = rng.random() < 0.3
    promises = [
        {"name": p, "heading": p.capitalize(), "unit": "%", "digits": 2, "higher_is_better": True,
         "value": float(rng.choice([99.9996, 99.5, 71.25, 100.0] if broken else [100.0])),
         "low": None, "high": None, "count": 40}
        for p in ("batch", "padding", "chunking", "streaming", "threads", "length")
    ]  # fmt: skip
    missing = {}
    if kind == "codec":
        promises = promises[-1:]
        missing = {"streaming": "a program that takes whole files"}
    x = [0.0, 1.0, 3.0, 10.0, 30.0]
    curves = [
        {"name": mode, "heading": f"PESQ-wb, {mode} losses", "axis": "lost tokens (%)", "x": x,
         "y": [1.04 + 3 * quality * math.exp(-v * rng.uniform(0.04, 0.1)) for v in x], "unit": ""}
        for mode in ("random", "burst")
    ]  # fmt: skip
    damage = [
        {"name": "half", "heading": "Loss that halves STOI", "value": 12 * quality, "unit": "%",
         "digits": 1, "higher_is_better": True, "low": 11 * quality, "high": 13 * quality,
         "count": 32},
        {"name": "entropy", "heading": "Entropy", "value": 9.5 * rng.random(), "unit": "bit",
         "digits": 2, "higher_is_better": None, "low": None, "high": None, "count": None},
    ]  # fmt: skip
    return [
        {"name": "promises", "heading": "Promises", "description": "Share of frames that stay.",
         "paper": "", "values": promises, "curves": [], "missing": missing,
         "notes": ["On 40 clips."], "error": None},
        {"name": "damage", "heading": "Damage", "description": "Quality after loss of tokens.",
         "paper": "arXiv 2409.00000", "values": damage, "curves": curves, "missing": {},
         "notes": [], "error": None},
    ]  # fmt: skip


def write_results(folder, systems=SYSTEMS, clips=3, seconds=3.0, **settings):
    """One folder a system, with clips of synthetic speech."""
    for name, kind, rate, skill in systems:
        fields = result(name, kind, rate, skill, **settings)
        place = folder / name.replace(":", "_")
        (place / "clips").mkdir(parents=True)
        for index in range(clips):
            wave = synthetic_speech(int(seconds * 16000), index)
            wave = wave + np.random.default_rng(index).normal(0, 0.02 * (9 - skill) / 9, wave.size)
            soundfile.write(place / f"clips/{index:02}.flac", wave, 16000)
            fields["clips"].append(
                {
                    "item": fields["items"][index]["name"],
                    "text": [None, "a sentence that somebody reads", "zero"][index % 3],
                    "audio": f"clips/{index:02}.flac",
                    "original": f"../original/clips/{index:02}.flac",
                }
            )
        (place / "result.json").write_text(json.dumps(fields))
    return folder
