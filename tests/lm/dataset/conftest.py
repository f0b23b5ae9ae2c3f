"""A small corpus: twelve utterances of four speakers, of which two can't be read."""

import json

import pytest

from syllabary.audio.files import write
from syllabary.lm.dataset.settings import Settings

from ...conftest import synthetic_speech


@pytest.fixture
def corpus(tmp_path):
    """A folder with a manifest.jsonl."""
    folder = tmp_path / "speech"
    lines = []
    for number in range(12):
        path = folder / f"s{number % 4}" / f"{number}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        if number != 5:  # missing
            write(path, synthetic_speech(2000 + 700 * number, number), 16000)
        line = {"path": f"s{number % 4}/{number}.wav", "speaker": f"s{number % 4}"}
        line |= {"text": f"this is number {number}", "lang": "en", "take": number}
        line |= {"split": "valid" if number % 4 == 3 else "train"}
        lines.append(line)
    (folder / "s3" / "7.wav").write_bytes(b"RIFF, but no sound")
    (folder / "manifest.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return folder


@pytest.fixture
def settings():
    return Settings(codec="dmel-narrow", codes_a_shard=6000)


@pytest.fixture
def small_pieces(monkeypatch):
    """Pieces of three utterances."""
    monkeypatch.setattr("syllabary.lm.dataset.plan.PIECE_ITEMS", 3)


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
