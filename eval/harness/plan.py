"""`Plan`: what an evaluation measures, on what, fixed before it begins."""

import hashlib
import json
import platform
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from ...audio.manifests import Utterance, collect
from ...cores import usable_cores
from ...errors import SyllabaryError
from ...filesystem import content_digest, printable, replacing
from ..metrics import catalogue as metrics
from ..metrics.interface import Metric, MetricError
from .lines import as_bytes

PLAN_NAME = "plan.json"
FORMAT = "syllabary-evaluation/1"
#: Whose versions results carry, beside those of the packages that metrics name.
PACKAGES = (
    *("numpy", "scipy", "soundfile", "soxr", "numba", "pesq", "pystoi", "speechmos", "onnxruntime"),
    *("librosa", "resemblyzer", "pocketsphinx", "jiwer", "rapidfuzz", "pyworld-prebuilt"),
    *("faster-whisper", "ctranslate2"),
)
#: Seconds that an item counts for where its manifest does not say.
_UNKNOWN_SECONDS = 1.0


class PlanError(SyllabaryError):
    """An evaluation can't be begun or gone on with as asked."""


@dataclass(frozen=True, eq=False)
class Data:
    """What is measured on.

    Attributes:
        inputs: as the user gave them: manifests, folders, files.
        split: that is measured, or None.
        items: measured.
        everything: all utterances, what probes learn from among them.
        limit: that `items` are an even sample of, or None.
    """

    inputs: tuple[str, ...]
    split: str | None
    items: tuple[Utterance, ...]
    everything: tuple[Utterance, ...]
    limit: int | None = None

    @property
    def name(self) -> str:
        """Short: the folder's or manifest's name."""
        first = Path(self.inputs[0]).resolve()
        return first.parent.name if first.suffix == ".jsonl" else first.name

    @cached_property
    def domains(self) -> dict[str, str]:
        """Of each item, by its name: its `source`, else the first folder of its name."""
        return {str(item.name): domain(item) for item in self.items}

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of the items' files and of all that is said of every utterance.

        Raises:
            OSError: a folder can't be read. A file that can't be read counts as that.
        """
        sha = hashlib.sha256()
        for item in self.items:
            try:
                content = content_digest(item.path)
            except OSError as error:
                content = type(error).__name__
            fields: list[Any] = [printable(item.name), content, item.text, item.speaker]
            if (segment := item.segment()) is not None:
                fields.append(segment)
            sha.update(json.dumps(fields).encode() + b"\n")
        for item in self.everything:
            size = item.path.stat().st_size if item.path.exists() else None
            known = json.dumps(
                [item.split, item.text, item.speaker, item.extra, size], sort_keys=True
            )
            sha.update(f"{printable(item.name)} {known}\n".encode())
        return sha.hexdigest()

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "split": self.split,
            "digest": self.digest,
            "items": len(self.items),
            "domains": dict(sorted(Counter(self.domains.values()).items())),
        }


def read_data(inputs: Sequence[str], split: str | None, limit: int | None = None) -> Data:
    """The utterances of the inputs.

    Args:
        inputs: as `audio.manifests.collect` takes them.
        split: to measure; None: everything.
        limit: measure so many of them at even distances.

    Raises:
        ManifestError: an input names nothing.
        PlanError: two items have one name.
    """
    everything = collect(inputs)
    items = collect(inputs, split) if split is not None else everything
    if limit is not None and limit < len(items):
        items = [items[index * len(items) // limit] for index in range(limit)]
    items = [item if item.duration_s else _with_duration(item) for item in items]
    repeated = [name for name, count in Counter(item.name for item in items).items() if count > 1]
    if repeated:
        raise PlanError(f"two items are called {repeated[0]}; measure these inputs apart")
    return Data(tuple(inputs), split, tuple(items), tuple(everything), limit)


def _with_duration(item: Utterance) -> Utterance:
    """As the file's header has it, if it says."""
    with suppress(SyllabaryError, OSError), item.open("mix") as reader:
        if reader.num_samples is not None:
            return replace(item, duration_s=reader.num_samples / reader.sample_rate)
    return item


def domain(item: Utterance) -> str:
    """The corpus that an utterance is of: its `source`, else the first folder of its name."""
    source = item.extra.get("source")
    if not isinstance(source, str) or not source:
        source = printable(item.name.parts[0]) if len(item.name.parts) > 1 else "no folder"
    return source if source != "all" else "a corpus called all"  # results call the whole `all`


def even_sample(items: Sequence[Utterance], count: int | None) -> list[Utterance]:
    """So many items at even distances along the audio, so that long ones come up more often.

    A second of a word that is said 500 times is so worth no more than any other second.

    Args:
        items: in the order of the data.
        count: None, or more than there are: all of them.
    """
    if count is None or count >= len(items):
        return list(items)
    seconds = np.array([item.duration_s or _UNKNOWN_SECONDS for item in items])
    ends = np.cumsum(seconds)
    wanted = (np.arange(count) + 0.5) * ends[-1] / count
    places = np.searchsorted(ends, wanted, side="right")
    # Where one item covers two places, the next free one is taken.
    chosen: list[int] = []
    for place in places.tolist():
        chosen.append(max(place, chosen[-1] + 1 if chosen else 0))
    for at in range(count - 1, -1, -1):
        chosen[at] = min(chosen[at], len(items) - (count - at))
    return [items[index] for index in chosen]


