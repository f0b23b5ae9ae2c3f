import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

import syllabary
from syllabary.audio.files import read, write
from syllabary.codecs.container import read_tokens

from ..conftest import synthetic_speech
from .conftest import contents

SYLLABARY = [sys.executable, "-m", "syllabary"]


@pytest.fixture
def wav(tmp_path):
    write(tmp_path / "my.wav", synthetic_speech(16000), 16000)
    return tmp_path / "my.wav"


def test_the_shortest_way(run, wav):
    code, out, _ = run("encode", wav)
    assert code == 0 and "1.00 s, 50 frames × 8" in out and "kbit/s" in out
    code, out, _ = run("decode", wav.with_suffix(".syl"))
    assert code == 0
    assert read(wav.with_name("my.decoded.wav"))[0].shape == (16000,)


def test_overwriting_needs_force(run, wav):
    assert run("encode", wav)[0] == 0
    code, _, err = run("encode", wav)
    assert code == 2 and "exists already" in err and "Traceback" not in err
    assert run("encode", wav, "--force")[0] == 0
    assert run("decode", wav.with_suffix(".syl"))[0] == 0
    assert run("decode", wav.with_suffix(".syl"))[0] == 2
    assert run("decode", wav.with_suffix(".syl"), "--force")[0] == 0


def test_a_folder_keeps_its_tree(run, tree, tmp_path):
    code, out, _ = run("encode", tree, "-o", tmp_path / "out")
    assert code == 0 and "encoded 12 of 12 files" in out and "× real time" in out
    assert len(list((tmp_path / "out").rglob("*.syl"))) == 12
    assert (tmp_path / "out" / "s1" / "7.syl").exists()
    code, out, _ = run("decode", tmp_path / "out", "-o", tmp_path / "back", "--format", "flac")
    assert code == 0 and "decoded 12 of 12" in out
    assert read(tmp_path / "back" / "s1" / "7.flac")[0].shape == (6500,)


def test_a_split_of_a_manifest(run, tree, tmp_path):
    code, out, _ = run("encode", tree, "--split", "test", "-o", tmp_path / "out", "--json")
    assert code == 0
    lines = [json.loads(line) for line in out.splitlines()]
    assert len(lines) == 7 and lines[-1]["summary"]["done"] == 6
    assert all(line["status"] == "done" and line["bytes"] > 0 for line in lines[:-1])
    code, _, err = run("encode", tree, "--split", "valid", "-o", tmp_path / "out2")
    assert code == 2 and "it has test, train" in err


def test_failures_are_listed_and_the_rest_goes_on(run, tree, tmp_path):
    (tree / "s0" / "0.wav").write_bytes(b"no audio")
    (tree / "s1" / "1.wav").unlink()
    code, out, err = run("encode", tree, "-o", tmp_path / "out")
    assert code == 1 and "encoded 10 of 12" in out and "errors.jsonl" in err
    errors = (tmp_path / "out" / "errors.jsonl").read_text().splitlines()
    reasons = {Path(json.loads(line)["input"]).name: json.loads(line)["error"] for line in errors}
    assert "no such file" in reasons["1.wav"] and "0.wav" in reasons["0.wav"]
    assert len(list((tmp_path / "out").rglob("*.syl"))) == 10
    write(tree / "s0" / "0.wav", synthetic_speech(100), 16000)
    write(tree / "s1" / "1.wav", synthetic_speech(100), 16000)
    code, out, _ = run("encode", tree, "-o", tmp_path / "out", "--resume")
    assert code == 0 and "10 of 12 were whole already" in out
    assert not (tmp_path / "out" / "errors.jsonl").exists()


def test_resume_redoes_what_is_not_whole(run, tree, tmp_path):
    out = tmp_path / "out"
    assert run("encode", tree, "-o", out)[0] == 0
    expected = contents(out)
    cut = out / "s1" / "7.syl"
    cut.write_bytes(cut.read_bytes()[:-20])
    (out / "s0" / "3.syl").unlink()
    gone = subprocess.Popen(["true"])
    gone.wait()
    from syllabary import filesystem

    lost = out / "s0" / f"{filesystem._temporary_stem(out / 's0' / '3.syl')}{gone.pid}.tmp.syl"
    lost.write_bytes(b"half")
    alive = lost.with_name(lost.name.replace(f"-{gone.pid}.", f"-{os.getppid()}."))
    alive.write_bytes(b"another process is at work on this")
    code, text, _ = run("encode", tree, "-o", out, "--resume")
    assert code == 0 and "encoded 2 of 12" in text and "10 of 12 were whole already" in text
    alive.unlink()
    assert contents(out) == expected


