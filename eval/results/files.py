"""Result files: reading with every problem named, and writing."""

import dataclasses
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...errors import SyllabaryError
from ...filesystem import replacing
from ...typed_fields import field_path, from_json
from .schema import SCHEMA, Result

RESULT_NAME = "result.json"
"""Name of a result file, in the folder of its system."""

LARGEST = 64 * 2**20
"""Bytes of a result file: 20 metrics over 50,000 items are about as many."""

_DEEPEST = 40
_MOST_PROBLEMS = 50
_LONGEST_NUMBER = 400
"""Digits; the largest double has 309."""
_GREATEST = sys.float_info.max

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_NO_TEXT = re.compile("[\ud800-\udfff]")
_SIGN = "\N{REPLACEMENT CHARACTER}"


class ResultError(SyllabaryError):
    """A result file can't be read, or is inconsistent.

    Attributes:
        problems: each with the path of the field, such as ``metrics[3].domains.all.count: …``.
    """

    def __init__(self, source: str, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        shown = "".join(f"\n  {problem}" for problem in self.problems)
        super().__init__(f"{source}: not a valid result{shown}")


class Problems(list[str]):
    """The problems of a result, collected up to a readable number.

    Args:
        source: of the result, for the error.
    """

    def __init__(self, source: str) -> None:
        super().__init__()
        self.source = source

    def append(self, problem: str) -> None:
        """Add a problem; raises `ResultError` if there are too many to read."""
        if len(self) == _MOST_PROBLEMS:
            raise ResultError(self.source, [*self, "… and more"])
        super().append(problem)

    def add(self, where: str, what: str) -> None:
        """Add a problem of the field at this path."""
        self.append(f"{where}: {what}" if where else what)

    def raise_any(self) -> None:
        """Raise `ResultError` if there is a problem."""
        if self:
            raise ResultError(self.source, self)


def read_result(path: Path) -> Result:
    """Read a result file's fields, with types checked; figures are not recomputed.

    Raises:
        ResultError: it can't be read, is too large, or has invalid fields.
    """
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
    except OSError as error:
        raise ResultError(str(path), [error.strerror or str(error)]) from None
    return parse_result(content, str(path))


def parse_result(content: bytes, source: str = "result") -> Result:
    """Like `read_result`, from a file's bytes.

    Raises:
        ResultError: see `read_result`.
    """
    if len(content) > LARGEST:
        raise ResultError(source, [f"more than {LARGEST // 2**20} MiB"])
    try:
        fields = json.loads(
            content.decode(),
            object_pairs_hook=_unique,
            parse_constant=_no_constant,
            parse_int=_whole,
        )
    except RecursionError:
        raise ResultError(source, ["nested too deeply"]) from None
    except ValueError as error:  # the base class of UnicodeDecodeError and JSONDecodeError
        raise ResultError(source, [f"not JSON: {error}"]) from None
    if isinstance(fields, dict) and fields.get("schema") != SCHEMA:
        found = "null" if fields.get("schema") is None else ascii(fields["schema"])[:60]
        raise ResultError(source, [f"schema: {found}, not {SCHEMA!r}"])
    problems = Problems(source)
    result = from_json(Result, _plain(fields, "", problems), problems=problems)
    problems.raise_any()
    return result


def write_result(path: Path, result: Result) -> None:
    """Write a result file, whole or not at all.

    Raises:
        ValueError: a number is NaN or infinite.
        OSError: it can't be written.
    """
    with replacing(path) as temporary:
        temporary.write_bytes(as_bytes(result, indent=1) + b"\n")


def as_bytes(value: Any, indent: int | None = None) -> bytes:
    """Encode JSON values or dataclasses in UTF-8, with question marks for characters that can't be
    encoded, as in file names.

    Raises:
        ValueError: a number is NaN or infinite.
        TypeError: a value is not JSON's.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent, default=_fields)
    return text.encode(errors="replace")


def _fields(value: Any) -> dict[str, Any]:
    if not dataclasses.is_dataclass(value):
        raise TypeError(f"{type(value).__name__} {value!r} is not JSON's")
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the field {twice!a} stands there twice")
    return found


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is not a number")


def _whole(text: str) -> int:
    if len(text) > _LONGEST_NUMBER:
        raise ValueError(f"a number of {len(text)} digits")
    return int(text)


def _plain(value: Any, where: str, problems: Problems, depth: int = 0) -> Any:
    """Return JSON values that can be shown and written again, and name those that can't.

    Control characters are replaced by signs: messages of failed programs have them, for colours.
    """
    if isinstance(value, dict | list) and depth > _DEEPEST:
        problems.add(where[:80], "nested too deeply")
        return None
    if isinstance(value, dict):
        found = {}
        for name, item in value.items():
            name = _text(name, where, problems)
            found[name] = _plain(item, field_path(where, name), problems, depth + 1)
        return found
    if isinstance(value, list):
        return [
            _plain(item, f"{where}[{place}]", problems, depth + 1)
            for place, item in enumerate(value)
        ]
    if isinstance(value, str):
        return _text(value, where, problems)
    if isinstance(value, int | float) and not abs(value) <= _GREATEST:
        problems.add(where, "too large a number")
        return 0
    return value


def _text(text: str, where: str, problems: Problems) -> str:
    if _NO_TEXT.search(text):
        problems.add(where, f"{ascii(text)[:60]} holds characters that are not text")
        text = _NO_TEXT.sub(_SIGN, text)
    return _CONTROL.sub(_SIGN, text)
