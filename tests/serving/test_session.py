"""The logs of a session: what is kept, what is forgotten, and what is noticed."""

import pytest

from syllabary.serving.protocol import PCM, Kind, Message, Refusal
from syllabary.serving.session import Checkpoint, InputLog, OutputLog, Session
from syllabary.serving.worker_messages import Output, RowConfig, Totals

ENCODE = RowConfig("encode", "ts3", 1)
DECODE = RowConfig("decode", "ts3", 1, output=PCM("s16le", 8000))
CHUNK = b"TOKS" + (1).to_bytes(4, "little") + (5).to_bytes(4, "little") + bytes(4) + b"\0"


def pcm(seq: int, position: int, samples: int = 160, final: bool = False) -> Message:
    return Message(Kind.PCM, seq, position, bytes(2 * samples), final)


def output(seq: int, payload: bytes = b"x", ended: Totals | None = None) -> Output:
    return Output(Message(Kind.SYL_CHUNK, seq, seq, payload), 1, ended)


def new_session(client: object = None) -> Session:
    client = client or type("Client", (), {"name": "c"})
    return Session("s", client, ENCODE, InputLog(ENCODE, 16_000), OutputLog(50.0))


def test_messages_without_audio_count_too():
    """Resets, headers and empty messages have no milliseconds, and occupy memory."""
    log = InputLog(ENCODE, 16_000)
    for number in range(2000):
        log.append(None, number)
        assert not log.exceeds(1000, 4000)
    log.append(None, 2000)
    assert log.exceeds(1000, 4000) and log.kept_ms == 0
    log.acknowledge(2001)
    assert not log.exceeds(1000, 4000)
    for number in range(2001, 5001):
        log.append(None, number)
        log.acknowledge(number + 1)
    assert log.exceeds(1000, 4000)  # all are kept, since no checkpoint covers them
    log.drop_before(1)
    assert not log.exceeds(1000, 4000)
    headers = InputLog(DECODE, 50)
    for number in range(200):
        headers.append(Message(Kind.SYL_HEADER, number, 0, bytes(60_000)), number)
        headers.acknowledge(number + 1)
        if headers.exceeds(1000, 4000):
            break
    assert number == (2**20 + 1024 * 4000) // 60_000 and headers.kept_bytes == 60_000 * (number + 1)
    headers.drop_before(number + 1)
    assert headers.kept_bytes == 0 and not headers.exceeds(1000, 4000)


def test_output_without_audio_counts_too():
    log = OutputLog(50.0)
    for number in range(3000):
        log.add(Output(Message(Kind.SYL_HEADER, number, 0, b"h" * 400), 0, None))
        assert not log.exceeds(2000)
    log.add(Output(Message(Kind.SYL_HEADER, 3000, 0, b"h" * 400), 0, None))
    assert log.exceeds(2000) and log.ms == 0 and log.bytes == 3001 * 400
    log.acknowledge(2000)
    assert not log.exceeds(2000) and log.bytes == 1001 * 400
    again = OutputLog(50.0)
    again.restore(*log.export(), 3001)
    assert again.bytes == log.bytes


def session_of_four() -> Session:
    """With four messages of input, and as many of output."""
    session = new_session()
    for number in range(4):
        session.input.append(pcm(number, number * 160), number)
        session.output.add(output(number, bytes([number])))
    return session


def test_input_is_counted_in_milliseconds_and_forgotten_when_a_checkpoint_covers_it():
    log = InputLog(ENCODE, 16_000)
    for number in range(5):
        log.append(pcm(number, number * 160), number)
    assert log.unacknowledged_ms == log.kept_ms == 50
    assert log.acknowledge(3) == 30 and log.unacknowledged_ms == 20 and log.kept_ms == 50
    log.drop_before(2)
    assert log.kept_ms == 30 and [number for number, _ in log.since(3)] == [3, 4]
    begins = {"start": 2, "position": 320, "ended": False}
    assert log.export(items=False) == ({**begins, "messages": 0}, [])
    other = InputLog(ENCODE, 16_000)
    other.restore(*log.export(items=True))
    assert other.received == 5 and other.unacknowledged_ms == 30
    assert list(other.since(2)) == list(log.since(2))
    other = InputLog(ENCODE, 16_000)
    other.restore(*log.export(items=False))
    assert other.received == 2
    other.append(pcm(2, 320), 2)
    with pytest.raises(Refusal, match="expected message 3, got 4"):
        other.append(pcm(4, 480), 4)


