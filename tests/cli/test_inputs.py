"""Segments, replaced sources, and inputs and outputs that are no plain files."""

import json
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import syllabary
from syllabary.audio.files import read, write
from syllabary.audio.manifests import read_manifest
from syllabary.codecs.container import SylReader, read_tokens
from syllabary.eval.harness.plan import read_data
from syllabary.eval.harness.reconstructions import Reconstructions
from syllabary.eval.systems import catalogue as systems
from syllabary.jobs import one_file
from syllabary.semantic.encoders import catalogue
from syllabary.semantic.units.feature_shards import FeatureShards
from syllabary.semantic.units.fitting import choose
from syllabary.training.data import build_store

from ..conftest import synthetic_speech

DMEL = ("--codec", "dmel")


@pytest.fixture
def segments(tmp_path):
    """Two manifests of the same sound: segments of one file, and files that were cut out of it."""
    write(tmp_path / "x.wav", synthetic_speech(80_000), 16_000)
    wave = read(tmp_path / "x.wav")[0]
    lines, cut = [], []
    for number, (start, length) in enumerate([(0, 1.0), (1.25, 0.5), (2.0, None)]):
        fields = {"path": "x.wav", "offset": start, "speaker": number}
        lines.append(fields | ({} if length is None else {"duration_s": length}))
        stop = len(wave) if length is None else int((start + length) * 16_000)
        write(tmp_path / f"{number}.wav", wave[int(start * 16_000) : stop], 16_000)
        cut.append({"path": f"{number}.wav", "speaker": str(number)})
    for name, content in (("segments", lines), ("cut", cut)):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, content)))
    return tmp_path / "segments.jsonl", tmp_path / "cut.jsonl"


def test_encode_takes_segments(run, segments, tmp_path):
    for manifest in segments:
        code, out, _ = run("encode", manifest, "-o", tmp_path / manifest.stem, *DMEL)
        assert code == 0 and "encoded 3 of 3" in out
        assert ("3 × a segment of the file" in out) == (manifest.stem == "segments")
    names = ["x-0.0-1.0", "x-1.25-1.75", "x-2.0-end"]
    for number, name in enumerate(names):
        found = read_tokens(tmp_path / "segments" / f"{name}.syl")
        assert found.equal(read_tokens(tmp_path / "cut" / f"{number}.syl"))
    with (tmp_path / "segments" / f"{names[1]}.syl").open("rb") as file:
        assert SylReader(file).metadata["source"]["segment"] == [20_000, 8000]
    command = ("encode", segments[0], "-o", tmp_path / "segments", *DMEL, "--resume")
    assert "3 of 3 were whole already" in run(*command)[1]


def test_resume_looks_at_the_segment(run, tmp_path):
    write(tmp_path / "x.wav", synthetic_speech(32_000), 16_000)
    manifest = tmp_path / "m.jsonl"
    command = ("encode", manifest, "-o", tmp_path / "out", *DMEL, "--resume")
    frames = []
    for fields in ({"offset": 0.5, "duration_s": 1}, {"offset": 0.5, "duration_s": 0.5}, {}):
        manifest.write_text(json.dumps({"path": "x.wav"} | fields))
        code, out, _ = run(*command)
        assert code == 0 and "encoded 1 of 1" in out
        assert "whole already" in run(*command)[1]
        frames.append(int(read_tokens(tmp_path / "out" / "x.syl").lengths[0]))
    assert frames == [40, 20, 80]


