"""`Plan`: what an evaluation measures, and on which data, fixed before it begins."""

import hashlib
import json
import platform
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
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
from ..results.files import as_bytes
from ..results.schema import EVERYWHERE, Environment
from ..studies import catalogue as studies
from ..studies.interface import Study

PLAN_NAME = "plan.json"
FORMAT = "syllabary-evaluation/1"
#: Packages whose versions are in the results, besides those of the metrics.
PACKAGES = (
    *("numpy", "scipy", "soundfile", "soxr", "numba", "pesq", "pystoi", "speechmos", "onnxruntime"),
    *("librosa", "resemblyzer", "pocketsphinx", "jiwer", "rapidfuzz", "pyworld-prebuilt"),
    *("faster-whisper", "ctranslate2"),
)
#: Assumed duration in seconds of an item without one in its manifest.
_UNKNOWN_SECONDS = 1.0


class PlanError(SyllabaryError):
    """An evaluation can't be started or resumed as requested."""


@dataclass(frozen=True, eq=False)
class Data:
    """The data of an evaluation.

    Attributes:
        inputs: as the user gave them: manifests, folders, files.
        split: that is evaluated, or None.
        items: evaluated utterances.
        everything: all utterances, including those for training probes.
        limit: size of the evenly spaced subset `items`, or None.
    """

    inputs: tuple[str, ...]
    split: str | None
    items: tuple[Utterance, ...]
    everything: tuple[Utterance, ...]
    limit: int | None = None

    @property
    def name(self) -> str:
        """Short name: the folder's or manifest's."""
        first = Path(self.inputs[0]).resolve()
        return first.parent.name if first.suffix == ".jsonl" else first.name

    @cached_property
    def domains(self) -> dict[str, str]:
        """The domain of each item, by its name: its `source`, else the first folder of its name."""
        return {str(item.name): domain(item) for item in self.items}

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of the items' files and of every utterance's manifest fields.

        Raises:
            OSError: a folder can't be read. An unreadable file is noted as such in the digest.
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
    """Read the utterances of the inputs.

    Args:
        inputs: as for `audio.manifests.collect`.
        split: to evaluate; None: everything.
        limit: evaluate only so many of them, evenly spaced.

    Raises:
        ManifestError: an input has no utterances.
        PlanError: two items have the same name.
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
    """Return the item with the duration in its file's header, if there is one."""
    with suppress(SyllabaryError, OSError), item.open("mix") as reader:
        if reader.num_samples is not None:
            return replace(item, duration_s=reader.num_samples / reader.sample_rate)
    return item


def domain(item: Utterance) -> str:
    """Return the corpus of an utterance: its `source`, else the first folder of its name."""
    source = item.extra.get("source")
    if not isinstance(source, str) or not source:
        source = printable(item.name.parts[0]) if len(item.name.parts) > 1 else "no folder"
    # Reserved in results for the mean over all domains.
    return source if source != EVERYWHERE else "a corpus called all"


