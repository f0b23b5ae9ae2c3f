"""Reading JSON into the schema's dataclasses, with the path of every problem."""

import dataclasses
import json
import math
import re
import types
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin

from ...errors import SyllabaryError
from ...typed_fields import field_types
from .schema import SCHEMA, Result

LARGEST = 64 * 2**20
"""Bytes of a result file: 20 metrics over 50,000 items are about as many."""

_DEEPEST = 40
_MOST_PROBLEMS = 50
_LONGEST_NUMBER = 400
"""Digits; the largest double has 309."""

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")

T = TypeVar("T")


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
    """The problems of a file, up to a readable number."""

    def add(self, where: str, what: str) -> None:
        """Add a problem of the field at this path."""
        if len(self) < _MOST_PROBLEMS:
            self.append(f"{where}: {what}" if where else what)
        elif len(self) == _MOST_PROBLEMS:
            self.append("… and more")


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
    if isinstance(fields, Mapping) and fields.get("schema") != SCHEMA:
        raise ResultError(source, [f"schema: {_brief(fields.get('schema'))}, not {SCHEMA!r}"])
    problems = Problems()
    result = _read(Result, fields, "", problems)
    if problems:
        raise ResultError(source, problems)
    return result


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the field {_brief(twice)} stands there twice")
    return found


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is not a number")


def _whole(text: str) -> int:
    if len(text) > _LONGEST_NUMBER:
        raise ValueError(f"a number of {len(text)} digits")
    return int(text)


def _read(kind: type[T], fields: Any, where: str, problems: Problems) -> T:
    """Read a dataclass; None if there was a problem, so that it is not used."""
    nothing: Any = None
    if not isinstance(fields, Mapping):
        problems.add(where, f"expected fields by name, got {_brief(fields)}")
        return nothing
    hints = _fields(cast(Any, kind))
    before = len(problems)
    for name in fields:
        if name not in hints:
            problems.add(_join(where, name), "no such field")
    values = {}
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        here = _join(where, field.name)
        if field.name in fields:
            values[field.name] = _typed(hints[field.name], fields[field.name], here, problems)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            problems.add(here, "missing")
    return kind(**values) if len(problems) == before else nothing


@cache
def _fields(kind: type) -> dict[str, Any]:
    return field_types(kind)


def _typed(hint: Any, value: Any, where: str, problems: Problems, depth: int = 0) -> Any:
    """Return a value of its declared type, or add a problem."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return _one_of(parts, value, where, problems)
    if hint is Any:
        return _anything(value, where, problems, depth)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return _read(hint, value, where, problems)
    if origin is tuple and isinstance(value, list):
        fixed = parts[-1] is not Ellipsis
        if not fixed or len(parts) == len(value):
            kinds = parts if fixed else parts[:1] * len(value)
            return tuple(
                _typed(kind, item, f"{where}[{place}]", problems)
                for place, (kind, item) in enumerate(zip(kinds, value, strict=True))
            )
    elif origin is Mapping and isinstance(value, dict):
        return {
            _text(name, where, problems): _typed(
                parts[1], item, _join(where, name), problems, depth + 1
            )
            for name, item in value.items()
        }
    elif origin is Literal:
        if isinstance(value, str) and value in parts:
            return value
    elif hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return _finite(value, where, problems)
    elif hint is str and isinstance(value, str):
        return _text(value, where, problems)
    elif hint in (int, bool) and type(value) is hint:
        return value
    problems.add(where, f"expected {_meaning(hint)}, got {_brief(value)}")
    return None


def _one_of(parts: Sequence[Any], value: Any, where: str, problems: Problems) -> Any:
    if value is None and types.NoneType in parts:
        return None
    others = [part for part in parts if part is not types.NoneType]
    lists = [part for part in others if get_origin(part) is tuple]
    if len(others) > 1:  # a score: a number or two
        others = lists if isinstance(value, list) else [p for p in others if p not in lists]
    return _typed(others[0], value, where, problems)


def _anything(value: Any, where: str, problems: Problems, depth: int) -> Any:
    """Read part of a specification: any JSON value that can be written again."""
    if depth > _DEEPEST:
        problems.add(where[:80], "nested too deeply")
    elif isinstance(value, dict):
        return _typed(Mapping[str, Any], value, where, problems, depth)
    elif isinstance(value, list):
        return tuple(
            _anything(item, f"{where}[{place}]", problems, depth + 1)
            for place, item in enumerate(value)
        )
    elif isinstance(value, str):
        return _text(value, where, problems)
    elif isinstance(value, float):
        return _finite(value, where, problems)
    return value


def _finite(value: float, where: str, problems: Problems) -> float | None:
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if math.isfinite(number):
        return number
    problems.add(where, "too large a number")
    return None


def _text(value: str, where: str, problems: Problems) -> str:
    """Return printable text: surrogates are rejected, and control characters are replaced by
    symbols.

    Messages of failed programs contain them, for colours.
    """
    if any("\ud800" <= char <= "\udfff" for char in value):
        problems.add(where, f"{_brief(value)} holds characters that are not text")
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", value)


def _meaning(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(get_args(hint))
    if get_origin(hint) is tuple:
        fixed = get_args(hint)[-1] is not Ellipsis
        return f"a list of {len(get_args(hint))}" if fixed else "a list"
    if get_origin(hint) is Mapping:
        return "fields by name"
    return {float: "a number", int: "a whole number", str: "text", bool: "true or false"}[hint]


def _brief(value: Any) -> str:
    """Abbreviate any value for an error message."""
    if isinstance(value, list | dict):
        return f"a list of {len(value)}" if isinstance(value, list) else "fields by name"
    text = ascii(value) if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _join(where: str, name: str) -> str:
    name = ascii(name)[1:-1] if not name.isprintable() else name
    name = name if len(name) <= 100 else f"{name[:97]}…"
    return f"{where}.{name}" if where else name
