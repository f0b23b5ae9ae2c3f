import json
from pathlib import PurePosixPath

import pytest

from syllabary.audio.manifests import Utterance, collect, read_manifest, write_manifest
from syllabary.errors import ManifestError


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
    assert names(collect([tree / "b" / "notes.txt"])) == ["notes.txt"]


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
        ('{"path": "x", "speaker": 5}', "line 2: speaker is 5"),
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
