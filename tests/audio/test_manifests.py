import json
import os
import socket
from pathlib import PurePosixPath

import numpy as np
import pytest

from syllabary.audio.files import read, write
from syllabary.audio.manifests import Utterance, collect, read_manifest, write_manifest
from syllabary.errors import AudioFileError, ManifestError

from ..conftest import synthetic_speech


@pytest.fixture
def tree(tmp_path):
    for name in ("a.wav", "b/c.flac", "b/d/e.OPUS", "b/notes.txt", ".hidden.wav", "z.mp3"):
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "tree"


def names(items):
    return [str(item.name) for item in items]


def test_a_manifest_comes_back(tmp_path, tree):
    items = [
        Utterance(
            tree / "a.wav",
            PurePosixPath("tree/a.wav"),
            1.5,
            "eve",
            "hé\u2028llo\x85",
            "test",
            {"x": 1},
        ),
        Utterance(tree / "z.mp3", PurePosixPath("tree/z.mp3")),
    ]
    write_manifest(tmp_path / "m.jsonl", items)
    assert read_manifest(tmp_path / "m.jsonl") == items
    assert json.loads((tmp_path / "m.jsonl").read_text().split("\n")[0])["path"] == "tree/a.wav"
    write_manifest(tree / "b" / "m.jsonl", items[:1])
    assert read_manifest(tree / "b" / "m.jsonl")[0].path.samefile(tree / "a.wav")


def test_folders_globs_and_files(tree):
    assert names(collect([tree])) == ["a.wav", "z.mp3", "b/c.flac", "b/d/e.OPUS"]
    assert names(collect([f"{tree}/b/**/*.flac", tree / "a.wav"])) == ["c.flac", "a.wav"]
    assert names(collect([f"{tree}/*/d/*"])) == ["b/d/e.OPUS"]
    assert names(collect([f"{tree}/b/*.txt"])) == ["notes.txt"]  # no list: nobody named it as one
    with pytest.raises(ManifestError, match="it is empty, expected a path in each line"):
        collect([tree / "b" / "notes.txt"])
    (tree / "b" / "notes.txt").write_text("c.flac\nd/e.OPUS\n")
    assert names(collect([tree / "b" / "notes.txt"])) == ["c.flac", "d/e.OPUS"]


def test_a_folder_with_a_manifest_is_read_through_it(tree):
    lines = [{"path": "a.wav", "split": "test"}, {"path": "b/c.flac", "split": "train"}]
    (tree / "manifest.jsonl").write_text("\n\n".join(map(json.dumps, lines)))
    assert names(collect([tree])) == ["a.wav", "b/c.flac"]
    assert names(collect([tree], split="test")) == ["a.wav"]
    with pytest.raises(ManifestError, match="'valid'; it has test, train"):
        collect([tree], split="valid")
    with pytest.raises(ManifestError, match="no splits"):
        collect([tree / "b"], split="test")


def test_outputs_can_not_lead_out_of_their_folder(tmp_path):
    manifest = tmp_path / "x" / "m.jsonl"
    manifest.parent.mkdir()
    manifest.write_text('{"path": "../../etc/a.wav"}\n{"path": "/abs/b.wav"}\n')
    assert all(".." not in item.name.parts for item in read_manifest(manifest))
    assert all(not item.name.is_absolute() for item in read_manifest(manifest))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2: not JSON"),
        ('{"path": "."}', 'line 2: expected an object with a "path"'),
        ("[]", 'line 2: expected an object with a "path"'),
        ('{"text": "x"}', "line 2: expected"),
        ('{"path": "x", "duration_s": "long"}', "line 2: duration_s is 'long'"),
        ('{"path": "x", "speaker": 5.5}', "line 2: speaker is 5.5"),
        ('{"path": "x", "speaker": true}', "line 2: speaker is True"),
        ('{"path": "x", "offset": -1}', "line 2: offset is -1"),
        ('{"path": "x", "offset": "1"}', "line 2: offset is '1'"),
        ('{"path": "x", "duration_s": NaN}', "line 2: duration_s is nan"),
        ('{"path": "x", "duration_s": 1e999}', "line 2: duration_s is inf"),
        ('{"path": "x\\u0000"}', "line 2: path is"),
        ('{"path": "\\ud800"}', "line 2: path is"),
        ('{"path": "x", "z": ' + 5000 * "[", "line 2: .*deep"),
        ('{"path": "x", "z": ' + 5000 * '{"a":', "line 2: .*deep"),
        ('{"path": 7}', "line 2: path is 7"),
    ],
)
def test_bad_lines_are_named(tmp_path, line, message):
    (tmp_path / "m.jsonl").write_text('{"path": "fine.wav"}\n' + line)
    with pytest.raises(ManifestError, match=message.replace("(", r"\(")):
        read_manifest(tmp_path / "m.jsonl")