def test_eval_fit_and_train_take_segments(segments, tmp_path):
    items = [read_manifest(manifest) for manifest in segments]
    waves = [[item.read()[0] for item in each] for each in items]
    assert all(np.array_equal(*pair) for pair in zip(*waves, strict=True))
    stores = [build_store(m, tmp_path / m.stem) for m in segments]
    assert [store.lengths.tolist() for store in stores] == [[16_000, 8000, 48_000]] * 2
    assert stores[0].samples_digest == stores[1].samples_digest
    assert stores[0].speakers == stores[1].speakers == ("0", "1", "2")
    encoder = catalogue.find("mfcc")
    shards = [FeatureShards(tmp_path / "work", encoder, each, None).write() for each in items]
    rows = [np.load(each[0].features[0]) for each in shards]
    assert np.array_equal(rows[0], rows[1]) and shards[0][0].seconds == 4.5
    assert len(choose(items[0], 2.0 / 3600)) == len(choose(items[1], 2.0 / 3600))
    datas = [read_data([str(manifest)], None) for manifest in segments]
    assert [[item.duration_s for item in data.items] for data in datas] == [[1.0, 0.5, 3.0]] * 2
    made = Reconstructions(systems.find("dmel"), tmp_path / "audio")
    for one, two in zip(datas[0].items, datas[1].items, strict=True):
        assert np.array_equal(made.wave(one), made.wave(two))
        assert np.array_equal(made.make(one).wave, made.make(two).wave)
    # Another segment of the same file is other data.
    segments[0].write_text(segments[0].read_text().replace("1.25", "1.5"))
    assert read_data([str(segments[0])], None).digest != datas[0].digest
    assert build_store(segments[0], stores[0].folder).samples_digest != stores[1].samples_digest


