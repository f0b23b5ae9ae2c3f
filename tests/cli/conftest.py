import io
import json
import os

import pytest
import soundfile

from syllabary.audio.files import write
from syllabary.cli.main import main
from syllabary.codecs.container import SylReader, chunk_size

from ..conftest import synthetic_speech

# Of `wav`: the last frame holds 13 samples, fewer than a decoder with little delay would give at
# once.
LENGTH = 48 * 320 + 13


@pytest.fixture
def run(capfdbinary):
    """Runs the command line in this process: returns exit code, stdout and stderr."""

    def call(*arguments, text=True):
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        out, err = capfdbinary.readouterr()
        return ended.value.code, out.decode() if text else out, err.decode()

    return call


@pytest.fixture
def tree(tmp_path):
    """Twelve short files in folders, and a manifest of them."""
    folder = tmp_path / "speech"
    lines = []
    for index in range(12):
        path = folder / f"s{index % 3}" / f"{index}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, synthetic_speech(3000 + 500 * index, index), 16000)
        lines.append({"path": f"s{index % 3}/{index}.wav", "split": ["train", "test"][index % 2]})
    (folder / "manifest.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return folder


def contents(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def stream(run, tmp_path):
    """Runs `syllabary stream …` on these bytes: exit code, output, stderr."""

    def call(data, *arguments):
        (tmp_path / "stdin").write_bytes(data)
        kept = os.dup(0)
        with (tmp_path / "stdin").open("rb") as file:
            os.dup2(file.fileno(), 0)
        try:
            return run("stream", *arguments, text=False)
        finally:
            os.dup2(kept, 0)
            os.close(kept)

    return call


@pytest.fixture
def wav(tmp_path):
    write(tmp_path / "my.wav", synthetic_speech(LENGTH), 16000)
    return tmp_path / "my.wav"


def pcm(path):
    """The samples of a 16-bit file as s16le."""
    return soundfile.read(path, dtype="int16")[0].astype("<i2").tobytes()


def split(data):
    """The header of a .syl file, and its chunks."""
    file = io.BytesIO(data)
    SylReader(file)
    parts = [data[: file.tell()]]
    rest = data[file.tell() :]
    while rest:
        size = chunk_size(rest) or len(rest)
        parts.append(rest[:size])
        rest = rest[size:]
    return parts
