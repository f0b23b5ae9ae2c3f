"""The bundled tasks, those of other packages, and parsing of `--probes`."""

from importlib.metadata import entry_points
from pathlib import Path

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
            description="Which of 36 speakers says a sentence, of whom others were heard in the "
            "same session (speechocean762).",
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


def tasks() -> dict[str, ProbeTask]:
    """Return all tasks by name: the package's own, and those of other packages.

    Raises:
        ConfigError: an entry point of another package is not a task.
    """
    found = dict(TASKS)
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        try:
            task = entry.load()
            task = task if isinstance(task, ProbeTask) else task()
        except Exception as error:  # any error of another package's import
            raise ConfigError(f"task {entry.name} of {entry.value}: {error}") from None
        if not isinstance(task, ProbeTask):
            raise ConfigError(f"{ENTRY_POINT_GROUP}: {entry.name} is not a ProbeTask: {task!r}")
        found[entry.name] = task
    return found


def parse(text: str) -> tuple[ProbeTask, ...]:
    """Parse a comma-separated list of tasks: names, ``default``, ``all``, ``none``, and JSON files.

    Raises:
        ConfigError: an unknown name, or a file that is not a task.
    """
    known = tasks()
    chosen: dict[str, ProbeTask] = {}
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words:
        raise ConfigError("no probe named; say none for none")
    for word in words:
        if word == "none":
            continue
        if word in ("default", "all"):
            names = DEFAULT_TASKS if word == "default" else tuple(known)
            found = [known[name] for name in names]
        elif word in known:
            found = [known[word]]
        elif word.endswith(".json") or Path(word).is_file():
            found = [read_task(word)]
        else:
            raise ConfigError(
                f"no probe {word!r}; expected {', '.join(known)}, default, all, none, or a task's "
                "JSON file"
            )
        for task in found:
            if chosen.setdefault(task.name, task) != task:
                raise ConfigError(f"two different probes are called {task.name!r}")
    return tuple(chosen.values())
