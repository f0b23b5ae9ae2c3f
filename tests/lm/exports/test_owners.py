"""Each export opened by the library whose format it is, where that is installed, and compared with
the items; and the bytes by the published layouts, without it."""

import hashlib
import importlib.util
import itertools
import json
import struct
import subprocess
import sys

import numpy as np
import pytest

from syllabary import lm
from syllabary.lm import export
from syllabary.lm.exports.mds import ShardWriter, encoded_array
from syllabary.lm.exports.megatron import write_pair

from .conftest import same_codes


def test_webdataset(several, tmp_path):
    wds = pytest.importorskip("webdataset")
    made = export(several.folder, "webdataset", tmp_path / "out", shard_bytes=20_000)
    assert made.items == 60 and not made.left_out
    for split in ("train", "valid"):
        files = sorted(map(str, (tmp_path / "out").glob(f"{split}-*.tar")))
        assert len(files) > 1
        found = list(wds.WebDataset(files, shardshuffle=False).decode())
        for sample, item in zip(found, several.of(split, frames=False), strict=True):
            fields = sample["json"]
            assert same_codes(sample["codes.npy"], item) and fields["id"] == item.id
            assert sample.get("txt") == item.text == fields.get("text")
            assert fields["tokenizer_digest"] == several.spec.digest
            assert fields["source_sha256"] == item.source_sha256


def test_datasets(several, tmp_path):
    datasets = pytest.importorskip("datasets")
    export(several.folder, "arrow", tmp_path / "out")
    found = datasets.load_from_disk(str(tmp_path / "out"))
    assert set(found) == {"train", "valid"}
    for split in found:
        items = several.of(split, frames=False)
        assert len(found[split]) == len(items)
        for row, item in zip(found[split], items, strict=True):
            assert row["id"] == item.id and row["codes"] == item.codes.tolist()
            assert (row["text"], row["speaker"]) == (item.text, item.speaker)
        assert several.spec.digest in found[split].info.description
    kept = found["train"].filter(lambda row: row["speaker"] == "speaker-1")
    assert len(kept) == sum(item.speaker == "speaker-1" for item in several.of("train", False))
    with pytest.raises(Exception, match=r"."):
        datasets.load_from_disk(str(several.folder))


def test_arrow_metadata(several, tmp_path):
    """Arrow itself: the schema, with the tokenizer's digest, is that of the Parquet shards."""
    import pyarrow as pa

    export(several.folder, "arrow", tmp_path / "out", split="valid")
    (path,) = (tmp_path / "out" / "valid").glob("*.arrow")
    with pa.memory_map(str(path)) as file:
        table = pa.ipc.open_stream(file).read_all()
    assert table.schema.equals(several.data.schema, check_metadata=True)
    assert json.loads(table.schema.metadata[b"syllabary"])["tokenizer_digest"] == "ab" * 32
    assert table["codes"].to_pylist() == [i.codes.tolist() for i in several.of("valid", False)]


def test_lhotse(several, units, tmp_path):
    lhotse = pytest.importorskip("lhotse")
    export(several.folder, "lhotse", tmp_path / "several", shard_bytes=20_000)
    for split in ("train", "valid"):
        cuts = list(lhotse.CutSet.from_shar(in_dir=str(tmp_path / "several" / split)))
        assert len(list((tmp_path / "several" / split).glob("codes.*.tar"))) > 1
        for cut, item in zip(cuts, several.of(split), strict=True):
            assert cut.id == item.id and same_codes(cut.load_codes().T, item)
            assert cut.supervisions[0].text == item.text
            assert cut.custom["tokenizer_digest"] == several.spec.digest
            if item.frames > 10:
                part = cut.truncate(offset=0.04, duration=0.1)
                assert np.array_equal(part.load_codes().T, item.codes[:, 2:7])
            if item.alignment:
                words = cut.supervisions[0].alignment["word"]
                assert [(w.symbol, w.start, w.end) for w in words] == [
                    (w.word, w.start, w.end) for w in item.alignment
                ]
    export(units.folder, "lhotse", tmp_path / "units")
    for cut, item in zip(
        lhotse.CutSet.from_shar(in_dir=str(tmp_path / "units" / "train")),
        units.of("train"),
        strict=True,
    ):
        assert same_codes(cut.load_codes().T, item)
        assert np.array_equal(cut.load_durations(), item.durations)


def read_mds(folder):
    """The samples of an MDS folder, by its published layout."""
    index = json.loads((folder / "index.json").read_text())
    assert index["version"] == 2
    for shard in index["shards"]:
        data = (folder / shard["raw_data"]["basename"]).read_bytes()
        assert len(data) == shard["raw_data"]["bytes"]
        (count,) = struct.unpack_from("<I", data)
        assert count == shard["samples"]
        offsets = np.frombuffer(data, "<u4", count + 1, 4)
        config = json.loads(data[4 + 4 * (count + 1) : offsets[0]])
        for begin, end in itertools.pairwise(offsets):
            at = begin + 4 * config["column_sizes"].count(None)
            varying = iter(
                struct.unpack_from(f"<{config['column_sizes'].count(None)}I", data, begin)
            )
            sample = {}
            for name, size in zip(config["column_names"], config["column_sizes"], strict=True):
                size = next(varying) if size is None else size
                sample[name], at = data[at : at + size], at + size
            assert at == end
            yield sample