@dataclass(frozen=True, eq=False)
class Plan:
    """What an evaluation measures.

    Attributes:
        data: see `Data`.
        metrics: of every reconstruction.
        studies: names of what is measured of every system as a whole.
        seed: of everything random.
        command: that repeats it.
    """

    data: Data
    metrics: tuple[Metric, ...]
    studies: tuple[str, ...]
    seed: int
    command: str

    @cached_property
    def asked(self) -> dict[str, frozenset[str]]:
        """By metric, the names of the items that it is computed of."""
        found = {}
        for metric in self.metrics:
            chosen = even_sample(self._fit_for(metric), metric.max_items)
            found[metric.name] = frozenset(str(item.name) for item in chosen)
        return found

    def _fit_for(self, metric: Metric) -> list[Utterance]:
        """Items that a metric is asked for, before it takes a sample of them."""
        items = list(self.data.items)
        with_text = [item for item in items if item.text]
        wanted = metric.max_items
        enough = wanted is not None and len(with_text) >= wanted
        if "text" in metric.needs or (enough and "text" in metric.prefers):
            return with_text
        return items

    def metrics_of(self, item: Utterance) -> list[str]:
        return [name for name, items in self.asked.items() if str(item.name) in items]

    def fixed(self) -> dict[str, Any]:
        """What may not change between two runs into the same folder."""
        return {
            "format": FORMAT,
            "data": self.data.to_json(),
            "seed": self.seed,
            "environment": {
                name: value
                for name, value in environment(self.metrics).items()
                if name != "machine"  # figures don't depend on it, and times say theirs
            },
            "variants": {m.name: variant for m in self.metrics if (variant := variant_of(m))},
        }

    def hold(self, folder: Path) -> "Plan":
        """Write the plan into a folder, or see that it goes on with the one in there.

        Returns:
            The plan of all that was ever asked for there: results have all of it.

        Raises:
            PlanError: the folder holds results of other data, another seed or other versions.
        """
        path, wanted = folder / PLAN_NAME, self.fixed()
        wanted |= {"metrics": [m.name for m in self.metrics], "studies": list(self.studies)}
        held = wanted
        if path.exists():
            held = _read_plan(path)
            for difference in _differences(held, wanted):
                raise PlanError(
                    f"{folder} holds results of another evaluation: {difference}. Use another "
                    "folder, or --fresh to begin anew in this one"
                )
        grown = _grown(held, wanted)
        if grown != held or not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            with replacing(path) as temporary:
                temporary.write_bytes(as_bytes(grown, indent=1))
        known = {metric.name: metric for metric in self.metrics}
        for name in grown["metrics"]:
            with suppress(SyllabaryError):  # another package's, which is gone
                known.setdefault(name, metrics.find(name))
        chosen = tuple(known[name] for name in grown["metrics"] if name in known)
        return replace(self, metrics=chosen, studies=tuple(grown["studies"]))


def _read_plan(path: Path) -> dict[str, Any]:
    try:
        held = json.loads(path.read_bytes())
        if not isinstance(held, dict) or held.get("format") != FORMAT:
            raise ValueError(f"its format is not {FORMAT}")
        lists = [held["metrics"], held["studies"]]
    except (ValueError, KeyError) as error:
        raise PlanError(f"{path}: not a plan of an evaluation: {error}") from None
    if not all(isinstance(names, list) for names in lists):
        raise PlanError(f"{path}: not a plan of an evaluation: no lists of metrics and studies")
    return held


def _grown(held: Any, wanted: Any) -> Any:
    """What is held and what is wanted, which do not differ in what may not."""
    if isinstance(held, dict) and isinstance(wanted, dict):
        return held | {n: _grown(held[n], v) if n in held else v for n, v in wanted.items()}
    if isinstance(held, list):
        return list(dict.fromkeys([*held, *wanted]))
    return held


def _differences(held: Any, wanted: Any, where: str = "") -> list[str]:
    if isinstance(held, dict) and isinstance(wanted, dict):
        # Other metrics may come later, with packages and models of their own.
        growing = where.endswith(("packages.", "variants."))
        names = [name for name in wanted if name in held or not growing]
        return [
            text
            for name in names
            for text in _differences(held.get(name), wanted[name], f"{where}{name}.")
        ]
    if isinstance(held, list) and isinstance(wanted, list):
        return []  # of metrics and studies: they add up
    return [] if held == wanted else [f"{where.rstrip('.')} was {held!r}, now {wanted!r}"]


def variant_of(metric: Metric) -> str:
    """The model behind a metric; empty where there is no choice, or no model."""
    try:
        return metric.variant()
    except MetricError:
        return ""


def environment(metrics: Sequence[Metric]) -> dict[str, Any]:
    """Versions of everything that figures depend on."""
    from ... import __version__

    names = {*PACKAGES, *(metric.package for metric in metrics if metric.package)}
    return {
        "syllabary": __version__,
        "python": platform.python_version(),
        "torch": version_of("torch") or "",
        "machine": f"{platform.machine()}, {usable_cores()} cores",
        "packages": {name: found for name in sorted(names) if (found := version_of(name))},
    }


def version_of(package: str | None) -> str | None:
    """Of an installed distribution."""
    try:
        return version(package) if package else None
    except PackageNotFoundError:
        return None