def replace_alike(path, seed):
    """Other sound in a file of the same size and times, as far as a program can set them."""
    before = path.stat()
    write(path, synthetic_speech(before.st_size // 2 - 22, seed), 16_000)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size


def test_stores_and_features_look_at_contents(tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("a", "b"):
        write(tmp_path / "in" / f"{name}.wav", synthetic_speech(9000), 16_000)
    items = [item for name in ("a", "b") for item in read_items(tmp_path / "in" / f"{name}.wav")]
    calls = []
    arguments = {"progress": lambda *numbers: calls.append(numbers)}
    store = build_store(tmp_path / "in", tmp_path / "store", **arguments)
    first = FeatureShards(tmp_path, catalogue.find("mfcc"), items, None).key
    # Touched, and moved to and fro: the same contents, which are not decoded again.
    (tmp_path / "in" / "a.wav").touch()
    assert build_store(tmp_path / "in", tmp_path / "store", **arguments).digest == store.digest
    assert FeatureShards(tmp_path, catalogue.find("mfcc"), items, None).key == first
    assert len(calls) == 2
    replace_alike(tmp_path / "in" / "b.wav", 1)
    again = build_store(tmp_path / "in", tmp_path / "store", **arguments)
    assert again.samples_digest != store.samples_digest and len(calls) == 4
    assert FeatureShards(tmp_path, catalogue.find("mfcc"), items, None).key != first


def read_items(path):
    from syllabary.audio.manifests import collect

    return collect([path])


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "opus", "mp3"])
def test_resume_of_encoding_and_decoding_looks_at_contents(run, tmp_path, suffix):
    source, tokens, back = (tmp_path / name for name in ("in", "tokens", "back"))
    source.mkdir()
    for name in ("a", "b"):
        write(source / f"{name}.wav", synthetic_speech(9000), 16_000)
    encode = ("encode", source, "-o", tokens, *DMEL, "--resume")
    decode = ("decode", tokens, "-o", back, "--format", suffix, "--resume")
    assert run(*encode)[0] == run(*decode)[0] == 0
    kept = (back / f"a.{suffix}").read_bytes()
    for command in (encode, decode):
        assert "2 of 2 were whole already" in run(*command)[1]
    replace_alike(source / "b.wav", 1)
    for command in (encode, decode):
        code, out, _ = run(*command)
        assert code == 0 and "1 of 2 were whole already" in out and "made anew" in out
    expected = syllabary.load("dmel").encode(*read(source / "b.wav"))
    assert read_tokens(tokens / "b.syl").equal(expected)
    # What decoding gives now is what decoding into an empty folder gives.
    assert run("decode", tokens, "-o", tmp_path / "fresh", "--format", suffix)[0] == 0
    for name in ("a", "b"):
        found, fresh = (
            read(folder / f"{name}.{suffix}")[0] for folder in (back, tmp_path / "fresh")
        )
        assert np.array_equal(found, fresh)
    assert (back / f"a.{suffix}").read_bytes() == kept


def test_decoding_does_not_keep_what_is_of_others(run, tmp_path):
    write(tmp_path / "x.wav", synthetic_speech(9000), 16_000)
    assert run("encode", tmp_path / "x.wav", *DMEL)[0] == 0
    command = ("decode", tmp_path / "x.syl", "-o", tmp_path / "y.wav", "--resume")
    write(tmp_path / "y.wav", synthetic_speech(9000), 16_000)
    code, _, err = run(*command)
    assert code == 2 and "y.wav exists, by another program; use --force" in err
    assert run(*command, "--force")[0] == 0
    assert run(*command)[0] == 0
    code, _, err = run(*command, "--clipping", "error")
    assert code == 2 and "made with another --clipping" in err
    (tmp_path / "y.wav").write_bytes(b"no audio")
    code, _, err = run(*command)
    assert code == 2 and "y.wav: no audio file" in err


def test_resume_does_not_mix_decoders(run, tmp_path):
    """Whose codes are the same, so that nothing else would tell."""
    other = syllabary.load("rvq-16k")
    with torch.no_grad():
        for parameter in other.decoder.parameters():
            parameter.mul_(0.9)
    other.save_pretrained(tmp_path / "other")
    assert other.spec.tokens.digest == syllabary.load("rvq-16k").spec.tokens.digest
    (tmp_path / "in").mkdir()
    for name in ("a", "b"):
        write(tmp_path / "in" / f"{name}.wav", synthetic_speech(9000), 16_000)
    assert run("encode", tmp_path / "in", "-o", tmp_path / "t", "--codec", "rvq-16k")[0] == 0
    command = ("decode", tmp_path / "t", "-o", tmp_path / "back", "--resume")
    assert run(*command)[0] == 0
    (tmp_path / "back" / "b.wav").unlink()
    assert run(*command, "--codec", tmp_path / "other")[0] == 1
    kept = read(tmp_path / "back" / "b.wav")[0]
    errors = (tmp_path / "back" / "errors.jsonl").read_text()
    assert "a.wav exists, made by another decoder; use --force" in errors
    # With --force it is made anew, and what is whole stays.
    times = (tmp_path / "back" / "b.wav").stat().st_mtime_ns
    code, out, _ = run(*command, "--codec", tmp_path / "other", "--force")
    assert code == 0 and "decoded 1 of 2" in out and "1 of 2 were whole already" in out
    assert np.array_equal(read(tmp_path / "back" / "a.wav")[0], kept)  # of the same speech
    assert (tmp_path / "back" / "b.wav").stat().st_mtime_ns == times


def test_resume_does_not_overwrite_what_is_no_file_of_tokens(run, tmp_path):
    write(tmp_path / "x.wav", synthetic_speech(9000), 16_000)
    command = ("encode", tmp_path / "x.wav", "-o", tmp_path / "book", *DMEL, "--resume")
    for content in (b"a book", b"\x89PNG\r\n"):
        (tmp_path / "book").write_bytes(content)
        code, _, err = run(*command)
        assert code == 2 and "book exists and is no .syl file; use --force" in err
        assert (tmp_path / "book").read_bytes() == content
    for content in (b"", b"\x89SY"):  # a file of tokens that was cut short at once
        (tmp_path / "book").write_bytes(content)
        assert run(*command)[0] == 0 and len(read_tokens(tmp_path / "book").lengths) == 1


def test_segments_of_a_file_hash_it_once(run, tmp_path, monkeypatch):
    write(tmp_path / "x.wav", synthetic_speech(32_000), 16_000)
    lines = [{"path": "x.wav", "offset": n / 4, "duration_s": 0.25} for n in range(6)]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, lines)))
    command = ("encode", tmp_path / "m.jsonl", "-o", tmp_path / "out", *DMEL, "--workers", 1)
    hashed, real = [], one_file.content_digest
    monkeypatch.setattr(one_file, "content_digest", lambda path: hashed.append(path) or real(path))
    assert run(*command)[0] == 0
    assert len(hashed) == 6  # it has just been written, and may still change
    monkeypatch.setattr(one_file, "_SETTLED", 0.0)
    hashed.clear()
    assert "6 of 6 were whole already" in run(*command, "--resume")[1] and len(hashed) == 1
    replace_alike(tmp_path / "x.wav", 1)
    assert "encoded 6 of 6" in run(*command, "--resume")[1] and len(hashed) == 2


