"""Filters, splits and near-duplicates: each drop with its reason."""

import json
from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from syllabary.audio.files import write
from syllabary.errors import DatasetError
from syllabary.lm.dataset.build import build_dataset
from syllabary.lm.dataset.duplicates import NearDuplicates, compared_codebooks, signature
from syllabary.lm.dataset.filters import Filters
from syllabary.lm.dataset.measures import SILENCE_DB, Measures, Meter
from syllabary.lm.dataset.splits import Splits

from ...conftest import synthetic_speech

GOOD = Measures(seconds=2.0, peak=0.5, clipped=0.0, level_db=-25, speech=0.8, snr_db=20)


@pytest.mark.parametrize(
    ("filters", "change", "reason"),
    [
        ({"min_duration": 2}, {}, None),
        ({"min_duration": 2.5}, {}, ("duration below 2.5", 2.0)),
        ({"max_duration": 1}, {}, ("duration above 1", 2.0)),
        ({"max_clipping": 0.01}, {"clipped": 0.02}, ("clipping above 0.01", 0.02)),
        ({"min_level": -30}, {"level_db": -40}, ("level below -30", -40)),
        ({"max_level": -30}, {}, ("level above -30", -25)),
        ({"min_snr": 25}, {}, ("snr below 25", 20)),
        ({"min_snr": 5}, {"snr_db": None}, ("no speech to measure snr of", None)),
        ({"min_speech": 0.9}, {}, ("speech below 0.9", 0.8)),
        ({"min_characters": 10, "max_characters": 20}, {}, ("characters below 10", 9.0)),
        ({"max_characters": 8}, {}, ("characters above 8", 9.0)),
        # The first reason of several.
        ({"min_duration": 3, "min_speech": 0.9}, {}, ("duration below 3", 2.0)),
    ],
)
def test_bounds(filters, change, reason):
    text = "seventeen letters !!"  # 9 + 7 + 2, without spaces
    assert Filters(**filters).reason(replace(GOOD, **change), text) == reason
    if "characters" not in str(filters):
        assert Filters(**filters).reason(replace(GOOD, **change), None) == reason
    again = Filters.from_json(json.loads(json.dumps(Filters(**filters).to_json())))
    assert again == Filters(**filters)


def test_what_is_known_before_reading():
    filters = Filters(languages=("en", "pt-BR"), need_text=True)
    assert filters.reason_before("text", "en-US") is None
    assert filters.reason_before("text", "PT_br") is None
    assert filters.reason_before("text", "eng") == "language"
    assert filters.reason_before("text", None) == "language not known"
    assert filters.reason_before("  ", "en") == "no text"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"min_duration": 3, "max_duration": 2}, "min_duration 3 exceeds max_duration 2"),
        ({"max_clipping": 1.5}, "max_clipping is a share from 0 to 1, got 1.5"),
        ({"near_duplicates": 0}, "would drop all items but one"),
    ],
)
def test_bounds_that_make_no_sense(fields, message):
    with pytest.raises(DatasetError, match=message):
        Filters(**fields)


def test_level_and_clipping():
    rate = 16000
    wave = np.sin(2 * np.pi * 440 * np.arange(rate) / rate).astype(np.float32)
    for blocks in (1, 7):
        meter = Meter(rate, with_speech=False)
        parts = np.array_split(wave, blocks)
        for number, part in enumerate(parts):
            meter.push(part, number == blocks - 1)
        found = meter.result()
        assert found.seconds == 1 and found.peak == pytest.approx(1, abs=1e-3)
        assert found.level_db == pytest.approx(-3.01, abs=0.01)
        assert found.clipped == pytest.approx(np.mean(np.abs(wave) >= 0.999))
        assert 0 < found.clipped < 0.1
    silent = Meter(rate, with_speech=False)
    silent.push(np.zeros(0, np.float32), True)
    assert silent.result().level_db == SILENCE_DB and silent.result().seconds == 0


def test_speech_and_noise(demo_clip):
    """Speech is found in speech, not in noise; noise that is added lowers the ratio."""
    pytest.importorskip("silero_vad")
    from syllabary.audio.files import read

    wave, rate = read(demo_clip, 16000)
    noise = 0.003 * np.random.default_rng(0).standard_normal(wave.size).astype(np.float32)

    def measured(samples, at=rate):
        meter = Meter(at, with_speech=True)
        meter.push(samples, True)
        return meter.result()

    clean, noisy, only = measured(wave), measured(wave + noise), measured(noise)
    assert clean.speech > 0.5 and only.speech < 0.1
    assert clean.snr_db > noisy.snr_db + 3
    assert only.snr_db is None or only.snr_db < 3
    assert measured(np.zeros(0, np.float32)).speech == 0


@given(st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=40, unique=True))
@examples(max_examples=50, deadline=None)
def test_a_speaker_is_in_one_split(speakers):
    splits = Splits.parse("train=0.6,valid=0.3,test=0.1")
    for speaker in speakers:
        of = {splits.of(speaker, f"item {number}") for number in range(5)}
        assert len(of) == 1 and of <= {"train", "valid", "test"}


