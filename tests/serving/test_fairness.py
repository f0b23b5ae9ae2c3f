"""Rows that are far behind catch up one at a time, beside rows whose frames must not wait."""

import pytest
from serving_server import NULL
from serving_speech import Speech

from syllabary.serving import worker as workers
from syllabary.serving.worker import Worker
from syllabary.serving.worker_messages import Inputs, OpenRow, Progress, RowConfig

SLOW, LIVE = (0, 1, 2), (3, 4)


@pytest.fixture
def speech():
    return Speech(NULL, "encode", 4.0)


def opened(places):
    """A worker with rows, and their output so far: the headers."""
    worker = Worker([NULL], 8, checkpoint_seconds=60.0)
    for place in places:
        worker.do(OpenRow(place, 1, RowConfig("encode", "null", 1), None))
    out = {answer.place: [each.message for each in answer.outputs] for answer in worker.replies}
    worker.replies = []
    return worker, out


def computed(worker, out):
    """Run one call; return the places that it computed, and collect their output."""
    worker.compute()
    answers = [answer for answer in worker.replies if isinstance(answer, Progress)]
    for answer in answers:
        out[answer.place] += [output.message for output in answer.outputs]
    worker.replies = []
    return {answer.place for answer in answers}


def test_live_rows_are_in_every_call_and_one_of_the_others(speech):
    worker, out = opened(SLOW + LIVE)
    calls = {place: speech.call(place) for place in out}
    for place in SLOW:
        worker.do(Inputs(place, 1, list(calls[place][0].messages), 0.0))
    turns = []
    for message in range(len(calls[3][0].messages)):
        for place in LIVE:
            worker.do(Inputs(place, 1, [calls[place][0].messages[message]], 0.0))
        behind = {place for place in SLOW if worker._rows[place].row.is_behind}
        found = computed(worker, out)
        assert found >= set(LIVE)
        if len(behind) > 1:
            turns.append(found & behind)
    assert all(len(turn) == 1 for turn in turns) and len(turns) > 60
    order = [place for turn in turns for place in turn]
    assert all(set(order[at : at + 3]) == set(SLOW) for at in range(0, 60, 3))
    while worker.busy:
        computed(worker, out)
    for place, (_, expected) in calls.items():
        assert b"".join(message.payload for message in out[place]) == expected


@pytest.mark.parametrize("idle", [False, True])
def test_without_live_rows_all_catch_up_together(speech, monkeypatch, idle):
    worker, out = opened(SLOW + (LIVE if idle else ()))
    if idle:  # they were live once
        for place in LIVE:
            worker.do(Inputs(place, 1, [speech.call(place)[0].messages[0]], 0.0))
        computed(worker, out)
        monkeypatch.setattr(workers, "_LIVE_SECONDS", -1.0)
    for place in SLOW:
        worker.do(Inputs(place, 1, list(speech.call(place)[0].messages), 0.0))
    assert computed(worker, out) == set(SLOW)