def array_of(data, dtype):
    axes, width = data[0] >> 2, 1 << (data[0] & 3)
    shape = np.frombuffer(data, f"<u{width}", axes, 1)
    return np.frombuffer(data, dtype, offset=1 + axes * width).reshape(shape)


def test_mds_by_its_layout(several, units, tmp_path):
    made = export(several.folder, "mds", tmp_path / "out", shard_bytes=20_000)
    assert set(made.left_out) == {item.id for item in several.items if not item.frames}
    assert len(list((tmp_path / "out" / "train").glob("*.mds"))) > 1
    for split in ("train", "valid"):
        found = list(read_mds(tmp_path / "out" / split))
        for sample, item in zip(found, several.of(split), strict=True):
            assert same_codes(array_of(sample["codes"], np.uint16), item)
            assert sample["id"].decode() == item.id and sample["text"].decode() == (item.text or "")
            assert int.from_bytes(sample["num_samples"], "little") == item.num_samples
            fields = json.loads(sample["fields"])
            assert fields["tokenizer_digest"] == several.spec.digest
            assert fields.get("speaker") == item.speaker
    export(units.folder, "mds", tmp_path / "units")
    for sample, item in zip(read_mds(tmp_path / "units" / "train"), units.of("train"), strict=True):
        assert np.array_equal(array_of(sample["durations"], np.uint32), item.durations)


def test_mds_bytes(tmp_path):
    """Two samples; the hashes are those of what mosaicml-streaming 0.13's `MDSWriter` wrote."""
    columns = {"codes": ("ndarray:uint16", None), "id": ("str", None), "n": ("int", 8)}
    writer = ShardWriter(tmp_path, columns, 1 << 26)
    for name, codes in (("a", np.arange(6).reshape(2, 3)), ("é", np.full((1, 300), 65_535))):
        writer.add({
            "codes": encoded_array(codes.astype(np.uint16)), "id": name.encode(),
            "n": np.array(codes.size, "<i8").tobytes(),
        })  # fmt: skip
    writer.finish()
    found = [
        hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()[:16]
        for name in ("shard.00000.mds", "index.json")
    ]
    assert found == MDS_HASHES


MDS_HASHES = ["fa6695055ff20204", "b2aacf6c1be9e6f8"]


MOSAIC = """
import os, sys
import numpy as np
from streaming import StreamingDataset
found = StreamingDataset(local=sys.argv[1], shuffle=False, batch_size=1)
samples = [found[number] for number in range(len(found))]
np.savez(sys.argv[2], *[sample["codes"] for sample in samples], ids=[s["id"] for s in samples])
os._exit(0)  # its threads keep a process from ending
"""


def test_mosaic(several, tmp_path):
    if importlib.util.find_spec("streaming") is None:
        pytest.skip("mosaicml-streaming is not installed")
    export(several.folder, "mds", tmp_path / "out")
    out = tmp_path / "read.npz"
    arguments = [sys.executable, "-c", MOSAIC, str(tmp_path / "out" / "train"), str(out)]
    subprocess.run(arguments, check=True)
    items = several.of("train")
    with np.load(out) as found:
        assert found["ids"].tolist() == [item.id for item in items]
        for number, item in enumerate(items):
            assert same_codes(found[f"arr_{number}"], item)


def read_megatron(prefix):
    """Ids of each document, by the layout of ANCHORS and of Megatron's own reader."""
    index = prefix.with_suffix(".idx").read_bytes()
    assert index[:9] == b"MMIDIDX\0\0" and index[9:17] == (1).to_bytes(8, "little")
    dtype = {4: "<i4", 8: "<u2"}[index[17]]
    sequences, documents = struct.unpack_from("<QQ", index, 18)
    lengths = np.frombuffer(index, "<i4", sequences, 34)
    begins = np.frombuffer(index, "<i8", sequences, 34 + 4 * sequences)
    starts = np.frombuffer(index, "<i8", documents, 34 + 12 * sequences)
    assert len(index) == 34 + 12 * sequences + 8 * documents
    assert starts.tolist() == list(range(sequences + 1))
    data = prefix.with_suffix(".bin").read_bytes()
    return [
        np.frombuffer(data, dtype, n, at).tolist() for n, at in zip(lengths, begins, strict=True)
    ]


def documents_of(several, vocabulary, split):
    begin, end = vocabulary.marker("<|speech_start|>"), vocabulary.marker("<|speech_end|>")
    for item in several.of(split):
        (ids,) = vocabulary.encode(item.tokens(several.spec))
        yield [begin, *ids.tolist(), end]


MARKERS = {"begin": "<|speech_start|>", "end": "<|speech_end|>"}