def test_pipes_of_the_shell_are_single_inputs_and_outputs(tmp_path):
    write(tmp_path / "x.wav", synthetic_speech(9000), 16_000)
    program = f"{sys.executable} -m syllabary"
    lines = [
        f"{program} encode x.wav -o x.syl --codec dmel",
        # As ffmpeg writes into a pipe: sizes that it could not know.
        f"{program} encode <(head -c 40 x.wav; printf '\\377\\377\\377\\377'; tail -c +45 x.wav) "
        "-o y.syl --codec dmel",
        f"{program} encode x.wav -o >(cat > z.syl) --codec dmel; wait",
        f"{program} decode <(cat x.syl) -o x.back.wav",
        f"{program} decode x.syl -o y.back.wav",
        f"{program} roundtrip <(cat x.wav) -o r --codec dmel --scores stoi > /dev/null",
        f"{program} encode <(cat x.wav) --codec dmel; test $? = 2",
        f"{program} encode x.wav -o /dev/stdout --force --codec dmel > out.txt",
    ]
    script = (
        " && ".join(f"{{ {line}; }}" for line in lines) + "; status=$?; sleep 0.5; exit $status"
    )
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert "say -o FILE" in done.stderr
    expected = read_tokens(tmp_path / "x.syl")
    for name in ("y.syl", "z.syl"):
        assert read_tokens(tmp_path / name).equal(expected)
    assert np.array_equal(*(read(tmp_path / f"{name}.back.wav")[0] for name in "xy"))
    assert (tmp_path / "out.txt").read_bytes() == (tmp_path / "x.syl").read_bytes()
    assert [path.suffix for path in sorted((tmp_path / "r").iterdir())] == [".syl", ".wav"]


def test_a_fifo_in_a_folder_is_no_input(run, tree, tmp_path):
    (tree / "manifest.jsonl").unlink()
    os.mkfifo(tree / "s1" / "pipe.wav")
    code, out, err = run("encode", tree, "-o", tmp_path / "out", *DMEL)
    assert code == 1 and "encoded 12 of 13" in out and "pipe.wav: a FIFO, expected a file" in err
    os.mkfifo(tmp_path / "out" / "pipe.syl")
    code, out, err = run("decode", tmp_path / "out", "-o", tmp_path / "back")
    assert code == 1 and "decoded 12 of 13" in out and "pipe.syl: a FIFO" in err


def test_a_folder_that_can_not_be_read_is_a_failure(run, tree, tmp_path, monkeypatch):
    (tree / "manifest.jsonl").unlink()
    real = os.scandir

    def scandir(path="."):
        if os.fspath(path).endswith("s1"):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    for given in (tree, f"{tree}/**/*.wav"):
        code, _, err = run("encode", given, "-o", tmp_path / "out", *DMEL, "--resume")
        assert code == 1 and "s1: this folder can't be read: Permission denied" in err
    assert len(list((tmp_path / "out").glob("*/*.syl"))) == 8
    (line,) = (tmp_path / "out" / "errors.jsonl").read_text().splitlines()
    assert json.loads(line)["input"] == str(tree / "s1")


def test_outputs_that_are_no_plain_files(run, tmp_path):
    write(tmp_path / "x.wav", synthetic_speech(9000), 16_000)
    assert run("encode", tmp_path / "x.wav", *DMEL)[0] == 0
    (tmp_path / "link.syl").symlink_to("real.syl")
    (tmp_path / "real.syl").write_bytes(b"old")
    code, _, err = run("encode", tmp_path / "x.wav", "-o", tmp_path / "link.syl", *DMEL)
    assert code == 2 and "exists already" in err
    assert run("encode", tmp_path / "x.wav", "-o", tmp_path / "link.syl", *DMEL, "--force")[0] == 0
    assert (tmp_path / "link.syl").is_symlink()
    assert read_tokens(tmp_path / "real.syl").equal(read_tokens(tmp_path / "x.syl"))
    os.mkfifo(tmp_path / "pipe.wav")
    came = []
    reader = threading.Thread(target=lambda: came.append((tmp_path / "pipe.wav").read_bytes()))
    reader.start()
    # Nothing is overwritten, so this needs no --force.
    assert run("decode", tmp_path / "x.syl", "-o", tmp_path / "pipe.wav", "--resume")[0] == 0
    reader.join(30)
    assert stat.S_ISFIFO((tmp_path / "pipe.wav").stat().st_mode)
    (tmp_path / "came.wav").write_bytes(came[0])
    assert soundfile.info(tmp_path / "came.wav").frames == 9000


