"""`ProbeTask`: a probe's task and its utterances, described by a small JSON file."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ...audio.manifests import Utterance, collect
from ...errors import ConfigError, ManifestError
from ...typed_fields import from_json, to_json
from .layouts import LAYOUTS

Kind = Literal["classification", "verification", "ctc"]


@dataclass(frozen=True)
class PathPart:
    """A label that is a part of the utterance's path.

    Attributes:
        path_part: which one: -1 is the file's name, -2 its folder.
    """

    path_part: int


@dataclass(frozen=True)
class SplitBy:
    """How to split utterances without splits.

    Attributes:
        hash: ``utterance``: `test_share` of each label's utterances are for testing. Another
            field (``speaker``): `test_share` of its values are, so that train and test share none.
        test_share: between 0 and 1.
    """

    hash: str = "utterance"
    test_share: float = 0.2

    def __post_init__(self) -> None:
        if not 0 < self.test_share < 1:
            raise ValueError(f"test_share must lie between 0 and 1, got {self.test_share}")


@dataclass(frozen=True)
class Layout:
    """A data set in its original folder layout.

    Attributes:
        layout: one of `LAYOUTS`: ``librispeech``, ``voxceleb``, ….
        folder: of the data set; relative to the task's file.
    """

    layout: str
    folder: str


@dataclass(frozen=True)
class ProbeTask:
    """A task for probes. Every choice among utterances goes by hashes of names, so that it depends
    neither on their order nor on a seed.

    Attributes:
        name: short, lower case, as the command line has it.
        kind: ``classification`` of utterances: accuracy. ``verification``: heads learn to tell the
            labels of the train part apart, and pairs of test utterances, of other labels, are
            scored by the cosine of their embeddings: equal error rate. ``ctc``: recognition of
            characters (Graves et al., 2006): character error rate.
        label: a field of the manifest's lines (``text``, ``speaker``, ``gender``, …) or a part of
            the path. Utterances without it are left out.
        heading: in tables.
        description: a sentence for the page: what is learned, and from whom.
        where: by field, the value or values that utterances must have.
        train, test: the same, of the two parts.
        split_by: where `train` and `test` don't tell parts apart.
        keep: by field, how many of its values to keep in the train part, for example
            ``{"speaker": 36}``.
        max_train, max_test: utterances at most; labels take turns.
        max_seconds: longer utterances are cut there; for `ctc` they are left out, as the cut would
            leave text without speech.
        heads: ``sequence``: linear over pooled frames, and a BiLSTM. ``speaker``: linear, and an
            ECAPA-like network. `ctc` has sequences only.
        trials: of a verification, a file of lines ``1 NAME NAME`` (same) and ``0 NAME NAME``;
            without one, all pairs of test utterances.
        data: a manifest, a folder or a `Layout`, in place of the utterances that are evaluated.

    Raises:
        ValueError: a value is not possible.
    """

    name: str
    kind: Kind
    label: str | PathPart = "text"
    heading: str = ""
    description: str = ""
    where: dict[str, Any] = field(default_factory=dict)
    train: dict[str, Any] = field(default_factory=dict)
    test: dict[str, Any] = field(default_factory=dict)
    split_by: SplitBy | None = None
    keep: dict[str, int] = field(default_factory=dict)
    max_train: int = 600
    max_test: int = 300
    max_seconds: float = 4.0
    heads: Literal["sequence", "speaker"] = "sequence"
    trials: str | None = None
    data: str | Layout | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", self.name):
            raise ValueError(f"name must be of a-z, 0-9, '.', '_' and '-', got {self.name!r}")
        if min(self.max_train, self.max_test, *self.keep.values()) < 1 or self.max_seconds <= 0:
            raise ValueError("max_train, max_test, max_seconds and keep must be positive")
        if self.split_by is None and (not self.train or not self.test or self.train == self.test):
            raise ValueError(
                'say how train and test differ: "train": {"split": "train"}, "test": {"split": '
                '"test"}, or "split_by": {"hash": "utterance", "test_share": 0.2}'
            )
        if self.kind == "ctc" and self.heads != "sequence":
            raise ValueError("heads of a ctc task are of kind sequence")
        if isinstance(self.data, Layout) and self.data.layout not in LAYOUTS:
            raise ValueError(
                f"layout must be one of {', '.join(LAYOUTS)}, got {self.data.layout!r}"
            )
        if self.trials is not None and self.kind != "verification":
            raise ValueError("trials are of a verification task")

    @property
    def title(self) -> str:
        return self.heading or self.name

    @property
    def metric(self) -> str:
        """Name of the score."""
        return {
            "classification": "accuracy",
            "verification": "equal error rate",
            "ctc": "character error rate",
        }[self.kind]

    @property
    def higher_is_better(self) -> bool:
        return self.kind == "classification"

    def to_json(self) -> dict[str, Any]:
        return to_json(self)


def read_task(path: str | Path) -> ProbeTask:
    """Read a task's JSON file; paths in it are relative to the file.

    Raises:
        ConfigError: it can't be read, or a field is invalid.
    """
    path = Path(path)
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not a task that can be read: {error}") from None
    if isinstance(fields, Mapping):
        fields = {**fields, **_beside(path.parent, fields)}
    try:
        return from_json(ProbeTask, fields)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def _beside(home: Path, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Resolve the fields that are paths, relative to the file's folder."""
    found: dict[str, Any] = {}
    for name in ("data", "trials"):
        value = fields.get(name)
        if isinstance(value, str):
            found[name] = str(home / value)
        elif isinstance(value, Mapping) and isinstance(value.get("folder"), str):
            found[name] = {**value, "folder": str(home / value["folder"])}
    return found


def utterances_of(task: ProbeTask, everything: Callable[[], list[Utterance]]) -> list[Utterance]:
    """Return the utterances that a task chooses from.

    Raises:
        ManifestError: its own data can't be read.
    """
    if task.data is None:
        return everything()
    if isinstance(task.data, Layout):
        return LAYOUTS[task.data.layout](Path(task.data.folder))
    found = collect([task.data])
    if not found:
        raise ManifestError(f"{task.data}: no utterances")
    return found


def field_of(utterance: Utterance, name: str) -> Any:
    """Return a field of an utterance's manifest line, or None."""
    if name in ("speaker", "text", "split", "duration_s"):
        return getattr(utterance, name)
    if name == "offset":
        return utterance.offset_s
    return utterance.extra.get(name)


def label_of(utterance: Utterance, label: str | PathPart) -> str | None:
    """Return the label as text, or None if there is none."""
    if isinstance(label, PathPart):
        parts = utterance.path.parts
        at = label.path_part
        return parts[at] if -len(parts) <= at < len(parts) else None
    value = field_of(utterance, label)
    return None if value is None or value == "" else str(value)