def test_after_the_end_only_a_reset_is_taken():
    log = InputLog(ENCODE, 16_000)
    log.append(pcm(0, 0, final=True), 0)
    with pytest.raises(Refusal, match="has ended") as caught:
        log.append(pcm(1, 160), 1)
    assert caught.value.code == "malformed"
    with pytest.raises(Refusal, match="has ended"):
        log.end(1)
    log.append(None, 1)
    log.append(pcm(2, 0), 2)
    log.drop_before(1)
    fields, messages = log.export(items=True)
    assert fields == {"start": 1, "position": 160, "ended": True, "messages": 2}
    assert messages[0] == b"" and Message.unpack(messages[1]) == pcm(2, 0)
    other = InputLog(ENCODE, 16_000)
    other.restore(fields, messages)
    other.append(pcm(3, 160), 3)  # after the reset
    log.drop_before(2)
    begins = {"start": 2, "position": 0, "ended": False, "messages": 0}
    assert log.export(items=False) == (begins, [])


def test_frames_are_counted_by_what_chunks_say():
    log = InputLog(DECODE, 50.0)
    log.append(Message(Kind.SYL_HEADER, 0, 0, b"any"), 0)
    log.append(Message(Kind.SYL_CHUNK, 1, 0, CHUNK), 1)
    assert log.unacknowledged_ms == 100
    with pytest.raises(Refusal, match="expected position 5, got 4"):
        log.append(Message(Kind.SYL_CHUNK, 2, 4, CHUNK), 2)
    for wrong in (CHUNK[:-1], CHUNK + b"\0", b"TOKS", b""):
        with pytest.raises(Refusal, match="exactly one chunk"):
            log.append(Message(Kind.SYL_CHUNK, 2, 5, wrong), 2)


def test_output_that_is_computed_again_must_be_the_same():
    log = OutputLog(50.0)
    assert all(log.add(output(number)) for number in range(3))
    assert log.ms == 60
    assert not log.add(output(1)), "known already"
    with pytest.raises(Refusal, match="message 2 came out different") as caught:
        log.add(output(2, b"y"))
    assert caught.value.code == "fault"
    log.checkpoint(3)
    assert not log.add(output(2, b"y")), "a checkpoint covers it: nothing to compare with"
    with pytest.raises(Refusal, match="message 3 is missing before 4"):
        log.add(output(4))


def test_acknowledgements_are_of_what_there_is():
    log = OutputLog(50.0)
    for number in range(3):
        log.add(output(number))
    log.acknowledge(2)
    assert log.ms == 20 and log.get(1) is None and log.get(2).message.seq == 2
    assert log.get(3) is None
    for wrong in (1, 4):
        with pytest.raises(Refusal, match=f"{wrong} messages acknowledged; expected 2 to 3"):
            log.acknowledge(wrong)
    log.acknowledge(3)
    assert log.ms == 0


def test_a_session_goes_on_from_its_checkpoint_elsewhere():
    session = session_of_four()
    session.take_checkpoint(Checkpoint(b"state", 3, 3))
    session.output.acknowledge(1)
    fields, parts = session.export(with_input=False)
    other = new_session(session.client)
    other.restore(fields, parts)
    assert other.checkpoint == Checkpoint(b"state", 3, 3)
    assert other.input.received == other.consumed == other.safe == 3
    # Messages 1 and 2 are there; 3 will be computed again.
    assert [other.output.get(n) and other.output.get(n).message.payload for n in range(5)] == [
        None,
        b"\1",
        b"\2",
        None,
        None,
    ]
    other.output.acknowledge(4, elsewhere=True)  # the client had them all
    assert not other.output.add(output(3, b"\3")), "it has that"
    assert other.output.add(output(4))
    assert other.output.get(4).message.seq == 4 and other.output.ms == 20


def test_a_session_goes_on_elsewhere_with_the_input_that_no_checkpoint_covers():
    """Then its client need not have kept that."""
    session = session_of_four()
    session.take_checkpoint(Checkpoint(b"state", 1, 1))
    fields, parts = session.export(with_input=True)
    other = new_session(session.client)
    other.restore(fields, parts)
    assert other.input.received == 4 and other.consumed == other.forwarded == 1
    assert [item.message for _, item in other.input.since(1)] == [
        item.message for _, item in session.input.since(1)
    ]
    assert other.output.produced == 1 and other.output.get(0).message.payload == b"\0"
