"""Compiled kernels, and the files that keep them from one process to the next.

A kernel takes seconds to compile. Its file is named by a hash of all that it is made of: the
sources, its own and those that they import of this package; the types of its arguments; the
processor that it is for; Python's and numba's versions and settings. So a kernel of another
processor in the same folder (a home that a cluster's nodes share), or of a source that has changed,
is another file. (numba's own cache numbers its files and keeps an index, which processes overwrite
for each other, and notices a change of a kernel's own file only.) Each file begins with a hash of
what follows: one that is empty, torn or damaged counts for nothing and is written anew.

Kernels are kept in `NUMBA_CACHE_DIR` where that is set, else beside their source, else in the
user's cache folder; where none of these can be written, in a folder of this user's among the
temporary ones, and failing that nowhere, which a `KernelCacheWarning` says once. Reading works
without writing, so an image can bring compiled kernels along. Importing writes and deletes nothing.
"""

import hashlib
import os
import pickle
import re
import stat
import sys
import tempfile
import threading
import uuid
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite
import numba
import numpy as np
from numba.core import config
from numba.core.caching import FunctionCache
from numba.core.compiler import CompileResult
from numba.core.serialize import dumps

from ..errors import SyllabaryWarning

_PACKAGE = Path(__file__).resolve().parent.parent
_RELATIVE_IMPORT = re.compile(r"^\s*from (\.+)([\w.]*) import (\([^)]*\)|[^\n(]*)", re.MULTILINE)
_DIGEST = hashlib.sha256().digest_size


class KernelCacheWarning(SyllabaryWarning):
    """Compiled kernels can't be kept where they would last."""


