"""The manifest of a folder of tokens, ``tokens.jsonl``: a JSON line for each `.syl` file.

It says of each file what its audio's manifest said (speaker, text, split, language) and how long it
is, so that a data loader need not open the files. Paths are relative to the manifest.
"""

import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..codecs.container import SylReader
from ..errors import ManifestError
from ..filesystem import printable, replacing
from .bulk import Outcome
from .one_file import described
from .token_blocks import TokenCoder

TOKENS_NAME = "tokens.jsonl"


def check_token_manifest(folder: Path) -> None:
    """Check, before a run, that its manifest can be written.

    Raises:
        ManifestError: as `write_token_manifest`.
    """
    _lines_in(folder / TOKENS_NAME)


def write_token_manifest(
    folder: Path, outcomes: Sequence[Outcome], coder: TokenCoder | None = None
) -> Path:
    """Write the manifest of the whole outputs of a run; lines of earlier runs stay.

    Args:
        folder: of the outputs.
        outcomes: of the jobs; those that failed have no line.
        coder: by which the tokens were transformed.

    Raises:
        ManifestError: there is a file of that name which is no such manifest.
    """
    path = folder / TOKENS_NAME
    if not folder.exists():
        return path
    with _locked(folder):  # other processes may fill the same folder
        before = _lines_in(path)
        lines = {name: line for name, line in before.items() if (folder / name).is_file()}
        named = [(printable(o.job.target.relative_to(folder)), o) for o in outcomes]
        for name, _ in named:
            lines.pop(name, None)
        lines |= {
            name: _line(name, o, before.get(name, {}), coder)
            for name, o in named
            if o.status != "failed"
        }
        if not lines and not path.exists():
            return path
        with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
            for _, line in sorted(lines.items()):
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
    return path


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Wait until no other process is in such a block for this folder."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


_FIGURES = ("duration_s", "frames", "codebooks", "bytes")


def _line(
    name: str, outcome: Outcome, before: dict[str, Any], coder: TokenCoder | None
) -> dict[str, Any]:
    source, target = outcome.job.source, outcome.job.target
    line: dict[str, Any] = {"path": name, "audio": printable(source.path)}
    if outcome.report is None:
        known = before.keys() >= set(_FIGURES) and before["bytes"] == target.stat().st_size
        line |= {n: before[n] for n in _FIGURES} if known else _measured(target, coder)
    else:
        report = outcome.report
        line |= {"duration_s": round(report.seconds, 6), "frames": report.frames}
        line |= {"codebooks": report.codebooks, "bytes": report.size}
    if source.offset_s is not None:
        line["offset"] = source.offset_s
    return line | described(source)


def _measured(path: Path, coder: TokenCoder | None) -> dict[str, Any]:
    """Return the figures of an output that was whole before, of the tokens before a coder."""
    with path.open("rb") as file:
        reader = SylReader(file, printable(path))
        frames = sum(
            chunk.codes.shape[1] if chunk.durations is None else int(chunk.durations.sum())
            for chunk in reader.chunks()
        )
    samples, codebooks = reader.num_samples or 0, reader.num_codebooks
    if coder is not None:
        codebooks = coder.num_codebooks
        frames //= codebooks
        if codebooks > 1:  # the coder fills the last frame, and says by how much
            samples -= reader.global_codes[-1]
    return {
        "duration_s": round(samples / reader.spec.sample_rate, 6),
        "frames": frames,
        "codebooks": codebooks,
        "bytes": reader.bytes_read,
    }


def _lines_in(path: Path) -> dict[str, dict[str, Any]]:
    """Return the lines of a manifest by their paths; none if there is no manifest.

    Raises:
        ManifestError: it is no such manifest.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"{printable(path)}: {error}") from None
    found = {}
    for number, line in enumerate(filter(None, text.split("\n")), 1):
        try:
            fields = json.loads(line)
            found[str(fields["path"])] = fields
        except (ValueError, KeyError, TypeError, RecursionError):
            raise ManifestError(
                f"{printable(path)}, line {number}: not a manifest of tokens; move this file away"
            ) from None
    return found
