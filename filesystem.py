"""Write files that appear whole or not at all, list folders completely, and print any path."""

import errno
import hashlib
import os
import re
import shutil
import socket
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

_HOST = re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())[:40]
_MOST_LINKS = 40  # Linux's limit


def _temporary_stem(path: Path) -> str:
    # A hash, since the name may already have the longest length that the file system allows.
    return f".{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]}.{_HOST}-"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path with the same suffix; on success, its file replaces `path`.

    Links are followed, and their target is replaced. A target that is not a regular file (a FIFO, a
    device, `/dev/stdout`) is not replaced: the finished contents are written to it.

    Raises:
        OSError: the place can't be written.
    """
    place = _behind_links(path)
    if place is None:
        yield from _writing_into(path)
        return
    temporary = place.with_name(f"{_temporary_stem(place)}{os.getpid()}.tmp{path.suffix}")
    try:
        yield temporary
        with suppress(OSError):
            temporary.chmod(stat.S_IMODE(place.stat().st_mode))
        temporary.replace(place)
    finally:
        temporary.unlink(missing_ok=True)


def replacing_together(contents: Mapping[Path, bytes]) -> None:
    """Write files that belong together: all of them, before one is replaced; the first one last.

    Raises:
        OSError: one can't be written; none has changed then.
    """
    with ExitStack() as stack:
        for path, content in contents.items():
            stack.enter_context(replacing(path)).write_bytes(content)


def _writing_into(path: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="syllabary-") as folder:
        temporary = Path(folder, "output" + path.suffix)
        yield temporary
        with temporary.open("rb") as whole, path.open("wb") as file:
            shutil.copyfileobj(whole, file)


def _behind_links(path: Path) -> Path | None:
    """Follow links to the regular file to replace; None if it is not a regular file."""
    for _ in range(_MOST_LINKS):
        if not path.is_symlink():
            return path if path.is_file() or path.is_dir() or not path.exists() else None
        # For files open in a process (/proc/…/fd) the link's text need not be a path, as for pipes.
        if Path(os.path.realpath(path.parent)).is_relative_to("/proc"):
            return None
        path = path.parent / path.readlink()
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), os.fspath(path))


def is_free(path: Path) -> bool:
    """Whether writing to a path destroys nothing: it does not exist, or is a FIFO or device."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return True
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode) or stat.S_ISSOCK(mode)


@contextmanager
def spooled(path: Path) -> Iterator[Path]:
    """Yield a regular file with the contents of `path`: itself, or a copy if it is a FIFO.

    Raises:
        OSError: it can't be read, or the copy can't be written.
    """
    mode = path.stat().st_mode
    if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
        yield path
        return
    with tempfile.NamedTemporaryFile(prefix="syllabary-", suffix=path.suffix) as copy:
        with path.open("rb") as stream:
            shutil.copyfileobj(stream, copy)
        copy.flush()
        yield Path(copy.name)


def what_it_is(path: Path) -> str | None:
    """Name the kind of a non-regular file (FIFO, device, …); None for a regular or missing one."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return None
    names = {
        stat.S_IFDIR: "a folder",
        stat.S_IFIFO: "a FIFO",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
    }
    return names.get(stat.S_IFMT(mode))


def content_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal.

    Raises:
        OSError: it can't be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _refuse(folder: Path, error: OSError) -> None:
    raise error


def files_below(folder: Path, failed: Callable[[Path, OSError], None] = _refuse) -> Iterator[Path]:
    """Yield all files in a folder and its subfolders, sorted within each, following links.

    Args:
        folder: to search.
        failed: called with each unreadable folder and its error; default: raise it.

    Raises:
        OSError: see `failed`. (`Path.rglob` skips such folders silently.)
    """
    seen = set()

    def report(error: OSError) -> None:
        failed(Path(error.filename or folder), error)

    for parent, folders, files in os.walk(folder, followlinks=True, onerror=report):
        # Corpora may consist of links, and links may form cycles.
        try:
            status = os.stat(parent)  # noqa: PTH116
        except OSError as error:
            report(error)
            folders.clear()
            continue
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders.sort()
        yield from (Path(parent, name) for name in sorted(files))


def remove_leftovers(paths: Iterable[Path]) -> None:
    """Delete temporary files that a dead process of this computer left beside these paths."""
    stems: dict[Path, set[str]] = {}
    for given in paths:
        with suppress(OSError):
            path = _behind_links(given)
            if path is not None:
                stems.setdefault(path.parent, set()).add(_temporary_stem(path))
    for folder, wanted in stems.items():
        for found in folder.iterdir() if folder.is_dir() else ():
            stem, dash, _ = found.name.rpartition("-")
            if stem + dash in wanted:
                _remove_if_left(found)


def remove_all_leftovers(folder: Path) -> None:
    """Delete such files in and below a folder that only this package writes to."""
    for found in folder.rglob(f".*.{_HOST}-*.tmp*"):
        if re.match(r"\.[0-9a-f]{16}\.", found.name):
            _remove_if_left(found)


def _remove_if_left(temporary: Path) -> None:
    if not Path("/proc/self").exists():
        return  # can't tell whether its process is gone
    process = temporary.name.rpartition("-")[2].partition(".")[0]
    if not Path("/proc", process).exists():
        with suppress(OSError):
            temporary.unlink()


def printable(path: os.PathLike[str] | str) -> str:
    """Return the path as printable text: bytes that are not UTF-8 become escapes."""
    return os.fspath(path).encode(errors="backslashreplace").decode()
