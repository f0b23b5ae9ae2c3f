"""Single requests: the bytes of the command line, and errors with their statuses."""

import io
import json
import urllib.error
import urllib.request
import wave as wave_files

import pytest

from syllabary.audio.files import write
from syllabary.codecs.container import SylReader
from syllabary.jobs.one_file import decode_file, encode_file

from ..conftest import synthetic_speech

#: A server with compute processes: its kernels alone take minutes of a shared core to compile.
pytestmark = pytest.mark.slow


@pytest.fixture
def wav(tmp_path):
    path = tmp_path / "my.wav"
    write(path, synthetic_speech(20_000), 16000)
    return path


def request(server, path: str, body: bytes | None = None, **headers):
    """Return status, headers and body."""
    asked = urllib.request.Request(server.url + path, body, headers)
    try:
        with urllib.request.urlopen(asked, timeout=60) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


@pytest.mark.parametrize("more", ["", "&compress=true", "&channels=first"])
def test_encode_gives_the_bytes_of_the_command_line(server, tokenizers, wav, tmp_path, more):
    status, _, body = request(server, f"/v1/encode?codec=rvq&name=my.wav{more}", wav.read_bytes())
    assert status == 200
    expected = tmp_path / "my.syl"
    channels = "first" if "first" in more else "mix"
    encode_file(tokenizers["rvq"], wav, expected, compress="compress" in more, channels=channels)
    assert body == expected.read_bytes()


def test_decode_gives_the_bytes_of_the_command_line(server, tokenizers, wav, tmp_path):
    syl, expected = tmp_path / "my.syl", tmp_path / "back.wav"
    encode_file(tokenizers["ts3"], wav, syl)
    with syl.open("rb") as file:
        decode_file(tokenizers["ts3"], SylReader(file), expected)
    status, headers, body = request(server, "/v1/decode", syl.read_bytes())
    assert status == 200 and headers["Content-Type"] == "audio/wav"
    assert body == expected.read_bytes()
    with wave_files.open(io.BytesIO(body)) as found:
        assert found.getnframes() == 20_000
    status, headers, flac = request(server, "/v1/decode?codec=ts3&format=flac", syl.read_bytes())
    assert status == 200 and flac[:4] == b"fLaC"


def test_transcode_is_decode_then_encode(server, tokenizers, wav, tmp_path):
    syl, sound, expected = (tmp_path / name for name in ("my.syl", "sound.wav", "other.syl"))
    encode_file(tokenizers["ts3"], wav, syl)
    with syl.open("rb") as file:
        decode_file(tokenizers["ts3"], SylReader(file), sound)
    encode_file(tokenizers["rvq"], sound, expected, name="-")
    status, _, body = request(server, "/v1/transcode?codec=rvq", syl.read_bytes())
    assert status == 200 and body == expected.read_bytes()


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("/v1/encode", b"RIFF", 400, "malformed"),
        ("/v1/encode?codec=nothing", b"RIFF", 404, "unknown_codec"),
        ("/v1/encode?codec=rvq", b"RIFFnonsense", 415, "unsupported_format"),
        ("/v1/encode?codec=rvq", b"", 400, "malformed"),
        ("/v1/encode?codec=rvq&codebooks=99", "wav", 400, "malformed"),
        ("/v1/encode?codec=rvq&codebooks=x", "wav", 400, "malformed"),
        ("/v1/encode?codec=rvq&chanels=mix", "wav", 400, "malformed"),
        ("/v1/encode?codec=rvq&channels=left", "wav", 400, "malformed"),
        (f"/v1/encode?codec=rvq&channels={'1' * 5000}", "wav", 400, "malformed"),
        ("/v1/encode?codec=rvq&compress=1", "wav", 400, "malformed"),
        ("/v1/decode?format=mp3", b"x", 415, "unsupported_format"),
        ("/v1/decode", b"nonsense", 400, "malformed"),
        ("/v1/decode?codec=rvq", "syl of ts3", 404, "unknown_codec"),
        ("/v1/nothing", b"x", 404, "malformed"),
        ("/v1/sessions/abc/take", b"x", 401, "unauthorized"),
        ("/v1/stream", None, 400, "malformed"),
    ],
)
def test_errors_are_json(server, tokenizers, wav, tmp_path, path, body, status, code):
    if body == "wav":
        body = wav.read_bytes()
    elif body == "syl of ts3":
        encode_file(tokenizers["ts3"], wav, tmp_path / "my.syl")
        body = (tmp_path / "my.syl").read_bytes()
    found, _, text = request(server, path, body)
    error = json.loads(text)["error"]
    assert (found, error["code"]) == (status, code) and error["message"]
    assert "/tmp" not in error["message"]


def test_a_body_over_the_limit_is_refused(server, monkeypatch):
    from dataclasses import replace

    config = replace(server.server.config, body_bytes=1000)
    monkeypatch.setattr(server.server, "config", config)
    status, _, body = request(server, "/v1/encode?codec=rvq", bytes(2000))
    assert status == 413 and json.loads(body)["error"]["code"] == "too_big"


def test_codecs_health_and_metrics(server, tokenizers):
    status, _, body = request(server, "/v1/codecs")
    found = {each["codec"]: each for each in json.loads(body)["codecs"]}
    assert status == 200 and set(found) == set(tokenizers)
    assert found["ts3"]["digest"] == tokenizers["ts3"].spec.tokens.digest
    assert found["ts3"]["hop"] == 320 and found["ts3"]["frame_rate"] == [50, 1]
    assert request(server, "/healthz")[0] == 200
    assert request(server, "/readyz")[0] == 200
    status, headers, body = request(server, "/metrics")
    assert status == 200 and headers["Content-Type"].startswith("text/plain")
    assert b"# TYPE" in body
    server.engine.draining = True
    try:
        assert request(server, "/readyz")[0] == 503
        assert request(server, "/v1/encode?codec=rvq", b"x")[0] == 503
    finally:
        server.engine.draining = False
