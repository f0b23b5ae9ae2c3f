"""Convert nested frozen dataclasses to JSON and back, checking the type of every value."""

import dataclasses
import difflib
import json
import types
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from reprlib import Repr
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from .errors import ConfigError

T = TypeVar("T")

_SEQUENCES = (tuple, Sequence, Iterable, list)
_BRIEF = Repr()
_BRIEF.maxstring = _BRIEF.maxother = 100
_LONGEST_NAME = 100
"""Characters of a field's name in messages."""


def to_json(config: Any) -> dict[str, Any]:
    """Convert a dataclass, nested ones included, to JSON values, checking each field's type.

    Raises:
        ConfigError: a value's type differs from its field's declared type.
    """
    plain = dataclasses.asdict(from_json(type(config), _shallow(config)))
    # A range, or any other sequence of numbers, becomes a list.
    return json.loads(json.dumps(plain, default=list))


def from_json(kind: type[T], fields: Any, where: str = "", problems: list[str] | None = None) -> T:
    """Create a dataclass from JSON values.

    Args:
        kind: the dataclass.
        fields: values by name; missing ones get their defaults.
        where: dotted path of the fields, for errors.
        problems: if given, every problem is appended to it, instead of raising the first one. What
            is returned must not be used then.

    Raises:
        ConfigError: unknown or missing fields, values of a wrong type, or values that the
            dataclass refuses.
    """
    before = len(problems or ())
    if not isinstance(fields, Mapping):
        found = f"{where or kind.__name__}: expected fields by name, got {_brief(fields)}"
        return _report(found, problems)
    hints = field_types(kind)
    values = {}
    for name, value in fields.items():
        if name in hints:
            values[name] = typed(hints[name], value, field_path(where, name), problems)
        else:
            _report(_unknown(kind, name, where), problems)
    missing = [
        field.name
        for field in dataclasses.fields(kind)  # type: ignore[arg-type]
        if field.name not in values
        and field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
    ]
    if missing:
        _report(f"{where or kind.__name__}: {', '.join(missing)} missing", problems)
    if problems is not None and len(problems) > before:
        return None  # type: ignore[return-value]
    try:
        return kind(**values)
    except ValueError as error:
        return _report(f"{where}: {error}" if where else str(error), problems)


def _report(problem: str, problems: list[str] | None) -> Any:
    """Collect a problem and return None, or raise it."""
    if problems is None:
        raise ConfigError(problem) from None
    problems.append(problem)
    return None


def with_override(config: T, path: str, text: str, where: str = "") -> T:
    """Return the dataclass with the field at a dotted path set from command-line text.

    Raises:
        ConfigError: there is no such field, or the text is no value for it.
    """
    name, dot, rest = path.partition(".")
    hints = field_types(type(config))
    if name not in hints:
        raise ConfigError(_unknown(type(config), name, where))
    here = field_path(where, name)
    old = getattr(config, name)
    if dot and isinstance(old, Mapping):
        new: Any = {**old, rest: _parse(text)}
        new = typed(hints[name], new, here)
    elif dot:
        if not dataclasses.is_dataclass(old):
            raise ConfigError(
                f"{here} is {_shown(hints[name])}, here {old!r}: it has no field {rest!r}"
            )
        new = with_override(old, rest, text, here)
    else:
        new = _from_text(hints[name], text, here)
    try:
        return dataclasses.replace(config, **{name: new})  # type: ignore[type-var]
    except ValueError as error:
        raise ConfigError(f"{here}={text}: {error}") from None


def field_types(kind: Any) -> Mapping[str, Any]:
    """Return the declared type of each field."""
    return _field_types(kind)


@cache
def _field_types(kind: Any) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def typed(hint: Any, value: Any, where: str, problems: list[str] | None = None) -> Any:
    """Convert a JSON value to the declared type: 1 to 1.0, a list to a tuple.

    Args:
        hint: the declared type.
        value: to convert.
        where: dotted path of the value, for errors.
        problems: see `from_json`.

    Raises:
        ConfigError: the value has another type.
    """
    origin = get_origin(hint)
    if hint is Any or (hint is types.NoneType and value is None):
        return value
    if origin in (Union, types.UnionType):
        return _one_of(get_args(hint), hint, value, where, problems)
    if origin is Literal:
        if any(value == choice and type(value) is type(choice) for choice in get_args(hint)):
            return value
    elif dataclasses.is_dataclass(hint) and isinstance(hint, type):
        fields = _shallow(value) if isinstance(value, hint) else value
        return from_json(hint, fields, where, problems)
    elif origin in _SEQUENCES:
        if isinstance(value, tuple | list | range):
            return _tuple(hint, value, where, problems)
    elif origin in (dict, Mapping):
        if isinstance(value, Mapping):
            keys, values = get_args(hint)
            return {
                typed(keys, k, where, problems): typed(
                    values, v, field_path(where, str(k)), problems
                )
                for k, v in value.items()
            }
    elif hint is float and type(value) is int:
        return float(value)
    elif hint is int and type(value) is float and value.is_integer():
        return int(value)
    elif (
        isinstance(hint, type)
        and isinstance(value, hint)
        and (hint is bool or not isinstance(value, bool))
    ):
        return value
    return _report(_wrong(hint, value, where), problems)


