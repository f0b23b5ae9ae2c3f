"""Studies by name."""

import difflib
import importlib
from importlib.metadata import entry_points
from pathlib import Path

from ...errors import SyllabaryError
from ..probes import catalogue as probes
from ..probes.task import read_task
from .interface import Study

#: Other packages add studies with entry points of this group; each is a `Study`.
ENTRY_POINT_GROUP = "syllabary.studies"

#: Studies of this package, in the order of a page's tables, and their modules.
BUNDLED = {
    "promises": ".promises",
    "tokens": ".token_statistics",
    "language-model": ".language_model",
    "robustness": ".robustness",
    "damage": ".damage",
    "idempotence": ".idempotence",
    "cost": ".cost",
}
_PROBE = "probe:"


def names() -> list[str]:
    """Return the names of this package's and other packages' studies, without probes."""
    return [*BUNDLED, *(entry.name for entry in entry_points(group=ENTRY_POINT_GROUP))]


def parse(studies: str, tasks: str = "none") -> list[str]:
    """Parse two comma-separated lists into names for `find`.

    Args:
        studies: names, or ``default``, ``all`` or ``none``.
        tasks: of probes, as for `eval.probes.catalogue.parse`.

    Raises:
        SyllabaryError: there is no such study or task.
    """
    found: list[str] = []
    known = names()
    for word in (word.strip() for word in studies.split(",")):
        if word in ("default", "all"):
            found += known if word == "all" else BUNDLED
        elif word in known:
            found.append(word)
        elif word not in ("none", ""):
            near = difflib.get_close_matches(word, known, n=2)
            hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(known)}"
            raise SyllabaryError(f"no study {word!r}; {hint}")
    probes.parse(tasks)  # such as two tasks of the same name
    for word in (word.strip() for word in tasks.split(",") if word.strip()):
        for task in probes.parse(word):
            # A task from a file is identified by its path, also in another process.
            of_file = word not in probes.tasks() and Path(word).is_file()
            found.append(_PROBE + (str(Path(word).resolve()) if of_file else task.name))
    return list(dict.fromkeys(found))


def find(name: str) -> Study:
    """Return a study.

    Args:
        name: as returned by `parse`.

    Raises:
        SyllabaryError: there is none of that name.
    """
    if name.startswith(_PROBE):
        from .probes import study

        given = name.removeprefix(_PROBE)
        known = probes.tasks()
        return study(known[given] if given in known else read_task(given))
    if name in BUNDLED:
        bundled = importlib.import_module(BUNDLED[name], __package__).STUDY
        assert isinstance(bundled, Study)
        return bundled
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        if entry.name == name:
            try:
                found = entry.load()
            except Exception as error:  # any error of another package's import
                raise SyllabaryError(f"study {name} of {entry.value}: {error}") from None
            if not isinstance(found, Study):
                raise SyllabaryError(f"{ENTRY_POINT_GROUP}: {name} is not a Study: {found!r}")
            return found
    raise SyllabaryError(f"no study {name!r}; there are {', '.join(names())}")
