import os
import stat
import threading
from pathlib import Path

import pytest

from syllabary.audio.files import write
from syllabary.filesystem import files_below, is_free, remove_leftovers, replacing

from .conftest import synthetic_speech


def put(path, data=b"new"):
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def listed(folder):
    return sorted(path.name for path in folder.iterdir())


def test_links_are_followed(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "real.syl").write_bytes(b"old")
    (tmp_path / "relative.syl").symlink_to("there/real.syl")
    (tmp_path / "chain.syl").symlink_to(tmp_path / "relative.syl")
    (tmp_path / "dangling.syl").symlink_to("there/later.syl")
    for name, place in (("relative", "real"), ("chain", "real"), ("dangling", "later")):
        put(tmp_path / f"{name}.syl", name.encode())
        assert (tmp_path / f"{name}.syl").is_symlink()
        assert (tmp_path / "there" / f"{place}.syl").read_bytes() == name.encode()
    assert listed(tmp_path / "there") == ["later.syl", "real.syl"]
    with pytest.raises(ZeroDivisionError), replacing(tmp_path / "chain.syl") as temporary:
        temporary.write_bytes(b"half")
        raise ZeroDivisionError
    assert (tmp_path / "there" / "real.syl").read_bytes() == b"chain"
    (tmp_path / "circle").symlink_to("circle")
    with pytest.raises(OSError, match="symbolic links"):
        put(tmp_path / "circle")
    remove_leftovers([tmp_path / "chain.syl", tmp_path / "circle"])


def test_a_fifo_is_written_into(tmp_path):
    os.mkfifo(tmp_path / "x.wav")
    came = []
    reader = threading.Thread(target=lambda: came.append((tmp_path / "x.wav").read_bytes()))
    reader.start()
    # Audio is written with seeking, which no FIFO does.
    write(tmp_path / "x.wav", synthetic_speech(9000), 16_000)
    reader.join(30)
    write(tmp_path / "y.wav", synthetic_speech(9000), 16_000)
    assert came == [(tmp_path / "y.wav").read_bytes()]
    assert stat.S_ISFIFO((tmp_path / "x.wav").stat().st_mode)
    assert is_free(tmp_path / "x.wav") and not is_free(tmp_path / "y.wav")


@pytest.mark.skipif(os.geteuid() != 0, reason="making devices takes root")
def test_a_device_is_written_into(tmp_path):
    os.mknod(tmp_path / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    (tmp_path / "link").symlink_to("null")
    for name in ("null", "link"):
        put(tmp_path / name)
        assert stat.S_ISCHR((tmp_path / "null").stat().st_mode)
    assert (tmp_path / "link").is_symlink() and is_free(tmp_path / "null")
    os.mknod(tmp_path / "full", stat.S_IFCHR | 0o666, os.makedev(1, 7))
    with pytest.raises(OSError, match="No space left"):
        put(tmp_path / "full")
    assert listed(tmp_path) == ["full", "link", "null"]


def test_what_is_open_already_is_written_into(tmp_path):
    """`-o /dev/stdout`, or what a shell's `>(…)` gives."""
    if not os.path.isdir("/proc/self/fd"):  # noqa: PTH112
        pytest.skip("needs /proc")
    end, start = os.pipe()
    put(Path(f"/proc/self/fd/{start}"))
    os.close(start)
    with os.fdopen(end, "rb") as pipe:
        assert pipe.read() == b"new"
    with (tmp_path / "x").open("wb") as file:
        put(Path(f"/dev/fd/{file.fileno()}"))
    assert (tmp_path / "x").read_bytes() == b"new"


def test_permissions_stay(tmp_path):
    (tmp_path / "x").write_bytes(b"secret")
    (tmp_path / "x").chmod(0o600)
    put(tmp_path / "x")
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o600


def test_folders_that_can_not_be_read_are_not_left_out(tmp_path, monkeypatch):
    real = os.scandir

    def scandir(path):
        if os.fspath(path).endswith("closed"):
            raise OSError(5, "Input/output error", os.fspath(path))
        return real(path)

    (tmp_path / "closed").mkdir()
    (tmp_path / "a").touch()
    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(OSError, match="Input/output error"):
        list(files_below(tmp_path))
    failed = []
    assert list(files_below(tmp_path, lambda *what: failed.append(what))) == [tmp_path / "a"]
    assert [path for path, _ in failed] == [tmp_path / "closed"]
