"""What `verify` finds, and what an estimate says."""

import json
from dataclasses import replace

import pytest

from syllabary.audio.files import write
from syllabary.errors import DatasetError, TokenMismatchError
from syllabary.lm.dataset.build import build_dataset
from syllabary.lm.dataset.estimate import estimate
from syllabary.lm.dataset.settings import Settings
from syllabary.lm.dataset.stored import open_dataset, write_dataset
from syllabary.lm.dataset.verify import verify_sample, verify_shards

from ...conftest import synthetic_speech
from ..conftest import token_spec
from .made_up import made_up_items


def test_shards(tmp_path):
    spec = token_spec()
    items = made_up_items(spec, 300)
    made = write_dataset(tmp_path / "set", items, spec, codes_a_shard=9000)
    found = verify_shards(tmp_path / "set")
    assert not found.problems and found.items == 300 and found.shards == len(made.shards)
    path = tmp_path / "set" / made.shards[0].name
    held = bytearray(path.read_bytes())
    held[len(held) // 2] ^= 1
    path.write_bytes(held)
    problems = verify_shards(tmp_path / "set").problems
    assert any("bytes are not those" in problem for problem in problems)
    held[len(held) // 2] ^= 1
    path.write_bytes(held)
    description = json.loads((tmp_path / "set" / "dataset.json").read_text())
    description["digest"] = "0" * 64
    (tmp_path / "set" / "dataset.json").write_text(json.dumps(description))
    assert ["digest in dataset.json is another" in p for p in verify_shards(made.folder).problems]
    # Shards of other items, whose checksums were made to fit.
    other = write_dataset(tmp_path / "other", [replace(items[0], text="no"), *items[1:]], spec)
    path.write_bytes((other.folder / other.shards[0].name).read_bytes())
    shard = description["shards"][0]
    shard["sha256"], shard["bytes"] = other.shards[0].sha256, other.shards[0].bytes
    (tmp_path / "set" / "dataset.json").write_text(json.dumps(description))
    assert any("items are not those" in p for p in verify_shards(made.folder).problems)


def test_a_sample_encoded_again(corpus, tmp_path, settings):
    build_dataset([corpus], tmp_path / "set", settings)
    given = open_dataset(tmp_path / "set").description["given"]
    assert Settings.from_given(given, "set") == settings
    found = verify_sample(tmp_path / "set", [corpus], settings)
    assert found.encoded == 10 and not found.problems
    assert verify_sample(tmp_path / "set", [corpus], settings, sample=3).encoded == 3
    write(corpus / "s0" / "4.wav", synthetic_speech(4800, 99), 16000)
    text = (corpus / "manifest.jsonl").read_text()
    (corpus / "manifest.jsonl").write_text(text.replace("number 6", "number six"))
    (corpus / "s1" / "1.wav").unlink()
    problems = verify_sample(tmp_path / "set", [corpus], settings).problems
    assert len(problems) == 3
    assert problems[0].startswith("s1/1: can't be encoded again") and "no such file" in problems[0]
    assert problems[1].startswith("s0/4: its source has changed")
    assert problems[2] == "s2/6: differs in text"
    with pytest.raises(DatasetError, match="built with other settings: channels 'mix' → 'first'"):
        verify_sample(tmp_path / "set", [corpus], replace(settings, channels="first"))
    with pytest.raises((DatasetError, TokenMismatchError), match=r"other settings: .*tokenizer"):
        verify_sample(tmp_path / "set", [corpus], replace(settings, codec="dmel-3bit"))
    problems = verify_sample(tmp_path / "set", [corpus / "s0"], settings).problems
    assert "s1/1: not in the inputs" in problems


def test_an_estimate(corpus, settings):
    """With the whole list as the sample, it is what a build gives."""
    text = (corpus / "manifest.jsonl").read_text()
    (corpus / "manifest.jsonl").write_text(text.replace('"speaker": "s3"', '"speaker": "s0"'))
    found = estimate([corpus], settings, share=1.0)
    assert (found.planned, found.sampled) == (12, 12)
    assert found.failed == pytest.approx(2 / 12) and found.dropped == 0
    samples = sum(2000 + 700 * n for n in range(12) if n not in (5, 7))
    assert found.hours == pytest.approx(samples / 16000 / 3600)
    frames = sum(-(-(2000 + 700 * n) // 400) for n in range(12) if n not in (5, 7))
    assert found.frames == frames and found.tokens == 80 * frames and found.bytes > frames
    assert found.splits == {"train": 9, "valid": 3}
    assert found.speakers == 3 and found.speakers_in_several == ("s0",)
    assert found.core_hours > 0 and found.hours_for(4) == found.core_hours / 4
    part = estimate([corpus], settings, share=0.01, least=3)
    assert part.sampled == 3
