"""Peak memory of `syllabary encode` and `decode` by length of the audio, each in its own process.

python benchmarks/memory.py
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import soundfile

SCRIPT = """
import resource, sys
from syllabary.cli.main import main
try: main(sys.argv[1:])
except SystemExit as end: assert not end.code
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def peak(*arguments: object) -> int:
    command = [sys.executable, "-c", SCRIPT, *map(str, arguments), "--workers", "1", "--force"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stdout.split()[-1])


def main() -> None:
    print("| audio | peak of encode, MB | peak of decode, MB |\n| --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        rng = np.random.default_rng(0)
        minute = 0.1 * rng.standard_normal(16000 * 60).cumsum() / 100
        minute = np.clip(minute - minute.mean(), -1, 1)
        for minutes in (1, 10, 60):
            path = Path(folder, f"{minutes}.flac")
            with soundfile.SoundFile(path, "w", 16000, 1, "PCM_16") as file:
                for _ in range(minutes):
                    file.write(minute)
            encode = peak("encode", path)
            decode = peak("decode", path.with_suffix(".syl")) if minutes <= 10 else None
            print(f"| {minutes} min | {encode} | {decode or '–'} |", flush=True)


if __name__ == "__main__":
    main()