def test_resume_does_not_mix_tokenizers(run, tree, tmp_path):
    assert run("encode", tree, "-o", tmp_path / "out")[0] == 0
    code, _, err = run("encode", tree, "-o", tmp_path / "out", "--resume", "--codec", "dmel-fine")
    made, now = (syllabary.load(name).spec.tokens.digest[:12] for name in ("rvq-16k", "dmel-fine"))
    assert code == 1 and f"made with tokenizer {made}, which is now {now}" in err
    assert "--force" in err


@pytest.mark.parametrize(
    ("option", "what"),
    [(["--channels", "first"], "--channels mix"), (["--compress"], "--compress False")],
)
def test_resume_does_not_mix_options_or_sources(run, wav, option, what):
    assert run("encode", wav)[0] == 0
    code, _, err = run("encode", wav, "--resume", *option)
    assert code == 2 and f"made with {what}, which is now" in err
    assert run("encode", wav, "--resume")[0] == 0
    for length, seed in ((9000, 0), (9000, 1)):  # another size, and then the same one
        write(wav, synthetic_speech(length, seed), 16000)
        code, out, _ = run("encode", wav, "--resume")
        assert code == 0 and "of another source: made anew" in out
        expected = syllabary.load("rvq-16k").encode(*read(wav))
        assert read_tokens(wav.with_suffix(".syl")).equal(expected)
        code, out, _ = run("encode", wav, "--resume")
        assert code == 0 and "were whole already" in out


