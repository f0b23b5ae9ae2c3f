"""`syllabary info`: print the contents of a `.syl` file, without loading a model (or torch)."""

import json
import sys
from math import log2
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..audio.manifests import LIST_SUFFIX, collect
from ..errors import ContainerError
from . import options

if TYPE_CHECKING:
    from ..codecs.container import LostFrames


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="IN...")
@options.as_json
def info(files: tuple[str, ...], as_json: bool) -> None:
    """Print the headers and statistics of .syl files, and check every byte of them.

    Of a damaged file it says which frames are lost; `decode --conceal` decodes the others.

    IN is a file, a folder of them, a text file of paths, a glob pattern, or `-` for standard input.
    """
    failed = 0
    files = tuple(name for given in files for name in _named_by(given))
    for index, name in enumerate(files):
        try:
            fields, lost = _inspect(name)
        except ContainerError as error:
            if len(files) == 1:
                raise
            click.echo(f"failed: {error}", err=True)
            failed += 1
            continue
        failed += not fields["whole"]
        if as_json:
            click.echo(json.dumps(fields, ensure_ascii=False))
            continue
        if index:
            click.echo()
        width = max(map(len, fields))
        for key, value in fields.items():
            click.echo(f"{key:<{width}}  {_text(value)}")
        if not fields["whole"]:
            state = "damaged" if fields["complete"] else "cut short"
            click.echo(f"the file is {state}: {lost}", err=True)
    if failed:
        sys.exit(1)


def _named_by(given: str) -> list[str]:
    """Return the files that an argument names."""
    path = Path(given)
    is_one = path.exists() and not path.is_dir() and path.suffix != LIST_SUFFIX
    if given == "-" or is_one:
        return [given]
    return [str(item.path) for item in collect([given], suffixes=frozenset([".syl"]))]


def _inspect(name: str) -> tuple[dict[str, Any], "LostFrames"]:
    import warnings

    from ..codecs.container import ContainerWarning, SylReader
    from ..semantic.bundled_bpe import split_name

    try:
        file = sys.stdin.buffer if name == "-" else Path(name).open("rb")  # noqa: SIM115
    except OSError as error:
        raise ContainerError(f"{name}: {error.strerror}") from None
    with file, warnings.catch_warnings():
        warnings.simplefilter("ignore", ContainerWarning)
        reader = SylReader(file, name)
        reader.recover = reader.numbered
        frames = sum(
            chunk.codes.shape[1] if chunk.durations is None else int(chunk.durations.sum())
            for chunk in reader.chunks()
        )
    spec = reader.spec
    samples = reader.num_samples or 0
    seconds = samples / spec.sample_rate
    positions = reader.positions
    rates: dict[str, Any] = {"nominal_bitrate_bps": spec.bitrate(reader.num_codebooks)}
    if reader.has_durations:
        # A position may cover several frames, so the nominal bitrate does not apply to this file.
        bits = positions * sum(map(log2, spec.codebook_sizes[: reader.num_codebooks]))
        rates = {
            "positions_per_s": round(positions / seconds, 3) if seconds else None,
            "frames_per_position": round(frames / positions, 3) if positions else None,
            "code_bitrate_bps": round(bits / seconds, 1) if seconds else None,
        }
    pieces = split_name(spec.tokenizer) if reader.has_durations else None
    of = {"pieces_of": pieces[0], "bpe": pieces[1]} if pieces else {}
    lost = reader.lost
    fields = {
        "file": name,
        "whole": bool(reader.complete) and not reader.damaged,
        "complete": bool(reader.complete),
        "lost_frames": lost.count,
        "lost_s": [list(span) for span in lost.seconds],
        "length_known": lost.length_known,
        "bytes": reader.bytes_read,
        "tokenizer": spec.tokenizer,
        **of,
        "digest": spec.digest,
        "duration_s": round(seconds, 4),
        "samples": samples,
        "sample_rate_hz": spec.sample_rate,
        "frames": frames,
        "frame_rate_hz": float(spec.frame_rate),
        "positions": reader.positions,
        "codebooks": reader.num_codebooks,
        "codebook_sizes": list(spec.codebook_sizes[: reader.num_codebooks]),
        "durations": reader.has_durations,
        "global_codes": reader.global_codes,
        "entropy_coded": reader.coded,
        **rates,
        "file_bitrate_bps": round(reader.bytes_read * 8 / seconds, 1) if seconds else None,
        "metadata": reader.metadata,
    }
    return fields, lost


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list) and len(value) > 4 and len(set(value)) == 1:
        return f"{len(value)} × {value[0]}"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else str(value)
