"""A container's way: the package can't be written, there is no home, and the user is nobody."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from syllabary.audio.files import read
from syllabary.codecs.container import read_tokens
from syllabary.codecs.registry import SHIPPED

from ..conftest import ROOT
from . import golden

NOBODY = 65534
CLIP = Path("syllabary", "assets", "demo.flac")
TRIED = """
import os, sys, syllabary
assert syllabary.__file__.startswith(sys.argv[1]), syllabary.__file__
try:
    open(os.path.join(sys.argv[1], "syllabary", "x"), "w")
except OSError:
    pass
else:
    raise SystemExit("the package can be written")
from syllabary.cli.main import main
main(sys.argv[2:])
"""


@pytest.fixture(scope="module")
def locked():
    """A copy of the package that its user may read only, a scratch folder, and how to be the user.

    As root, who may write anything, the user is nobody; where nobody can't reach Python, it is root
    without its powers.
    """
    with tempfile.TemporaryDirectory(prefix="locked-") as name:
        home = Path(name)
        skip = shutil.ignore_patterns(".*", "__pycache__", "tests", "docs", "results", "*.gz")
        shutil.copytree(ROOT, home / "syllabary", ignore=skip)
        (home / "scratch").mkdir()
        for path in (home / "syllabary").rglob("*"):
            path.chmod(0o555 if path.is_dir() else 0o444)
        (home / "syllabary").chmod(0o555)
        home.chmod(0o755)
        become: list[str] = []
        if os.getuid() == 0:
            setpriv = shutil.which("setpriv") or pytest.skip(
                "root needs setpriv to be another user"
            )
            become = [setpriv, f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
            # A dependency, not Python alone: that may start where its packages can't be reached.
            reached = subprocess.run(
                [*become, sys.executable, "-c", "import click"], capture_output=True
            )
            if reached.returncode:
                become = [setpriv, "--bounding-set=-all", "--inh-caps=-all"]
            else:
                os.chown(home / "scratch", NOBODY, NOBODY)
        yield home, become
        for path in (home / "syllabary").rglob("*"):
            if path.is_dir():
                path.chmod(0o755)
        (home / "syllabary").chmod(0o755)


def run(locked, *arguments, cwd=None, **settings):
    home, become = locked
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": "/dev/null",  # no folder, and none can be made there
        "PYTHONPATH": str(home),
        "TMPDIR": str(home / "scratch"),
        **settings,
    }
    command = [*become, sys.executable, "-c", TRIED, str(home), *map(str, arguments)]
    return subprocess.run(
        command, env=environment, cwd=cwd or home / "scratch", capture_output=True, text=cwd is None
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_tokenizers_encode_and_decode(locked, name):
    scratch, clip = locked[0] / "scratch", locked[0] / CLIP
    tokens, wave = scratch / f"{name}.syl", scratch / f"{name}.wav"
    before = len(list(scratch.rglob("*.nbc")))
    done = run(locked, "encode", clip, "--codec", name, "-o", tokens)
    assert done.returncode == 0, done.stderr
    # Kernels that tokenizers share are there already.
    said = len(list(scratch.rglob("*.nbc"))) > before
    assert done.stderr.count("NUMBA_CACHE_DIR") == said and "Warning" not in done.stderr
    # Where nothing is compiled yet, PyTorch encodes a short clip of an `rvq` codec.
    assert before or said or name == "rvq-16k"
    decoded = run(locked, "decode", tokens, "-o", wave)
    assert decoded.returncode == 0, decoded.stderr
    if not before:  # the kernels that encode are kept, and nothing more is said of them
        again = run(locked, "encode", clip, "--codec", name, "-o", scratch / "again.syl")
        assert again.returncode == 0 and "NUMBA_CACHE_DIR" not in again.stderr, again.stderr
        assert (scratch / "again.syl").read_bytes() == tokens.read_bytes()
    assert len(read(wave)[0]) == len(read(golden.CLIP)[0])
    expected = golden.run(name)[0]
    # The golden codes are of the clip's beginning, the last of which hear its end.
    whole = expected.shape[1] - 10
    assert (read_tokens(tokens).codes[0, :, :whole].numpy() == expected[:, :whole]).all()


@pytest.mark.slow
def test_no_place_at_all(locked):
    """Not even for temporary files: kernels are made and not kept."""
    home, clip = locked[0], locked[0] / CLIP
    unsafe = home / "scratch" / "unsafe"
    unsafe.mkdir()
    unsafe.chmod(0o777)
    user = NOBODY if "--clear-groups" in locked[1] else os.getuid()
    (unsafe / f"syllabary-kernels-{user}").write_text("in the way")
    out = home / "scratch" / "none.syl"
    done = run(locked, "encode", clip, "--codec", "fsq-16k", "-o", out, TMPDIR=str(unsafe))
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("kept nowhere") == 1
    assert read_tokens(out).codes.shape[1] == 1


@pytest.mark.slow
def test_a_working_folder_of_someone_else(locked):
    """Standard output needs nothing of it."""
    clip, out = locked[0] / CLIP, locked[0] / "scratch" / "elsewhere.syl"
    done = run(locked, "encode", clip, "--codec", "dmel", "-o", out)
    assert done.returncode == 0, done.stderr
    with tempfile.TemporaryDirectory() as private:  # for its owner only
        piped = run(locked, "encode", clip, "--codec", "dmel", "-o", "-", cwd=private)
    assert piped.returncode == 0, piped.stderr
    assert piped.stdout == out.read_bytes()
