"""Tokens, origins and quotas: who is let in, how others are refused, and no secret told."""

import base64
import hashlib
import logging
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syllabary.errors import ConfigError
from syllabary.serving.config import Config
from syllabary.serving.protocol import Refusal
from syllabary.serving.security import Client, Security

ALICE, BOB, OLD = "alice-" + "a1" * 16, "bob." + "b2" * 16, "old~" + "c3" * 16
ALICE2 = "next-" + "d4" * 16


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def stamp(**ago):
    return (datetime.now(UTC) - timedelta(**ago)).isoformat()


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "tokens"
    digest = hashlib.sha256(ALICE.encode()).hexdigest()
    path.write_text(
        f"# who\n\nalice sha256:{digest} # by digest\nbob {BOB} {stamp(hours=-1)}\n"
        f"bob {OLD} {stamp(seconds=1)}\n"
    )
    return path


@pytest.fixture
def security(path, clock):
    return Security(Config(token_file=str(path)), clock)


def bearer(token):
    return "bearer." + base64.urlsafe_b64encode(token.encode()).decode().rstrip("=")


def refused(code, function, *arguments):
    with pytest.raises(Refusal) as caught:
        function(*arguments)
    assert caught.value.code == code
    for secret in (ALICE, BOB, OLD):
        assert secret not in str(caught.value)
    return caught.value


def test_known_tokens(security):
    assert security.authenticate(f"Bearer {ALICE}", ()) == Client("alice")
    assert security.authenticate(f"bearer  {BOB}", ()) == Client("bob")
    assert security.authenticate(None, ("syllabary.v1", bearer(BOB))) == Client("bob")


@pytest.mark.parametrize(
    ("authorization", "subprotocols"),
    [
        (None, ()),
        (None, ("syllabary.v1",)),
        ("", ()),
        ("Bearer", ()),
        (f"Bearer {ALICE}x", ()),
        (f"Bearer {ALICE[:-1]}", ()),
        (f"Bearer {ALICE.upper()}", ()),
        (f"Bearer sha256:{hashlib.sha256(ALICE.encode()).hexdigest()}", ()),
        (f"Bearer {hashlib.sha256(ALICE.encode()).hexdigest()}", ()),
        (f"Basic {ALICE}", ()),
        (ALICE, ()),
        (f"Bearer {ALICE} {BOB}", ()),
        ("Bearer " + "a" * 100_000, ()),
        ("Bearer \x00\udcff", ()),
        (None, ("bearer.",)),
        (None, ("bearer.***",)),
        (None, (f"bearer.{ALICE}",)),
        (None, (bearer(ALICE), bearer(BOB))),
        ("Basic eDp5", (bearer(ALICE),)),  # the header counts, if there is one
    ],
)
def test_wrong_and_missing_tokens(security, authorization, subprotocols):
    refused("unauthorized", security.authenticate, authorization, subprotocols)


def test_expired_tokens(security):
    error = refused("unauthorized", security.authenticate, f"Bearer {OLD}", ())
    assert "expired" in error.message


@pytest.fixture(scope="module")
def unchanging(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokens") / "tokens"
    path.write_text(f"alice {ALICE}\n")
    return Security(Config(token_file=str(path)))


@settings(deadline=None)
@given(header=st.text(max_size=600), subprotocols=st.lists(st.text(max_size=40), max_size=3))
def test_no_text_is_more_than_refused(unchanging, header, subprotocols):
    for names in (subprotocols, ["bearer." + name for name in subprotocols]):
        refused("unauthorized", unchanging.authenticate, header, names)
        refused("unauthorized", unchanging.authenticate, None, names)


def test_without_a_token_file_everybody_is_anonymous():
    assert Security(Config()).authenticate("Bearer whatever", ()) == Client("anonymous")


def test_tokens_are_rotated_without_a_restart(security, path, clock, caplog):
    caplog.set_level(logging.INFO)
    both = path.read_text() + f"alice {ALICE2}\n"
    path.write_text(both)
    refused("unauthorized", security.authenticate, f"Bearer {ALICE2}", ())
    clock.now += 1.1  # looks once a second
    for token in (ALICE, ALICE2):
        assert security.authenticate(f"Bearer {token}", ()) == Client("alice")
    path.with_name("new").write_text(f"alice {ALICE2}\n")
    path.with_name("new").replace(path)
    security.reload()  # as SIGHUP does
    refused("unauthorized", security.authenticate, f"Bearer {ALICE}", ())
    assert security.authenticate(f"Bearer {ALICE2}", ()) == Client("alice")
    for broken in (f"alice {ALICE} tomorrow\n", None):
        path.write_text(broken) if broken else path.unlink()
        clock.now += 1.1
        assert security.authenticate(f"Bearer {ALICE2}", ()) == Client("alice"), "the former stay"
    path.write_text("")
    clock.now += 1.1
    refused("unauthorized", security.authenticate, f"Bearer {ALICE2}", ())
    events = [record.getMessage() for record in caplog.records]
    assert events == ["token_file_read"] * 2 + ["token_file_refused"] * 2 + ["token_file_read"]
    said = "\n".join(str(vars(record)) for record in caplog.records)
    assert not any(token in said for token in (ALICE, ALICE2, BOB, OLD))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (BOB, "got 1 words"),
        (f"{BOB} alice 2027 01", "got 4 words"),
        (f"al/ice {BOB}", "a name is"),
        (f"{BOB * 3} alice", "a name is"),
        ("alice short", "a token is"),
        ("alice " + "ä" * 30, "a token is"),
        ("alice sha256:12", "64 hexadecimal digits"),
        (f"alice {BOB} soon", "such as"),
        (f"alice {BOB} 2027-01-31T00:00:00", "zone"),
        (f"alice {BOB}\nbob {BOB}", "twice"),
    ],
)
def test_bad_token_files(path, line, message):
    path.write_text(line + "\n")
    with pytest.raises(ConfigError, match=message) as caught:
        Security(Config(token_file=str(path)))
    assert BOB not in str(caught.value)


