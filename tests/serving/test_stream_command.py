"""`syllabary stream … --server`: the bytes of the pipe, and errors as of any command."""

import ssl
import subprocess
import sys

import pytest

from ..cli.conftest import run, stream  # noqa: F401 (fixtures)
from .test_access import ALICE, guarded, logged  # noqa: F401
from .test_client_server import data_of

#: A server with compute processes: its kernels alone take minutes of a shared core to compile.
pytestmark = pytest.mark.slow


def test_encode_decode_and_transcode(server, utterance, stream):  # noqa: F811
    where = ("--server", server.url)
    own = utterance("encode", "dmel", seconds=1.1, seed=4, frames=2)
    code, syl, err = stream(data_of(own), "encode", "dmel", "--frames-per-chunk", "2", *where)
    assert (code, err) == (0, "") and syl == own.expected
    own = utterance("decode", "dmel", seconds=1.1, seed=4)
    more = ("dmel", "--stats", *where)
    code, pcm, err = stream(data_of(own), "decode", *more)
    assert code == 0 and pcm == own.expected and "0 reconnections" in err
    own = utterance("transcode", "rvq", seconds=1.1, seed=4, source="dmel")
    code, syl, err = stream(data_of(own), "transcode", "rvq", "--source", "dmel", *where)
    assert (code, err) == (0, "") and syl == own.expected


def test_other_servers_and_an_empty_input(server, stream):  # noqa: F811
    others = ("--server", "http://127.0.0.1:1", "--server", server.url)
    code, syl, err = stream(b"", "encode", "dmel", *others)
    assert (code, err) == (0, "") and syl.startswith(b"\x89SYL")


@pytest.mark.parametrize(
    ("data", "arguments", "message"),
    [
        (b"abc", ("encode", "dmel"), "within a sample"),
        (b"", ("encode", "no-such"), "no tokenizer 'no-such'"),
        (b"RIFF....", ("decode",), "not a .syl file"),
        (b"", ("encode", "dmel", "--device", "cuda"), "--device"),
        (b"", ("encode", "dmel", "--sample-rate", "96000"), "8000 to 48000"),
        (b"", ("encode", "dmel", "--token-file", "no-such-file"), "can't read the token"),
        (b"", ("encode", "dmel", "--authority", "no-such-file"), "authority"),
    ],
)
def test_bad_input(server, stream, data, arguments, message):  # noqa: F811
    code, _, err = stream(data, *arguments, "--server", server.url)
    assert code == 2 and message in err and "Traceback" not in err


def test_no_server(stream):  # noqa: F811
    code, _, err = stream(b"", "encode", "dmel", "--server", "http://127.0.0.1:1")
    assert code == 2 and "can't reach http://127.0.0.1:1" in err
    code, _, err = stream(b"", "encode", "dmel", "--token-file", "x")
    assert code == 2 and "go with --server" in err


def test_a_truncated_input(server, utterance, stream):  # noqa: F811
    own = utterance("decode", "dmel", seconds=1.1, seed=4)
    code, pcm, err = stream(data_of(own)[:-40], "decode", "dmel", "--server", server.url)
    assert code == 1 and "cut short" in err and own.expected.startswith(pcm[:10_000])
    damaged = bytearray(data_of(own))
    damaged[-300] ^= 1
    code, pcm, err = stream(bytes(damaged), "decode", "dmel", "--server", server.url)
    assert code == 2 and "damaged" in err and len(pcm) > 1000


def test_tokens(guarded, stream, tmp_path, monkeypatch):  # noqa: F811
    where = ("--server", guarded.url)
    code, _, err = stream(b"", "encode", "dmel", *where)
    assert code == 2 and "valid bearer token" in err
    monkeypatch.setenv("SYLLABARY_TOKEN", ALICE)
    assert stream(b"", "encode", "dmel", *where)[0] == 0
    monkeypatch.setenv("SYLLABARY_TOKEN", "wrong" * 10)
    code, _, err = stream(b"", "encode", "dmel", *where)
    assert code == 2 and "wrong" not in err
    (tmp_path / "token").write_text(ALICE + "\n")
    assert stream(b"", "encode", "dmel", *where, "--token-file", str(tmp_path / "token"))[0] == 0


def test_a_reader_that_goes_away(server):
    """Like any filter: exit code 141, at once, also while more input could come."""
    command = [sys.executable, "-m", "syllabary", "stream", "encode", "dmel"]
    command += ["--server", server.url]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.read(1)
        process.stdout.close()
        process.stdin.write(bytes(64_000))
        process.stdin.flush()
        assert process.wait(60) == 141
        assert process.stderr.read() == b""
        process.stdin.close()


def test_authorities_are_read(tmp_path):
    from syllabary.cli.server_streams import choose

    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -days 2 -nodes"
    command += f" -keyout {tmp_path}/tls.key -out {tmp_path}/tls.crt -subj /CN=localhost"
    subprocess.run(command.split(), check=True, capture_output=True)
    where = choose(("https://localhost",), None, f"{tmp_path}/tls.crt")
    assert where["tls"].verify_mode == ssl.CERT_REQUIRED
    assert len(where["tls"].get_ca_certs()) == 1
