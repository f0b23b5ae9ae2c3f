"""Write features of many files to disk in shards, resumably, and read them repeatedly.

A folder has `plan.json`, which identifies the features, and for each shard of some files
`features-0/00042.npy` (one folder per group of features), `mel/00042.npy` with as many rows, and
`shards/00042.json`, which is written last and marks the shard as complete. Anything else that a
killed process left is written again.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, Self

import numpy as np
import torch
from torch import Tensor

from ...audio.files import Channels
from ...audio.manifests import Utterance
from ...codecs import checkpoint
from ...errors import QuantizerError, SyllabaryError, WaveError
from ...filesystem import content_digest, printable, remove_leftovers, replacing
from ..encoders.interface import SpeechEncoder
from ..encoders.log_mel import LogMel

Dtype = Literal["float16", "float32"]
FORMAT = "syllabary.features.1"
#: Files per shard; the work on one shard is lost when a process is killed.
FILES_A_SHARD = 64
_HEADER = 128


@dataclass(frozen=True)
class Shard:
    """A complete shard.

    Attributes:
        features: a file for each group of features.
        mel: the file of log-mel rows, or None if not requested.
        frames: rows in each of them.
        seconds: of audio.
        failures: files that could not be read, each with the reason.
    """

    features: tuple[Path, ...]
    mel: Path | None
    frames: int
    seconds: float
    failures: tuple[tuple[str, str], ...]


class FeatureShards:
    """The features of a list of utterances, in a folder.

    Args:
        folder: created if it does not exist. If it has features of another list or encoder, a new
            folder inside is used.
        encoder: computes the features.
        utterances: audio files; several channels are averaged.
        mel: log-mel frames to store beside the features; None: none.
        dtype: of the features on disk. float16 halves the size; mels are always float16.
        channels: how to treat files with several channels.

    Raises:
        QuantizerError: the mels have another hop or sample rate than the features.
    """

    def __init__(
        self,
        folder: Path,
        encoder: SpeechEncoder,
        utterances: Sequence[Utterance],
        mel: LogMel | None,
        dtype: Dtype = "float16",
        channels: Channels = "mix",
    ) -> None:
        if mel and (mel.hop, mel.sample_rate) != (encoder.hop, encoder.sample_rate):
            raise QuantizerError(
                f"mels of hop {mel.hop} at {mel.sample_rate} Hz beside features of hop "
                f"{encoder.hop} at {encoder.sample_rate} Hz"
            )
        self.encoder, self.mel, self.channels = encoder, mel, channels
        self.dtype = np.dtype(dtype)
        starts = range(0, len(utterances), FILES_A_SHARD)
        self.groups = [utterances[start : start + FILES_A_SHARD] for start in starts]
        self.plan = {
            "format": FORMAT,
            "encoder": encoder.fields(),
            "weights": checkpoint.digest(encoder.kind, encoder.fields(), encoder.state_dict()),
            "mel": mel.fields() if mel else None,
            "dtype": dtype,
            "channels": channels,
            "files": len(utterances),
            "list": _fingerprint(utterances),
        }
        text = json.dumps(self.plan, sort_keys=True)
        self.key = hashlib.sha256(text.encode()).hexdigest()[:16]
        self.folder = folder / self.key

    def write(self, progress: Callable[[int, int, float], None] | None = None) -> list[Shard]:
        """Write the shards that are incomplete, and return all.

        Args:
            progress: called after each shard with the number of files done, of all files, and the
                seconds of audio so far.

        Raises:
            SyllabaryError: no file could be read.
            QuantizerError: features exceed the range of float16.
        """
        (self.folder / "shards").mkdir(parents=True, exist_ok=True)
        remove_leftovers(
            path for index in range(len(self.groups)) for path in self._paths(index).every
        )
        with replacing(self.folder / "plan.json") as temporary:
            temporary.write_text(json.dumps(self.plan, indent=2) + "\n")
        shards, files, seconds = [], 0, 0.0
        for index, group in enumerate(self.groups):
            shard = self._whole(index) or self._write(index, group)
            shards.append(shard)
            files, seconds = files + len(group), seconds + shard.seconds
            if progress:
                progress(files, self.plan["files"], seconds)  # type: ignore[arg-type]
        if not any(shard.frames for shard in shards):
            reasons = [reason for shard in shards for _, reason in shard.failures]
            raise SyllabaryError(f"no features: {reasons[0] if reasons else 'all files are empty'}")
        return shards

    def _paths(self, index: int) -> "_Paths":
        return _Paths.of(self.folder, index, len(self.encoder.dims), self.mel is not None)

    def _whole(self, index: int) -> Shard | None:
        paths = self._paths(index)
        try:
            record = json.loads(paths.record.read_text())
            frames, seconds = int(record["frames"]), float(record["seconds"])
            failures = tuple((str(name), str(why)) for name, why in record["failures"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        widths = zip(paths.features, self.encoder.dims, strict=True)
        expected = [(path, width, self.dtype.itemsize) for path, width in widths]
        if paths.mel and self.mel:
            expected.append((paths.mel, self.mel.dim, 2))
        for path, width, size in expected:
            if not path.exists() or path.stat().st_size != _HEADER + frames * width * size:
                return None
        return Shard(paths.features, paths.mel, frames, seconds, failures)

    def _write(self, index: int, group: Sequence[Utterance]) -> Shard:
        paths = self._paths(index)
        frames, samples, failures = 0, 0, []
        with ExitStack() as stack:
            files = [
                _RowFile(stack, path, width, self.dtype)
                for path, width in zip(paths.features, self.encoder.dims, strict=True)
            ]
            if paths.mel and self.mel:
                files.append(_RowFile(stack, paths.mel, self.mel.dim, np.dtype("float16")))
            for item in group:
                marks = [file.rows for file in files]
                try:
                    samples += self._append(item, files)
                except (QuantizerError, OSError):
                    raise
                except SyllabaryError as error:
                    for file, mark in zip(files, marks, strict=True):
                        file.cut(mark)
                    failures.append((printable(item.path), str(error)))
            frames = files[0].rows
            for file in files:
                file.finish()
        seconds = samples / self.encoder.sample_rate
        record = {"frames": frames, "seconds": seconds, "failures": failures}
        with replacing(paths.record) as temporary:
            temporary.write_text(json.dumps(record) + "\n")
        return Shard(paths.features, paths.mel, frames, seconds, tuple(failures))

    @torch.no_grad()
    def _append(self, item: Utterance, files: Sequence["_RowFile"]) -> int:
        """Append a file's rows, block by block; return its number of samples."""
        streams = [self.encoder.start(1)] + ([self.mel.start(1)] if self.mel else [])
        count = 0
        with item.open(self.channels) as reader:
            for block, final in reader.stream_blocks(self.encoder.sample_rate):
                if not np.isfinite(block).all():
                    raise WaveError(f"{item.path}: the samples hold NaN or infinity")
                count += len(block)
                wave = torch.from_numpy(np.ascontiguousarray(block)).to(self.encoder.device)
                parts = list(streams[0].push([wave], final)[0].split(self.encoder.dims, 1))
                if self.mel:
                    parts += streams[1].push([wave.cpu()], final)
                for file, part in zip(files, parts, strict=True):
                    file.append(part)
        return count


