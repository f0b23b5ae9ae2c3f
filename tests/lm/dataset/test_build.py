"""A build gives the codes of its sources, once each, and one digest however it is run."""

import json
import os
import re
import tarfile
import time
from dataclasses import replace
from multiprocessing import active_children

import numpy as np
import pytest

import syllabary
from syllabary.audio.files import read
from syllabary.errors import DatasetError, ManifestError, SyllabaryError
from syllabary.filesystem import content_digest
from syllabary.lm.dataset.build import build_dataset, local_engine
from syllabary.lm.dataset.encoding import PieceEncoder
from syllabary.lm.dataset.engines import InProcess, Processes, WorkerDiedError
from syllabary.lm.dataset.settings import Settings

from .conftest import contents


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_items_are_the_sources_encoded(corpus, tmp_path, settings):
    report = build_dataset([corpus], tmp_path / "set", settings)
    made = report.dataset
    assert len(made) == 10 and report.failures == 2 and report.planned == 12
    assert [item.id for item in made] == [
        *("s0/0", "s1/1", "s2/2", "s0/4", "s2/6", "s0/8", "s1/9", "s2/10"),
        *("s3/3", "s3/11"),
    ]
    codec = syllabary.load("dmel-narrow")
    for item in made:
        path = corpus / item.source
        wave, rate = read(path, 16000)
        assert item.tokens(made.spec).equal(codec.encode(wave, rate))
        assert item.source_sha256 == content_digest(path) and item.num_samples == len(wave)
        number = int(path.stem)
        assert item.text == f"this is number {number}" and item.speaker == f"s{number % 4}"
        assert item.language == "en" and item.extra == {"take": number}
        assert item.split == ("valid" if number % 4 == 3 else "train")
    assert len(made.shards) > 2
    failures = lines_of(tmp_path / "set" / "failures.jsonl")
    assert [failure["id"] for failure in failures] == ["s1/5", "s3/7"]
    assert failures[0]["reason"].endswith("s1/5.wav: no such file")
    assert "s3/7.wav: " in failures[1]["reason"] and "/proc" not in failures[1]["reason"]
    names = {path.name for path in (tmp_path / "set").iterdir()}
    assert names == {
        *("README.md", "data", "dataset.json", "drops.jsonl", "failures.jsonl", "ledger.jsonl"),
        "plots",
    }


def test_one_digest_for_any_workers_batches_and_pieces(corpus, tmp_path, settings, monkeypatch):
    first = build_dataset([corpus], tmp_path / "one", settings)
    monkeypatch.setattr("syllabary.lm.dataset.plan.PIECE_ITEMS", 3)
    batch = build_dataset([corpus], tmp_path / "batch", settings, batch_size=4)
    two = build_dataset([corpus], tmp_path / "two", settings, local_engine(2))
    assert first.dataset.digest == batch.dataset.digest == two.dataset.digest
    assert contents(tmp_path / "batch") == contents(tmp_path / "two")
    bigger = replace(settings, codes_a_shard=10**9)
    assert build_dataset([corpus], tmp_path / "big", bigger).dataset.digest == first.dataset.digest
    # What is in the data set is in the digest.
    changed = (corpus / "manifest.jsonl").read_text().replace("number 4", "number four")
    (corpus / "manifest.jsonl").write_text(changed)
    other = build_dataset([corpus], tmp_path / "other", settings)
    assert other.dataset.digest != first.dataset.digest


def test_a_finished_one_stays(corpus, tmp_path, settings):
    build_dataset([corpus], tmp_path / "set", settings)
    before = contents(tmp_path / "set")
    assert build_dataset([corpus], tmp_path / "set", settings).already
    with pytest.raises(DatasetError, match=r"finished data set with other settings: codes_a_shard"):
        build_dataset([corpus], tmp_path / "set", replace(settings, codes_a_shard=5))
    with pytest.raises(DatasetError, match="finished data set of other inputs"):
        build_dataset([corpus / "s0"], tmp_path / "set", settings)
    assert contents(tmp_path / "set") == before


class Interrupted(Exception):
    pass


def begin(corpus, folder, settings, pieces=2):
    """Build a few pieces only."""
    done = []

    def stop(count, total, seconds):
        done.append(count)
        if len(done) == pieces:
            raise Interrupted

    with pytest.raises(Interrupted):
        build_dataset([corpus], folder, settings, progress=stop)


