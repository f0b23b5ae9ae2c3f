"""Checkpoints of many rows that are fed faster than speech: none waits for long, however slow; and
their files.
"""

import asyncio
import itertools
import os
import time
from types import SimpleNamespace

import pytest
from serving_server import NULL
from serving_speech import Speech

from syllabary.serving import worker as workers
from syllabary.serving.checkpoint_files import CheckpointFiles
from syllabary.serving.config import Config
from syllabary.serving.protocol import Limits
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


def files_of(tmp_path, sessions, **limits):
    config = Config(state_dir=str(tmp_path), key_file="key", limits=Limits(**limits))
    return CheckpointFiles(config, sessions, lambda session, with_input: b"sealed")


def session(id_):
    return SimpleNamespace(
        id=id_, resumable=True, checkpoint=SimpleNamespace(next=1), on_disk=-1, safe=0,
        on_change=lambda: None,
    )  # fmt: skip


def test_what_can_not_be_removed_ends_nothing(tmp_path):
    files = files_of(tmp_path, {}, park_seconds=1.0)
    (tmp_path / "a.session").mkdir()
    for name in ("b", "c"):
        (tmp_path / f"{name}.session").write_bytes(b"x")
    for path in tmp_path.iterdir():
        os.utime(path, (1, 1))
    files.sweep()
    assert [path.name for path in tmp_path.iterdir()] == ["a.session"]
    files.forget("a")


def test_a_silent_session_keeps_its_file(tmp_path):
    """It has no new checkpoint, and its client was told that what it sent is safe."""

    async def main():
        live = session("live")
        files = files_of(tmp_path, {"live": live}, park_seconds=10.0)
        files.store(live)
        await files.close()
        path = tmp_path / "live.session"
        os.utime(path, (1, 1))
        files.sweep()
        assert path.exists()
        now = time.monotonic()
        files.refresh(live, now + 4)
        assert not files._stores
        files.refresh(live, now + 6)
        await files.close()
        assert path.stat().st_mtime > 1
        files.refresh(session("never stored"), now + 60)
        assert not files._stores

    asyncio.run(main())