def _one_of(
    choices: Sequence[Any], hint: Any, value: Any, where: str, problems: list[str] | None
) -> Any:
    if value is None and types.NoneType in choices:
        return None
    others = [choice for choice in choices if choice is not types.NoneType]
    meant = others if len(others) == 1 else _meant(others, value)
    if meant:
        # This member's own error is more specific than one about the union.
        return typed(meant[0], value, where, problems)
    for choice in others:
        try:
            return typed(choice, value, where)
        except ConfigError:
            continue
    return _report(_wrong(hint, value, where), problems)


def _meant(choices: Sequence[Any], value: Any) -> list[Any]:
    """Choose the member of a union that is meant: the dataclass that shares the most field names
    with the value, or the only kind of sequence, for a list.
    """
    kinds = [kind for kind in choices if isinstance(kind, type) and dataclasses.is_dataclass(kind)]
    if isinstance(value, Mapping) and len(kinds) == len(choices):
        return [max(kinds, key=lambda kind: len(set(value) & set(field_types(kind))))]
    if isinstance(value, list):
        sequences = [kind for kind in choices if get_origin(kind) in _SEQUENCES]
        return sequences if len(sequences) == 1 else []
    return [kind for kind in kinds if isinstance(value, kind)]


def _tuple(
    hint: Any, value: Sequence[Any], where: str, problems: list[str] | None
) -> tuple[Any, ...] | None:
    arguments = get_args(hint)
    fixed = get_origin(hint) is tuple and not (len(arguments) == 2 and arguments[1] is Ellipsis)
    if fixed and len(arguments) != len(value):
        return _report(_wrong(hint, value, where), problems)
    kinds = arguments if fixed else [arguments[0]] * len(value)
    return tuple(
        typed(kind, item, f"{where}[{place}]", problems)
        for place, (kind, item) in enumerate(zip(kinds, value, strict=True))
    )


def _from_text(hint: Any, text: str, where: str) -> Any:
    """Parse text: as it is if the field takes text, else as JSON, else as a list without []."""
    attempts: list[Any] = [_parse(text), text]
    if text.lower() == "none":
        attempts.insert(0, None)
    if not isinstance(attempts[0], list | dict):
        attempts.append([_parse(part) for part in text.split(",") if part])
    first: ConfigError | None = None
    for value in attempts:
        try:
            return typed(hint, value, where)
        except ConfigError as error:
            first = first or error
    raise first or ConfigError(f"{where}: {text!r}")


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _shallow(config: Any) -> dict[str, Any]:
    return {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}


def field_path(where: str, name: str) -> str:
    """Return the dotted path of a field, for messages: printable, with long names cut."""
    name = name if name.isprintable() else ascii(name)[1:-1]
    name = name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"
    return f"{where}.{name}" if where else name


def _wrong(hint: Any, value: Any, where: str) -> str:
    return f"{where} must be {_shown(hint)}, got {_brief(value)}"


def _brief(value: Any) -> str:
    """Format a value for messages, long ones without their middle."""
    return _BRIEF.repr(value)


def _shown(hint: Any) -> str:
    """Format a type for messages."""
    if hint is types.NoneType:
        return "null"
    if get_origin(hint) in (Union, types.UnionType):
        return " | ".join(_shown(part) for part in get_args(hint))
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(map(str, get_args(hint)))
    if isinstance(hint, type) and not get_args(hint):
        return hint.__name__
    return str(hint).replace("typing.", "").replace("collections.abc.", "")


def _unknown(kind: type, name: str, where: str) -> str:
    """Create the message for an unknown field, with the closest name and its type."""
    hints = field_types(kind)
    message = f"no field {field_path(where, name)!r} in {kind.__name__}"
    # The path was omitted, as in lr=… for optimizer.lr=….
    meant = [
        f"{field_path(where, outer)}.{name} ({_shown(field_types(part)[name])})"
        for outer, hint in hints.items()
        for part in (hint, *get_args(hint))
        if dataclasses.is_dataclass(part) and name in field_types(part)
    ]
    if (
        not meant
        and len(name) <= _LONGEST_NAME
        and (near := difflib.get_close_matches(name, hints, 1, 0.5))
    ):
        meant = [f"{field_path(where, near[0])} ({_shown(hints[near[0]])})"]
    if meant:
        return f"{message}; did you mean {' or '.join(meant)}?"
    return f"{message}; there are: {', '.join(hints)}"