@pytest.mark.usefixtures("small_pieces")
def test_what_an_unfinished_one_does_not_go_on_with(corpus, tmp_path, settings):
    begin(corpus, tmp_path / "set", settings)
    with pytest.raises(DatasetError, match=r"unfinished build with other settings: channels 'mix'"):
        build_dataset([corpus], tmp_path / "set", replace(settings, channels="first"))
    with pytest.raises(DatasetError, match="unfinished build of another list of inputs"):
        build_dataset([corpus / "s0"], tmp_path / "set", settings)
    report = build_dataset([corpus], tmp_path / "set", settings)
    assert report.resumed == 2 and report.pieces == 4
    build_dataset([corpus], tmp_path / "whole", settings)
    assert contents(tmp_path / "set") == contents(tmp_path / "whole")


@pytest.mark.usefixtures("small_pieces")
def test_a_source_that_changes_meanwhile(corpus, tmp_path, settings):
    """It is a failure with a name: never the codes of one file with the hash of another."""
    begin(corpus, tmp_path / "set", settings)
    path = corpus / "s0" / "8.wav"
    path.write_bytes((corpus / "s0" / "4.wav").read_bytes())
    report = build_dataset([corpus], tmp_path / "set", settings)
    assert report.failures == 3
    reasons = {line["id"]: line["reason"] for line in lines_of(tmp_path / "set/failures.jsonl")}
    assert re.search(r"8\.wav: changed since the data set was planned: \d+ bytes", reasons["s0/8"])
    assert "s0/8" not in [item.id for item in report.dataset]


@pytest.mark.usefixtures("small_pieces")
def test_one_writer_at_a_time(corpus, tmp_path, settings):
    begin(corpus, tmp_path / "set", settings)
    seen = []

    def try_too(done, total, seconds):
        with pytest.raises(DatasetError, match=f"process {os.getpid()} on .* is building this"):
            build_dataset([corpus], tmp_path / "set", settings)
        seen.append(done)

    build_dataset([corpus], tmp_path / "set", settings, progress=try_too)
    assert seen == [3, 4]


@pytest.mark.usefixtures("small_pieces")
def test_a_full_disk(corpus, tmp_path, settings, monkeypatch):
    sync, count = os.fsync, []

    def full(descriptor):
        count.append(descriptor)
        if len(count) == 5:
            raise OSError(28, "No space left on device")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DatasetError, match=r"the disk is full .* run the same command"):
        build_dataset([corpus], tmp_path / "set", settings)
    monkeypatch.setattr(os, "fsync", sync)
    report = build_dataset([corpus], tmp_path / "set", settings)
    assert 0 < report.resumed < 4
    build_dataset([corpus], tmp_path / "whole", settings)
    assert contents(tmp_path / "set") == contents(tmp_path / "whole")


def test_a_worker_that_is_killed(corpus, tmp_path, settings, small_pieces):
    """Its piece is encoded again, and nothing is lost or twice."""
    whole = build_dataset([corpus], tmp_path / "whole", settings)
    before = set(active_children())

    class Killing(Processes):
        def run(self, tasks):
            for number, found in enumerate(super().run(tasks)):
                if number == 0:
                    for child in set(active_children()) - before:
                        child.kill()
                yield found

    made = build_dataset([corpus], tmp_path / "set", settings, lambda r: Killing(r, 1))
    assert made.dataset.digest == whole.dataset.digest
    assert contents(tmp_path / "set") == contents(tmp_path / "whole")
    assert not set(active_children()) - before


def test_a_worker_that_dies_while_nobody_waits_for_it(corpus, tmp_path, settings, small_pieces):
    """As while a piece is written: the next one can't be given to it."""
    whole = build_dataset([corpus], tmp_path / "whole", settings)
    before = set(active_children())
    killed = []

    class Counting(Processes):
        def run(self, tasks):
            for found in super().run(tasks):
                if not killed:
                    children = set(active_children()) - before
                    for child in children:
                        child.kill()
                        child.join()
                    killed.extend(children)
                    time.sleep(1)  # the pool has noticed
                yield found

    made = build_dataset([corpus], tmp_path / "set", settings, lambda r: Counting(r, 1))
    assert killed and made.dataset.digest == whole.dataset.digest
    assert contents(tmp_path / "set") == contents(tmp_path / "whole")


