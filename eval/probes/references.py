"""Reference points of the probes: continuous features, and random tokens.

They do not depend on a system, so each is computed once and cached.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from ...errors import ConfigError
from ...filesystem import content_digest, replacing
from ...typed_fields import to_json
from .encoding import FAILURES, probe_input
from .inputs import Codes, Features, Inputs
from .probe import BUDGETS, PROTOCOL, SEEDS, Result, probe
from .sampling import Example, Parts
from .task import ProbeTask

if TYPE_CHECKING:
    from ...semantic.encoders.interface import SpeechEncoder
    from ...semantic.units.tokenizer import UnitTokenizer

_RATE = 16000
_RANDOM_CODES, _RANDOM_RATE = 500, 50.0


@dataclass(frozen=True)
class Reference:
    """A reference point for the scores of systems.

    Attributes:
        name: ``log-mel``.
        heading: in tables.
        inputs: computes a probe's inputs from waves (samples,) at 16 kHz by name.
        version: of the computation.
    """

    name: str
    heading: str
    inputs: Callable[[dict[str, np.ndarray], int], Inputs]
    version: Callable[[], str]


def references() -> tuple[Reference, ...]:
    """Return log-mel features and the bundled content encoder's as upper, random tokens as lower
    references.
    """
    return (
        Reference("log-mel", "log-mel", _log_mel, lambda: "1"),
        Reference("content", "content features", _content, _content_digest),
        Reference("random", "random tokens", _random, lambda: "1"),
    )


def measure(
    reference: Reference, task: ProbeTask, parts: Parts, folder: Path, seed: int = 0
) -> Result:
    """Return the result of a task on a reference, cached in `folder`.

    Cached results are identified by a digest of the task, the files, the labels, the seed and the
    versions; damaged or foreign ones are computed again.

    Args:
        reference: one of `references`.
        task, parts: the task and its utterances.
        folder: shared by all systems.
        seed: of the probes, and of random tokens.

    Raises:
        MetricError: as `probe` does.
    """
    path = folder / f"{task.name}-{reference.name}-{_digest(reference, task, parts, seed)}.json"
    try:
        return Result.from_json(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, ConfigError):
        pass
    waves, failed = _waves(task, parts.train + parts.test)
    inputs = reference.inputs(waves, seed)
    inputs.failed.update(failed)
    result = probe(task, parts, inputs, seed)
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(result.to_json(), indent=1), encoding="utf-8")
    return result


def _digest(reference: Reference, task: ProbeTask, parts: Parts, seed: int) -> str:
    said = {
        "reference": [reference.name, reference.version()],
        "task": task.to_json(),
        "train": [_identity(example) for example in parts.train],
        "test": [_identity(example) for example in parts.test],
        "trials": parts.trials,
        "seed": seed,
        "seeds": SEEDS,
        "protocol": PROTOCOL,
        "budget": to_json(BUDGETS[task.kind]),
        "torch": torch.__version__,
    }
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]


def _identity(example: Example) -> list[str]:
    try:
        content = content_digest(example.utterance.path)
    except OSError as error:
        content = str(error)
    segment = example.utterance.segment()
    return [example.name, example.label, content, *([] if segment is None else [str(segment)])]


def _waves(
    task: ProbeTask, examples: Sequence[Example]
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    waves: dict[str, np.ndarray] = {}
    failed: dict[str, str] = {}
    for example in examples:
        try:
            wave, _ = example.utterance.read(_RATE, "mix")
            waves[example.name] = probe_input(wave, _RATE, task)
        except FAILURES as error:
            failed[example.name] = str(error)
    return waves, failed


def _log_mel(waves: dict[str, np.ndarray], seed: int) -> Features:
    from ...semantic.encoders.log_mel import LogMel

    encoder = LogMel()
    return Features(_features(encoder, waves), encoder.sample_rate / encoder.hop)


def _content(waves: dict[str, np.ndarray], seed: int) -> Features:
    encoder = _content_units().encoder
    return Features(_features(encoder, waves), encoder.sample_rate / encoder.hop)


def _content_digest() -> str:
    return str(_content_units().spec.tokens.digest)


@cache
def _content_units() -> "UnitTokenizer":
    from ...codecs.registry import load
    from ...semantic.units.tokenizer import UnitTokenizer

    units = load("units-16k")
    assert isinstance(units, UnitTokenizer)
    return units


def _features(encoder: "SpeechEncoder", waves: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {
        name: encoder.features([torch.from_numpy(wave)])[0].numpy() for name, wave in waves.items()
    }


def _random(waves: dict[str, np.ndarray], seed: int) -> Codes:
    """Uniformly random tokens, 50 a second of 500: they only reveal the length of an utterance."""
    rows = {}
    for name, wave in waves.items():
        digest = hashlib.sha256(f"{seed} {name}".encode("utf-8", "surrogateescape")).digest()
        rng = np.random.default_rng(int.from_bytes(digest[:8], "little"))
        frames = -(-len(wave) * round(_RANDOM_RATE) // _RATE)
        rows[name] = rng.integers(_RANDOM_CODES, size=(frames, 1))
    return Codes(rows, _RANDOM_RATE)
