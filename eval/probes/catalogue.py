"""The bundled tasks, those of other packages, and parsing of `--probes`."""

from pathlib import Path

from ...catalogue import Catalogue, expand
from ...errors import ConfigError
from .task import PathPart, ProbeTask, SplitBy, read_task

#: Other packages add tasks with entry points of this group: each is a `ProbeTask`, or makes one.
ENTRY_POINT_GROUP = "syllabary.tasks"

#: Held-out speakers. Nothing is selected by the valid part, so it is used for testing too.
_HELD_OUT = {"split": ["valid", "test"]}
_TRAIN = {"split": "train"}
#: Short sentences of learners of English. The tasks share their utterances, which are encoded once.
_SENTENCES = {"source": "speechocean762"}
_SPEAKERS = {"speaker": 36}

TASKS = {
    task.name: task
    for task in (
        ProbeTask(
            name="digits",
            heading="Digits",
            kind="classification",
            description="Ten English digits: learned from 4 speakers, tested on 2 others (FSDD).",
            where={"source": "fsdd"},
            train=_TRAIN,
            test=_HELD_OUT,
            max_train=400,
            max_test=240,
            max_seconds=1.5,
        ),
        ProbeTask(
            name="keywords",
            heading="Keywords",
            kind="classification",
            description="Forty Arabic words: learned from 24 speakers, tested on 6 others "
            "(Arabic Speech Commands).",
            label=PathPart(-2),
            where={"source": "arabic_commands"},
            train=_TRAIN,
            test=_HELD_OUT,
            max_train=480,
            max_test=240,
            max_seconds=1.0,
        ),
        ProbeTask(
            name="speaker",
            heading="Speaker identification",
            kind="classification",
            description="Which of 36 speakers says a sentence; learned from others of the same "
            "session (speechocean762).",
            label="speaker",
            where=_SENTENCES | _TRAIN,
            split_by=SplitBy("utterance", 0.3),
            keep=_SPEAKERS,
            max_seconds=3.5,
            heads="speaker",
        ),
        ProbeTask(
            name="verification",
            heading="Speaker verification",
            kind="verification",
            description="Whether two sentences are of one speaker, of 40 that were not trained on "
            "(speechocean762).",
            label="speaker",
            where=_SENTENCES,
            train=_TRAIN,
            test=_HELD_OUT,
            keep=_SPEAKERS,
            max_seconds=3.5,
            heads="speaker",
        ),
        ProbeTask(
            name="gender",
            heading="Gender",
            kind="classification",
            description="Gender of 40 speakers, many of them children, learned from 36 others "
            "(speechocean762).",
            label="gender",
            where=_SENTENCES,
            train=_TRAIN,
            test=_HELD_OUT,
            keep=_SPEAKERS,
            max_train=180,
            max_seconds=3.5,
        ),
        ProbeTask(
            name="characters",
            heading="Characters",
            kind="ctc",
            description="What is said, in letters, of sentences by 40 speakers that were not "
            "trained on (speechocean762).",
            where=_SENTENCES,
            train=_TRAIN,
            test=_HELD_OUT,
            keep=_SPEAKERS,
            max_seconds=3.5,
        ),
    )
}
#: Verification trains the same as identification, and so is not in the default.
DEFAULT_TASKS = tuple(name for name in TASKS if name != "verification")


PROBES: Catalogue[ProbeTask] = Catalogue(
    "probe",
    ENTRY_POINT_GROUP,
    TASKS,
    kind=ProbeTask,
    accept=lambda name, found: found if isinstance(found, ProbeTask) else found(),
    broken=ConfigError,
    unknown=ConfigError,
)


def parse(text: str) -> tuple[ProbeTask, ...]:
    """Parse a comma-separated list of tasks: names, ``default``, ``all``, ``none``, and JSON files.

    Raises:
        ConfigError: an unknown name, or a file that is not a task.
    """
    groups = {"default": lambda: DEFAULT_TASKS, "all": PROBES.names, "none": tuple[str, ...]}
    if not expand(text, {}):
        raise ConfigError("no probe named; say none for none")
    chosen: dict[str, ProbeTask] = {}
    for name in expand(text, groups):
        if name in PROBES:
            task = PROBES.find(name)
        elif name.endswith(".json") or Path(name).is_file():
            task = read_task(name)
        else:
            raise PROBES.missing(name, [*groups, "a task's JSON file"])
        if chosen.setdefault(task.name, task) != task:
            raise ConfigError(f"two different probes are called {task.name!r}")
    return tuple(chosen.values())
