"""Compiled kernels are kept where that is possible, told apart, and never trusted blindly."""

import errno
import importlib.util
import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pytest
from numba.core import config

from syllabary.codecs.neural.compiled import spectral_decoder
from syllabary.kernels import cache as kernel_cache
from syllabary.kernels.cache import KernelCacheWarning

from ..conftest import ROOT

SOURCE = """
from syllabary.kernels.cache import kernel

@kernel
def double(x):
    return {factor} * x
"""


@pytest.fixture
def source(tmp_path):
    """A folder of code with one kernel."""
    path = tmp_path / "code" / "some_kernels.py"
    path.parent.mkdir()
    path.write_text(SOURCE.format(factor=2))
    return path


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    """No cache but what a test chooses."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(config, "CACHE_DIR", "")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home-cache"))
    monkeypatch.setattr(kernel_cache, "_said", False)
    kernel_cache._digest.cache_clear()
    kernel_cache._imported.cache_clear()


def load(path):
    """The kernel of a file, as another process would import it."""
    spec = importlib.util.spec_from_file_location("some_kernels", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["some_kernels"] = module  # numba asks for it
    spec.loader.exec_module(module)
    return module.double


def compiled(double):
    """How many times it was compiled, and how many times read."""
    stats = double.stats
    return sum(stats.cache_misses.values()), sum(stats.cache_hits.values())


def files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc")


def test_the_next_process_reads_what_one_has_compiled(source):
    first = load(source)
    assert first(3) == 6 and compiled(first) == (1, 0)
    assert len(files(source.parent / "__pycache__")) == 1
    second = load(source)
    assert second(3) == 6 and compiled(second) == (0, 1)
    assert second(1.5) == 3 and compiled(second) == (1, 1)
    assert len(files(source.parent / "__pycache__")) == 2


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:10],
        lambda data: data[: len(data) // 2],
        lambda data: data[:-1],
        lambda data: data + b"x",
        lambda data: data[:500] + bytes([data[500] ^ 1]) + data[501:],
        lambda data: bytes(len(data)),
        lambda data: b"\x80\x04N.",
    ],
    ids=["empty", "bytes", "half", "cut", "longer", "flipped", "zeros", "numba's kind"],
)
def test_a_damaged_file_is_made_again(source, damage):
    load(source)(3)
    (path,) = files(source.parent / "__pycache__")
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    again = load(source)
    assert again(3) == 6 and compiled(again) == (1, 0)
    third = load(source)
    assert third(3) == 6 and compiled(third) == (0, 1)
    assert files(source.parent / "__pycache__") == [path]


def test_a_file_that_numba_can_not_take_is_made_again(source):
    load(source)(3)
    (path,) = files(source.parent / "__pycache__")
    kernel_cache._write_whole(path, b"not a pickle")
    again = load(source)
    assert again(3) == 6 and compiled(again) == (1, 0)


def test_a_folder_in_the_place_of_a_file(source):
    """No kernel can be kept there; the next folder takes it."""
    load(source)(3)
    (path,) = files(source.parent / "__pycache__")
    path.unlink()
    path.mkdir()
    assert load(source)(3) == 6
    again = load(source)
    assert again(3) == 6 and compiled(again) == (0, 1)


def test_kernels_of_processors_that_share_a_folder_are_told_apart(source, monkeypatch):
    here = load(source)
    here(3)
    codegen = here.targetctx.codegen()
    other = codegen.magic_tuple()[0], "another", "+sse2"
    monkeypatch.setattr(type(codegen), "magic_tuple", lambda self: other)
    there = load(source)
    assert there(3) == 6 and compiled(there) == (1, 0)
    again = load(source)
    assert again(3) == 6 and compiled(again) == (0, 1)
    monkeypatch.undo()
    monkeypatch.setattr(config, "CACHE_DIR", "")
    back = load(source)
    assert back(3) == 6 and compiled(back) == (0, 1)
    assert len(files(source.parent / "__pycache__")) == 2


@pytest.mark.parametrize("setting, value", [("BOUNDSCHECK", 1), ("USING_SVML", True)])
def test_what_changes_the_code_changes_the_file(source, monkeypatch, setting, value):
    load(source)(3)
    monkeypatch.setattr(config, setting, value)
    other = load(source)
    assert other(3) == 6 and compiled(other) == (1, 0)


def test_importing_deletes_nothing_and_a_changed_source_is_compiled(source):
    load(source)(3)
    (before,) = files(source.parent / "__pycache__")
    source.write_text(SOURCE.format(factor=2) + "# longer\n")
    kernel_cache._digest.cache_clear()
    changed = load(source)
    assert files(source.parent / "__pycache__") == [before]
    assert changed(3) == 6 and compiled(changed) == (1, 0)
    (after,) = files(source.parent / "__pycache__")
    assert after != before


def test_a_constant_of_another_file_is_part_of_a_kernel(monkeypatch):
    """`spectral_decoder.py` has constants of `pulses.py`, and its imports of `vector_ir.py`."""
    path = Path(spectral_decoder.__file__).resolve()
    names = {part.name for part in kernel_cache._sources(path)}
    assert {"spectral_decoder.py", "pulses.py", "linear.py", "vector_ir.py"} <= names
    before = kernel_cache._stamp(path)
    digest = kernel_cache._digest
    for name in names:
        monkeypatch.setattr(
            kernel_cache, "_digest", lambda p, n=name: b"new" if p.name == n else digest(p)
        )
        assert kernel_cache._stamp(path) != before
    monkeypatch.setattr(kernel_cache, "_digest", digest)
    assert kernel_cache._stamp(path) == before


def test_all_imports_of_kernels_are_found():
    """Against what Python itself says of the files' imports."""
    import ast

    rooms = (ROOT / "kernels", ROOT / "codecs" / "neural" / "compiled")
    compiled = [path for room in rooms for path in room.glob("*.py")]
    for path in [*ROOT.rglob("*kernel*.py"), *compiled]:
        if "tests" in path.parts:
            continue
        expected = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level:
                base = path.parents[node.level - 1].joinpath(*(node.module or "").split("."))
                inner = [base / f"{name.name}.py" for name in node.names]
                own = base.with_suffix(".py")
                expected |= {own} if own.exists() else {p for p in inner if p.exists()}
        assert set(kernel_cache._imported(path)) >= expected, path


