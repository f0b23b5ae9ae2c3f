"""Streams that are computed alone: each in its turn, and not longer than it must."""

import asyncio

from syllabary.serving.engine import Placement
from syllabary.serving.session import InputLog, OutputLog, Session
from syllabary.serving.suspects import Suspects
from syllabary.serving.worker_messages import RowConfig

CONFIG = RowConfig("encode", "c", 1)


class Places:
    """One worker with as many places as are wanted."""

    def __init__(self) -> None:
        self.worker, self.rows, self.opened = object(), [], []

    def emptiest_worker(self):
        return self.worker

    def rows_of(self, worker):
        return self.rows

    def free_place(self, worker):
        return len(self.rows)

    def begin(self, session, worker, place):
        opened = asyncio.get_running_loop().create_future()
        session.placement = Placement(worker, place, place, opened, begun=True, given=9)
        self.rows.append(session)
        return opened

    def open(self, session):
        self.opened.append(session.id)


def make(name: str) -> Session:
    return Session(name, None, CONFIG, InputLog(CONFIG, 16_000), OutputLog(50.0), consumed=3)


def test_a_stream_that_always_has_more_does_not_keep_the_others_waiting():
    async def test():
        places = Places()
        suspects = Suspects(places)
        one, two, other = map(make, ("one", "two", "other"))
        for session in (one, two):
            for _ in range(2):
                places.begin(session, places.worker, 0).set_result(None)
                session.placement.given = 5
                assert not suspects.died(places.worker, [session])
            places.rows.clear()
            session.placement = None
            assert suspects.suspected(session) and session.died_with == 5
        places.begin(other, places.worker, 0).set_result(None)
        other.placement.computed = 9
        turns = [suspects.add(session) for session in (one, two)]
        assert suspects.holds(other) and not suspects.holds(one) and two.placement is None
        one.placement.opened.set_result(None)
        one.placement.computed = 4
        suspects.go_on()
        assert two.placement is None
        one.placement.computed = 5  # of 9: it has more, and what it had is not fatal
        suspects.go_on()
        assert suspects.holds(one) and two.placement is None, "it finishes what it was given"
        one.placement.computed = 9
        suspects.go_on()
        assert two.placement is not None and not suspects.holds(two)
        two.placement.opened.set_result(None)
        two.placement.computed = 5
        suspects.go_on()
        assert suspects.room is None and places.opened == ["other", "one", "two"]
        await asyncio.gather(*turns)

    asyncio.run(test())
