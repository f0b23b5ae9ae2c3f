"""A data set survives what can happen to a build: real speech, many kills, a full disk.

    python benchmarks/dataset_faults.py                          # everything
    python benchmarks/dataset_faults.py engines kills --codec rvq-16k --kills 20
    python benchmarks/dataset_faults.py --every 20               # a twentieth of the files

- *engines*: one process, two processes, two workers of Ray: the same files, byte for byte?
- *kills*: a build by two processes is killed at random moments (SIGKILL to all), and goes on.
- *ray-kill*: workers of Ray are killed while they encode.
- *disk*: a file system that is too small; it grows, and the build goes on. Needs root (tmpfs).
- *change*: a file gets other contents after it was planned.

What is compared is the SHA-256 of every file of the data set, with that of an undisturbed build by
one process. Speech is read from $SYLLABARY_SPEECH, see README.md.
"""

import argparse
import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from syllabary.audio import read_manifest
from timing import machine

KINDS = ("engines", "kills", "ray-kill", "disk", "change")


def command(speech: Path, folder: Path, codec: str, *more: str) -> list[str]:
    build = ["dataset", "build", str(speech), "-o", str(folder), "--codec", codec, "--json"]
    return [sys.executable, "-m", "syllabary", *build, *more]


def build(speech: Path, folder: Path, codec: str, *more: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command(speech, folder, codec, *more), capture_output=True, text=True)


def contents(folder: Path) -> dict[str, str]:
    """SHA-256 of every file of a data set."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def compared(folder: Path, whole: dict[str, str]) -> str:
    found = contents(folder)
    equal = sum(found.get(name) == digest for name, digest in whole.items())
    return f"{equal} of {len(whole)} files equal, {len(found.keys() - whole.keys())} too many"


def pieces_done(folder: Path) -> int:
    """Lines of the ledger of a build that is under way."""
    ledger = folder / ".build" / "ledger.jsonl"
    return len(ledger.read_bytes().splitlines()) if ledger.exists() else 0


def digest_of(folder: Path) -> str:
    return json.loads((folder / "dataset.json").read_text())["digest"][:16]


def some_speech(folder: Path, every: int) -> tuple[Path, int, float]:
    """A manifest of each so manyth file; how many they are, and their hours."""
    source = Path(os.environ["SYLLABARY_SPEECH"])
    items = [item for item in read_manifest(source / "manifest.jsonl") if item.path.exists()]
    lines = []
    for item in items[::every]:
        line = {"path": str(item.path.resolve()), "text": item.text, "speaker": item.speaker}
        line["id"] = str(item.path.relative_to(source).with_suffix(""))
        lines.append(line | {"split": item.split, "duration_s": item.duration_s})
    manifest = folder / "manifest.jsonl"
    manifest.write_text("\n".join(map(json.dumps, lines)))
    return manifest, len(lines), sum(item.duration_s or 0 for item in items[::every]) / 3600


def failed(result: "subprocess.CompletedProcess[str]") -> str:
    lines = (result.stderr.strip() or result.stdout.strip() or "nothing said").splitlines()
    return f"exit code {result.returncode}: {lines[-1][:200]}"


def engines(speech: Path, place: Path, codec: str, whole: dict[str, str]) -> None:
    for name, more in (("two processes", ["--workers", "2"]),
                       ("Ray, two workers", ["--engine", "ray", "--workers", "2"])):  # fmt: skip
        folder = place / "engine"
        start = time.perf_counter()
        result = build(speech, folder, codec, *more)
        if result.returncode:
            print(f"  {name}: {failed(result)}")
        else:
            print(f"  {name}: {time.perf_counter() - start:.0f} s, digest {digest_of(folder)}, "
                  f"{compared(folder, whole)}", flush=True)  # fmt: skip
        shutil.rmtree(folder, ignore_errors=True)


def kills(speech: Path, place: Path, codec: str, whole: dict[str, str], count: int) -> None:
    """Killed after a random time of work, which is counted from the first piece on."""
    folder, chance, pieces = place / "killed", random.Random(0), []
    killed = 0
    while killed < count:
        process = subprocess.Popen(
            command(speech, folder, codec, "--workers", "2"),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        before = pieces_done(folder)
        while process.poll() is None and pieces_done(folder) == before:
            time.sleep(0.05)
        time.sleep(chance.uniform(0, 4))
        if process.poll() is not None:
            break  # it was faster than its killer
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        killed += 1
        pieces.append(pieces_done(folder))
    result = build(speech, folder, codec, "--workers", "2")
    outcome = failed(result) if result.returncode else compared(folder, whole)
    print(f"  killed {killed} times, with {pieces} pieces done: {outcome}", flush=True)
    verified = subprocess.run(
        [sys.executable, "-m", "syllabary", "dataset", "verify", str(folder), str(speech),
         "--sample", "50"], capture_output=True, text=True,
    )  # fmt: skip
    print(f"  verified: {(verified.stdout + verified.stderr).strip().splitlines()[-1]}")
    shutil.rmtree(folder, ignore_errors=True)


def ray_workers() -> Iterator[int]:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if path.read_bytes().startswith(b"ray::_Worker"):
                yield int(path.parent.name)


def ray_kill(speech: Path, place: Path, codec: str, whole: dict[str, str]) -> None:
    folder, killed = place / "ray", 0
    process = subprocess.Popen(
        command(speech, folder, codec, "--engine", "ray", "--workers", "2"),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    for wanted in (2, 5, 8):
        while process.poll() is None and pieces_done(folder) < wanted:
            time.sleep(0.05)
        found = list(ray_workers())
        if process.poll() is None and found:
            os.kill(found[killed % len(found)], signal.SIGKILL)
            killed += 1
    process.wait()
    outcome = compared(folder, whole) if not process.returncode else f"exit {process.returncode}"
    print(f"  {killed} workers of Ray killed: {outcome}", flush=True)
    shutil.rmtree(folder, ignore_errors=True)


def disk(speech: Path, place: Path, codec: str, whole: dict[str, str], size: int) -> None:
    """A disk of half the finished data set's size, then of ten times."""
    mount = place / "disk"
    mount.mkdir()
    options = f"size={max(1 << 16, size // 2)}"
    if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(mount)]).returncode:
        print("  disk: not tried, a tmpfs can't be mounted here")
        return
    try:
        folder = mount / "set"
        print(f"  half the room: {failed(build(speech, folder, codec, '--workers', '2'))}")
        subprocess.run(["mount", "-o", f"remount,size={10 * size}", str(mount)], check=True)
        result = build(speech, folder, codec, "--workers", "2")
        outcome = failed(result) if result.returncode else compared(folder, whole)
        print(f"  with room, the same command: {outcome}", flush=True)
    finally:
        subprocess.run(["umount", str(mount)], check=True)


