import json
import re
import subprocess
import sys

import pytest

import syllabary
from syllabary.audio.files import write
from syllabary.eval import round_trip as round_trips

from ..conftest import synthetic_speech


def test_list(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = run("list")
    assert code == 0
    assert all(name in out for name in syllabary.list_tokenizers())
    assert max(map(len, out.splitlines())) <= 80
    code, out, _ = run("list", "--json")
    specs = [json.loads(line) for line in out.splitlines()]
    assert {spec["tokens"]["tokenizer"] for spec in specs} == set(syllabary.list_tokenizers())
    assert all(spec["bitrate"] > 0 and spec["license"] for spec in specs)


def test_list_of_published_models(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    code, out, _ = run("list", "--published")
    assert code == 0 and max(map(len, out.splitlines())) <= 100
    assert "google/lyra (folder)" in out and "facebook/encodec_48khz" in out
    assert "CC-BY-NC-4.0" in out
    code, out, _ = run("list", "--published", "--json")
    models = {fields["id"]: fields for fields in map(json.loads, out.splitlines())}
    assert len(models) >= 17 and all(model["license"] for model in models.values())
    assert models["hubertsiuzdak/snac_24khz"]["bitrate"] == 984.375
    assert models["neuphonic/neucodec"]["decoded_sample_rate"] == 24_000
    assert models["eustlb/pocket-tts-audio-tokenizer"]["latent_channels"] == 32


def test_the_list_of_published_models_loads_no_torch():
    code = (
        "import sys; from syllabary.cli.main import main\n"
        "try: main(['list', '--published'])\n"
        "except SystemExit as ended: assert ended.code == 0\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_info(run, tmp_path):
    write(tmp_path / "x.wav", synthetic_speech(16000), 16000)
    assert run("encode", tmp_path / "x.wav", "--compress")[0] == 0
    code, out, _ = run("info", tmp_path / "x.syl")
    assert code == 0
    fields = dict(line.split(None, 1) for line in out.splitlines())
    assert fields["tokenizer"] == "rvq-16k" and fields["whole"] == "yes"
    assert fields["codebook_sizes"] == "8 × 1024" and fields["entropy_coded"] == "yes"
    code, out, _ = run("info", tmp_path / "x.syl", "--json")
    assert json.loads(out)["samples"] == 16000
    (tmp_path / "x.syl").write_bytes((tmp_path / "x.syl").read_bytes()[:-30])
    code, out, err = run("info", tmp_path / "x.syl")
    assert code == 1 and "cut short" in err and "digest" in out
    broken = bytearray((tmp_path / "x.syl").read_bytes())
    broken[30] ^= 1
    (tmp_path / "y.syl").write_bytes(broken)
    code, out, err = run("info", tmp_path / "y.syl", tmp_path / "x.syl", "--json")
    assert code == 1 and "header is damaged" in err
    assert json.loads(out)["file"] == str(tmp_path / "x.syl")


def test_info_loads_no_torch(tmp_path, demo_clip):
    subprocess.run(
        [sys.executable, "-m", "syllabary", "encode", demo_clip, "-o", tmp_path / "x.syl"],
        check=True,
        capture_output=True,
    )
    script = (
        "import sys; from syllabary.cli.main import main\n"
        "try: main(['info', sys.argv[1]])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script, tmp_path / "x.syl"], check=True)


def test_roundtrip(run, tmp_path, demo_clip):
    pytest.importorskip("pesq")
    write(tmp_path / "quiet.wav", synthetic_speech(16000) * 0, 16000)
    code, out, _ = run("roundtrip", demo_clip, tmp_path / "quiet.wav", "-o", tmp_path / "out")
    assert code == 0
    assert "PESQ-wb missing for 1 of 2: the reference is silent" in out
    assert (tmp_path / "out" / "demo.wav").exists() and (tmp_path / "out" / "demo.syl").exists()
    code, out, _ = run("roundtrip", demo_clip, "-o", tmp_path / "out", "--json", "--force")
    line = json.loads(out)
    assert line["scores"]["pesq-wb"] > 1.5 and 0.8 < line["scores"]["stoi"] < 1
    assert run("roundtrip", demo_clip, "-o", tmp_path / "out")[0] == 2
    assert run("roundtrip", demo_clip)[0] == 0


def test_a_roundtrip_for_scores_keeps_no_files(run, tmp_path, monkeypatch):
    """A corpus would fill the disk for temporary files."""
    seen, real = [], round_trips.decode_file

    def decode_file(tokenizer, reader, target, **more):
        seen.append(sorted(path.name for path in target.parent.iterdir()))
        return real(tokenizer, reader, target, **more)

    monkeypatch.setattr(round_trips, "decode_file", decode_file)
    for name in "ab":
        write(tmp_path / f"{name}.wav", synthetic_speech(16000), 16000)
    (tmp_path / "c.wav").write_bytes(b"no audio")
    command = ("roundtrip", tmp_path / "a.wav", tmp_path / "c.wav", tmp_path / "b.wav")
    assert run(*command, "--codec", "dmel", "--scores", "stoi")[0] == 1
    assert seen == [["a.syl"], ["b.syl"]]


def test_roundtrip_tables_fit_80_columns(tmp_path, demo_clip):
    long = tmp_path / "2414-128291-0000-of-a-long-name.flac"
    long.write_bytes(demo_clip.read_bytes())
    scored = r" +\d+ +\d+\.\d +\d\.\d{3} +\d\.\d{3} *$"
    write(tmp_path / "empty.wav", synthetic_speech(0), 16000)
    command = [sys.executable, "-m", "syllabary", "roundtrip", long, tmp_path / "empty.wav"]
    environment = {"COLUMNS": "80", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    row = next(line for line in lines if line.startswith(" 2414"))
    assert re.search(r" 7\.31 +2928 +4\.\d\d" + scored, row)
    assert " – " in next(line for line in lines if line.startswith(" empty"))


def test_demo(run, tmp_path):
    pytest.importorskip("matplotlib")
    code, out, _ = run("demo", "-o", tmp_path)
    assert code == 0
    for name in ("demo.syl", "demo.wav", "demo.png"):
        assert (tmp_path / name).stat().st_size > 1000
        assert name in out
    assert (tmp_path / "demo.png").read_bytes()[:4] == b"\x89PNG"
    assert "PESQ-wb" in out and "kbit/s" in out


def test_the_demo_fits_80_columns(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "syllabary", "demo", "-o", "demo-out"],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env={"COLUMNS": "80", "PATH": "/usr/bin:/bin"},
    )
    assert max(map(len, done.stdout.splitlines())) <= 80, done.stdout
