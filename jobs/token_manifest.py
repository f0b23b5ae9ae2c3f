"""The manifest of a folder of tokens, ``tokens.jsonl``: a JSON line for each `.syl` file.

It says of each file what its audio's manifest said (speaker, text, split, language) and how long it
is, so that a data loader need not open the files. Paths are relative to the manifest.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..codecs.container import SylReader
from ..errors import ManifestError
from ..filesystem import printable, replacing
from .bulk import Outcome
from .one_file import described

TOKENS_NAME = "tokens.jsonl"


def write_token_manifest(folder: Path, outcomes: Sequence[Outcome]) -> Path:
    """Write the manifest of the whole outputs of a run; lines of earlier runs stay.

    Args:
        folder: of the outputs.
        outcomes: of all jobs; those that failed have no line.

    Raises:
        ManifestError: there is a file of that name which is no such manifest.
    """
    path = folder / TOKENS_NAME
    lines = {name: line for name, line in _lines_in(path).items() if (folder / name).is_file()}
    named = [(printable(o.job.target.relative_to(folder)), o) for o in outcomes]
    for name, _ in named:
        lines.pop(name, None)
    lines |= {name: _line(name, o) for name, o in named if o.status != "failed"}
    if not lines and not path.exists():
        return path  # and perhaps no folder
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for _, line in sorted(lines.items()):
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
    return path


def _line(name: str, outcome: Outcome) -> dict[str, Any]:
    source = outcome.job.source
    line: dict[str, Any] = {"path": name, "audio": printable(source.path)}
    if outcome.report is None:
        line |= _measured(outcome.job.target)
    else:
        report = outcome.report
        line |= {"duration_s": round(report.seconds, 6), "frames": report.frames}
        line |= {"codebooks": report.codebooks, "bytes": report.size}
    if source.offset_s is not None:
        line["offset"] = source.offset_s
    return line | described(source)


def _measured(path: Path) -> dict[str, Any]:
    """Return the figures of an output that was whole before."""
    with path.open("rb") as file:
        reader = SylReader(file, printable(path))
        frames = sum(
            chunk.codes.shape[1] if chunk.durations is None else int(chunk.durations.sum())
            for chunk in reader.chunks()
        )
    seconds = (reader.num_samples or 0) / reader.spec.sample_rate
    return {
        "duration_s": round(seconds, 6),
        "frames": frames,
        "codebooks": reader.num_codebooks,
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
