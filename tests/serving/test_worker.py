"""A worker's rows, without a process around it: what comes out equals offline, whatever the
neighbours, the pieces and the moves.
"""

import random
import time

import numpy as np
import pytest

from syllabary.errors import StateError
from syllabary.serving.protocol import PCM, Kind, Message
from syllabary.serving.rows import Row, RowConfig, read_state
from syllabary.serving.worker import Worker
from syllabary.serving.worker_messages import (
    CloseRow,
    ExportRow,
    Failed,
    Inputs,
    OpenRow,
    Progress,
    State,
)

from .conftest import CODECS, Utterance

#: A server with compute processes: its kernels alone take minutes of a shared core to compile.
pytestmark = pytest.mark.slow

PLACES = 5


@pytest.fixture(scope="module")
def workers():
    found = [Worker(list(CODECS), PLACES, checkpoint_seconds=0.3) for _ in range(2)]
    for worker in found:
        worker.warm_up()
    return found


def config_of(worker: Worker, utterance: Utterance) -> RowConfig:
    def count(name):
        return worker.tokenizers[name].spec.tokens.num_codebooks

    source = utterance.source
    return RowConfig(
        utterance.task,
        utterance.codec,
        count(utterance.codec),
        source,
        count(source) if source else 0,
        utterance.input,
        utterance.output,
        utterance.frames,
    )


class Stream:
    """The server's part for one row: an output log that must continue without a gap."""

    def __init__(self, worker: Worker, utterance: Utterance, place: int, tag: int):
        self.worker, self.utterance, self.place, self.tag = worker, utterance, place, tag
        self.config = config_of(worker, utterance)
        self.sent = self.next = 0
        self.out: list[Message] = []
        self.ended = self.failed = self.checkpoint = None
        worker.do(OpenRow(place, tag, self.config, None))

    def send(self, count: int) -> None:
        messages = self.utterance.sent[self.sent : self.sent + count]
        self.sent += len(messages)
        self.worker.do(Inputs(self.place, self.tag, messages, time.monotonic()))

    def take(self, answer) -> None:
        if isinstance(answer, Progress):
            self.next = answer.next
            for output in answer.outputs:
                if output.message.seq < len(self.out):  # computed again
                    assert output.message == self.out[output.message.seq]
                else:
                    assert output.message.seq == len(self.out)
                    self.out.append(output.message)
                self.ended = output.ended or self.ended
        elif isinstance(answer, State):
            self.checkpoint = answer
        elif isinstance(answer, Failed):
            self.failed = answer

    @property
    def done(self) -> bytes:
        assert self.ended is not None and self.out[-1].final
        return b"".join(message.payload for message in self.out)


def run(worker: Worker, streams: list[Stream]) -> None:
    """Compute until nothing waits."""
    while worker.busy or worker.replies:
        run_once(worker, streams)


def run_once(worker: Worker, streams: list[Stream]) -> None:
    """Compute a piece of every row."""
    worker.compute()
    worker.export()
    replies, worker.replies = worker.replies, []
    for answer in replies:
        for stream in streams:
            if (stream.worker, stream.place, stream.tag) == (worker, answer.place, answer.tag):
                stream.take(answer)


TASKS = [
    {"task": "encode", "codec": "dmel"},
    {"task": "encode", "codec": "ts3", "frames": 3},
    {"task": "encode", "codec": "ts3", "pcm": PCM("mulaw", 8000), "samples": 777},
    {"task": "encode", "codec": "rvq", "pcm": PCM("f32le", 44_100), "samples": 5000},
    {"task": "decode", "codec": "ts3"},
    {"task": "decode", "codec": "rvq", "pcm": PCM("f32le", 48_000)},
    {"task": "decode", "codec": "dmel", "pcm": PCM("mulaw", 8000)},
    {"task": "transcode", "codec": "ts3", "source": "rvq"},
    {"task": "transcode", "codec": "rvq", "source": "dmel", "frames": 4},
]


