"""`syllabary serve` before it serves; tests/serving has the rest."""

import pytest


def test_check_says_what_would_run(run, tmp_path):
    path = tmp_path / "serve.toml"
    path.write_text('codecs = ["dmel"]\nplaces = 7\n[limits]\npark_seconds = 5\n')
    code, out, err = run("serve", "--config", path, "--port", "0", "--workers", "2", "--check")
    assert (code, err) == (0, "")
    assert "dmel" in out and "2 workers" in out and "7 places" in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nothing"], "'nothing'"),
        (["dmel", "--tls-key", "x"], "given together"),
        (["dmel", "--token-file", "/nowhere"], "/nowhere"),
        (["dmel", "--config", "/nowhere.toml"], "/nowhere.toml"),
    ],
)
def test_what_is_wrong_is_said_before_anything_starts(run, arguments, said):
    code, out, err = run("serve", *arguments, "--port", "0")
    assert code == 2 and said in err and "Traceback" not in err and not out