def test_bad_bytes(path):
    path.write_bytes(b"alice \xff\xfe\n")
    with pytest.raises(ConfigError, match="UTF-8"):
        Security(Config(token_file=str(path)))


OPEN = Config(
    origins=("https://app.example.org", "http://localhost:3000"), url="https://codec.example.org"
)


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        (None, "anything"),
        ("https://app.example.org", "codec.example.org"),
        ("http://localhost:3000", "127.0.0.1:8700"),
        ("http://127.0.0.1:8700", "127.0.0.1:8700"),
        ("http://[::1]:8700", "[::1]:8700"),
        ("http://localhost:8700", "localhost:8700"),
        ("http://10.0.0.5", "10.0.0.5:80"),
        ("https://codec.example.org", "codec.example.org"),
    ],
)
def test_own_and_listed_origins(origin, host):
    Security(OPEN).check_origin(origin, host)


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("https://evil.example", "codec.example.org"),
        ("https://app.example.org.evil.example", "codec.example.org"),
        ("https://app.example.org:444", "codec.example.org"),
        ("http://app.example.org", "codec.example.org"),
        ("http://127.0.0.1:8701", "127.0.0.1:8700"),
        ("http://evil.example:8700", "evil.example:8700"),  # its name resolves to this machine
        ("http://localhost", None),
        ("null", "127.0.0.1:8700"),
        ("", ""),
        ("file://", "127.0.0.1:8700"),
        ("http://[::1", "[::1"),
        ("http://127.0.0.1:99999", "127.0.0.1:99999"),
        ("*", "127.0.0.1:8700"),
    ],
)
def test_foreign_origins(origin, host):
    refused("forbidden_origin", Security(OPEN).check_origin, origin, host)


def test_any_origin_only_if_it_says_so():
    Security(Config(origins=("*",))).check_origin("https://evil.example", "a")


def test_sessions_of_a_client():
    security = Security(Config(sessions_per_token=2))
    alice, bob = Client("alice"), Client("bob")
    security.enter(alice)
    security.enter(alice)
    refused("over_quota", security.enter, alice)
    security.enter(bob)
    security.leave(alice)
    security.enter(alice)
    refused("over_quota", security.enter, alice)


def test_seconds_of_audio(clock):
    security = Security(Config(audio_seconds_per_hour=60), clock)
    alice = Client("alice")
    security.spend(alice, 59)
    error = refused("over_quota", security.spend, alice, 2)
    assert error.retry_after == pytest.approx(60), "one second a minute comes back"
    security.spend(alice, 1)
    clock.now += 59
    refused("over_quota", security.spend, alice, 1)
    clock.now += 1.5
    security.spend(alice, 1)
    security.spend(Client("bob"), 60)
    assert refused("over_quota", security.spend, Client("carol"), 61).retry_after is None
    clock.now += 10 * 3600
    security.spend(alice, 60)
    refused("over_quota", security.spend, alice, 1)  # the bucket holds an hour, not ten
    Security(Config()).spend(alice, 1e9)
    Security(Config()).charge(alice, 1e9)
    # What was computed counts in any case, and the next one waits until that has come again.
    clock.now += 3600
    security.charge(alice, 90)
    assert refused("over_quota", security.spend, alice, 0).retry_after == pytest.approx(1800)
    clock.now += 1801
    security.spend(alice, 0)


def test_one_more_in_the_place_of_one_that_ends():
    security, alice = Security(Config(sessions_per_token=1)), Client("alice")
    security.enter(alice)
    refused("over_quota", security.enter, alice)
    security.enter(alice, spare=True)
    refused("over_quota", partial(security.enter, spare=True), alice)
    security.leave(alice)
    refused("over_quota", security.enter, alice)
