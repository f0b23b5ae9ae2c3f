"""`probe:<task>`: downstream probes on a system's tokens, as a study."""

import hashlib
import json
from contextlib import suppress
from functools import partial
from pathlib import Path

from ...audio.manifests import MANIFEST_NAME
from ...errors import SyllabaryError
from ...filesystem import content_digest
from ..probes.task import ProbeTask
from ..systems.interface import System
from .interface import Bench, Findings, Study, Value

_PAPER = "DASB, arXiv 2406.14294"


def study(task: ProbeTask) -> Study:
    """Return the study of a task."""
    return Study(
        name=f"probe:{task.name}",
        heading=task.title,
        run=partial(_run, task),
        description=f"{task.description} Tokens are frozen; an embedding a codebook, a learned sum "
        "over codebooks and a small head learn the task, three times.".strip(),
        unsuitable=_unsuitable,
        paper=_PAPER,
        form=hashlib.sha256(_identity(task).encode()).hexdigest()[:16],
    )


def _identity(task: ProbeTask) -> str:
    """What decides the results: the task, and what is in its own data set and trials."""
    own = [task.data] if isinstance(task.data, str) else []
    files = [Path(name) for name in (*own, task.trials) if name is not None]
    contents = []
    for path in files:
        listed = path / MANIFEST_NAME if path.is_dir() else path
        with suppress(OSError):  # which the study will say
            contents.append(content_digest(listed))
    fields = json.dumps(task.to_json(), sort_keys=True)
    return fields if not contents else json.dumps([fields, contents])


def _unsuitable(system: System) -> str | None:
    return None if system.tokenizer is not None else "it gives no tokens to probe"


def _run(task: ProbeTask, bench: Bench) -> Findings:
    from ..probes.encoding import encode
    from ..probes.probe import SEEDS, probe
    from ..probes.references import measure, references
    from ..probes.sampling import choose
    from ..probes.task import utterances_of

    utterances = utterances_of(task, lambda: list(bench.everything))
    parts = choose(task, utterances)
    codes = encode(
        bench.system, bench.wave, task, parts.train + parts.test, bench.folder / "probe-codes"
    )
    result = probe(task, parts, codes, bench.seed)
    best = result.heads[result.best]
    unit, better = "%", task.higher_is_better
    metric = task.metric
    values = [
        Value(
            metric.replace(" ", "-"),
            metric,
            best.value,
            better,
            unit,
            1,
            best.low,
            best.high,
            result.test,
        ),
        Value("mean", f"{metric}, mean of heads", result.mean, better, unit, 1, count=result.test),
    ]
    findings = Findings(values)
    shared = (bench.shared or bench.folder) / "probe-references"
    for reference in references():
        try:
            known = measure(reference, task, parts, shared, bench.seed)
        except SyllabaryError as error:
            findings.missing[reference.name] = str(error)
            continue
        score = known.heads[known.best]
        findings.values.append(
            Value(
                reference.name,
                reference.heading,
                score.value,
                None,
                unit,
                1,
                score.low,
                score.high,
                known.test,
            )
        )
    heads = "; ".join(
        f"{name} {score.value:.1f} ({', '.join(f'{value:.1f}' for value in score.seeds)})"
        for name, score in result.heads.items()
    )
    what = "characters in the alphabet" if task.kind == "ctc" else "labels"
    findings.notes += [
        f"Learned from {result.train} utterances, {result.classes} {what}; tested on "
        f"{result.test}. {metric} by head, mean of {SEEDS} seeds (each seed): {heads}. The best "
        "head is chosen on the test part itself, for every system alike.",
        *result.notes,
    ]
    if parts.untaught:
        findings.notes.append(
            f"{parts.untaught} utterances of the test have labels that were not learned, and are "
            "left out."
        )
    if result.majority is not None:
        findings.notes.append(f"The most frequent label has {result.majority:.1f} % of the test.")
    return findings
