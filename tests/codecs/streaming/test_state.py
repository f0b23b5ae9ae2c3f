"""States taken apart and put together."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from syllabary.codecs.streaming.migration import MAGIC, pack, unpack
from syllabary.codecs.streaming.state import flatten, rebuild, size_in_bytes
from syllabary.errors import StateError


class Pair(NamedTuple):
    left: Any
    right: Any


@dataclass(frozen=True)
class Frozen:
    array: np.ndarray
    number: np.float32

    def __post_init__(self) -> None:
        assert isinstance(self.number, np.float32)


@dataclass
class Tree:
    tensors: list[Any]
    pair: Pair
    inner: Frozen
    position: int
    phase: float
    ended: bool
    nothing: None = None


def tree(seed):
    rng = np.random.default_rng(seed)
    wide = torch.from_numpy(rng.standard_normal((3, 8)))
    return Tree(
        tensors=[wide[:, 2:5], wide.bfloat16(), wide > 0, (torch.tensor(seed), [])],
        pair=Pair(
            torch.view_as_complex(wide.float().view(3, 4, 2).contiguous()), torch.zeros(2, 0)
        ),
        inner=Frozen(rng.standard_normal((4, 6))[::2, ::-1], np.float32(rng.random())),
        position=seed - 5,
        phase=float(rng.random()),
        ended=bool(seed % 2),
    )


def same(a, b):
    leaves, others = flatten(a), flatten(b)
    return list(leaves) == list(others) and all(
        leaves[name].dtype == others[name].dtype and torch.equal(leaves[name], others[name])
        for name in leaves
    )


def test_a_tree_comes_back_through_bytes_with_its_types():
    leaves = flatten(tree(1))
    header, tensors = unpack(pack({"who": "me"}, leaves))
    assert header["who"] == "me"
    back = rebuild(tree(2), tensors)
    assert same(back, tree(1)) and not same(back, tree(2))
    assert type(back) is Tree and type(back.pair) is Pair and type(back.inner) is Frozen
    assert type(back.tensors[3]) is tuple and back.nothing is None
    assert type(back.position) is int and type(back.phase) is float and type(back.ended) is bool
    assert type(back.inner.number) is np.float32 and back.inner.array.dtype == np.float64
    # What comes back can be changed in place.
    back.tensors[0] += 1
    back.inner.array[0] = 0


def test_bytes_are_counted():
    assert size_in_bytes([torch.zeros(3, 4), (np.zeros(5, np.int8), 7), None, 1.5]) == 48 + 5 + 16


LEAVES = {
    "missing": (lambda leaf: None, "missing"),
    "shape": (lambda leaf: torch.cat([leaf.reshape(-1)] * 2), "expected"),
    "dtype": (lambda leaf: torch.zeros(leaf.shape, dtype=torch.uint8), "expected"),
}


@pytest.mark.parametrize("case", LEAVES)
@pytest.mark.parametrize("name", [*flatten(tree(1))])
def test_each_leaf_must_be_as_in_the_pattern(case, name):
    change, word = LEAVES[case]
    leaves = flatten(tree(1))
    changed = change(leaves[name])
    if changed is not None and changed.shape == leaves[name].shape == (2, 0):
        pytest.skip("nothing twice is nothing")
    leaves = {n: leaf for n, leaf in leaves.items() if n != name}
    if changed is not None:
        leaves[name] = changed
    with pytest.raises(StateError, match=f"(?s){name}.*{word}"):
        rebuild(tree(2), leaves)


def test_values_that_nothing_can_have():
    for value, word in ((float("nan"), "NaN"), (float("inf"), "NaN")):
        with pytest.raises(StateError, match=word):
            rebuild([torch.zeros(2)], {"state.0": torch.tensor([1.0, value])})
    with pytest.raises(StateError, match="beyond"):
        rebuild([0], {"state.0": torch.tensor(2**60)})
    for leaf in ("text", {1: 2}, object(), torch.zeros(1, dtype=torch.complex128)):
        with pytest.raises(StateError, match=r"state\.0: a state can't have"):
            flatten([leaf])


@given(data=st.data())
@settings(max_examples=200, deadline=None)
def test_damage_is_found(data):
    state = pack({"a": 1}, flatten(tree(3)))
    cut = data.draw(st.integers(0, len(state)))
    if data.draw(st.booleans()):
        wrong = state[:cut] + data.draw(st.binary(max_size=20))
    else:
        place, bit = data.draw(st.integers(0, len(state) - 1)), data.draw(st.integers(0, 7))
        wrong = bytearray(state)
        wrong[place] ^= 1 << bit
    if bytes(wrong) == state:
        return
    with pytest.raises(StateError):
        unpack(bytes(wrong))


def test_what_is_whole_but_not_of_this_format():
    import hashlib

    def signed(content):
        return content + hashlib.sha256(content).digest()

    for content, word in (
        (MAGIC + b"\xff\xff\xff\xff", "longer"),
        (MAGIC + b"\x02\x00\x00\x00[]", "object"),
        (MAGIC + b"\x02\x00\x00\x00{x", "read"),
        (MAGIC + b"\x02\x00\x00\x00{}", "version"),
        (MAGIC + b"\x14\x00\x00\x00" + b'{"format_version":9}', "version 9"),
        (MAGIC + b"\x14\x00\x00\x00" + b'{"format_version":1}' + b"nonsense", "read"),
    ):
        with pytest.raises(StateError, match=word):
            unpack(signed(content))
    for header in (b"[" * 200_000, b'{"a":' * 9_000, b"[" * 60_000):
        length = len(header).to_bytes(4, "little")
        with pytest.raises(StateError, match=r"at most 65536|deep"):
            unpack(signed(MAGIC + length + header))
    for dtype, bits in (("F4", 4), ("F8_E8M0", 8), ("F6_E2M3", 6), ("nonsense", 8)):
        text = f'{{"x":{{"dtype":"{dtype}","shape":[8],"data_offsets":[0,{bits}]}}}}'.encode()
        body = len(text).to_bytes(8, "little") + text + bytes(bits)
        with pytest.raises(StateError, match=r"can't be read: .*(dtype|nonsense)"):
            unpack(signed(MAGIC + b"\x14\x00\x00\x00" + b'{"format_version":1}' + body))
    for shape in ([0, 2**62, 8], [2**70], [0, 2**70], [-1]):
        text = f'{{"x":{{"dtype":"F32","shape":{shape},"data_offsets":[0,0]}}}}'.encode()
        body = len(text).to_bytes(8, "little") + text
        with pytest.raises(StateError, match="can't be read"):
            unpack(signed(MAGIC + b"\x14\x00\x00\x00" + b'{"format_version":1}' + body))
    with pytest.raises(StateError, match="not the exported"):
        unpack(signed(b"RIFF"))
    with pytest.raises(StateError, match="got str"):
        unpack("text")
