"""The protocol's messages: what goes through unchanged, and what is refused by which code."""

import json
from dataclasses import fields

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syllabary.serving import protocol
from syllabary.serving.protocol import (
    FROM_CLIENT,
    FROM_SERVER,
    HEADER,
    MOST_MESSAGES,
    PCM,
    REASONS,
    Ack,
    End,
    Ended,
    Error,
    GoAway,
    Kind,
    Limits,
    Message,
    Open,
    Ready,
    Refusal,
    Reset,
    Resume,
    Tokenizer,
    dump,
    parse,
)

TOKENIZER = Tokenizer("dmel", "ab" * 32, 16000, (40, 1), 400, (16,) * 80, 80, 400, None)
CLIENT = [
    Open("encode", "dmel", digest="ab", codebooks=3, input=PCM("mulaw", 8000), frames=5),
    Open("transcode", "dmel", source="rvq-16k"),
    Resume("token", 7, state=True),
    Ack(3),
    End(9),
    Reset(0),
]
SERVER = [
    Ready("s", "t", TOKENIZER, 80, {"encoder": 25.0, "decoder": None}, Limits(), TOKENIZER, 3, 2),
    Ready("s", "t", TOKENIZER, 80, {}, Limits(), resumable="its rows can't move", resumed=True),
    Ack(5, 2),
    Ended(4, 1, 2, 3, 4, "00", complete=False),
    GoAway(5000, ("wss://other",)),
    Error("full", "no place", 2.5),
]


MESSAGES = st.builds(
    Message,
    st.sampled_from(list(Kind)),
    st.integers(0, MOST_MESSAGES),
    st.integers(0, 2**64 - 1),
    st.binary(max_size=50),
    st.booleans(),
    st.booleans(),
)


@given(MESSAGES)
def test_binary_messages_go_through_unchanged(message):
    assert Message.unpack(message.pack()) == message
    assert len(message.pack()) == 16 + len(message.payload)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "16 bytes, got 0"),
        (b"\x01" * 15, "got 15"),
        (HEADER.pack(0, 0, 0, 0, 0), "kinds 1 to 4, got 0"),
        (HEADER.pack(5, 0, 0, 0, 0), "got 5"),
        (HEADER.pack(1, 4, 0, 0, 0), "flags 0x4"),
        (HEADER.pack(1, 0, 1, 0, 0), "stream 1"),
    ],
)
def test_other_bytes_are_malformed(data, said):
    with pytest.raises(Refusal, match=said) as refused:
        Message.unpack(data)
    assert refused.value.reason.close == 4400


@pytest.mark.parametrize(
    ("message", "known"),
    [(m, FROM_CLIENT) for m in CLIENT] + [(m, FROM_SERVER) for m in SERVER],
)
def test_control_messages_go_through_unchanged(message, known):
    assert parse(dump(message), known) == message


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "malformed"),
        ("[1]", "malformed"),
        ("{}", "malformed"),
        ('{"type":["ack"]}', "malformed"),
        ('{"type":"ready"}', "malformed"),
        ('{"type":"ack"}', "malformed"),
        ('{"type":"ack","next":-1}', "malformed"),
        ('{"type":"ack","next":4294967296}', "malformed"),
        ('{"type":"ack","next":true}', "malformed"),
        ('{"type":"ack","next":NaN}', "malformed"),
        ('{"type":"ack","next":1e999}', "malformed"),
        ('{"type":"ack","next":1,"more":2}', "malformed"),
        ('{"type":"ack","next":' + "9" * 5000 + "}", "malformed"),
        ("[" * 8000, "malformed"),
        ('{"type":"open","task":"sing","codec":"dmel"}', "malformed"),
        ('{"type":"open","task":"encode"}', "malformed"),
        ('{"type":"open","task":"transcode","codec":"dmel"}', "malformed"),
        ('{"type":"open","task":"encode","codec":"dmel","source":"x"}', "malformed"),
        ('{"type":"open","task":"encode","codec":"dmel","frames":0}', "malformed"),
        ('{"type":"open","task":"encode","codec":"dmel","codebooks":0}', "malformed"),
        (
            '{"type":"open","task":"encode","codec":"dmel","input":{"format":"mp3"}}',
            "unsupported_format",
        ),
        (
            '{"type":"open","task":"encode","codec":"dmel","output":{"rate":16001}}',
            "unsupported_format",
        ),
        (
            '{"type":"open","task":"encode","codec":"dmel","input":{"rate":7999}}',
            "unsupported_format",
        ),
    ],
)
def test_other_text_is_refused(text, code):
    with pytest.raises(Refusal) as refused:
        parse(text)
    assert refused.value.code == code
    assert 0 < len(refused.value.message) <= 300


@settings(deadline=None)  # the machine may be busy
@given(st.text(max_size=200) | st.recursive(st.none() | st.integers() | st.text(), st.lists))
def test_nothing_but_a_refusal_comes_of_any_text(value):
    text = value if isinstance(value, str) else json.dumps({"type": "ack", "next": value})
    try:
        parse(text)
    except Refusal as refused:
        assert refused.code == "malformed"


def test_every_reason_has_a_close_code_that_endpoints_may_send():
    for name, reason in REASONS.items():
        assert 4000 <= reason.close < 5000 or reason.close in (1009, 1011, 1012), name
        assert 400 <= reason.status < 600, name


def test_the_page_names_every_message_field_and_reason():
    """docs/serving-protocol.md is what others implement from."""
    from ..conftest import ROOT

    page = (ROOT / "docs" / "serving-protocol.md").read_text(encoding="utf-8")
    for kind in {*FROM_CLIENT.values(), *FROM_SERVER.values()}:
        assert f"`{kind.type}`" in page, kind
        for each in fields(kind):
            assert f"`{each.name}`" in page, f"{kind.type}.{each.name}"
    for each in (*fields(Limits), *fields(Tokenizer), *fields(PCM)):
        assert f"`{each.name}`" in page, each.name
    for name, reason in REASONS.items():
        row = next(line for line in page.splitlines() if line.startswith(f"| `{name}`"))
        assert f"| {reason.close} |" in row and f"| {reason.status} |" in row, row
        assert ("yes" in row) == reason.resumable, row
    for name, default in ((each.name, each.default) for each in fields(Limits)):
        row = next(line for line in page.splitlines() if line.startswith(f"| `{name}`"))
        assert f"{default:,.10g}" in row, row
    assert protocol.SUBPROTOCOL in page and protocol.STREAM_PATH in page


def test_the_chain_depends_on_every_message_and_its_limits():
    start = protocol.CHAIN_START
    once = protocol.chain(start, b"ab")
    assert protocol.chain(protocol.chain(start, b"a"), b"b") != once
    assert protocol.chain(start, b"ab") == once and len(once) == 32