def test_shares_of_splits():
    splits = Splits.parse("train=0.8,valid=0.2")
    counts = defaultdict(int)
    for number in range(4000):
        counts[splits.of(None, f"item {number}")] += 1
    assert counts["valid"] / 4000 == pytest.approx(0.2, abs=0.03)
    # Others do not move a speaker.
    assert splits.of("ann", "x") == Splits.parse("train=0.8,valid=0.2").of("ann", "y")
    for wrong in ("train", "train=0.5", "train=0.5,train=0.5", "a/b=1", "train=x,b=1", "a=2,b=-1"):
        with pytest.raises(DatasetError):
            Splits.parse(wrong)


def test_near_duplicates_by_example():
    rng = np.random.default_rng(0)
    rows = [rng.integers(0, 500, (1, 200)).astype(np.uint16) for _ in range(40)]
    nearly = rows[3].copy()
    nearly[0, 100:104] = 7  # a few n-grams differ
    cut = rows[5][:, 20:]
    short = np.zeros((1, 3), np.uint16)
    rows += [rows[1], nearly, cut, short, short, np.zeros((1, 0), np.uint16)]
    found = NearDuplicates(np.stack([signature(row, (500,)) for row in rows]), 0.7).find()
    assert {item: first for item, (first, _) in found.items()} == {40: 1, 41: 3, 42: 5}
    assert found[40][1] == 1.0 and 0.7 <= found[42][1] < 1
    none = NearDuplicates(np.zeros((0, 128), np.uint32), 0.7).find()
    assert none == {}


def test_codebooks_that_are_compared():
    assert compared_codebooks((1024,) * 8) == [0]
    assert compared_codebooks((16,) * 80) == [16, 32, 47, 63]
    assert compared_codebooks((16,)) == [0]


def test_a_copy_of_a_copy_is_compared_with_what_is_kept():
    """Each is like the one before it; the third is like none that is kept."""
    rng = np.random.default_rng(1)
    base = rng.integers(0, 500, (1, 400)).astype(np.uint16)
    chain = [base[:, :200], base[:, 40:240], base[:, 80:280], base[:, 120:320]]
    found = NearDuplicates(np.stack([signature(row, (500,)) for row in chain]), 0.55).find()
    assert {item: first for item, (first, _) in found.items()} == {1: 0, 3: 2}


def test_a_build_that_leaves_out(corpus, tmp_path, settings):
    """Drops are counted on the card, and listed; splits are of speakers."""
    quiet = 0.001 * synthetic_speech(9000, 50)
    write(corpus / "s0" / "quiet.wav", quiet, 16000)
    (corpus / "s1" / "5.wav").write_bytes((corpus / "s2" / "10.wav").read_bytes())
    more = [
        {"path": "s0/quiet.wav", "speaker": "s0", "text": "very quiet", "lang": "en"},
        {"path": "s0/0.wav", "id": "french", "speaker": "s0", "text": "bonjour", "lang": "fr"},
    ]
    with (corpus / "manifest.jsonl").open("a") as file:
        file.write("\n" + "\n".join(map(json.dumps, more)))
    filters = Filters(min_duration=0.15, min_level=-60, languages=("en",), near_duplicates=0.8)
    chosen = replace(settings, filters=filters, splits=Splits.parse("train=0.5,test=0.5"))
    report = build_dataset([corpus], tmp_path / "set", chosen)
    assert report.drops == {
        "duration below 0.15": 1,
        "language": 1,
        "level below -60": 1,
        "near-duplicate": 1,
    }
    drops = [json.loads(line) for line in (tmp_path / "set/drops.jsonl").read_text().splitlines()]
    assert [drop["id"] for drop in drops] == ["s0/0", "s0/quiet", "french", "s2/10"]
    assert drops[3]["reason"] == "near-duplicate of s1/5" and drops[3]["value"] == 1.0
    assert drops[1]["value"] < -60
    speakers = defaultdict(set)
    for item in report.dataset:
        speakers[item.speaker].add(item.split)
    assert all(len(found) == 1 for found in speakers.values())
    card = (tmp_path / "set" / "README.md").read_text()
    assert "| near-duplicate | 1 |" in card and "none is in two splits" in card
    assert "1 failed and 4 were left out" in card and "![Durations](plots/duration.svg)" in card
    assert card.startswith("---\nconfigs:") and 'path: "data/train-*.parquet"' in card
    plain = build_dataset([corpus], tmp_path / "plain", settings).dataset
    assert len(plain) == len(report.dataset) + 4


def test_speakers_in_two_splits_are_on_the_card(corpus, tmp_path, settings):
    text = (corpus / "manifest.jsonl").read_text()
    (corpus / "manifest.jsonl").write_text(text.replace('"speaker": "s3"', '"speaker": "s0"'))
    build_dataset([corpus], tmp_path / "set", settings)
    card = (tmp_path / "set" / "README.md").read_text()
    assert "**1 of 3 speakers are in several splits**: s0." in card
