import os
import socket
from pathlib import Path

import pytest

from syllabary.serving import held_bytes
from syllabary.serving.held_bytes import HeldBytes, give, take

needs_memfd = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="Linux only")


@pytest.fixture
def ends():
    pair = socket.socketpair()
    yield pair
    for end in pair:
        end.close()


@needs_memfd
def test_bytes_arrive_in_order_and_outlive_their_giver(ends):
    several = [os.urandom(size) for size in (1, 3_000_000, 70_000)]
    assert all(give(each, ends[0]) for each in several)
    ends[0].close()
    taken = [take(ends[1]) for _ in several]
    assert [len(each) for each in taken] == list(map(len, several))
    assert [each.read() for each in taken] == several == [each.read() for each in taken]


@needs_memfd
def test_what_nobody_needs_is_closed(ends):
    def count() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    before = count()
    for _ in range(50):
        assert give(b"state", ends[0])
        assert take(ends[1]).read() == b"state"
    assert count() == before


def test_where_nothing_can_be_given(ends, monkeypatch):
    with pytest.raises(ConnectionError, match="no bytes were given"):
        take(ends[1])
    ends[1].close()
    assert not give(b"state", ends[0])
    monkeypatch.setattr(held_bytes, "_CAN_HOLD", False)
    assert not give(b"state", ends[0])


@needs_memfd
def test_a_full_socket_delays_nobody(ends):
    given = 0
    while give(b"state", ends[0]):
        given += 1
        assert given < 100_000
    assert [take(ends[1]).read() for _ in range(given)] == [b"state"] * given
    assert isinstance(give(b"state", ends[0]) and take(ends[1]), HeldBytes)
