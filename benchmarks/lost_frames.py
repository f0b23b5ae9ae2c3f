"""Lost frames and flipped bits of whole sentences: the study `damage` as a table.

    SYLLABARY_SPEECH=… SYLLABARY_ASR=base python benchmarks/lost_frames.py rvq-16k opus-6

PESQ-wb / STOI / dWER, means over LibriSpeech sentences of the test split. `syllabary eval --studies
damage` measures the same on the beginnings of 8 utterances, for the leaderboard.
"""

import argparse
import os
import sys
from pathlib import Path

import numpy as np
import torch

from syllabary.audio.manifests import Utterance, collect
from syllabary.eval.studies.clips import SpeechClip
from syllabary.eval.studies.damage import damages, measure
from syllabary.eval.studies.interface import Bench
from syllabary.eval.systems.catalogue import find

sys.path.insert(0, __file__.rpartition("/")[0])
from timing import machine

SHOWN = ("pesq-wb", "stoi", "dwer")


def sentences(count: int) -> list[Utterance]:
    """Evenly spaced sentences of the test split."""
    manifest = str(Path(os.environ["SYLLABARY_SPEECH"]) / "manifest.jsonl")
    items = [item for item in collect([manifest], "test") if "librispeech" in str(item.path)]
    return items[:: max(1, len(items) // count)][:count]


def wave_of(item: Utterance, rate: int) -> np.ndarray:
    return np.asarray(item.read(rate, "mix")[0])


def rows(name: str, items: list[Utterance], only: str | None) -> list[str]:
    """The table's rows of one system."""
    system = find(name)
    kinds = [kind for kind in damages(system) if only is None or kind.name.startswith(only)]
    rate = system.sample_rate
    clips = [SpeechClip(item, wave_of(item, rate)) for item in items]
    bench = Bench(
        system=system,
        items=items,
        everything=items,
        wave=lambda item: wave_of(item, rate),
        reconstruction=lambda item: system.reconstruct(wave_of(item, rate)).wave,
        tokens=lambda item: system.reconstruct(wave_of(item, rate)).tokens,  # type: ignore[return-value]
        folder=Path(),
    )
    table = measure(bench, clips, kinds)
    means = {metric.name: table.means(metric) for metric in table.metrics}
    headings = ["nothing"]
    headings += [f"{x:g} % {each.heading}" for each in kinds for x in each.shares]
    found = []
    for place, heading in enumerate(headings):
        scores = [means[metric][place] for metric in SHOWN if metric in means]
        digits = (2, 3, 3)
        text = " / ".join(f"{v:.{d}f}" for v, d in zip(scores, digits, strict=False))
        found.append(f"| {name} | {heading} | {text} |")
    return found + table.notes()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="+", metavar="SYSTEM", help="as for `syllabary eval`")
    parser.add_argument("--limit", type=int, default=12, help="sentences")
    parser.add_argument("--only", metavar="KIND", help="concealed, silenced, or bits")
    options = parser.parse_args()
    torch.set_num_threads(1)
    items = sentences(options.limit)
    seconds = sum(item.duration_s or 0 for item in items)
    print(f"{len(items)} sentences, {seconds:.0f} s; {machine()}\n")
    print("| system | damage | PESQ-wb / STOI / dWER |\n| --- | --- | --- |")
    for name in options.names:
        print("\n".join(rows(name, items, options.only)), flush=True)


if __name__ == "__main__":
    main()
