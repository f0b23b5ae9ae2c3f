"""Studies by name."""

from pathlib import Path

from ...catalogue import Catalogue, expand
from ..probes import catalogue as probes
from ..probes.task import read_task
from .interface import Study

#: Other packages add studies with entry points of this group; each is a `Study`.
ENTRY_POINT_GROUP = "syllabary.studies"

#: Studies of this package, in the order of a page's tables, and where they are.
BUNDLED = {
    "promises": "syllabary.eval.studies.promises:STUDY",
    "tokens": "syllabary.eval.studies.token_statistics:STUDY",
    "language-model": "syllabary.eval.studies.language_model:STUDY",
    "robustness": "syllabary.eval.studies.robustness:STUDY",
    "damage": "syllabary.eval.studies.damage:STUDY",
    "idempotence": "syllabary.eval.studies.idempotence:STUDY",
    "cost": "syllabary.eval.studies.cost:STUDY",
}
STUDIES: Catalogue[Study] = Catalogue("study", ENTRY_POINT_GROUP, BUNDLED, kind=Study)
_PROBE = "probe:"


def names() -> list[str]:
    """Return the names of this package's and other packages' studies, without probes."""
    return list(STUDIES.names())


def parse(studies: str, tasks: str = "none") -> list[str]:
    """Parse two comma-separated lists into names for `find`.

    Args:
        studies: names, or ``default``, ``all`` or ``none``.
        tasks: of probes, as for `eval.probes.catalogue.parse`.

    Raises:
        SyllabaryError: there is no such study or task.
    """
    groups = {"default": lambda: BUNDLED, "all": STUDIES.names, "none": tuple[str, ...]}
    found = list(expand(studies, groups))
    for name in found:
        if name not in STUDIES:
            raise STUDIES.missing(name, groups)
    probes.parse(tasks)  # such as two tasks of the same name
    for word in expand(tasks, {}):
        for task in probes.parse(word):
            # A task from a file is identified by its path, also in another process.
            of_file = word not in probes.PROBES and Path(word).is_file()
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
        return study(probes.PROBES.find(given) if given in probes.PROBES else read_task(given))
    return STUDIES.find(name)