@pytest.mark.parametrize("seed", range(3))
def test_rows_equal_offline_with_any_neighbours_pieces_and_moves(workers, utterance, seed):
    """Five rows at a time, each with its own task; they pause, move and are computed again."""
    rng = random.Random(seed)
    waiting = [
        utterance(**task, seconds=rng.uniform(0.1, 1.5), seed=number)
        for number, task in enumerate(TASKS)
    ]
    expected = [each.expected for each in waiting]
    rng.shuffle(order := list(range(len(waiting))))
    streams: dict[int, Stream] = {}
    tag = moves = replays = 0
    finished = {}
    while order or streams:
        free = [place for place in range(PLACES) if place not in streams]
        for place in free[: len(order)]:
            tag += 1
            number = order.pop()
            streams[place] = Stream(workers[0], waiting[number], place, tag)
            streams[place].number = number
        for stream in streams.values():
            if rng.random() < 0.7:
                stream.send(rng.randrange(1, 12))
            if rng.random() < 0.2:  # the row leaves, and goes on elsewhere
                stream.worker.do(ExportRow(stream.place, stream.tag))
                run(stream.worker, list(streams.values()))
                assert stream.checkpoint.gone and stream.checkpoint.next == stream.sent
                tag, moves = tag + 1, moves + 1
                stream.worker, stream.tag = rng.choice(workers), tag
                again = OpenRow(stream.place, tag, stream.config, stream.checkpoint.data)
                stream.worker.do(again)
            elif rng.random() < 0.5 and stream.checkpoint is not None:  # the row is lost
                stream.worker.do(CloseRow(stream.place, stream.tag))
                tag, replays = tag + 1, replays + 1
                stream.worker, stream.tag = rng.choice(workers), tag
                again = OpenRow(stream.place, tag, stream.config, stream.checkpoint.data)
                stream.worker.do(again)
                stream.sent, computed = stream.checkpoint.next, stream.sent
                stream.send(computed - stream.sent)
        for worker in workers:
            run(worker, list(streams.values()))
        for place, stream in list(streams.items()):
            assert stream.failed is None
            if stream.ended is not None:
                finished[stream.number] = stream
                del streams[place]
                stream.worker.do(CloseRow(place, stream.tag))
    for number, stream in finished.items():
        assert stream.done == expected[number], TASKS[number]
        totals = stream.ended
        taken = totals.samples_in if stream.config.task == "encode" else totals.frames_in
        last = waiting[number].sent[-1]
        units = 0
        if stream.config.task == "encode":
            units = len(last.payload) // stream.config.input.bytes_of(1)
        assert taken == last.position + units and totals.complete
    assert len(finished) == len(TASKS)
    assert min(moves, replays) > 3, (moves, replays)


@pytest.mark.parametrize("task", TASKS, ids=lambda task: f"{task['task']} {task['codec']}")
def test_messages_that_wait_are_computed_together_and_answered_alike(workers, utterance, task):
    one = utterance(**task, seconds=1.2)
    alone = Stream(workers[0], one, 0, 900)
    steps = 0
    while alone.sent < len(one.sent):
        alone.send(1)
        while workers[0].busy or workers[0].replies:
            steps += workers[0].busy
            run_once(workers[0], [alone])
    together, calls = Stream(workers[0], one, 1, 901), 0
    together.send(len(one.sent))
    while workers[0].busy or workers[0].replies:
        calls += workers[0].busy
        run_once(workers[0], [together])
    assert together.out == alone.out and together.ended == alone.ended
    assert together.done == one.expected
    longest = max(len(message.payload) for message in one.sent)
    if task["task"] != "encode" or longest < one.input.bytes_of(one.input.rate) * 0.04:
        assert calls < 0.6 * steps
    for place, tag in ((0, 900), (1, 901)):
        workers[0].do(CloseRow(place, tag))


def test_a_header_comes_before_the_first_sample(workers, utterance):
    stream = Stream(workers[0], utterance("encode", "ts3"), 0, 1001)
    run(workers[0], [stream])
    assert [message.kind for message in stream.out] == [Kind.SYL_HEADER]
    workers[0].do(CloseRow(0, 1001))


def test_a_reset_begins_another_utterance_on_the_same_row(workers, utterance):
    first, second = utterance("encode", "ts3"), utterance("encode", "ts3", seed=5)
    stream = Stream(workers[0], first, 1, 1002)
    stream.send(7)
    workers[0].do(Inputs(1, 1002, [None], 0.0))
    run(workers[0], [stream])
    before = len(stream.out)
    assert first.expected.startswith(b"".join(each.payload for each in stream.out[: before - 1]))
    workers[0].do(Inputs(1, 1002, second.sent, 0.0))
    run(workers[0], [stream])
    header = max(n for n, each in enumerate(stream.out) if each.kind == Kind.SYL_HEADER)
    assert b"".join(each.payload for each in stream.out[header:]) == second.expected
    assert stream.next == 7 + 1 + len(second.sent)
    workers[0].do(CloseRow(1, 1002))