@dataclass(frozen=True)
class _Paths:
    features: tuple[Path, ...]
    mel: Path | None
    record: Path

    @classmethod
    def of(cls, folder: Path, index: int, groups: int, with_mel: bool) -> Self:
        name = f"{index:05}.npy"
        features = tuple(folder / f"features-{group}" / name for group in range(groups))
        mel = folder / "mel" / name if with_mel else None
        return cls(features, mel, folder / "shards" / f"{index:05}.json")

    @property
    def every(self) -> Iterator[Path]:
        yield from self.features
        yield self.record
        if self.mel:
            yield self.mel


class _RowFile:
    """A growing `.npy` file (rows, width), moved to its final path on success."""

    def __init__(self, stack: ExitStack, path: Path, width: int, dtype: np.dtype) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.name, self.width, self.dtype, self.rows = printable(path), width, dtype, 0
        temporary = stack.enter_context(replacing(path))
        self.file: IO[bytes] = stack.enter_context(temporary.open("wb"))
        self.file.write(bytes(_HEADER))

    def append(self, rows: Tensor) -> None:
        with np.errstate(over="ignore"):
            values = rows.cpu().numpy().astype(self.dtype)
        if not np.isfinite(values).all():
            raise QuantizerError(
                f"{self.name}: features that {self.dtype} can't hold; float32 takes twice the room"
            )
        self.file.write(values.tobytes())
        self.rows += len(values)

    def cut(self, rows: int) -> None:
        self.rows = rows
        self.file.seek(_HEADER + rows * self.width * self.dtype.itemsize)
        self.file.truncate()

    def finish(self) -> None:
        """Write the header in the space reserved for it, now that the number of rows is known."""
        shape = (self.rows, self.width)
        text = f"{{'descr': '{self.dtype.str}', 'fortran_order': False, 'shape': {shape}, }}"
        room = _HEADER - 10
        header = b"\x93NUMPY\x01\x00" + room.to_bytes(2, "little")
        self.file.seek(0)
        self.file.write(header + text.ljust(room - 1).encode() + b"\n")
        self.file.flush()
        os.fsync(self.file.fileno())


def _fingerprint(utterances: Sequence[Utterance]) -> str:
    """Hash the files' paths, contents and segments, which determine the features."""
    sha, digests = hashlib.sha256(), dict[Path, str]()
    for item in utterances:
        stamp: list[Any] = [printable(item.path.absolute()), item.offset_s, item.duration_s]
        if item.path not in digests:  # a file may have many segments
            try:
                digests[item.path] = content_digest(item.path)
            except OSError as error:
                digests[item.path] = type(error).__name__  # a failure until it can be read
        stamp.append(digests[item.path])
        sha.update(json.dumps(stamp).encode())
    return sha.hexdigest()
