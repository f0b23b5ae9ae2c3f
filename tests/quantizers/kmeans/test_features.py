import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from syllabary.errors import QuantizerError
from syllabary.quantizers.kmeans import KMeans, KMeansConfig, open_features
from syllabary.quantizers.kmeans.processes import Processes
from syllabary.quantizers.kmeans.survey import survey


@pytest.fixture(scope="module")
def rows():
    # Values that float16 and bfloat16 hold.
    return np.random.default_rng(0).integers(-64, 64, (57, 6)).astype(np.float32)


def write_folder(folder, rows):
    """One file of each kind, in the order of their names."""
    parts = np.split(rows, [5, 11, 12, 30, 41])
    np.save(folder / "a.npy", parts[0].astype(np.float16))
    np.save(folder / "b.npy", parts[1].astype(np.float64))
    np.save(folder / "c.npy", parts[2])
    two = {"x": torch.from_numpy(parts[3]).bfloat16(), "y": torch.from_numpy(parts[4]).half()}
    save_file(two, folder / "d.safetensors", {"note": "read by name"})
    parts[5].tofile(folder / "e.f32")
    (folder / "notes.txt").write_text("not features")


@pytest.mark.parametrize("batch_size", [1, 7, 100])
def test_all_kinds_of_files_give_the_same_rows(rows, tmp_path, batch_size):
    write_folder(tmp_path, rows)
    rows[41:].astype(np.float16).tofile(tmp_path / "half.f16")
    files = [*(tmp_path / name for name in ("a.npy", "b.npy", "c.npy", "d.safetensors"))]
    sources = {
        "array": rows,
        "float64": rows.astype(np.float64),
        "by columns": np.asfortranarray(rows),
        "tensor": torch.from_numpy(rows).half(),
        "arrays": np.array_split(rows, 4),
        "folder": tmp_path,
        "files": [*files, str(tmp_path / "half.f16")],
        "function": lambda: (part for part in np.array_split(rows, 9)),
    }
    (tmp_path / "half.f16").rename(tmp_path / "half.hidden")
    for name, source in sources.items():
        if name == "files":
            (tmp_path / "half.hidden").rename(tmp_path / "half.f16")
        features = open_features(source, dim=6)
        for start in (0, 13, 0):
            blocks = [block.clone() for block in features.blocks(batch_size, start)]
            assert all(len(block) == batch_size for block in blocks[:-1]), name
            assert all(block.dtype == torch.float32 for block in blocks), name
            assert torch.equal(torch.cat(blocks), torch.from_numpy(rows[start:])), name
        assert features.num_rows == 57


def test_read_only_arrays_are_not_copied(rows):
    rows = rows.copy()
    rows.flags.writeable = False
    (block,) = open_features(rows).blocks(100)
    assert block.data_ptr() == rows.ctypes.data


def test_where(rows, tmp_path):
    write_folder(tmp_path, rows)
    features = open_features(tmp_path, 6)
    assert features.where(11) == f"{tmp_path}/c.npy, row 0,"
    assert features.where(31) == f"{tmp_path}/d.safetensors, tensor 'y', row 1,"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_values_that_are_not_finite(rows, tmp_path, value):
    bad = rows.astype(np.float64)
    bad[20, 3] = value
    np.save(tmp_path / "first.npy", rows)
    np.save(tmp_path / "second.npy", bad)
    with pytest.raises(QuantizerError, match=r"second\.npy, row 20, has NaN, infinity"):
        KMeans(KMeansConfig(3, batch_size=8)).fit(tmp_path)
    with pytest.raises(QuantizerError, match="array 1, row 20, has NaN"):
        KMeans(KMeansConfig(3, batch_size=8)).fit(lambda: iter([rows, bad]))


