"""Any program with an encode and a decode command line, described by a small JSON file.

    {"name": "speex-8", "sample_rate": 16000,
     "encode": ["speexenc", "--quality", "8", "{input}", "{output}"],
     "decode": ["speexdec", "{input}", "{output}"],
     "suffix": ".spx", "delay": 0, "bits": "ogg", "license": "BSD-3-Clause", "source": "speex.org"}

The encoder's {input} is a 16-bit mono wav file and its {output} a file that the decoder's {input}
is; the decoder's {output} is a wav file. Words with a slash, and files that the commands name, are
looked for from the JSON file's folder, where the programs run. Nothing goes through a shell.
"""

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from ...errors import SyllabaryError
from .base import BaseSystem
from .interface import MissingSystemError, Reconstruction
from .ogg import ogg_packets
from .programs import TIMEOUT, digest_of, run_program, short_digest
from .samples import at_rate, fitted, to_int16

_REQUIRED: dict[str, type | tuple[type, ...]] = {
    "name": str,
    "sample_rate": int,
    "encode": list,
    "decode": list,
}
_OPTIONAL: dict[str, type | tuple[type, ...]] = {
    "program_rate": int,
    "delay": int,
    "suffix": str,
    "bits": (str, dict),
    "license": str,
    "source": str,
    "files": list,
    "timeout_s": (int, float),
}
#: Fields of each way of counting bits that is no word.
_COUNTS = ({"header_bytes"}, {"frame_bits", "frame_samples"})