@pytest.mark.parametrize("field", ["text", "id", "speaker", "language", "split", "more"])
def test_half_of_a_character(corpus, tmp_path, settings, field):
    lines = (corpus / "manifest.jsonl").read_text().splitlines()
    lines[1] = json.dumps(json.loads(lines[1]) | {field: "hi \ud83d"})
    (corpus / "half.jsonl").write_text("\n".join(lines))
    with pytest.raises(ManifestError, match=r"half.jsonl, line 2: half of a character, '\\ud83d'"):
        build_dataset([corpus / "half.jsonl"], tmp_path / "set", settings)


def test_a_damaged_hugging_face_folder(tmp_path, settings):
    (tmp_path / "hf").mkdir()
    for content in ("{", "[]", "{}", '{"splits": 3}'):
        (tmp_path / "hf" / "dataset_dict.json").write_text(content)
        with pytest.raises(DatasetError, match=r"dataset_dict.json: no list of splits"):
            build_dataset([tmp_path / "hf"], tmp_path / "set", settings)


def test_an_utterance_on_which_workers_die(corpus, tmp_path, settings, small_pieces):
    class Fragile(InProcess):
        def run(self, tasks):
            encoder = PieceEncoder(self.recipe)
            for number, rows in tasks:
                bad = any(row.source.id == "s0/4" for row in rows)
                yield number, self.rescue(rows) if bad else encoder.encode(rows)

        def alone(self, rows):
            if any(row.source.id == "s0/4" for row in rows):
                raise WorkerDiedError("killed by signal 11")
            return super().alone(rows)

    made = build_dataset([corpus], tmp_path / "set", settings, Fragile)
    assert made.failures == 3 and len(made.dataset) == 9
    reasons = {line["id"]: line["reason"] for line in lines_of(tmp_path / "set/failures.jsonl")}
    assert reasons["s0/4"].endswith("the worker died 2 times on it: killed by signal 11")
    assert {"s1/5", "s3/7"} < set(reasons)


def test_places_that_are_not_for_data_sets(corpus, tmp_path, settings):
    with pytest.raises(DatasetError, match="not empty, and no data set"):
        build_dataset([corpus], corpus, settings)
    with pytest.raises(DatasetError, match="a file, expected a folder"):
        build_dataset([corpus], corpus / "manifest.jsonl", settings)
    with pytest.raises(SyllabaryError, match="no such file or folder"):
        build_dataset([tmp_path / "none"], tmp_path / "set", settings)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.wav").write_bytes(b"none")
    with pytest.raises(DatasetError, match="no item is left: 1 failed, the first"):
        build_dataset([tmp_path / "broken"], tmp_path / "empty", settings)
    same = json.dumps({"path": "s0/0.wav"})
    assert not (tmp_path / "set").exists()
    (corpus / "twice.jsonl").write_text(f"{same}\n{same}\n")
    with pytest.raises(DatasetError, match="would both have the id 's0/0'"):
        build_dataset([corpus / "twice.jsonl"], tmp_path / "twice", settings)


def test_segments_and_long_audio(corpus, tmp_path, settings, monkeypatch):
    """Segments are encoded as by themselves; long audio, block by block, as at once."""
    lines = [
        {"path": "s2/10.wav", "offset": 0.1, "duration_s": 0.25},
        {"path": "s2/10.wav", "offset": 0.35},
        {"path": "s2/10.wav", "id": "whole"},
    ]
    (corpus / "cuts.jsonl").write_text("\n".join(map(json.dumps, lines)))
    made = build_dataset([corpus / "cuts.jsonl"], tmp_path / "set", settings).dataset
    assert [item.id for item in made] == ["s2/10-0.1-0.35", "s2/10-0.35-end", "whole"]
    codec = syllabary.load("dmel-narrow")
    wave, rate = read(corpus / "s2" / "10.wav")
    for item, part in zip(made, (wave[1600:5600], wave[5600:], wave), strict=True):
        assert item.tokens(made.spec).equal(codec.encode(part, rate))
    assert (made[0].source_start, made[0].source_samples) == (1600, 4000)
    assert made[2].source_start is None
    monkeypatch.setattr("syllabary.lm.dataset.encoding.LONGEST_HELD", 0.1)
    monkeypatch.setattr("syllabary.audio.files.BLOCK_SECONDS", 0.125)
    blocks = AudioBlocks(monkeypatch, 2000)
    streamed = build_dataset([corpus / "cuts.jsonl"], tmp_path / "streamed", settings).dataset
    assert blocks.most > 2 and streamed.digest == made.digest


