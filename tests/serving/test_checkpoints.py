"""Checkpoints of many rows that are fed faster than speech: none waits for long, however slow."""

import itertools

import pytest
from serving_server import NULL
from serving_speech import Speech

from syllabary.serving import worker as workers
from syllabary.serving.worker import Worker
from syllabary.serving.worker_messages import Inputs, OpenRow, RowConfig, State

PLACES, SECONDS, EVERY = 16, 6.0, 0.5


@pytest.mark.parametrize("budget", [-1.0, 1e9], ids=["no time for it", "time enough"])
def test_every_row_has_its_checkpoint_in_time(monkeypatch, budget):
    monkeypatch.setattr(workers, "_EXPORT_SECONDS", budget)
    worker = Worker([NULL], PLACES, checkpoint_seconds=EVERY)
    call, _ = Speech(NULL, "encode", SECONDS).call(0)
    for place in range(PLACES):
        worker.do(OpenRow(place, 1, RowConfig("encode", "null", 1), None))
        worker.do(Inputs(place, 1, list(call.messages), 0.0))
    taken: dict[int, list[int]] = {place: [0] for place in range(PLACES)}
    while worker.busy:
        worker.compute()
        worker.export()
        for reply in worker.replies:
            if isinstance(reply, State):
                taken[reply.place].append(reply.next)
        worker.replies = []
    step = SECONDS / len(call.messages)
    most = (EVERY if budget > 0 else 2 * EVERY) + 0.08 + step
    for numbers in taken.values():
        assert (len(call.messages) - numbers[-1]) * step <= most
        assert all((b - a) * step <= most for a, b in itertools.pairwise(numbers))
