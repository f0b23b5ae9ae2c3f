"""How long `import syllabary` and the command line take to start, Python itself included.

python benchmarks/startup.py
"""

import subprocess
import sys

sys.path.insert(0, __file__.rpartition("/")[0])
from timing import interleaved

CONTENDERS = {
    "python -c pass": ["-c", "pass"],
    "import syllabary": ["-c", "import syllabary"],
    "syllabary --help": ["-m", "syllabary", "--help"],
    "import torch": ["-c", "import torch"],
}


def main() -> None:
    def start(arguments: list[str]) -> None:
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True)

    times = interleaved({k: lambda v=v: start(v) for k, v in CONTENDERS.items()}, 7)
    print("| what | seconds |\n| --- | --- |")
    for name, seconds in times.items():
        print(f"| `{name}` | {seconds:.3f} |")


if __name__ == "__main__":
    main()