class AudioBlocks:
    """Makes readers give small blocks."""

    def __init__(self, monkeypatch, size):
        from syllabary.audio.files import AudioReader

        self.most, blocks = 0, AudioReader.blocks

        def small(reader, ignored=None):
            for number, block in enumerate(blocks(reader, size), 1):
                self.most = max(self.most, number)
                yield block

        monkeypatch.setattr(AudioReader, "blocks", small)


def test_web_dataset(corpus, tmp_path, settings):
    """Members of tars are the same items as files."""
    for shard, numbers in enumerate(((0, 1, 2), (3, 4))):
        with tarfile.open(tmp_path / f"part-{shard:03}.tar", "w") as tar:
            for number in numbers:
                name = f"s{number % 4}/{number}.wav"
                tar.add(corpus / name, f"{number}.wav")
                text = tmp_path / f"{number}.json"
                text.write_text(json.dumps({"text": f"number {number}", "speaker": number}))
                tar.add(text, f"{number}.json")
    listed = str(tmp_path / "part-{000..001}.tar")
    made = build_dataset([listed], tmp_path / "set", settings).dataset
    assert [item.id for item in made] == [
        *("part-000/0", "part-000/1", "part-000/2", "part-001/3", "part-001/4"),
    ]
    files = build_dataset([corpus], tmp_path / "files", settings).dataset
    by_hash = {item.source_sha256: item for item in files}
    for number, item in enumerate(made):
        assert (item.codes == by_hash[item.source_sha256].codes).all()
        assert item.text == f"number {number}" and item.speaker == str(number)


def test_hugging_face(corpus, tmp_path, settings):
    """Rows of a saved data set, whose sound is inside or in files."""
    datasets = pytest.importorskip("datasets")
    paths = [corpus / f"s{number % 4}" / f"{number}.wav" for number in (0, 1, 2)]
    sounds = [{"bytes": path.read_bytes(), "path": None} for path in paths]
    sounds[2] = {"bytes": None, "path": str(paths[2])}
    columns = {
        "audio": sounds,
        "sentence": ["a", "b", "c"],
        "speaker_id": [1, 2, 2],
        "age": [3] * 3,
    }
    # As a struct first: `from_dict` would ask for torchcodec to look at sounds.
    made = datasets.Dataset.from_dict(columns).cast_column("audio", datasets.Audio(decode=False))
    made.save_to_disk(str(tmp_path / "one"))
    found = build_dataset([tmp_path / "one"], tmp_path / "set", settings).dataset
    assert [item.id for item in found] == ["00000000", "00000001", "00000002"]
    assert [item.text for item in found] == ["a", "b", "c"]
    assert [item.speaker for item in found] == ["1", "2", "2"] and found[0].extra == {"age": 3}
    assert [item.source_sha256 for item in found] == list(map(content_digest, paths))
    datasets.DatasetDict(train=made, test=made).save_to_disk(str(tmp_path / "both"))
    both = build_dataset([tmp_path / "both"], tmp_path / "split", settings).dataset
    assert [item.split for item in both] == ["test"] * 3 + ["train"] * 3
    assert (both[0].codes == found[0].codes).all()


def test_pieces_of_bpe(corpus, tmp_path):
    """Merged units, with their durations; the spec is that of the pieces."""
    from syllabary.semantic import PieceCoder, list_bpes, load_bpe

    name = next(name for name in list_bpes() if load_bpe(name).codebook_sizes)
    bpe = load_bpe(name)
    codec = next(
        tokenizer
        for tokenizer in ("units-16k", "ts3-16k", "rvq-16k")
        if syllabary.load(tokenizer).spec.tokens.digest == bpe.source
    )
    settings = Settings(codec=codec, bpe=name)
    made = build_dataset([corpus / "s0"], tmp_path / "set", settings).dataset
    tokenizer = syllabary.load(codec)
    coder = PieceCoder(bpe, tokenizer.spec.tokens)
    assert made.spec == coder.spec and made.num_codebooks == 1
    for item in made:
        wave, rate = read(corpus / "s0" / item.source)
        tokens = tokenizer.encode(wave, rate, num_codebooks=coder.num_codebooks)
        assert item.tokens(made.spec).equal(coder.encode(tokens))
        assert item.durations is not None and item.durations.dtype == np.uint32
    assert made.frame_counts.tolist() == [item.frames for item in made]
