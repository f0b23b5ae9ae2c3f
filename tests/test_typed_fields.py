"""Dataclasses to JSON and back: one implementation for recipes and for tokenizers."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from syllabary.codecs.checkpoint import config_from_json, config_to_json
from syllabary.errors import CheckpointError, ConfigError, SyllabaryError
from syllabary.typed_fields import from_json, to_json, with_override


@dataclass(frozen=True)
class Part:
    width: int
    rate: float = 1.0

    def __post_init__(self):
        if self.width < 1:
            raise ValueError(f"width must be positive, got {self.width}")


@dataclass(frozen=True)
class Other:
    width: int
    depth: int = 2


@dataclass(frozen=True)
class Either:
    part: Part | Other


@dataclass(frozen=True)
class Whole:
    part: Part
    second: Part | None = None
    kind: Literal["wide", "narrow"] = "wide"
    pair: tuple[float, float] = (0.5, 1.0)
    many: Iterable[int] = ()
    parts: tuple[Part, ...] = ()
    anything: dict[str, Any] = field(default_factory=dict)


WHOLE = Whole(Part(3), many=range(2, 5), parts=(Part(1), Part(2)), anything={"a": [1, None]})


def test_json_and_back():
    fields = to_json(WHOLE)
    assert json.loads(json.dumps(fields)) == fields
    assert fields["many"] == [2, 3, 4] and fields["parts"][1] == {"width": 2, "rate": 1.0}
    again = from_json(Whole, fields)
    assert again == Whole(
        Part(3), many=(2, 3, 4), parts=(Part(1), Part(2)), anything={"a": [1, None]}
    )
    assert isinstance(again.parts[0], Part)
    assert to_json(again) == fields


def test_values_get_their_declared_types():
    fields = {"part": {"width": 4.0, "rate": 2}, "second": {"width": 1}, "pair": [0, 1]}
    whole = from_json(Whole, fields)
    assert type(whole.part.width) is int and type(whole.part.rate) is float
    assert whole.second == Part(1) and whole.pair == (0.0, 1.0)
    # Equal configurations are one JSON text, and so one digest.
    assert to_json(Part(2, 3)) == to_json(Part(2, 3.0)) == {"width": 2, "rate": 3.0}
    assert json.dumps(to_json(Part(2, 3))) == json.dumps(to_json(Part(2, 3.0)))


BAD = [
    ({}, "Whole: part missing"),
    ({"part": {}}, "part: width missing"),
    ({"part": {"width": 0}}, "part: width must be positive, got 0"),
    ({"part": {"width": True}}, "part.width must be int, got True"),
    ({"part": {"width": 2.5}}, "part.width must be int, got 2.5"),
    ({"part": {"width": 1, "rat": 1}}, "no field 'part.rat' in Part; did you mean part.rate"),
    ({"part": 3}, "part: expected fields by name, got 3"),
    ({"part": {"width": 1}, "kind": "long"}, "kind must be one of wide, narrow, got 'long'"),
    ({"part": {"width": 1}, "pair": [1]}, r"pair must be tuple\[float, float\]"),
    ({"part": {"width": 1}, "many": [1, "x"]}, r"many\[1\] must be int, got 'x'"),
    ({"part": {"width": 1}, "parts": [{"width": -1}]}, r"parts\[0\]: width must be positive"),
    ([1], "Whole: expected fields by name"),
]


@pytest.mark.parametrize(("fields", "message"), BAD)
def test_fields_that_are_refused(fields, message):
    with pytest.raises(ConfigError, match=f"^{message}"):
        from_json(Whole, fields)
    # Of a tokenizer it is a fault of its checkpoint; the words are the same.
    with pytest.raises(CheckpointError, match=f"^{message}"):
        config_from_json(Whole, fields)


def test_a_configuration_with_a_value_of_another_type_is_not_written():
    with pytest.raises(CheckpointError, match=r"part\.rate must be float, got 'fast'"):
        config_to_json(Whole(Part(3, "fast")))
    assert issubclass(ConfigError, SyllabaryError)


def test_one_of_several_dataclasses():
    for part in (Part(3, 2.0), Other(3, 5)):
        again = from_json(Either, to_json(Either(part)))
        assert again == Either(part) and type(again.part) is type(part)
    assert from_json(Either, {"part": {"width": 1}}) == Either(Part(1))
    # The error is that of the one that was meant.
    with pytest.raises(ConfigError, match=r"^part\.depth must be int, got 'x'"):
        from_json(Either, {"part": {"width": 1, "depth": "x"}})
    with pytest.raises(ConfigError, match=r"^part: width must be positive, got 0"):
        from_json(Either, {"part": {"width": 0, "rate": 1}})
    with pytest.raises(ConfigError, match=r"part must be Part \| Other, got 3"):
        from_json(Either, {"part": 3})
    assert with_override(Either(Other(3)), "part.depth", "7") == Either(Other(3, 7))


def test_overrides_reach_into_parts():
    assert with_override(WHOLE, "part.width", "8").part == Part(8)
    assert with_override(WHOLE, "second", '{"width": 2}').second == Part(2)
    with pytest.raises(ConfigError, match=r"^part\.width=0: width must be positive, got 0$"):
        with_override(WHOLE, "part.width", "0")
    with pytest.raises(ConfigError, match=r"second is Part \| null, here None: it has no field"):
        with_override(WHOLE, "second.width", "2")
