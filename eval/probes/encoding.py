"""Codes of a system for the utterances of a task, each encoded once and cached for all tasks."""

import hashlib
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from ...audio.manifests import Utterance
from ...codecs.tokens import Tokens
from ...errors import SyllabaryError
from ...filesystem import replacing
from ..metrics.interface import MetricError
from ..systems.interface import System
from .inputs import Codes
from .sampling import Example
from .task import ProbeTask

_BATCH = 16
#: Errors of single utterances.
FAILURES = (SyllabaryError, RuntimeError, OSError)


def encode(
    system: System,
    wave_of: Callable[[Utterance], np.ndarray],
    task: ProbeTask,
    examples: Sequence[Example],
    folder: Path,
) -> Codes:
    """Return the codes of each utterance, up to the task's `max_seconds`.

    Codes that occur once per utterance (`Tokens.global_codes`) are treated as additional codebooks,
    the same in every frame. De-duplicated tokens are restored to frames.

    Args:
        system: with a tokenizer.
        wave_of: returns (samples,) of an utterance at the system's rate.
        task: for `max_seconds`.
        examples: to encode.
        folder: where codes are cached, in a file for each system.

    Raises:
        MetricError: the system has no tokenizer.
    """
    tokenizer = system.tokenizer
    if tokenizer is None:
        raise MetricError(f"{system.name} gives no tokens")
    kept = _Kept(folder / f"{system.digest[:24]}-{system.num_codebooks or 0}.npz")
    failed: dict[str, str] = {}
    keys: dict[str, str] = {}
    waiting: list[tuple[str, np.ndarray]] = []
    for example in examples:
        try:
            wave = probe_input(wave_of(example.utterance), system.sample_rate, task)
        except FAILURES as error:
            failed[example.name] = _reason(error)
            continue
        key = keys[example.name] = hashlib.sha256(wave.tobytes()).hexdigest()
        if key not in kept.rows:
            waiting.append((key, wave))
    waiting.sort(key=lambda entry: (len(entry[1]), entry[0]))
    # A tokenizer whose codes depend on padding or batch neighbours encodes each utterance by
    # itself.
    alone = {"batch-invariance", "determinism"} & set(tokenizer.spec.broken_promises)
    size = 1 if alone else _BATCH
    reasons: dict[str, str] = {}
    for start in range(0, len(waiting), size):
        part = waiting[start : start + size]
        try:
            rows = _encoded(system, [wave for _, wave in part])
        except FAILURES:
            # Encoding one by one shows which of them fails, and why.
            rows = []
            for key, wave in part:
                try:
                    rows += _encoded(system, [wave])
                except FAILURES as error:
                    reasons[key] = _reason(error)
                    rows.append(None)
        kept.rows |= {key: row for (key, _), row in zip(part, rows, strict=True) if row is not None}
    if waiting:
        kept.write()
    failed |= {name: reasons[key] for name, key in keys.items() if key in reasons}
    found = {name: kept.rows[key].T.astype(np.int64) for name, key in keys.items() if key in kept}
    return Codes(found, float(tokenizer.spec.tokens.frame_rate), failed)


def probe_input(wave: np.ndarray, sample_rate: int, task: ProbeTask) -> np.ndarray:
    """Return the part of an utterance that a task uses.

    Raises:
        MetricError: it is empty, or longer than the limit of a CTC task: truncated speech would not
            match its text.
    """
    most = round(task.max_seconds * sample_rate)
    if not len(wave):
        raise MetricError("no samples")
    # A manifest's seconds are rounded.
    if task.kind == "ctc" and len(wave) > most + sample_rate // 100:
        raise MetricError(f"longer than {task.max_seconds:g} s, which its manifest does not say")
    return np.ascontiguousarray(wave[:most], np.float32)


def _encoded(system: System, waves: Sequence[np.ndarray]) -> list[np.ndarray | None]:
    """(codebooks, frames) of each wave."""
    tokenizer = system.tokenizer
    assert tokenizer is not None
    padded = np.zeros((len(waves), max(map(len, waves))), np.float32)
    for row, wave in zip(padded, waves, strict=True):
        row[: len(wave)] = wave
    lengths = [len(wave) for wave in waves]
    tokens = tokenizer.encode(padded, system.sample_rate, lengths, system.num_codebooks)
    return [_row(tokens[at]) for at in range(len(waves))]


def _row(tokens: Tokens) -> np.ndarray:
    tokens = tokens.restore().to("cpu")
    codes = tokens.codes[0, :, : int(tokens.lengths[0])]
    if tokens.global_codes is not None:
        whole = tokens.global_codes[0][:, None].expand(-1, codes.shape[1])
        codes = torch.cat([codes, whole])
    return codes.numpy()


def _reason(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


class _Kept:
    """Codes by the digest of the encoded samples, in one file.

    An unreadable file is ignored: its content can be computed again.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: dict[str, np.ndarray] = {}
        try:
            with np.load(path, allow_pickle=False) as file:
                keys, ends, codes = (file[name] for name in ("keys", "ends", "codes"))
            if len(keys) and ends[-1] == codes.shape[1]:
                rows = np.split(codes, ends[:-1], axis=1)
                self.rows = dict(zip(map(str, keys), rows, strict=True))
        except (OSError, ValueError, KeyError, IndexError, EOFError, zipfile.BadZipFile):
            pass

    def __contains__(self, key: str) -> bool:
        return key in self.rows

    def write(self) -> None:
        if not self.rows:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        rows = list(self.rows.values())
        codes = np.concatenate(rows, axis=1)
        small = np.min_scalar_type(int(codes.max(initial=0)))
        with replacing(self.path) as temporary:
            np.savez_compressed(
                temporary,
                keys=np.array(list(self.rows)),
                ends=np.cumsum([row.shape[1] for row in rows]),
                codes=codes.astype(small),
            )
