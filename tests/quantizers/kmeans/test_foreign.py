import gzip
import os
import pickle
import zlib

import faiss
import joblib
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from sklearn.cluster import KMeans as SklearnKMeans
from sklearn.cluster import MiniBatchKMeans

from syllabary.errors import QuantizerError
from syllabary.quantizers.kmeans import KMeans, KMeansConfig, load_centroids
from syllabary.quantizers.kmeans.inert_pickle import Inert, read_pickle

ROWS = np.random.default_rng(0).standard_normal((200, 12)).astype(np.float32)
ESTIMATORS = {
    "KMeans": SklearnKMeans(7, n_init=1, max_iter=2).fit(ROWS),
    "MiniBatchKMeans": MiniBatchKMeans(
        7, n_init=1, max_iter=2, random_state=np.random.RandomState(3)
    ).fit(ROWS.astype(np.float64)),
}


@pytest.mark.parametrize("compress", [0, 3, ("gzip", 3), ("bz2", 3), ("xz", 3), ("lzma", 3)])
@pytest.mark.parametrize("name", ESTIMATORS)
def test_estimators_of_joblib(tmp_path, name, compress):
    joblib.dump(ESTIMATORS[name], tmp_path / "km.bin", compress=compress)
    expected = ESTIMATORS[name].cluster_centers_.astype(np.float32)
    assert np.array_equal(load_centroids(tmp_path / "km.bin").numpy(), expected)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("name", ESTIMATORS)
def test_estimators_of_pickle(tmp_path, name, protocol):
    (tmp_path / "km.pkl").write_bytes(pickle.dumps(ESTIMATORS[name], protocol))
    expected = ESTIMATORS[name].cluster_centers_.astype(np.float32)
    assert np.array_equal(load_centroids(tmp_path / "km.pkl").numpy(), expected)


def test_arrays_in_containers(tmp_path):
    by_columns = np.asfortranarray(ROWS[:5].astype(">f8"))
    joblib.dump([{"name": "x", "centers": by_columns, "other": ROWS}], tmp_path / "list")
    assert np.array_equal(load_centroids(tmp_path / "list").numpy(), ROWS[:5])
    joblib.dump(ROWS[:4], tmp_path / "array")
    assert np.array_equal(load_centroids(tmp_path / "array").numpy(), ROWS[:4])
    (tmp_path / "pickled").write_bytes(pickle.dumps(by_columns, 2))
    assert np.array_equal(load_centroids(tmp_path / "pickled").numpy(), ROWS[:5])


def test_other_formats(tmp_path):
    expected = ROWS[:5]
    tensor = torch.from_numpy(expected)
    np.save(tmp_path / "a.npy", expected.astype(np.float64))
    np.savez(tmp_path / "b.npz", centroids=expected, counts=ROWS[0])
    np.savez_compressed(tmp_path / "c.npz", expected)
    torch.save(tensor, tmp_path / "d.pt")
    torch.save({"state": {"codebook": tensor, "x": tensor[:2]}}, tmp_path / "e.pt")
    save_file({"centers": tensor.half().float()}, tmp_path / "f.safetensors")
    KMeans(KMeansConfig(5), tensor).save(tmp_path / "g.safetensors")
    for index, name in ((faiss.IndexFlatL2(12), "h"), (faiss.IndexFlatIP(12), "i")):
        index.add(expected)
        faiss.write_index(index, str(tmp_path / name))
    for path in sorted(tmp_path.iterdir()):
        atol = 1e-2 if path.name == "f.safetensors" else 0
        np.testing.assert_allclose(load_centroids(path).numpy(), expected, atol=atol, rtol=0)
    other = faiss.IndexPQ(12, 3, 4)
    other.train(ROWS)
    faiss.write_index(other, str(tmp_path / "pq"))
    with pytest.raises(QuantizerError, match="not a flat one"):
        load_centroids(tmp_path / "pq")