def test_inputs_that_name_nothing(tmp_path):
    with pytest.raises(ManifestError, match="no such file"):
        collect([tmp_path / "none"])
    with pytest.raises(ManifestError, match="matches no file"):
        collect([f"{tmp_path}/*.wav"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ManifestError, match="no file in it"):
        collect([tmp_path / "empty"])
    with pytest.raises(ManifestError):
        read_manifest(tmp_path / "none.jsonl")


@pytest.fixture
def lines(tmp_path):
    """Writes a manifest beside x.wav, which has 16,000 samples at 8 kHz, and reads it."""
    write(tmp_path / "x.wav", synthetic_speech(16_000), 8000)

    def call(*fields):
        texts = [json.dumps({"path": "x.wav"} | each) for each in fields]
        (tmp_path / "m.jsonl").write_text("\n".join(texts))
        return read_manifest(tmp_path / "m.jsonl")

    return call


@pytest.mark.parametrize(
    ("fields", "first", "last"),
    [
        ({"offset": 1}, 8000, 16_000),
        ({"offset": 0.5, "duration_s": 0.25}, 4000, 6000),
        ({"offset_s": 0.5, "duration_s": 0.25}, 4000, 6000),
        ({"duration_s": 0.5}, 0, 4000),
        ({"offset": 0, "duration_s": 0.5}, 0, 4000),
        ({"duration_s": 2.0}, 0, 16_000),
        ({"duration_s": 1.995}, 0, 16_000),  # rounded, as durations in manifests are
        ({"offset": 0, "duration_s": 1.995}, 0, 16_000),
        ({"duration_s": 2.004}, 0, 16_000),
        ({"offset": 1.5, "duration_s": 0.504}, 12_000, 16_000),
        ({"offset": 1.5, "duration_s": 0.495}, 12_000, 15_960),
    ],
)
def test_segments_are_honoured(lines, tmp_path, fields, first, last):
    whole = read(tmp_path / "x.wav")[0]
    (item,) = lines(fields)
    wave, rate = item.read()
    assert rate == 8000 and np.array_equal(wave, whole[first:last])
    with item.open() as reader:
        assert reader.num_samples == last - first
        assert np.array_equal(np.concatenate(list(reader.blocks(700))), wave)
    assert len(item.read(16_000)[0]) == 2 * (last - first)
    assert (item.segment() is None) == (last - first == 16_000)


@pytest.mark.parametrize("fields", [{"offset": 2}, {"offset": 9}, {"offset": 1, "duration_s": 1.5}])
def test_segments_behind_the_end_are_refused(lines, fields):
    (item,) = lines(fields)
    with pytest.raises(AudioFileError, match=r"x\.wav: a segment"):
        item.read()


def test_segments_of_one_file_have_names_of_their_own(lines, tmp_path):
    items = lines(
        {"offset": 0, "duration_s": 0.5}, {"offset": 0.5, "duration_s": 1}, {"offset": 1.5}
    )
    assert names(items) == ["x-0.0-0.5.wav", "x-0.5-1.5.wav", "x-1.5-end.wav"]
    assert sum(len(item.read()[0]) for item in items) == 16_000
    write_manifest(tmp_path / "again.jsonl", items)
    again = read_manifest(tmp_path / "again.jsonl")
    assert names(again) == names(items)
    assert [item.segment() for item in again] == [(0, 4000), (4000, 8000), (12_000, 4000)]
    assert names(lines({"offset": 1}, {})) == ["x-1.0-end.wav", "x.wav"]
    assert names(lines({"offset": 1})) == ["x.wav"]


def test_whole_numbers_are_names_too(lines):
    (item,) = lines({"speaker": 1089, "split": 3, "text": 7})
    assert (item.speaker, item.split, item.text) == ("1089", "3", "7")
    (item,) = lines({"speaker": 1089.0})
    assert item.speaker == "1089"


def test_empty_manifests_and_names(tmp_path):
    for content in ("", "\n \n", "\ufeff"):
        (tmp_path / "manifest.jsonl").write_text(content)
        for given in (tmp_path, tmp_path / "manifest.jsonl"):
            with pytest.raises(ManifestError, match=r"manifest\.jsonl: it is empty"):
                collect([given])
    with pytest.raises(ManifestError, match="an input is an empty text"):
        collect([""])


@pytest.fixture
def closed(monkeypatch, tmp_path):
    """A folder `private` that nobody may list, not even root."""
    real = os.scandir

    def scandir(path="."):
        if os.path.basename(os.fspath(path)) == "private":  # noqa: PTH119
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return real(path)

    for name in ("in/a.wav", "in/b/private/c.wav", "in/b/d.wav"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        write(tmp_path / name, synthetic_speech(800), 16_000)
    monkeypatch.setattr(os, "scandir", scandir)
    return tmp_path / "in"


def test_folders_that_can_not_be_read_are_named(closed):
    for given in (closed, f"{closed}/**/*.wav", f"{closed}/*/*/*.wav"):
        *others, last = collect([given])
        assert all(item.unreadable is None for item in others)
        assert last.path == closed / "b" / "private"
        with pytest.raises(AudioFileError, match="private: this folder can't be read: Permission"):
            last.read()
    assert names(collect([closed]))[:-1] == ["a.wav", "b/d.wav"]
    with pytest.raises(ManifestError, match="private: can't be read: Permission denied"):
        collect([closed / "b" / "private"])


def test_what_is_no_file_is_named_and_not_waited_for(tree, tmp_path):
    os.mkfifo(tree / "b" / "pipe.wav")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / "s.wav"))
    (tree / "m.jsonl").write_text('{"path": "b/pipe.wav"}\n{"path": "b"}\n{"path": "../s.wav"}')
    found = [*collect([tree / "b"]), *collect([f"{tree}/b/*.wav"]), *collect([tree / "m.jsonl"])]
    refused = []
    for item in found:
        if "pipe" in item.name.name or item.name.name in ("b", "s.wav"):
            with pytest.raises(AudioFileError) as error:
                item.read()
            refused.append(str(error.value).partition(": ")[2])
    assert refused == ["a FIFO, expected a file"] * 3 + [
        "a folder, expected a file",
        "a socket, expected a file",
    ]