def kernel(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Compile a function with numba when it is first called, to run without Python's lock.

    Args:
        options: of `numba.njit`.
    """
    if function is None:
        return lambda function: kernel(function, **options)
    dispatcher = numba.njit(nogil=True, **options)(function)
    if hasattr(dispatcher, "enable_caching"):  # not where NUMBA_DISABLE_JIT is set
        dispatcher._cache = KernelFiles(function)
    return dispatcher


class KernelFiles(FunctionCache):  # type: ignore[misc]  # numba has no types
    """The files of one kernel, one for each of its compilations; numba asks for them."""

    def __init__(self, function: Callable[..., Any]) -> None:
        # Not numba's own: it looks for a folder to write to, and fails where there is none.
        self._py_func, self._name = function, repr(function)
        self._source = Path(function.__code__.co_filename)
        self._stamp = _stamp(self._source)
        self._stem = f"{self._source.stem}.{function.__qualname__}-"

    @property
    def cache_path(self) -> str:
        return str(next(_places(self._source.parent)))

    def enable(self) -> None:
        """Files are always used."""

    def disable(self) -> None:
        """Files are always used."""

    def flush(self) -> None:
        """What was compiled stays: it is still what the sources make."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The compiled kernel for a signature, or None."""
        target_context.refresh()
        if self._stamp is None:
            return None
        name = self._name_for(sig, target_context.codegen())
        for folder in _places(self._source.parent):
            data = _read_whole(folder / name)
            if data is None:
                continue
            try:
                return CompileResult._rebuild(target_context, *pickle.loads(data))
            except Exception:  # of any kind: whole, but not of this numba; it is compiled again
                continue
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep a compiled kernel in the first folder that can be written."""
        if self._stamp is None or data.library.has_dynamic_globals:
            return
        name = self._name_for(sig, data.codegen)
        content = dumps(data._reduce())
        failure: OSError | None = None
        for folder in _places(self._source.parent, writing=True):
            try:
                _write_whole(folder / name, content)
            except OSError as error:
                failure = failure or error
                continue
            self._remove_stale(folder)
            if folder.parent == _temporary():
                _say_once(f"{failure}; compiled kernels are kept in {folder.parent}")
            return
        _say_once(f"{failure}; compiled kernels are kept nowhere and every process makes its own")

    def _name_for(self, sig: Any, codegen: Any) -> str:
        versions = (sys.version, numba.__version__, llvmlite.__version__, np.__version__)
        settings = (str(config.OPT), config.BOUNDSCHECK, config.DEBUGINFO_DEFAULT)
        parts = (self._index_key(sig, codegen), versions, settings, config.USING_SVML)
        digest = hashlib.sha256(repr((self._stamp, parts)).encode()).hexdigest()
        return f"{self._stem}{self._stamp}-{digest[:32]}.nbc"

    def _remove_stale(self, folder: Path) -> None:
        """Delete what this kernel was with other sources."""
        for found in folder.glob(f"{self._stem}*.nbc"):
            if not found.name.startswith(f"{self._stem}{self._stamp}-"):
                with suppress(OSError):
                    found.unlink()


# --- what a kernel is made of -------------------------------------------------------------------


def _stamp(source: Path) -> str | None:
    """A hash of a file and of those of this package that it imports, or None if there is none."""
    found = hashlib.sha256()
    try:
        for path in sorted(_sources(source.resolve())):
            found.update(_digest(path))
    except OSError:
        return None  # installed without sources, or in an archive
    return found.hexdigest()[:12]


@cache
def _digest(path: Path) -> bytes:
    return hashlib.sha256(path.read_bytes()).digest()


def _sources(source: Path) -> set[Path]:
    found, pending = set(), [source]
    while pending:
        path = pending.pop()
        if path not in found:
            found.add(path)
            pending += _imported(path)
    return found


@cache
def _imported(path: Path) -> tuple[Path, ...]:
    """Files of this package that a file imports by relative imports, as all of it does."""
    found = []
    for dots, module, names in _RELATIVE_IMPORT.findall(path.read_text("utf-8")):
        base = path.parents[len(dots) - 1].joinpath(*filter(None, module.split(".")))
        if not base.is_relative_to(_PACKAGE):
            continue
        if base.is_dir():
            parts = [name.split()[0] for name in names.strip("()").split(",") if name.strip()]
            inner = [base / f"{name}.py" for name in parts]
            found += [p if p.exists() else base / "__init__.py" for p in inner]
        else:
            found.append(base.with_suffix(".py"))
    return tuple(found)


# --- where it is kept ---------------------------------------------------------------------------


def _places(folder: Path, writing: bool = False) -> Iterator[Path]:
    """Folders for the kernels whose sources lie in `folder`, in the order that they are tried."""
    part = f"{folder.name}-{hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:16]}"
    if config.CACHE_DIR:
        yield Path(config.CACHE_DIR, part)
    else:
        yield folder / "__pycache__"
        user = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
        if user.is_absolute():
            yield user / "syllabary" / "kernels" / part
    temporary = _temporary(make=writing)
    if temporary is not None:
        yield temporary / part


def _temporary(make: bool = False) -> Path | None:
    """A folder that is this user's alone, or None: what is loaded from it is run."""
    try:
        parent = tempfile.gettempdir()
        usual = {os.environ.get(name) for name in ("TMPDIR", "TEMP", "TMP")}
        if parent == str(Path.cwd()) and parent not in {"/tmp", "/var/tmp", "/usr/tmp", *usual}:
            return None  # Python's last resort, where no folder for temporary files can be written
        folder = Path(parent, f"syllabary-kernels-{os.getuid()}")
        if make:
            with suppress(FileExistsError):
                folder.mkdir(mode=0o700)
        found = folder.lstat()
    except (OSError, AttributeError):
        return None
    mine = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
    return folder if mine and not found.st_mode & 0o022 else None


def _read_whole(path: Path) -> bytes | None:
    try:
        content = path.read_bytes()
    except OSError:
        return None
    data = content[_DIGEST:]
    return data if hashlib.sha256(data).digest() == content[:_DIGEST] else None


def _write_whole(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Of any process on any node that shares the folder.
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex[:16]}.tmp")
    try:
        temporary.write_bytes(hashlib.sha256(data).digest() + data)
        temporary.replace(path)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


_saying = threading.Lock()
_said = False


def _say_once(message: str) -> None:
    global _said
    with _saying:
        said, _said = _said, True
    if not said:
        warnings.warn(
            f"{message}. Set NUMBA_CACHE_DIR to a folder that lasts.",
            KernelCacheWarning,
            stacklevel=2,
        )