class External(BaseSystem):
    """An external codec.

    Fields of the JSON file, beside `name`, `sample_rate` (Hz), `encode` and `decode`:

    - ``program_rate``: Hz of the wav files, where it is not `sample_rate`: soxr resamples. So a
      narrow-band program is measured beside wide-band ones, against the same speech.
    - ``delay``: samples at `sample_rate` to take off the front of its output; default: 0. As many
      zeros follow each clip, so that its end comes out; the bits that they take count.
    - ``suffix``: of the encoded file; default: ``.bin``.
    - ``bits``: ``file`` (default), the size of the encoded file; ``ogg``, packets of an Ogg file
      but for the two headers; ``{"header_bytes": N}``, the file without its first N bytes; or
      ``{"frame_bits": B, "frame_samples": S}``, B for each begun S samples at the program's rate.
    - ``license``, ``source``.
    - ``files``: others that decide what it gives, such as weights: they go into the digest.
    - ``timeout_s``: of each call; default: 300.

    Args:
        path: of the JSON file.

    Raises:
        SyllabaryError: the file can't be read, or a field is missing, unknown or wrong.
        MissingSystemError: a program or file is not there.
    """

    in_process = False

    def __init__(self, path: str | Path) -> None:
        self.given = str(path)
        self._folder = Path(path).resolve().parent
        fields = _read(Path(path))
        self.name = fields["name"]
        self.sample_rate = fields["sample_rate"]
        self.delay = fields.get("delay", 0)
        self.license = fields.get("license", "")
        self.source = fields.get("source", "")
        self._rate = fields.get("program_rate", self.sample_rate)
        self._suffix = fields.get("suffix", ".bin")
        self._bits = fields.get("bits", "file")
        self._timeout = float(fields.get("timeout_s", TIMEOUT))
        self._encode = self._command(fields["encode"])
        self._decode = self._command(fields["decode"])
        own = sorted({self._encode[0], self._decode[0]})
        words = [*self._encode[1:], *self._decode[1:], *fields.get("files", [])]
        others = sorted({str(self._folder / word) for word in words if self._is_file(word)})
        for word in fields.get("files", []):
            if not self._is_file(word):
                raise MissingSystemError(f"{self.name}: no file {self._folder / word}")
        self.digest = digest_of([*own, *others], json.dumps(fields, sort_keys=True))
        self.versions = {Path(file).name: short_digest(file) for file in [*own, *others]}
        encode, decode = (" ".join(fields[key]) for key in ("encode", "decode"))
        self.setting = f"{encode}; {decode}; bits: {_measured_as(self._bits)}"
        if self._rate != self.sample_rate:
            self.setting += f"; at {self._rate} Hz"

    def reconstruct(self, wave: np.ndarray) -> Reconstruction:
        padded = np.pad(np.asarray(wave, np.float32), (0, self.delay))
        with tempfile.TemporaryDirectory(prefix="syllabary-external-") as scratch:
            given, back = Path(scratch, "a.wav"), Path(scratch, "b.wav")
            coded = Path(scratch, f"a{self._suffix}")
            soundfile.write(
                given, to_int16(at_rate(padded, self.sample_rate, self._rate)), self._rate
            )
            self._run(self._encode, given, coded)
            self._run(self._decode, coded, back)
            try:
                decoded, rate = soundfile.read(back, dtype="float32")
            except soundfile.SoundFileError as error:
                raise RuntimeError(f"{self.name}: its output can't be read: {error}") from None
            if decoded.ndim != 1:
                raise RuntimeError(f"{self.name} gave {decoded.shape[1]} channels")
            if rate != self._rate:
                raise RuntimeError(f"{self.name} gave {rate} Hz, expected {self._rate}")
            bits = self._count(coded, len(wave))
        decoded = at_rate(decoded, self._rate, self.sample_rate)
        return Reconstruction(fitted(decoded[self.delay :], len(wave)), bits)

    def _count(self, coded: Path, length: int) -> float:
        if self._bits == "file":
            return 8.0 * coded.stat().st_size
        if self._bits == "ogg":
            return 8.0 * sum(ogg_packets(coded.read_bytes())[2:])
        if "header_bytes" in self._bits:
            return 8.0 * max(0, coded.stat().st_size - self._bits["header_bytes"])
        samples = -(-length * self._rate // self.sample_rate)
        return float(-(-samples // self._bits["frame_samples"]) * self._bits["frame_bits"])

    def _run(self, command: list[str], source: Path, target: Path) -> None:
        named = {"{input}": str(source), "{output}": str(target)}
        words = []
        for word in command:
            for mark, path in named.items():
                word = word.replace(mark, path)
            words.append(word)
        run_program(words, self._timeout, self._folder)
        if not target.exists():
            raise RuntimeError(f"{Path(command[0]).name}: wrote no {target.name}")

    def _command(self, words: list[str]) -> list[str]:
        """The command with its program's whole path."""
        place = str(self._folder / words[0]) if "/" in words[0] else words[0]
        program = shutil.which(place)
        if program is None:
            where = "" if "/" in words[0] else " in the PATH"
            raise MissingSystemError(f"{self.name}: no program {place}{where}")
        return [program, *words[1:]]

    def _is_file(self, word: str) -> bool:
        return "{" not in word and (self._folder / word).is_file()


def _measured_as(bits: str | dict[str, int]) -> str:
    if bits == "file":
        return "size of the encoded file"
    if bits == "ogg":
        return "Ogg packets without headers"
    assert isinstance(bits, dict)
    if "header_bytes" in bits:
        return f"size of the encoded file less {bits['header_bytes']} bytes"
    return f"{bits['frame_bits']} each {bits['frame_samples']} samples"


def _read(path: Path) -> dict[str, Any]:
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SyllabaryError(f"{path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise SyllabaryError(f"{path}: not JSON: {error}") from None
    if not isinstance(fields, dict):
        raise SyllabaryError(f"{path}: expected an object")
    lacking = sorted(set(_REQUIRED) - set(fields))
    unknown = sorted(set(fields) - set(_REQUIRED) - set(_OPTIONAL))
    if lacking or unknown:
        what = f"no field {lacking[0]!r}" if lacking else f"unknown field {unknown[0]!r}"
        raise SyllabaryError(f"{path}: {what}")
    for name, value in fields.items():
        kind = (_REQUIRED | _OPTIONAL)[name]
        if not isinstance(value, kind) or isinstance(value, bool):
            raise SyllabaryError(f"{path}: {name} is {value!r}")
    for name in ("sample_rate", "program_rate", "timeout_s"):
        if fields.get(name, 1) <= 0:
            raise SyllabaryError(f"{path}: {name} is {fields[name]}")
    if fields.get("delay", 0) < 0 or not fields["name"]:
        raise SyllabaryError(f"{path}: a name is text, and a delay at least 0")
    if "/" in fields.get("suffix", ""):
        raise SyllabaryError(f"{path}: suffix is {fields['suffix']!r}")
    for name in ("encode", "decode", "files"):
        words = fields.get(name, [])
        if not all(isinstance(word, str) for word in words):
            raise SyllabaryError(f"{path}: {name} is a list of words")
    for name in ("encode", "decode"):
        for mark in ("{input}", "{output}"):
            if not any(mark in word for word in fields[name][1:]):
                raise SyllabaryError(f"{path}: {name} has no {mark}")
    _check_bits(path, fields.get("bits", "file"))
    return fields


def _check_bits(path: Path, bits: str | dict[str, Any]) -> None:
    if isinstance(bits, str):
        right = bits in ("file", "ogg")
    else:
        right = set(bits) in _COUNTS and all(
            type(value) is int and value >= (name == "frame_samples")
            for name, value in bits.items()
        )
    if not right:
        raise SyllabaryError(
            f'{path}: bits is {bits!r}; expected "file", "ogg", {{"header_bytes": N}} or '
            '{"frame_bits": B, "frame_samples": S}'
        )
