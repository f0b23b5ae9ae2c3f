"""`Catalogue`: things of one kind by name, to which other packages add theirs by entry points."""

import difflib
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from .errors import SyllabaryError

T = TypeVar("T")


class Catalogue(Generic[T]):
    """Things of one kind by name: bundled ones, those of this process, those of other packages.

    Nothing is imported before it is asked for, and what can't be imported is an error of its own
    name only.

    Args:
        what: one of them, for messages: ``metric``.
        group: of the entry points by which other packages add theirs. An entry point with the name
            of a bundled thing is ignored.
        bundled: by name, a thing, or its place: ``syllabary.eval.studies.cost:STUDY``.
        kind: class of the things that other packages add, which is checked; None: any.
        accept: makes a thing of the name and the object of an entry point. May raise anything.
        broken: raised for a thing that can't be loaded, or is not of the kind.
        unknown: raised for a name that nothing has.
    """

    def __init__(
        self,
        what: str,
        group: str,
        bundled: Mapping[str, "T | str"],
        kind: type | None = None,
        accept: Callable[[str, Any], T] = lambda name, found: found,
        broken: type[SyllabaryError] = SyllabaryError,
        unknown: type[SyllabaryError] = SyllabaryError,
    ) -> None:
        self.what, self.group, self.bundled = what, group, bundled
        self._kind, self._accept = kind, accept
        self._broken, self._unknown = broken, unknown
        self._added: dict[str, T] = {}
        self._loaded: dict[str, T] = {}

    def names(self) -> tuple[str, ...]:
        """Return all names: bundled, of other packages, of this process."""
        return tuple(dict.fromkeys([*self.bundled, *sorted(self._installed()), *self._added]))

    def __contains__(self, name: str) -> bool:
        return name in self.bundled or name in self._added or name in self._installed()

    def add(self, name: str, thing: T) -> None:
        """Add a thing to this process, replacing an added one of the same name."""
        self._added[name] = thing

    def find(self, name: str) -> T:
        """Return the thing of a name, imported if need be.

        Raises:
            SyllabaryError: of the class `unknown`, if there is none; of the class `broken`, if
                another package's can't be loaded.
        """
        bundled = self.bundled.get(name)
        if bundled is not None and not isinstance(bundled, str):
            return bundled
        if name in self._added:
            return self._added[name]
        if name not in self._loaded:
            if bundled is not None:
                self._loaded[name] = EntryPoint(name, bundled, self.group).load()
            elif (entry := self._installed().get(name)) is not None:
                self._loaded[name] = self._load(entry)
            else:
                raise self.missing(name)
        return self._loaded[name]

    def missing(self, name: str, others: Iterable[str] = ()) -> SyllabaryError:
        """Return the error for a name that nothing has, with similar names and all there are.

        Args:
            name: that was asked for.
            others: further words that would have been accepted.
        """
        known = [*self.names(), *others]
        near = difflib.get_close_matches(name, known, 3, 0.5)
        meant = f", did you mean {' or '.join(near)}?" if near else ";"
        return self._unknown(f"no {self.what} {name!r}{meant} there are {', '.join(known)}")

    def _installed(self) -> dict[str, EntryPoint]:
        """Return other packages' entry points by name; of two with one name, the first."""
        found: dict[str, EntryPoint] = {}
        for entry in entry_points(group=self.group):
            if entry.name not in self.bundled:
                found.setdefault(entry.name, entry)
        return found

    def _load(self, entry: EntryPoint) -> T:
        source = f"{self.what} {entry.name} of {entry.value}"
        try:
            thing = self._accept(entry.name, entry.load())
        except SyllabaryError as error:
            raise self._broken(f"{source}: {error}") from error
        except Exception as error:  # whatever another package's import raises
            reason = f"{type(error).__name__}: {error}"
            raise self._broken(f"{source} can't be loaded: {reason}") from error
        if self._kind is not None and not isinstance(thing, self._kind):
            expected, got = self._kind.__name__, type(thing).__name__
            raise self._broken(f"{source}: expected a {expected}, got {got}")
        return thing


def expand(text: str, groups: Mapping[str, Callable[[], Iterable[str]]]) -> tuple[str, ...]:
    """Split a comma-separated list of names, and replace groups by the names in them.

    Args:
        text: names and groups, with white space around them ignored.
        groups: by name, a function that returns its names.

    Returns:
        Each name once, in the given order.
    """
    found: dict[str, None] = {}
    for word in filter(None, map(str.strip, text.split(","))):
        found |= dict.fromkeys(groups[word]() if word in groups else [word])
    return tuple(found)
