"""Compile kernels with numba, and cache them in files.

A kernel takes seconds to compile. Its file's name has a hash of all that it depends on: its source
and the sources of this package that it imports; its argument types; the target processor; Python's
and numba's versions and settings. So kernels for another processor in the same folder (as in a home
folder shared by a cluster), or from changed sources, have other files. (numba's own cache numbers
its files in an index, which processes overwrite for each other, and detects only changes of a
kernel's own file.) Each file starts with a hash of its contents; an empty, incomplete or damaged
one is ignored and written again.

Kernels are stored in `NUMBA_CACHE_DIR` if set, else beside their source, else in the user's cache
folder; if none is writable, in a folder of this user's in the temporary folder, and failing that
nowhere, with one `KernelCacheWarning`. Reading works in read-only folders, so an image can contain
compiled kernels. Importing this module writes and deletes nothing.
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
from .compiling import announce

_PACKAGE = Path(__file__).resolve().parent.parent
_RELATIVE_IMPORT = re.compile(r"^\s*from (\.+)([\w.]*) import (\([^)]*\)|[^\n(]*)", re.MULTILINE)
_DIGEST = hashlib.sha256().digest_size


class KernelCacheWarning(SyllabaryWarning):
    """Compiled kernels can't be stored permanently."""


def kernel(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Compile a function with numba at its first call, to run without the GIL.

    Args:
        options: of `numba.njit`.
    """
    if function is None:
        return lambda function: kernel(function, **options)
    dispatcher = numba.njit(nogil=True, **options)(function)
    if hasattr(dispatcher, "enable_caching"):  # false if NUMBA_DISABLE_JIT is set
        dispatcher._cache = KernelFiles(function)
    return dispatcher


class KernelFiles(FunctionCache):  # type: ignore[misc]  # numba has no types
    """The files of one kernel, one per compilation, with the interface that numba expects."""

    def __init__(self, function: Callable[..., Any]) -> None:
        # Without numba's constructor, which raises if it finds no writable folder.
        self._py_func, self._name = function, repr(function)
        self._source = Path(function.__code__.co_filename)
        self._stamp = _stamp(self._source)
        self._stem = f"{self._source.stem}.{function.__qualname__}-"

    @property
    def cache_path(self) -> str:
        return str(next(_places(self._source.parent)))

    def enable(self) -> None:
        """Do nothing: files are always used."""

    def disable(self) -> None:
        """Do nothing: files are always used."""

    def flush(self) -> None:
        """Do nothing: files stay valid as long as the sources are unchanged."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return the compiled kernel for a signature, or None."""
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
            except Exception:  # of any kind: an intact file, but not for this numba; compile again
                continue
        announce(self._stem.rstrip("-"))
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Store a compiled kernel in the first writable folder."""
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
        """Delete this kernel's files from other versions of its sources."""
        for found in folder.glob(f"{self._stem}*.nbc"):
            if not found.name.startswith(f"{self._stem}{self._stamp}-"):
                with suppress(OSError):
                    found.unlink()


def is_compiled(function: Any) -> bool:
    """Whether a file of this kernel in its present form is stored, for some processor."""
    files = getattr(function, "_cache", None)
    if not isinstance(files, KernelFiles) or files._stamp is None:
        return False
    pattern = f"{files._stem}{files._stamp}-*.nbc"
    return any(True for place in _places(files._source.parent) for _ in place.glob(pattern))


# --- identity of a kernel ----------------------------------------------------------------------


def _stamp(source: Path) -> str | None:
    """Hash a file and those of this package that it imports; None if there is no source."""
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
    """Return the files of this package that a file imports (by relative imports)."""
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


# --- cache folders ------------------------------------------------------------------------------


def _places(folder: Path, writing: bool = False) -> Iterator[Path]:
    """Yield the folders to try, in order, for kernels whose sources are in `folder`."""
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
    """Return a folder that only this user can write to, since its contents are run; or None."""
    try:
        parent = tempfile.gettempdir()
        usual = {os.environ.get(name) for name in ("TMPDIR", "TEMP", "TMP")}
        if parent == str(Path.cwd()) and parent not in {"/tmp", "/var/tmp", "/usr/tmp", *usual}:
            return None  # Python's fallback if there is no writable folder for temporary files
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
    # Unique among all processes on all computers that share the folder.
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
