"""Draw patterns.

python -m syllabary.lm.patterns delay --codebooks 4 --frames 6
python -m syllabary.lm.patterns delay --set '{"delays": [0, 2, 4, 6]}' --svg delay.svg
python -m syllabary.lm.patterns --all docs/patterns
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from ...filesystem import replacing
from .pattern import Pattern
from .picture import draw_svg, draw_text
from .registry import PATTERNS, pattern


def _example(name: str, codebooks: int | None, settings: dict[str, object]) -> Pattern:
    counts = {"moshi": 5, "snac": 7, "step-audio": 5}
    return pattern(name, [1024] * (codebooks or counts.get(name, 4)), **settings)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Draw codebook patterns.")
    parser.add_argument("name", nargs="?", default="delay", choices=[*PATTERNS])
    parser.add_argument("--codebooks", type=int, help="default: those of its first user, or 4")
    parser.add_argument("--frames", type=int, default=4)
    parser.add_argument("--set", default="{}", help='settings as JSON: {"delays": [0, 2, 4, 6]}')
    parser.add_argument("--svg", type=Path, help="a picture, in place of text")
    parser.add_argument("--all", type=Path, help="a picture of each pattern, into this folder")
    args = parser.parse_args(arguments)
    if args.all:
        args.all.mkdir(parents=True, exist_ok=True)
        for name in PATTERNS:
            _write(args.all / f"{name}.svg", draw_svg(_example(name, None, {}), args.frames))
        return
    try:
        drawn = _example(args.name, args.codebooks, json.loads(args.set))
    except ValueError as error:  # JSON's, and those of this package
        parser.error(str(error))
    if args.svg:
        _write(args.svg, draw_svg(drawn, args.frames))
    else:
        print(draw_text(drawn, args.frames), end="")  # noqa: T201


def _write(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text)


if __name__ == "__main__":
    main()