def test_names_that_are_not_text(run, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    odd = Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.wav"))
    for path in (folder / "a.wav", odd, folder / "z.wav"):
        write(path, synthetic_speech(3000), 16000)
    (folder / "b.wav").write_bytes(b"no audio")
    code, out, err = run("encode", folder, "-o", tmp_path / "out", "--json")
    assert code == 1 and "b.wav" in err
    assert "caf\\\\udce9.wav" in out
    assert len(list((tmp_path / "out").iterdir())) == 5  # three outputs and two lists
    odd.write_bytes(b"no audio")
    code, _, err = run("encode", folder, "-o", tmp_path / "out2")
    assert code == 1 and "2 of 4 failed" in err
    long = tmp_path / ("x" * 240 + ".wav")
    write(long, synthetic_speech(3000), 16000)
    assert run("encode", long)[0] == 0


def test_an_output_is_never_its_input(run, wav):
    before = wav.read_bytes()
    code, _, err = run("encode", wav, "-o", wav, "--force")
    assert code == 2 and "is the input itself" in err
    assert wav.read_bytes() == before


def test_a_file_can_not_make_this_machine_load_a_model(run, wav, tmp_path):
    tokenizer = syllabary.load("dmel")
    for name in ("owner/model", str(tmp_path)):
        tokenizer.name = name
        tokenizer.__dict__.pop("spec", None)
        syllabary.write_tokens(tmp_path / "x.syl", tokenizer.encode(*read(wav)))
        code, _, err = run("decode", tmp_path / "x.syl")
        assert code == 2 and "with --codec" in err and "hub" not in err


def test_folders_of_tokens_with_a_manifest_of_audio(run, tree, tmp_path):
    assert run("encode", tree, "-o", tree)[0] == 0
    code, out, _ = run("decode", tree, "-o", tmp_path / "back")
    assert code == 0 and "decoded 12 of 12" in out


def test_links(run, tree, tmp_path):
    (tree / "manifest.jsonl").unlink()
    farm = tmp_path / "farm"
    farm.mkdir()
    (farm / "linked").symlink_to(tree)
    (tree / "circle").symlink_to(farm)
    code, out, _ = run("encode", farm, "-o", tmp_path / "out")
    assert code == 0 and "encoded 12 of 12" in out
    assert (tmp_path / "out" / "linked" / "s1" / "7.syl").exists()


def test_a_killed_run_resumes_to_the_same_bytes(tmp_path, run):
    folder = tmp_path / "speech"
    folder.mkdir()
    for index in range(150):
        write(folder / f"{index}.wav", synthetic_speech(8000, index), 16000)
    assert run("encode", folder, "-o", tmp_path / "whole")[0] == 0
    command = [*SYLLABARY, "encode", str(folder), "-o", str(tmp_path / "out")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while len(list((tmp_path / "out").glob("*.syl"))) < 20 and time.monotonic() < deadline:
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = len(list((tmp_path / "out").glob("*.syl")))
    assert 20 <= done < 150
    code, out, _ = run("encode", folder, "-o", tmp_path / "out", "--resume")
    assert code == 0 and "were whole already" in out
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_pipes(wav, tmp_path):
    encoded = subprocess.run(
        [*SYLLABARY, "encode", "-"], input=wav.read_bytes(), capture_output=True, check=True
    )
    (tmp_path / "x.syl").write_bytes(encoded.stdout)
    assert read_tokens(tmp_path / "x.syl").equal(syllabary.load("rvq-16k").encode(*read(wav)))
    decoded = subprocess.run(
        [*SYLLABARY, "decode", "-", "-o", "-"],
        input=encoded.stdout,
        capture_output=True,
        check=True,
    )
    wave, rate = soundfile.read(io.BytesIO(decoded.stdout))
    assert rate == 16000 and wave.shape == (16000,)
    info = subprocess.run(
        [*SYLLABARY, "info", "-"], input=encoded.stdout, capture_output=True, check=True
    )
    assert b"8 \xc3\x97 1024" in info.stdout


def test_a_closed_pipe_is_no_error(wav):
    # More than a pipe holds, so that the writer must meet its closed end.
    write(wav, synthetic_speech(16000 * 90), 16000)
    command = f"{sys.executable} -m syllabary encode {wav} -o - | head -c 10 > /dev/null"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False
    )
    assert "Traceback" not in done.stderr
    assert done.returncode == 141


def test_pipes_say_what_was_done(wav, tmp_path):
    stereo = np.stack([synthetic_speech(9000, 1), synthetic_speech(9000, 2)], 1)
    soundfile.write(tmp_path / "x.wav", stereo, 16000)
    audio = (tmp_path / "x.wav").read_bytes()
    command = [*SYLLABARY, "encode", "-", "--json"]
    done = subprocess.run(command, input=audio, capture_output=True, check=True)
    assert done.stdout[:4] == b"\x89SYL"
    assert json.loads(done.stderr.splitlines()[0])["notes"] == ["2 channels: averaged"]
    target = tmp_path / "new" / "x.syl"
    command = [*SYLLABARY, "encode", "-", "-o", str(target)]
    done = subprocess.run(command, input=audio, capture_output=True, check=True)
    assert target.exists() and b"averaged" in done.stdout
    done = subprocess.run([*command[:-1], str(tmp_path)], input=audio, capture_output=True)
    assert done.returncode == 2 and b"is a folder" in done.stderr


def test_standard_output_and_single_targets(run, wav, tmp_path):
    code, out, _ = run("encode", wav, "-o", "-", text=False)
    assert code == 0 and out[:4] == b"\x89SYL"
    assert run("encode", wav, "-o", tmp_path / "named.syl")[0] == 0
    assert run("encode", wav, "-o", f"{tmp_path}/folder/")[0] == 0
    assert (tmp_path / "folder" / "my.syl").exists()
    code, out, _ = run("decode", tmp_path / "named.syl", "-o", "-", text=False)
    assert code == 0 and out[:4] == b"RIFF"
    assert run("decode", tmp_path / "named.syl", "-o", tmp_path / "x.flac")[0] == 0
    assert soundfile.info(tmp_path / "x.flac").frames == 16000


def test_a_saved_tokenizer_by_its_directory(run, wav, tmp_path):
    tokenizer = syllabary.load("dmel", num_levels=12)
    tokenizer.name = "mine"
    tokenizer.save_pretrained(tmp_path / "mine")
    assert run("encode", wav, "--codec", tmp_path / "mine")[0] == 0
    code, _, err = run("decode", wav.with_suffix(".syl"))
    assert code == 2 and "made by 'mine'" in err and "--codec" in err
    assert run("decode", wav.with_suffix(".syl"), "--codec", tmp_path / "mine")[0] == 0
    code, _, err = run("decode", wav.with_suffix(".syl"), "--codec", "dmel", "--force")
    assert code == 2 and "made by mine" in err and "not by dmel" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["encode", "none.wav"], "no such file"),
        (["encode", "{wav}", "--codec", "dmell"], "did you mean dmel"),
        (["encode", "{wav}", "--codec", "dmel", "--codebooks", "3"], "takes 80 codebooks, got 3"),
        (["encode", "{wav}", "--codebooks", "9"], "takes 1 to 8 codebooks, got 9"),
        (["encode", "{wav}", "{wav}"], "say -o FOLDER"),
        (["encode", "{wav}", "{wav}", "-o", "{wav}"], "is a file"),
        (["encode", "-", "{wav}"], "can't be mixed"),
        (["encode", "{wav}", "{wav}", "-o", "-"], "holds one file"),
        (["encode", "{wav}", "--channels", "both"], "expected mix, first, mono"),
        (["encode", "{wav}", "--device", "abacus"], "device 'abacus'"),
        (["decode", "-", "-"], "can't be mixed"),
        (["encode", "{text}"], "say -o FOLDER"),
        (["encode"], "Missing argument"),
        (["encode", "{wav}", "--nonsense"], "No such option"),
        (["decode", "{wav}"], "not a .syl file"),
        (["decode", "none.syl"], "no such file"),
        (["info", "none.syl"], "no such file"),
        (["info", "{wav}"], "not a .syl file"),
        (["nonsense"], "No such command"),
    ],
)
def test_bad_input_ends_with_2_and_a_reason(run, wav, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text("hello")
    before = contents(tmp_path)
    places = {"wav": wav, "text": tmp_path / "text.txt"}
    code, _, err = run(*[argument.format(**places) for argument in arguments])
    assert code == 2
    assert message in err and "Traceback" not in err
    assert contents(tmp_path) == before


def test_an_unwritable_folder(run, wav, tmp_path):
    if os.geteuid() == 0:
        code, _, err = run("encode", wav, "-o", "/proc/x.syl")
    else:
        (tmp_path / "closed").mkdir(mode=0o500)
        code, _, err = run("encode", wav, "-o", tmp_path / "closed" / "x.syl")
    assert code == 2 and "Traceback" not in err and err.startswith("syllabary: ")


def test_a_cut_file_is_decoded_in_part_and_says_so(run, tmp_path):
    write(tmp_path / "x.wav", synthetic_speech(16000 * 12), 16000)
    assert run("encode", tmp_path / "x.wav")[0] == 0
    data = (tmp_path / "x.syl").read_bytes()
    (tmp_path / "cut.syl").write_bytes(data[:-1000])
    code, out, _ = run("decode", tmp_path / "cut.syl")
    assert code == 1 and "10.00 s" in out and "cut short" in out
    code, out, err = run("info", tmp_path / "cut.syl", "--json")
    assert code == 1 and json.loads(out)["whole"] is False
    (tmp_path / "stump.syl").write_bytes(data[:3000])
    code, _, err = run("decode", tmp_path / "stump.syl")
    assert code == 2 and "before its first whole chunk" in err
    assert not (tmp_path / "stump.decoded.wav").exists()


def test_errors_name_the_file(run, tmp_path):
    soundfile.write(tmp_path / "nan.wav", np.full(3000, np.nan, np.float32), 16000, subtype="FLOAT")
    code, _, err = run("encode", tmp_path / "nan.wav")
    assert code == 2 and "nan.wav: row 0 of the wave holds NaN" in err
    done = subprocess.run([*SYLLABARY, "encode", "-"], input=b"x" * 99, capture_output=True)
    assert done.returncode == 2 and b"standard input: " in done.stderr
    reason = b"not audio" if shutil.which("ffmpeg") else b"there is no ffmpeg program to try"
    assert reason in done.stderr
    assert b"/tmp" not in done.stderr
    soundfile.write(tmp_path / "loud.wav", 20 * synthetic_speech(9000), 16000, subtype="FLOAT")
    code, out, _ = run("encode", tmp_path / "loud.wav")
    assert code == 0 and "far beyond [-1, 1]" in out


def test_channels_are_said(run, tmp_path):
    stereo = np.stack([synthetic_speech(9000, 1), synthetic_speech(9000, 2)], 1)
    soundfile.write(tmp_path / "x.wav", stereo, 16000)
    code, out, _ = run("encode", tmp_path / "x.wav")
    assert code == 0 and "2 channels: averaged" in out
    code, _, err = run("encode", tmp_path / "x.wav", "--force", "--channels", "mono")
    assert code == 2 and "has 2 channels" in err
    assert run("encode", tmp_path / "x.wav", "--force", "--channels", "1")[0] == 0


def test_real_speech_from_a_manifest(run, speech_folder, tmp_path):
    """The first files of the test split, opus among the train ones: all done."""
    lines = (speech_folder / "manifest.jsonl").read_text().splitlines()
    picked = [json.loads(line) for line in lines[::150]]
    for item in picked:
        item["path"] = str(speech_folder / item["path"])
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, picked)))
    code, out, _ = run("encode", tmp_path / "m.jsonl", "-o", tmp_path / "out")
    assert code == 0 and f"encoded {len(picked)} of {len(picked)}" in out


@pytest.mark.slow
@pytest.mark.parametrize("minutes", [20, 60])
def test_long_files_take_no_more_memory_than_a_minute(minutes, tmp_path):
    def peak(minutes):
        path = tmp_path / f"{minutes}.flac"
        minute = synthetic_speech(16000 * 60)
        with soundfile.SoundFile(path, "w", 16000, 1, "PCM_16") as file:
            for _ in range(minutes):
                file.write(minute)
        script = (
            "import resource, sys; from syllabary.cli.main import main\n"
            "try: main(sys.argv[1:])\n"
            "except SystemExit as end: assert not end.code\n"
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
        )
        command = [sys.executable, "-c", script, "encode", str(path), "--workers", "1"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return int(done.stdout.split()[-1]) / 1024

    assert peak(minutes) - peak(1) < 5 * minutes