def change(place: Path, codec: str) -> None:
    """The last of 200 files is replaced when the first piece is there."""
    folder, speech = place / "changed", place / "copies"
    speech.mkdir()
    source = Path(os.environ["SYLLABARY_SPEECH"])
    items = [item for item in read_manifest(source / "manifest.jsonl") if item.path.exists()]
    for number, item in enumerate(items[:200]):
        shutil.copy(item.path, speech / f"{number:03}{item.path.suffix}")
    last = max(speech.iterdir())
    process = subprocess.Popen(
        command(speech, folder, codec, "--workers", "1"), stdout=subprocess.PIPE, text=True
    )
    while process.poll() is None and not pieces_done(folder):
        time.sleep(0.01)
    shutil.copy(items[300].path, last)
    process.communicate()
    failures = (folder / "failures.jsonl").read_text().strip().splitlines()
    print(f"  a file that changed: exit code {process.returncode}, {len(failures)} failed: "
          f"{json.loads(failures[0])['reason'][-160:] if failures else '-'}")  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", nargs="*", metavar="KIND", help=f"of {', '.join(KINDS)}")
    parser.add_argument("--codec", default="rvq-16k")
    parser.add_argument("--every", type=int, default=1, help="take each so manyth file")
    parser.add_argument("--kills", type=int, default=20)
    given = parser.parse_args(arguments)
    wanted = given.what or KINDS
    if unknown := set(wanted) - set(KINDS):
        parser.error(f"{', '.join(sorted(unknown))}: expected some of {', '.join(KINDS)}")
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        speech, count, hours = some_speech(place, given.every)
        start = time.perf_counter()
        result = build(speech, place / "whole", given.codec, "--workers", "1")
        if result.returncode:
            raise SystemExit(failed(result))
        whole = contents(place / "whole")
        size = sum(path.stat().st_size for path in (place / "whole").rglob("*") if path.is_file())
        print(
            f"{given.codec}: {count} files, {hours:.2f} h; one process: "
            f"{time.perf_counter() - start:.0f} s, digest {digest_of(place / 'whole')}, "
            f"{len(whole)} files, {size / 1e6:.1f} MB",
            flush=True,
        )
        if "engines" in wanted:
            engines(speech, place, given.codec, whole)
        if "kills" in wanted:
            kills(speech, place, given.codec, whole, given.kills)
        if "ray-kill" in wanted:
            ray_kill(speech, place, given.codec, whole)
        if "disk" in wanted:
            disk(speech, place, given.codec, whole, size)
        if "change" in wanted:
            change(place, given.codec)


if __name__ == "__main__":
    main()
