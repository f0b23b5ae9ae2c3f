"""How fast dMel encodes and decodes, through the API and the command line, on one core.

    SYLLABARY_SPEECH=… taskset -c 0 python benchmarks/dmel_speed.py

All contenders go through the same files of the test split, in turns, in one process; the command
line is called as a function, so that Python's start-up does not count.
"""

import contextlib
import io
import sys
import tempfile
from pathlib import Path

import torch

import syllabary
from syllabary.audio.files import read
from syllabary.cli.main import main as command_line
from syllabary.jobs.one_file import encode_file

sys.path.insert(0, __file__.rpartition("/")[0])
from timing import interleaved, machine, speech_manifest

ROUNDS = 5


def quietly(*arguments: str) -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            command_line(arguments)
        except SystemExit as end:
            assert not end.code, arguments


def main() -> None:
    torch.set_num_threads(1)
    paths = [path for path in speech_manifest("test") if read(path)[1] == 16000]
    waves = [read(path)[0] for path in paths]
    seconds = sum(map(len, waves)) / 16000
    print(
        f"{len(paths)} files, {seconds:.0f} s of speech; {machine()}; medians of {ROUNDS} rounds\n"
    )
    print("| codec | what | × real time |\n| --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        manifest = f"{folder}/list.jsonl"
        Path(manifest).write_text("".join(f'{{"path": "{path}"}}\n' for path in paths))
        for name in ("dmel", "dmel-fine"):
            tokenizer = syllabary.load(name)
            batches = [waves[start : start + 16] for start in range(0, len(waves), 16)]
            padded = [
                (
                    torch.nn.utils.rnn.pad_sequence(list(map(torch.from_numpy, batch)), True),
                    list(map(len, batch)),
                )
                for batch in batches
            ]

            def api(tokenizer=tokenizer):
                for wave in waves:
                    tokenizer.encode(wave, 16000)

            def batch_api(tokenizer=tokenizer, padded=padded):
                for batch, lengths in padded:
                    tokenizer.encode(batch, 16000, lengths)

            def api_from_files(tokenizer=tokenizer):
                for path in paths:
                    tokenizer.encode(*read(path))

            def api_to_files(tokenizer=tokenizer):
                with tempfile.TemporaryDirectory(dir=folder) as out:
                    for number, path in enumerate(paths):
                        encode_file(tokenizer, path, Path(out, f"{number}.syl"))

            def cli(name=name):
                # A fresh folder: renaming over an old file makes some file systems flush it.
                with tempfile.TemporaryDirectory(dir=folder) as out:
                    quietly("encode", manifest, "-o", out, "--codec", name, "--workers", "1")

            times = interleaved(
                {
                    "encode, API, waves in memory": api,
                    "encode, API, batches of 16 in memory": batch_api,
                    "encode, API, files read": api_from_files,
                    "encode, API, files read and .syl written": api_to_files,
                    "encode, command line, files read and .syl written": cli,
                },
                ROUNDS,
            )
            tokens = [tokenizer.encode(wave, 16000) for wave in waves[::20]]
            part = sum(item.duration() for item in tokens)
            decoding = interleaved({"d": lambda t=tokenizer, k=tokens: list(map(t.decode, k))}, 3)
            for what, took in times.items():
                print(f"| {name} | {what} | {seconds / took:.0f} |")
            print(f"| {name} | decode, API | {part / decoding['d']:.0f} |")


if __name__ == "__main__":
    main()