@pytest.mark.parametrize(
    "arguments",
    [
        ["encode", ""],
        ["encode", "x.wav", "-o", ""],
        ["encode", "x.wav", "--output="],
        ["encode", "x.wav", "--codec", ""],
        ["decode", ""],
        ["info", ""],
        ["eval", "dmel", "--data", "", "-o", "out"],
    ],
)
def test_empty_arguments_mean_no_folder(run, tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    write(Path("x.wav"), synthetic_speech(800), 16_000)
    code, _, err = run(*arguments)
    assert code == 2 and "is a variable of the shell not set?" in err
    assert [path.name for path in tmp_path.iterdir()] == ["x.wav"]


def test_what_can_not_be_opened_or_written_is_named_with_the_reason(run, tmp_path, monkeypatch):
    write(tmp_path / "x.wav", synthetic_speech(9000), 16_000)
    assert run("encode", tmp_path / "x.wav", *DMEL)[0] == 0
    real = Path.open

    def closed(path, *arguments, **options):
        if path.name.startswith("x."):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", closed)
        code, _, err = run("encode", tmp_path / "x.wav", "-o", tmp_path / "y.syl", *DMEL)
        assert code == 2 and "x.wav: can't be read: Permission denied" in err
        code, _, err = run("decode", tmp_path / "x.syl", "-o", tmp_path / "y.wav")
        assert code == 2 and "x.syl: Permission denied" in err


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk takes root")
@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "opus", "mp3", "syl"])
def test_a_full_disk_is_named(run, tmp_path, suffix):
    (tmp_path / "disk").mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8k", "tmpfs", tmp_path / "disk"]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        write(tmp_path / "x.wav", synthetic_speech(160_000), 16_000)
        target = tmp_path / "disk" / f"y.{suffix}"
        assert run("encode", tmp_path / "x.wav", *DMEL)[0] == 0
        command = ("encode", tmp_path / "x.wav", *DMEL)
        if suffix != "syl":
            command = ("decode", tmp_path / "x.syl")
        code, _, err = run(*command, "-o", target)
        assert code == 2 and "Traceback" not in err
        assert f"y.{suffix}" in err and "No space left on device" in err
        assert not list((tmp_path / "disk").iterdir())
    finally:
        subprocess.run(["umount", tmp_path / "disk"], check=True)


@pytest.mark.parametrize("taken", ["file", "folder", None])
def test_a_hyphen_is_a_stream_and_never_a_path(run, wav, tmp_path, monkeypatch, taken):
    """Whatever there is of that name; `./-` is a file like any other."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    hyphen = Path("-").absolute()
    if taken == "file":
        hyphen.write_bytes(b"mine")
    elif taken == "folder":
        hyphen.mkdir()
    whole = tmp_path / "whole.syl"
    assert run("encode", wav, *DMEL, "-o", whole)[0] == 0
    for more in ((), ("--resume",), ("--force",)):
        code, out, err = run("encode", wav, *DMEL, "-o", "-", *more, text=False)
        assert (code, out, err) == (0, whole.read_bytes(), "")
    code, out, _ = run("decode", whole, "-o", "-", text=False)
    assert code == 0 and out[:4] == b"RIFF"
    if taken == "file":
        assert hyphen.read_bytes() == b"mine"
        assert run("encode", wav, *DMEL, "-o", "./-")[0] == 2
        assert hyphen.read_bytes() == b"mine"
    else:
        assert hyphen.is_dir() == (taken == "folder")
    if taken != "folder":
        code, out, _ = run("encode", wav, *DMEL, "-o", "./-", "--force")
        assert code == 0 and hyphen.read_bytes() == whole.read_bytes()
        assert run("decode", "./-", "-o", tmp_path / "decoded.wav")[0] == 0
        assert len(read(tmp_path / "decoded.wav")[0]) == len(read(wav)[0])