class Malicious:
    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_nothing_that_a_pickle_names_is_run(tmp_path, protocol):
    target = tmp_path / "pwned"
    calls = [
        Malicious(os.system, f"touch {target}"),
        Malicious(eval, f"open({str(target)!r}, 'w')"),
        Malicious(getattr, pickle.Pickler, "dump"),
        # A module that is let through is not imported and its functions are not called either.
        Malicious(np.save, str(target), np.zeros(3)),
        Malicious(joblib.dump, 1, str(target)),
    ]
    for call in calls:
        content = pickle.dumps({"cluster_centers_": ROWS, "extra": call}, protocol)
        (tmp_path / "km.pkl").write_bytes(content)
        try:
            load_centroids(tmp_path / "km.pkl")
        except QuantizerError as error:
            assert "refers to" in str(error)
    torch.save({"centroids": torch.ones(2, 2), "extra": calls[0]}, tmp_path / "km.pt")
    with pytest.raises(QuantizerError, match="more in it than tensors"):
        load_centroids(tmp_path / "km.pt")
    objects = np.array([calls[0]], object)
    np.savez(tmp_path / "km.npz", centroids=objects)
    with pytest.raises(QuantizerError):
        load_centroids(tmp_path / "km.npz")
    joblib.dump(objects, tmp_path / "km.joblib")
    with pytest.raises(QuantizerError, match="array of objects"):
        load_centroids(tmp_path / "km.joblib")
    assert not target.exists()
    assert not list(tmp_path.glob("pwned*"))


def test_attributes_of_the_reader_can_not_be_set(tmp_path):
    # BUILD on what GLOBAL gave: would set Inert's own attributes if it were the class itself.
    content = b"cnumpy\nndarray\n}S'find_class'\nS'x'\nsb."
    (tmp_path / "km.pkl").write_bytes(content)
    found = read_pickle(tmp_path / "km.pkl")
    assert isinstance(found, Inert) and found.state == {"find_class": "x"}
    assert not hasattr(Inert, "find_class")
    for name in (b"os\nsystem", b"builtins\neval", b"posix\nsystem", b"numpyx\nload"):
        (tmp_path / "km.pkl").write_bytes(b"c" + name + b"\n(S'true'\ntR.")
        with pytest.raises(QuantizerError, match="refers to"):
            load_centroids(tmp_path / "km.pkl")


def test_damaged_files(tmp_path):
    joblib.dump(ESTIMATORS["KMeans"], tmp_path / "km")
    content = (tmp_path / "km").read_bytes()
    index = faiss.IndexFlatL2(12)
    index.add(ROWS)
    faiss.write_index(index, str(tmp_path / "index"))
    vectors = (tmp_path / "index").read_bytes()
    np.savez(tmp_path / "km.npz", ROWS)
    archive = (tmp_path / "km.npz").read_bytes()
    rng = np.random.default_rng(0)
    variants = [b"", b"\x80", b"hello", zlib.compress(content)[:-9], gzip.compress(content)[:50]]
    for whole in (content, vectors, archive):
        variants += [whole[:cut] for cut in rng.integers(len(whole), size=30)]
        for _ in range(60):
            wrong = bytearray(whole)
            wrong[rng.integers(min(600, len(whole)))] = rng.integers(256)
            variants.append(bytes(wrong))
    refused = 0
    for variant in variants:
        (tmp_path / "wrong").write_bytes(variant)
        try:
            load_centroids(tmp_path / "wrong")
        except QuantizerError:
            refused += 1
    assert refused > 100


def test_what_holds_no_centroids(tmp_path):
    for name, content, message in (
        ("a", {"x": ROWS[0]}, "has no matrix of floats"),
        ("b", {"x": ROWS, "y": ROWS[:3]}, "several matrices: x, y"),
        ("c", {"centroids": np.full((2, 2), np.nan)}, "NaN or infinite"),
        ("d", {"centroids": ROWS[:0]}, "no centroids"),
    ):
        joblib.dump(content, tmp_path / name)
        with pytest.raises(QuantizerError, match=message):
            load_centroids(tmp_path / name)
    with pytest.raises(QuantizerError, match="No such file"):
        load_centroids(tmp_path / "missing")
