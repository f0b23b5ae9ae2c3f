import json

import pytest

from syllabary.audio.files import write
from syllabary.cli.main import main

from ..conftest import synthetic_speech


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