def test_globs_are_those_of_the_standard_library(tree):
    import glob

    for pattern in (
        "*",
        "*/*",
        "**",
        "**/*",
        "**/*.flac",
        "[ab]*",
        "b/**/*",
        "*.wav",
        ".*",
        "b/?.flac",
    ):
        expected = sorted(
            path
            for path in set(glob.glob(f"{tree}/{pattern}", recursive=True))  # noqa: PTH207
            if os.path.isfile(path)  # noqa: PTH113
        )
        try:
            found = [str(item.path) for item in collect([f"{tree}/{pattern}"])]
        except ManifestError:
            found = []
        assert found == expected, pattern


@pytest.mark.parametrize(
    ("fields", "language"),
    [
        ({}, None),
        ({"lang": "ar"}, "ar"),
        ({"language": " pt-BR "}, "pt-BR"),
        ({"lang": "", "language": "sw"}, "sw"),
        ({"lang": "en", "language": "fr"}, "fr"),
        ({"lang": 5, "language": None}, None),
    ],
)
def test_the_language_of_an_item(tmp_path, fields, language):
    (tmp_path / "m.jsonl").write_text(json.dumps({"path": "a.wav", **fields}))
    (item,) = read_manifest(tmp_path / "m.jsonl")
    assert item.language == language and item.extra == fields
