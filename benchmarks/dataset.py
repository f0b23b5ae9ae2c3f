"""What a data set costs: building beside encoding alone, two workers beside one, long lists.

    python benchmarks/dataset.py                       # all three
    python benchmarks/dataset.py overhead --codec ts3-16k --minutes 10
    python benchmarks/dataset.py workers --minutes 20
    python benchmarks/dataset.py list --utterances 1000000

- *overhead*: reading and encoding files one after the other, in this process, beside a build of
  the same files with one worker, in rounds by turns. Both read FLAC and get the same codes. A build
  also hashes, measures, notes, writes pieces and composes shards. A quarter of the files is built,
  too: the difference is what one more file costs, without what is once a build.
- *workers*: the same files by one and by two processes; starting them counts.
- *list*: a manifest of that many lines is planned, and the plan taken up again as after a kill,
  with a ledger of all pieces but the last. The peak of memory is of a process of its own.

Real speech is read from $SYLLABARY_SPEECH, see README.md.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import soundfile

import syllabary
from syllabary.audio import read, read_manifest
from syllabary.codecs.interface import AudioTokenizer
from syllabary.cores import use_one_thread
from syllabary.lm.dataset.build import build_dataset, local_engine
from syllabary.lm.dataset.encoding import Piece
from syllabary.lm.dataset.ledger import Ledger, only_writer
from syllabary.lm.dataset.plan import digest_of, make_plan, read_plan
from syllabary.lm.dataset.settings import Settings
from syllabary.lm.dataset.sources import list_sources
from timing import machine


def as_flac(folder: Path, minutes: float) -> float:
    """Copy real speech as FLAC, of all parts of the manifest; the seconds of it."""
    source = Path(os.environ["SYLLABARY_SPEECH"]) / "manifest.jsonl"
    items = [item for item in read_manifest(source) if item.path.exists()]
    total = sum(item.duration_s or 0 for item in items)
    lines, seconds = [], 0.0
    for item in items[:: max(1, int(total / (60 * minutes)))]:
        wave, rate = item.read(16000)
        soundfile.write(folder / f"{len(lines):06}.flac", wave, rate)
        lines.append({"path": f"{len(lines):06}.flac", "duration_s": len(wave) / rate})
        lines[-1] |= {"text": item.text, "speaker": item.speaker}
        seconds += len(wave) / rate
    (folder / "manifest.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return seconds


def overhead(codec: str, minutes: float, rounds: int) -> None:
    use_one_thread()
    with tempfile.TemporaryDirectory() as place:
        whole, part = Path(place, "whole"), Path(place, "part")
        whole.mkdir()
        part.mkdir()
        seconds = as_flac(whole, minutes)
        paths = sorted(whole.glob("*.flac"))
        few = paths[::4]
        for path in few:
            (part / path.name).symlink_to(path)
        lines = (whole / "manifest.jsonl").read_text().splitlines()
        (part / "manifest.jsonl").write_text("\n".join(lines[::4]))
        tokenizer = syllabary.load(codec)
        tokenizer.encode(*read(paths[0], 16000))
        alone: list[tuple[float, float]] = []
        building: list[tuple[float, float]] = []
        for number in range(rounds):
            alone.append((_encoding(tokenizer, few), _encoding(tokenizer, paths)))
            names = (Path(place, f"part-{number}"), Path(place, f"whole-{number}"))
            building.append((_building(part, names[0], codec), _building(whole, names[1], codec)))
        print(f"{codec}: {len(paths)} files, {seconds / 60:.1f} min of FLAC, CPU time")
        best, built = _median(alone, 1), _median(building, 1)
        print(f"  reading and encoding alone  {best:8.2f} s  {seconds / best:6.0f} × real time")
        print(f"  a build                     {built:8.2f} s  {built / best - 1:+7.1%}")
        # What is once a build, however long it is, is in both: loading, planning, the card.
        count = len(paths) - len(few)
        each = 1e3 * (best - _median(alone, 0)) / count
        more = 1e3 * (built - _median(building, 0)) / count
        print(f"  one more file, alone        {each:8.2f} ms")
        print(f"  one more file of a build    {more:8.2f} ms {more / each - 1:+7.1%}")


def _encoding(tokenizer: AudioTokenizer, paths: list[Path]) -> float:
    start = time.process_time()
    for path in paths:
        tokenizer.encode(*read(path, 16000))
    return time.process_time() - start


def _building(folder: Path, output: Path, codec: str) -> float:
    start = time.process_time()
    build_dataset([folder], output, Settings(codec=codec))
    return time.process_time() - start


def _median(rounds: list[tuple[float, float]], which: int) -> float:
    return statistics.median(each[which] for each in rounds)


def workers(codec: str, minutes: float) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "speech")
        folder.mkdir()
        seconds = as_flac(folder, minutes)
        times = {}
        for count in (1, 2):
            start = time.perf_counter()
            report = build_dataset(
                [folder], Path(place, f"set-{count}"), Settings(codec=codec), local_engine(count)
            )
            times[count] = time.perf_counter() - start
            print(
                f"{codec}, {count} workers: {times[count]:.1f} s, {seconds / times[count]:.0f} × "
                f"real time, digest {report.dataset.digest[:16]}"
            )
        print(f"two workers are {times[1] / times[2]:.2f} × as fast")


def long_list(count: int) -> None:
    """In a process of its own, for its peak of memory."""
    subprocess.run([sys.executable, __file__, "one-list", "--utterances", str(count)], check=True)


def one_list(count: int) -> None:
    with tempfile.TemporaryDirectory() as place:
        manifest = Path(place, "manifest.jsonl")
        with manifest.open("w") as file:
            for number in range(count):
                line = {"path": f"s{number % 5000:05}/{number // 5000:05}/{number:08}.flac"}
                line |= {"duration_s": 2 + number % 70 / 7, "speaker": f"s{number % 5000:05}"}
                line |= {"text": f"what is said in utterance {number} of the corpus", "lang": "en"}
                file.write(json.dumps(line) + "\n")
        build = Path(place, "set", ".build")
        before = peak()
        with only_writer(build):
            start = time.perf_counter()
            plan = make_plan(list_sources([manifest]), build, {})
            planning = time.perf_counter() - start
            ledger = Ledger(build, plan.digest)
            record = {"planned": 64, "items": 64, "failures": [], "drops": [], "unaligned": []}
            for number in range(plan.num_pieces - 1):
                ledger.add(number, Piece(b"", record | {"seconds": 300.0}))
            start = time.perf_counter()
            held = read_plan(build)
            assert held is not None and held.digest == digest_of(list_sources([manifest]), {})
            again = Ledger(build, held.digest)
            left = [n for n in range(held.num_pieces) if n not in again.records]
            rows = held.piece(left[0])
            resuming = time.perf_counter() - start
        print(f"{count:,} utterances in {plan.num_pieces:,} pieces; {len(rows)} are left")
        print(f"  planning  {planning:6.1f} s")
        print(f"  resuming  {resuming:6.1f} s")
        print(
            f"  peak of memory {peak() / 1e6:.0f} MB, of which {before / 1e6:.0f} MB at the start"
        )


def peak() -> int:
    """Bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    kinds = ("all", "overhead", "workers", "list", "one-list")
    parser.add_argument("what", nargs="?", default="all", choices=kinds)
    parser.add_argument("--codec", action="append", help="default: ts3-16k and rvq-16k")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--utterances", type=int, default=1_000_000)
    given = parser.parse_args()
    if given.what == "one-list":
        one_list(given.utterances)
        return
    print(machine())
    for codec in given.codec or ["ts3-16k", "rvq-16k"]:
        if given.what in ("all", "overhead"):
            overhead(codec, given.minutes, given.rounds)
        if given.what in ("all", "workers"):
            workers(codec, given.minutes)
    if given.what in ("all", "list"):
        long_list(given.utterances)


if __name__ == "__main__":
    main()
