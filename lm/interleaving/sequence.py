"""`Interleaved`: text and speech in one sequence of ids, with what is to be learned of it."""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal

import numpy as np

from ...errors import InterleavingError
from ...typed_fields import to_json
from ..arrays import Array

#: Target of what is not learned; the `ignore_index` of PyTorch's cross entropy.
IGNORE = -100
#: Kinds of ids.
TEXT, SPEECH, MARKER = 0, 1, 2
_KINDS = {"text": TEXT, "speech": SPEECH, "marker": MARKER}
Kind = Literal["text", "speech", "marker"]


@dataclass(frozen=True, eq=False)
class Interleaved:
    """One sequence for a language model.

    Attributes:
        ids: (n,) int64, what the model reads.
        targets: (n,) int64, what it should say after each id; `IGNORE` where nothing is learned.
        kinds: (n,) int8, `TEXT`, `SPEECH` or `MARKER` of each id.
        lost: text or speech that found no place.
    """

    ids: np.ndarray
    targets: np.ndarray
    kinds: np.ndarray
    lost: int = 0

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def loss_mask(self) -> np.ndarray:
        """(n,) bool: whether the target of an id counts."""
        return self.targets != IGNORE


@dataclass(frozen=True)
class Scheme:
    """A way to put text and speech in one sequence.

    Attributes:
        speech: first id of speech, and the id after the last: `Vocabulary.speech`.
        learn: kinds of ids that the model learns to say.

    Raises:
        InterleavingError: the settings don't agree with each other.
    """

    speech: tuple[int, int]
    learn: tuple[Kind, ...] = ("text", "speech", "marker")

    #: In the registry and in JSON.
    name: ClassVar[str]
    #: Fields that hold ids of markers.
    marker_fields: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "speech", tuple(self.speech))
        object.__setattr__(self, "learn", tuple(self.learn))
        first, stop = self.speech
        if not 0 <= first < stop:
            raise InterleavingError(f"speech must be a range of ids, got {first} to {stop}")
        unknown = set(self.learn) - set(_KINDS)
        if unknown:
            raise InterleavingError(f"learn must name {', '.join(_KINDS)}; got {sorted(unknown)}")
        for name in self.marker_fields:
            value = getattr(self, name)
            if value is not None and (value < 0 or first <= value < stop):
                raise InterleavingError(
                    f"{name} {value} must be an id of its own, not of speech ({first} to {stop})"
                )

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; `scheme_from_json` reads them."""
        return {"scheme": self.name, **to_json(self)}

    @property
    def markers(self) -> frozenset[int]:
        """Ids of the markers that this scheme writes."""
        values = (getattr(self, name) for name in self.marker_fields)
        return frozenset(value for value in values if value is not None)

    def kinds_of(self, ids: Array) -> np.ndarray:
        """The kind of each id, (n,) int8."""
        ids = _integers(ids, "ids")
        kinds = np.zeros(len(ids), np.int8)
        kinds[(ids >= self.speech[0]) & (ids < self.speech[1])] = SPEECH
        if self.markers:
            kinds[np.isin(ids, list(self.markers))] = MARKER
        return kinds

    def split(self, ids: Array) -> tuple[np.ndarray, np.ndarray]:
        """Text and speech of a sequence, markers left out.

        Each id says itself what it is: pieces of a sequence, split as a model generates them, give
        the pieces of the text and of the speech.
        """
        ids = _integers(ids, "ids")
        kinds = self.kinds_of(ids)
        return ids[kinds == TEXT], ids[kinds == SPEECH]

    def spans(self, ids: Array) -> list[tuple[int, np.ndarray]]:
        """Runs of text and of speech in order, each as its kind and ids; markers left out."""
        ids = _integers(ids, "ids")
        kinds = self.kinds_of(ids)
        cuts = np.flatnonzero(np.diff(kinds)) + 1
        runs = zip(np.split(kinds, cuts), np.split(ids, cuts), strict=True)
        return [(int(kind[0]), run) for kind, run in runs if len(run) and kind[0] != MARKER]

    def _text(self, ids: Array, *, needed: bool = True) -> np.ndarray:
        text = _integers(ids, "text")
        if needed and not len(text):
            raise InterleavingError(
                f"{self.name} needs text, and there is none: give the transcript's ids, or leave "
                "the utterance out"
            )
        kinds = self.kinds_of(text)
        if (kinds != TEXT).any():
            wrong = int(text[kinds != TEXT][0])
            what = "speech" if kinds[kinds != TEXT][0] == SPEECH else "a marker"
            raise InterleavingError(f"text has id {wrong}, which is {what}")
        return text

    def _speech(self, ids: Array) -> np.ndarray:
        """(frames, k): k ids for each frame that is not to be torn."""
        given = np.asarray(ids.cpu() if hasattr(ids, "cpu") else ids)
        if given.ndim not in (1, 2):
            raise InterleavingError(
                f"speech must have shape (ids,) or (frames, ids a frame), got {given.shape}"
            )
        speech = _integers(given.reshape(-1), "speech")
        first, stop = self.speech
        wrong = (speech < first) | (speech >= stop)
        if wrong.any():
            raise InterleavingError(
                f"speech has id {int(speech[wrong][0])}; the vocabulary's are {first} to "
                f"{stop - 1}: Vocabulary.encode gives them"
            )
        return speech.reshape(len(given), -1) if given.size else speech.reshape(0, 1)

    def _sequence(self, parts: Iterable[tuple[int, Any]], lost: int = 0) -> Interleaved:
        """Of parts, each a kind with an array of ids, one id, or None for no marker."""
        arrays, kinds = [], []
        for kind, part in parts:
            if part is not None:
                array = np.atleast_1d(np.asarray(part, np.int64)).reshape(-1)
                arrays.append(array)
                kinds.append(np.full(len(array), kind, np.int8))
        ids = np.concatenate([np.empty(0, np.int64), *arrays])
        return self._with_targets(ids, np.concatenate([np.empty(0, np.int8), *kinds]), lost)

    def _with_targets(self, ids: np.ndarray, kinds: np.ndarray, lost: int = 0) -> Interleaved:
        """Each id's target is the next, where its kind is learned."""
        targets = np.full(len(ids), IGNORE, np.int64)
        learned = np.isin(kinds[1:], [_KINDS[name] for name in self.learn])
        targets[:-1][learned] = ids[1:][learned]
        return Interleaved(ids, targets, kinds, lost)

    def __str__(self) -> str:
        shown = ", ".join(f"{f.name}={getattr(self, f.name)}" for f in fields(self))
        return f"{self.name}({shown})"


def _integers(ids: Array, what: str) -> np.ndarray:
    array = np.asarray(ids.cpu() if hasattr(ids, "cpu") else ids)
    if array.size == 0:
        array = array.astype(np.int64)
    if array.dtype.kind not in "iu" or array.ndim != 1:
        raise InterleavingError(
            f"{what} must be ids, integers of shape (n,), got {array.dtype} {array.shape}"
        )
    return array.astype(np.int64)