# --- where they are kept ------------------------------------------------------------------------


def read_only(monkeypatch, *folders):
    """As for a user who may not write below these; tests may run as root, who may."""
    write = kernel_cache._write_whole

    def refuse(path, data):
        if any(path.is_relative_to(folder) for folder in folders):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        write(path, data)

    monkeypatch.setattr(kernel_cache, "_write_whole", refuse)


def test_the_user_s_cache_where_the_package_can_not_be_written(source, tmp_path, monkeypatch):
    read_only(monkeypatch, source.parent)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load(source)(3) == 6
        again = load(source)
        assert again(3) == 6 and compiled(again) == (0, 1)
    assert len(files(tmp_path / "home-cache")) == 1
    assert not files(tmp_path / "temporary")


def test_the_temporary_folder_where_neither_can_which_is_said_once(source, tmp_path, monkeypatch):
    read_only(monkeypatch, source.parent, tmp_path / "home-cache")
    double = load(source)
    with pytest.warns(KernelCacheWarning, match="NUMBA_CACHE_DIR") as said:
        assert double(3) == 6 and double(1.5) == 3
    assert len(said) == 1 and str(tmp_path / "temporary") in str(said[0].message)
    (folder,) = (tmp_path / "temporary").iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = load(source)
        assert again(3) == 6 and compiled(again) == (0, 1)


