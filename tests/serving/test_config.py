"""The server's configuration: files, flags, and what `--check` finds before a server starts."""

import socket
import ssl
import subprocess
from dataclasses import fields

import pytest

from syllabary.errors import ConfigError
from syllabary.serving.config import Config, load_config, read_key, ssl_context
from syllabary.serving.startup_check import check_config


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "key").write_bytes(b"k" * 32)
    (tmp_path / "tokens").write_text("alice " + "a" * 32 + "\n")
    for name in ("key", "tokens"):
        (tmp_path / name).chmod(0o600)
    (tmp_path / "state").mkdir()
    return tmp_path


def write(folder, text):
    path = folder / "serve.toml"
    path.write_text(text)
    return path


def test_a_file_and_flags_over_it(folder):
    path = write(
        folder,
        'port = 9000\ncodecs = ["dmel", "ts3-16k"]\nkey_file = "key"\ntoken_file = "/etc/tokens"\n'
        "drain_seconds = 3\n[limits]\nidle_seconds = 7\n",
    )
    config = load_config(path, {"port": 9001, "limits.output_ms": 500})
    assert (config.port, config.codecs, config.drain_seconds) == (9001, ("dmel", "ts3-16k"), 3.0)
    assert (config.limits.idle_seconds, config.limits.output_ms) == (7.0, 500.0)
    assert config.key_file == str(folder / "key"), "relative to the file's folder"
    assert config.token_file == "/etc/tokens"
    assert load_config(None, {}) == Config()
    assert load_config(None, {"key_file": "key"}).key_file == "key", "flags: to the working one"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prot = 1", "did you mean port"),
        ("port = 'x'", "port must be int, got 'x'"),
        ("port = 70000", "port is 0 to 65535"),
        ("codecs = []", "at least one"),
        ("codecs = ['dmel', 'dmel']", "each once"),
        ("codecs = ['a=dmel', 'a=rvq-16k']", "each once"),
        ("places = 0", "places must be at least 1"),
        ("lateness_ms = nan", "lateness_ms must be at least"),
        ("[limits]\nidle_seconds = inf", "limits.idle_seconds"),
        ("[limits]\nidle = 1", "did you mean limits.idle_seconds"),
        ("tls_key = 'a'", "given together"),
        ("state_dir = '/tmp'", "need a key_file"),
        ("key_file = 'key'\npeers = ['http://b:1']", "peers need a url"),
        ("url = 'ws://a'", "url takes http"),
        ("url = 'http://alice:secret@a'", "url takes http"),
        ("origins = ['example.org']", "origins"),
        ("origins = ['https://example.org/page']", "no path"),
        ("log_level = 'loud'", "log_level"),
        ("port =", "no TOML"),
    ],
)
def test_bad_files(folder, text, message):
    path = write(folder, text)
    with pytest.raises(ConfigError, match=message) as caught:
        load_config(path, {})
    assert str(path) in str(caught.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        load_config(tmp_path / "no.toml", {})
    with pytest.raises(ConfigError, match="no table"):
        load_config(None, {"port": 1, "port.x": 2})


def test_keys(folder):
    assert read_key(Config(key_file=str(folder / "key"))) == b"k" * 32
    first, second = read_key(Config()), read_key(Config())
    assert first != second and len(first) >= 32
    (folder / "short").write_text("secret123\n")
    for name, message in (("short", "has 9 bytes"), ("none", "No such file")):
        with pytest.raises(ConfigError, match=message) as caught:
            read_key(Config(key_file=str(folder / name)))
        assert "secret123" not in str(caught.value)


def test_tls(folder):
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -days 2 -nodes"
    command += f" -keyout {folder}/tls.key -out {folder}/tls.crt -subj /CN=localhost"
    subprocess.run(command.split(), check=True, capture_output=True)
    good = Config(tls_certificate=f"{folder}/tls.crt", tls_key=f"{folder}/tls.key")
    context = ssl_context(good)
    assert context is not None and context.minimum_version >= ssl.TLSVersion.TLSv1_2
    assert ssl_context(Config()) is None
    for wrong in (f"{folder}/key", f"{folder}/no.key"):
        with pytest.raises(ConfigError, match="can't use the TLS certificate"):
            ssl_context(Config(tls_certificate=f"{folder}/tls.crt", tls_key=wrong))
    assert any(line.startswith("https://") for line in check_config(good))


def test_check_says_what_will_run_and_what_is_risky(folder):
    sound = Config(port=0, key_file=f"{folder}/key", token_file=f"{folder}/tokens")
    lines = check_config(sound)
    assert "rvq-16k" in lines[0] and not any("warning" in line for line in lines)
    (folder / "key").chmod(0o644)
    text = "\n".join(check_config(Config(host="0.0.0.0", port=0, key_file=f"{folder}/key")))
    assert "no token_file" in text and "open to every user" in text
    text = "\n".join(check_config(Config(host="0.0.0.0", port=0, token_file=f"{folder}/tokens")))
    assert "no TLS" in text and "no key_file" in text


def test_check_finds_what_would_fail(folder):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for wrong, message in [
            ({"port": port}, f"can't listen on 127.0.0.1 port {port}"),
            ({"host": "203.0.113.9"}, "can't listen"),
            ({"codecs": ("rvq-16",)}, "'rvq-16' is no bundled tokenizer"),
            ({"codecs": ("no_module:Class",)}, "no module 'no_module'"),
            ({"codecs": ("fine=syllabary.serving.config:X", "x=no_name")}, "'no_name' is no"),
            ({"key_file": str(folder / "none")}, "can't read key_file"),
            ({"token_file": str(folder / "none")}, "can't read token_file"),
            ({"key_file": str(folder / "key"), "state_dir": str(folder / "no")}, "not a folder"),
        ]:
            with pytest.raises(ConfigError, match=message):
                check_config(Config(**{"port": 0, **wrong}))


def test_the_page_lists_every_field():
    from ..conftest import ROOT

    text = (ROOT / "docs" / "serving-operations.md").read_text()
    for field in fields(Config):
        assert f"| `{field.name}` |" in text, field.name
