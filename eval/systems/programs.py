"""Running external programs: located in advance, without a shell, with a time limit."""

import hashlib
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from .interface import MissingSystemError

#: Time limit for one clip, in seconds.
TIMEOUT = 300.0
_REASON = 500  # characters of a program's output that go into an error


def find_programs(*names: str, package: str) -> list[str]:
    """Return the paths of programs.

    Args:
        names: of the programs.
        package: that contains them, for the error.

    Raises:
        MissingSystemError: one is not in the PATH.
    """
    found = [shutil.which(name) for name in names]
    if not all(found):
        raise MissingSystemError(f"no {' and '.join(names)} in the PATH; install {package}")
    return [str(path) for path in found]


def run_program(
    command: Sequence[str | Path],
    timeout: float = TIMEOUT,
    folder: Path | None = None,
) -> bytes:
    """Run a command and return what it printed.

    Args:
        command: program and arguments, one a word; no shell looks at them.
        timeout: seconds.
        folder: to run in.

    Raises:
        RuntimeError: it failed, and what it said; or it took too long, or can't be started.
    """
    words = [str(word) for word in command]
    name = Path(words[0]).name
    try:
        done = subprocess.run(
            words, capture_output=True, stdin=subprocess.DEVNULL, timeout=timeout, cwd=folder
        )
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"{name}: not done after {timeout:g} s") from None
    except OSError as error:
        raise RuntimeError(f"{name}: can't be started: {error.strerror}") from None
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).decode(errors="replace")
        raise RuntimeError(f"{name}: {said[-_REASON:] or 'said nothing'} (exit {done.returncode})")
    return done.stdout


def digest_of(paths: Sequence[str | Path], setting: str) -> str:
    """SHA-256 (hex) of the files' bytes, in order, and of the settings."""
    sha = hashlib.sha256(setting.encode())
    for path in paths:
        with Path(path).open("rb") as file:
            sha.update(hashlib.file_digest(file, "sha256").digest())
    return sha.hexdigest()


def short_digest(path: str | Path) -> str:
    """A substitute for the version of a program that does not print one."""
    with Path(path).open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()[:12]}"