@pytest.mark.parametrize("kind", ["open to others", "link", "file"])
def test_a_temporary_folder_that_is_not_ours_is_not_trusted(source, tmp_path, monkeypatch, kind):
    read_only(monkeypatch, source.parent, tmp_path / "home-cache")
    folder = tmp_path / "temporary" / f"syllabary-kernels-{os.getuid()}"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    if kind == "open to others":
        folder.mkdir()
        folder.chmod(0o777)
    elif kind == "link":
        folder.symlink_to(elsewhere)
    else:
        folder.write_text("")
    double = load(source)
    with pytest.warns(KernelCacheWarning, match="kept nowhere") as said:
        assert double(3) == 6 and double(1.5) == 3
    assert len(said) == 1
    assert not files(elsewhere) and (kind == "file" or not files(folder))


def test_another_user_s_temporary_folder_is_not_trusted(tmp_path, monkeypatch):
    folder = tmp_path / "temporary" / "syllabary-kernels-4242"
    monkeypatch.setattr(os, "getuid", lambda: 4242)
    folder.mkdir(mode=0o700)
    assert kernel_cache._temporary(make=True) is None


def test_no_temporary_folder_at_all(source, tmp_path, monkeypatch):
    read_only(monkeypatch, source.parent, tmp_path / "home-cache")

    def none():
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", none)
    double = load(source)
    with pytest.warns(KernelCacheWarning, match="kept nowhere"):
        assert double(3) == 6
    # Python's last resort is where it is started: no place for a cache.
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(Path.cwd()))
    assert kernel_cache._temporary(make=True) is None and not list(tmp_path.glob("syllabary*"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert kernel_cache._temporary(make=True) is not None


def test_a_full_disk_stops_nothing(source, monkeypatch):
    def full(path, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(kernel_cache, "_write_whole", full)
    double = load(source)
    with pytest.warns(KernelCacheWarning, match="No space left"):
        assert double(3) == 6


def test_the_folder_that_numba_is_told(source, tmp_path, monkeypatch):
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path / "chosen"))
    assert load(source)(3) == 6
    assert len(files(tmp_path / "chosen")) == 1
    pycache = source.parent / "__pycache__"
    assert not pycache.exists() or not files(pycache)
    read_only(monkeypatch, tmp_path / "chosen")
    assert load(source)(3) == 6  # what is there is read all the same
    double = load(source)
    with pytest.warns(KernelCacheWarning, match="chosen"):
        assert double(1.5) == 3


def test_without_a_home(source, monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "expanduser", lambda self: self)
    places = list(kernel_cache._places(source.parent))
    assert places == [source.parent / "__pycache__"]


def test_importing_kernels_writes_nothing(tmp_path):
    script = "from syllabary.bpe import kernels; from syllabary.codecs.neural.compiled import int8"
    environment = os.environ | {
        "NUMBA_CACHE_DIR": str(tmp_path / "cache"),
        "TMPDIR": str(tmp_path / "temporary"),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    subprocess.run([sys.executable, "-c", script], env=environment, check=True)
    assert not (tmp_path / "cache").exists() and not list((tmp_path / "temporary").iterdir())


def test_without_compilation(source):
    environment = os.environ | {"NUMBA_DISABLE_JIT": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    script = "import some_kernels; assert some_kernels.double(3) == 6"
    subprocess.run([sys.executable, "-c", script], env=environment, cwd=source.parent, check=True)


def test_arrays_and_options(source):
    source.write_text(SOURCE.format(factor=2).replace("@kernel", "@kernel(fastmath=True)"))
    kernel_cache._digest.cache_clear()
    first, second = load(source), load(source)
    x = np.arange(5, dtype=np.float32)
    assert first(x).tolist() == [0, 2, 4, 6, 8]
    assert second.targetoptions["fastmath"] and second.targetoptions["nogil"]
    assert second(x).tolist() == [0, 2, 4, 6, 8] and compiled(second) == (0, 1)