@pytest.mark.parametrize(
    ("task", "codec", "bad", "code"),
    [
        ("encode", "ts3", Message(Kind.SYL_HEADER, 0, 0, b""), "malformed"),
        ("encode", "ts3", Message(Kind.PCM, 0, 0, b"\1"), "malformed"),
        ("decode", "ts3", Message(Kind.SYL_HEADER, 0, 0, b"nonsense"), "malformed"),
        ("decode", "ts3", Message(Kind.SYL_CHUNK, 0, 0, b""), "malformed"),
        ("decode", "rvq", "header of ts3", "unknown_codec"),
        ("decode", "ts3", "flipped bit", "malformed"),
        ("decode", "ts3", "two headers", "malformed"),
        ("encode", "f32", np.array([1, np.nan], "<f4").tobytes(), "malformed"),
        ("encode", "f32", np.array([1e30], "<f4").tobytes(), "malformed"),
    ],
)
def test_what_is_wrong_ends_its_own_row_only(workers, utterance, task, codec, bad, code):
    worker = workers[0]
    neighbour = Stream(worker, utterance("encode", "ts3"), 0, 2001)
    neighbour.send(20)
    pcm = PCM("f32le") if codec == "f32" else None
    own = utterance(task, "ts3" if codec == "f32" else codec, pcm=pcm)
    sent = list(own.sent)
    if isinstance(bad, bytes):
        sent = [Message(Kind.PCM, 0, 0, bad)]
    elif bad == "header of ts3":
        sent = utterance("decode", "ts3").sent
    elif bad == "flipped bit":
        payload = bytearray(sent[1].payload)
        payload[-1] ^= 1
        sent[1] = Message(Kind.SYL_CHUNK, 1, 0, bytes(payload))
    elif bad == "two headers":
        sent = [sent[0], *sent]
    else:
        sent = [bad]
    own.sent = sent
    stream = Stream(worker, own, 1, 2002)
    stream.send(len(sent))
    run(worker, [neighbour, stream])
    assert stream.failed is not None and stream.failed.code == code, stream.failed
    neighbour.send(10_000)
    run(worker, [neighbour, stream])
    assert neighbour.done == neighbour.utterance.expected
    worker.do(CloseRow(0, 2001))


def test_messages_that_wait_are_computed_together(workers, utterance):
    """A stream that has fallen behind catches up by several messages at a time, up to 80 ms."""
    worker = workers[0]
    own = utterance("encode", "ts3", seconds=1.0)
    stream = Stream(worker, own, 0, 4001)
    run(worker, [stream])
    stream.send(10_000)
    times = 0
    while worker.busy:
        worker.compute()
        times += 1
        for answer in worker.replies:
            stream.take(answer)
        worker.replies = []
    assert stream.done == own.expected
    assert times == -(-len(own.sent) // 4)  # of 20 ms each
    worker.do(CloseRow(0, 4001))


def test_what_came_before_a_wrong_message_is_answered(workers, utterance):
    worker = workers[0]
    own = utterance("encode", "ts3", seconds=1.0)
    odd = Message(Kind.PCM, 2, own.sent[2].position, b"\1\2\3")
    own.sent = [*own.sent[:2], odd, odd]
    stream = Stream(worker, own, 0, 4002)
    stream.send(4)
    run(worker, [stream])
    assert stream.failed is not None and "whole samples" in stream.failed.message
    assert stream.next == 2
    kinds = [message.kind for message in stream.out]
    assert kinds[0] == Kind.SYL_HEADER and Kind.SYL_CHUNK in kinds


def test_codes_without_an_end_mark_are_decoded_and_said_to_be_incomplete(workers, utterance):
    own = utterance("decode", "ts3")
    cut = own.sent[:-1]
    own.sent = [*cut, Message(Kind.SYL_CHUNK, len(cut), cut[-1].position + 2, b"", final=True)]
    stream = Stream(workers[0], own, 2, 3001)
    stream.send(10_000)
    run(workers[0], [stream])
    assert not stream.ended.complete
    assert stream.ended.samples_out == stream.ended.frames_in * 320
    assert stream.done[: len(own.expected)] == own.expected[: len(stream.done)]
    workers[0].do(CloseRow(2, 3001))


def test_a_state_is_of_one_configuration(workers, utterance):
    worker = workers[0]
    stream = Stream(worker, utterance("encode", "ts3"), 3, 4001)
    stream.send(5)
    worker.do(ExportRow(3, 4001))
    run(worker, [stream])
    other = config_of(worker, utterance("encode", "ts3", frames=2))
    worker.do(OpenRow(3, 4002, other, stream.checkpoint.data))
    stream.tag = 4002
    run(worker, [stream])
    assert stream.failed.code == "bad_state"
    with pytest.raises(StateError):
        read_state(stream.checkpoint.data[:-1])
    with pytest.raises(StateError):
        read_state(stream.checkpoint.data + b"x")
    config, header, tensors, _ = read_state(stream.checkpoint.data)
    assert config == stream.config
    for name in ("totals", "next", "codes_out"):
        row = Row(config, worker.tokenizers["ts3"].spec)
        with pytest.raises(StateError):
            row.import_state({key: value for key, value in header.items() if key != name}, tensors)