def broken_files(folder, rows):
    np.save(folder / "whole.npy", rows)
    content = (folder / "whole.npy").read_bytes()
    save_file({"x": torch.from_numpy(rows)}, folder / "whole.safetensors")
    tensors = (folder / "whole.safetensors").read_bytes()
    np.save(folder / "three.npy", rows[None])
    np.save(folder / "integers.npy", rows.astype(int))
    np.save(folder / "columns.npy", np.asfortranarray(rows))
    np.save(folder / "empty.npy", rows[:0])
    np.save(folder / "objects.npy", np.array([{}]), allow_pickle=True)
    for name, data in {
        "cut.npy": content[:-1],
        "head.npy": content[:20],
        "text.npy": b"hello",
        "cut.safetensors": tensors[:-1],
        "text.safetensors": b"hello there, this is no header",
        "head.safetensors": tensors[:30],
        "shape.safetensors": tensors.replace(b"[57,6]", b"[99,6]"),
        "void.safetensors": b"\x02" + bytes(7) + b"{}",
        "odd.f32": bytes(25),
        "nothing.f16": b"",
        "unknown.csv": b"1,2",
    }.items():
        (folder / name).write_bytes(data)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cut.npy", "cut short"),
        ("head.npy", "not a .npy file"),
        ("text.npy", "not a .npy file"),
        ("three.npy", r"shape \(rows, dim\), got \(1, 57, 6\)"),
        ("integers.npy", "float16, float32 or float64, got <i8"),
        ("objects.npy", "rows, dim"),
        ("columns.npy", "stored by columns"),
        ("empty.npy", r"empty: \(0, 6\)"),
        ("cut.safetensors", "cut short"),
        ("text.safetensors", "not a safetensors file"),
        ("head.safetensors", "not a safetensors file"),
        ("shape.safetensors", "shape unlike its bytes"),
        ("void.safetensors", "holds no tensor"),
        ("odd.f32", "no whole number"),
        ("nothing.f16", "empty"),
        ("unknown.csv", "expected a file of .npy"),
        ("missing.npy", "No such file"),
    ],
)
def test_broken_files(rows, tmp_path, name, message):
    broken_files(tmp_path, rows)
    with pytest.raises(QuantizerError, match=message) as caught:
        open_features(tmp_path / name, 6)
    assert name in str(caught.value)


def test_wrong_sources(rows, tmp_path):
    for source, message in (
        (tmp_path, "has no file of"),
        ([], "there are no features"),
        (lambda: iter([]), "gave no array"),
        (iter([rows]), "read only once"),
        (rows.astype(int), "must hold floats"),
        (rows[0], "must have shape"),
        (rows[:0], "empty"),
        ([rows, rows[:, :5]], "array 1 has 5 dimensions, but array 0 has 6"),
        ([rows, "x"], "array 1 must be a tensor or an array, got str"),
        (5, "can't be read from int"),
    ):
        with pytest.raises(QuantizerError, match=message):
            open_features(source)
    with pytest.raises(QuantizerError, match="array 1 has 5 dimensions"):
        list(open_features(lambda: iter([rows, rows[:, :5]])).blocks(10))
    rows.tofile(tmp_path / "rows.f32")
    with pytest.raises(QuantizerError, match="say their dim"):
        open_features(tmp_path)


def test_a_file_that_shrinks(rows, tmp_path):
    np.save(tmp_path / "a.npy", rows)
    features = open_features(tmp_path)
    (tmp_path / "a.npy").write_bytes((tmp_path / "a.npy").read_bytes()[:-30])
    with pytest.raises(QuantizerError, match=r"a\.npy is cut short"):
        list(features.blocks(10))


def sample_of(rows, size, seed=0, batch_size=10):
    return survey(open_features(rows), size, seed, batch_size, Processes()).sample.numpy()


def test_the_sample_does_not_depend_on_batches():
    rows = np.arange(5000, dtype=np.float32)[:, None]
    for size in (1, 100, 4999, 9000):
        expected = sample_of(rows, size, batch_size=5000)
        assert len(np.unique(expected)) == min(size, 5000)
        for batch_size in (7, 1000):
            assert np.array_equal(sample_of(rows, size, batch_size=batch_size), expected)
    assert not np.array_equal(sample_of(rows, 100), sample_of(rows, 100, seed=1))


def test_the_sample_is_uniform_and_in_random_order():
    rows = np.arange(200, dtype=np.float32)[:, None]
    samples = np.stack([sample_of(rows, 20, seed)[:, 0] for seed in range(500)])
    counts = np.bincount(samples.astype(int).ravel(), minlength=200)
    chi_square = ((counts - 50) ** 2 / (50 * 0.9)).sum()
    assert abs(chi_square - 199) < 5 * np.sqrt(2 * 199)
    assert abs(samples.mean(0) - 99.5).max() < 5 * 57.7 / np.sqrt(500)


def test_the_survey_sees_all_rows(rows):
    looked = survey(open_features(np.split(rows, [20])), 5, 0, 8, Processes())
    assert looked.num_rows == 57
    assert np.array_equal(looked.largest.numpy(), abs(rows).max(0))