def test_the_anchors_index(tmp_path):
    documents = iter([("a", np.array([5, 6])), ("b", np.array([7]))])
    write_pair(tmp_path / "x", documents, np.dtype(np.uint16))
    index = (tmp_path / "x.idx").read_bytes()
    assert len(index) == 82
    assert hashlib.sha256(index).hexdigest().startswith("17aed1403d3ac4ba")
    assert (tmp_path / "x.bin").read_bytes() == b"\5\0\6\0\7\0"


@pytest.mark.parametrize("dtype", [None, "int32"])
def test_megatron_by_its_layout(several, vocabulary, tmp_path, dtype):
    export(
        several.folder, "megatron", tmp_path / "out", vocabulary=vocabulary, dtype=dtype, **MARKERS
    )
    for split in ("train", "valid"):
        found = read_megatron(tmp_path / "out" / split)
        assert found == list(documents_of(several, vocabulary, split))
    size = (tmp_path / "out" / "valid.bin").stat().st_size
    assert size == sum(map(len, found)) * (4 if dtype else 2)


def test_megatron_by_its_builder_and_reader(several, vocabulary, tmp_path):
    """Byte for byte what the builder of megatron-core writes, and what its data set reads."""
    indexed = pytest.importorskip("megatron.core.datasets.indexed_dataset")
    import torch

    export(several.folder, "megatron", tmp_path / "out", vocabulary=vocabulary, **MARKERS)
    builder = indexed.IndexedDatasetBuilder(str(tmp_path / "theirs.bin"), dtype=np.uint16)
    documents = list(documents_of(several, vocabulary, "train"))
    for ids in documents:
        builder.add_document(torch.tensor(ids), [len(ids)])
    builder.finalize(str(tmp_path / "theirs.idx"))
    for ending in ("bin", "idx"):
        ours = (tmp_path / "out" / f"train.{ending}").read_bytes()
        assert ours == (tmp_path / f"theirs.{ending}").read_bytes()
    found = indexed.IndexedDataset(str(tmp_path / "out" / "train"))
    assert [row.tolist() for row in found] == documents


def test_memmap(several, vocabulary, tmp_path):
    """As Llasa opens it; every document stands in a row, whole."""
    export(
        several.folder, "memmap", tmp_path / "out", vocabulary=vocabulary, context=256, **MARKERS
    )
    for split in ("train", "valid"):
        shape = tuple(np.load(tmp_path / "out" / f"{split}_input_ids_shape.npy"))
        path = tmp_path / "out" / f"{split}_input_ids.memmap"
        rows = np.memmap(path, dtype="int32", mode="r", shape=shape)
        assert shape[1] == 256 and path.stat().st_size == rows.size * 4
        begin, end = (vocabulary.marker(name) for name in MARKERS.values())
        found = []
        for row in rows.tolist():
            while begin in row:
                stop = row.index(end) + 1
                found.append(tuple(row[:stop]))
                row = row[stop:]
            assert set(row) <= {vocabulary.marker("<|speech_pad|>")}
        assert sorted(found) == sorted(map(tuple, documents_of(several, vocabulary, split)))


def test_text_and_speech(units, tmp_path):
    vocabulary = lm.Vocabulary(units.spec, first=1000)
    items = [item for item in units.items if item.frames and item.text_ids]
    from syllabary.lm.dataset import write_dataset

    write_dataset(tmp_path / "set", items, units.spec)
    scheme = lm.TextThenSpeech(vocabulary.speech, speech_begin=999)
    export(tmp_path / "set", "megatron", tmp_path / "out", vocabulary=vocabulary, scheme=scheme,
           dtype="int32")  # fmt: skip
    base = vocabulary.base[0]
    assert read_megatron(tmp_path / "out" / "train") == [
        [*item.text_ids, 999, *(base + item.codes[0].astype(int)).tolist()]
        for item in items
        if item.split == "train"
    ]


def test_slamkit(units, tmp_path):
    export(units.folder, "slamkit", tmp_path / "out")
    lines = (tmp_path / "out" / "train.jsonl").read_text(encoding="utf-8").splitlines()
    for line, item in zip(lines, units.of("train", False), strict=True):
        fields = json.loads(line)
        assert set(fields) == {"units", "duration", "file_name"}
        assert fields["units"] == item.codes[0].tolist() and fields["file_name"] == item.source
        assert fields["duration"] == item.durations.tolist()


def test_moshi(units, tmp_path):
    export(units.folder, "moshi", tmp_path / "out", split="train")
    lines = (tmp_path / "out" / "train.jsonl").read_text(encoding="utf-8").splitlines()
    for line, item in zip(lines, units.of("train", False), strict=True):
        fields = json.loads(line)
        assert fields == {"path": item.source, "duration": item.num_samples / 16_000}
        beside = (tmp_path / "out" / fields["path"]).with_suffix(".json")
        assert json.loads(beside.read_text()) == {
            "alignments": [
                ["one", [0.0, 0.5], "SPEAKER_MAIN"], ["two", [0.5, 0.75], "SPEAKER_MAIN"],
            ]
        }  # fmt: skip