def even_sample(items: Sequence[Utterance], count: int | None) -> list[Utterance]:
    """Choose items at even distances along the total audio, so that long ones are more likely.

    So a second of a word that occurs 500 times has no more weight than any other second.

    Args:
        items: in the order of the data.
        count: number of items; all of them if None, or if there are not more.
    """
    if count is None or count >= len(items):
        return list(items)
    seconds = np.array([item.duration_s or _UNKNOWN_SECONDS for item in items])
    ends = np.cumsum(seconds)
    wanted = (np.arange(count) + 0.5) * ends[-1] / count
    places = np.searchsorted(ends, wanted, side="right")
    # If one item covers two positions, the next free one is taken.
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
        studies: names of the studies of every system.
        seed: of all random choices.
        command: that repeats it.
        variants: by name of a metric, the model that it uses, if there is a choice; None: the one
            that is chosen now.
    """

    data: Data
    metrics: tuple[Metric, ...]
    studies: tuple[str, ...]
    seed: int
    command: str
    variants: Mapping[str, str] | None = None

    def variant(self, metric: Metric) -> str:
        """Return the model by which a metric is computed in this evaluation."""
        return variant_of(metric) if self.variants is None else self.variants.get(metric.name, "")

    @cached_property
    def asked(self) -> dict[str, frozenset[str]]:
        """Return, for each metric, the names of the items for which it is computed."""
        found = {}
        for metric in self.metrics:
            chosen = even_sample(self._fit_for(metric), metric.max_items)
            found[metric.name] = frozenset(str(item.name) for item in chosen)
        return found

    def _fit_for(self, metric: Metric) -> list[Utterance]:
        """Return the items suitable for a metric, before subsampling."""
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
        """Return the parts that may not change between two runs into the same folder."""
        return {
            "format": FORMAT,
            "data": self.data.to_json(),
            "seed": self.seed,
            "environment": {
                name: value
                for name, value in vars(environment(self.metrics)).items()
                if name != "machine"  # figures don't depend on it, and timing results contain it
            },
            "variants": {
                name: variant
                for name, measure in self._measures()
                if (variant := variant_of(measure))
            },
        }

    def _measures(self) -> Iterator[tuple[str, Metric | Study]]:
        for metric in self.metrics:
            yield metric.name, metric
        for name in self.studies:
            with suppress(SyllabaryError):  # of a package that was removed
                yield f"study {name}", studies.find(name)

    def hold(self, folder: Path) -> "Plan":
        """Write the plan into a folder, or check that it is compatible with the plan there.

        Returns:
            The union of all plans for this folder: results contain all of them.

        Raises:
            PlanError: the folder has results of other data, another seed or other versions.
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
            with suppress(SyllabaryError):  # of a package that was removed
                known.setdefault(name, metrics.find(name))
        chosen = tuple(known[name] for name in grown["metrics"] if name in known)
        return replace(
            self,
            metrics=chosen,
            studies=tuple(grown["studies"]),
            variants=grown.get("variants", {}),
        )


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
    """Merge the saved and the requested plan, whose fixed parts agree."""
    if isinstance(held, dict) and isinstance(wanted, dict):
        return held | {n: _grown(held[n], v) if n in held else v for n, v in wanted.items()}
    if isinstance(held, list):
        return list(dict.fromkeys([*held, *wanted]))
    return held


def _differences(held: Any, wanted: Any, where: str = "") -> list[str]:
    if isinstance(held, dict) and isinstance(wanted, dict):
        # Further metrics may be added later, with their own packages and models.
        growing = where.endswith(("packages.", "variants."))
        names = [name for name in wanted if name in held or not growing]
        return [
            text
            for name in names
            for text in _differences(held.get(name), wanted[name], f"{where}{name}.")
        ]
    if isinstance(held, list) and isinstance(wanted, list):
        return []  # metrics and studies are merged
    return [] if held == wanted else [f"{where.rstrip('.')} was {held!r}, now {wanted!r}"]


def variant_of(measure: Metric | Study) -> str:
    """Return the model used by a metric or study; empty if there is no choice, or no model."""
    try:
        return measure.variant()
    except MetricError:
        return ""


def environment(metrics: Sequence[Metric]) -> Environment:
    """Return the versions of everything that figures depend on."""
    from ... import __version__

    names = {*PACKAGES, *(metric.package for metric in metrics if metric.package)}
    return Environment(
        syllabary=__version__,
        python=platform.python_version(),
        torch=version_of("torch") or "",
        machine=f"{platform.machine()}, {usable_cores()} cores",
        packages={name: found for name in sorted(names) if (found := version_of(name))},
    )


def version_of(package: str | None) -> str | None:
    """Return the version of an installed distribution."""
    try:
        return version(package) if package else None
    except PackageNotFoundError:
        return None
