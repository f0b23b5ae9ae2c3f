"""Word times from files and by alignment, and ids of text that are divided among words."""

import json

import numpy as np
import pytest

from syllabary.errors import DatasetError
from syllabary.lm.dataset import AlignedWord
from syllabary.lm.dataset.build import build_dataset
from syllabary.lm.dataset.settings import Settings
from syllabary.lm.dataset.words.align import open_aligner
from syllabary.lm.dataset.words.files import read_ctm, read_text_grid, words_of_json

from ..conftest import text_tokenizer

WORDS = [AlignedWord("this", 0.0, 0.1), AlignedWord("is", 0.1, 0.15), AlignedWord("it", 0.2, 0.3)]
TEXT_GRID = """File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 0.4
tiers? <exists>
size = 2
item []:
    item [1]:
        class = "IntervalTier"
        name = "phones"
        xmin = 0
        xmax = 0.4
        intervals: size = 1
        intervals [1]:
            xmin = 0
            xmax = 0.4
            text = "DH"
    item [2]:
        class = "IntervalTier"
        name = "Words"
        xmin = 0
        xmax = 0.4
        intervals: size = 5
        intervals [1]:
            xmin = 0
            xmax = 0.1
            text = "this"
        intervals [2]:
            xmin = 0.1
            xmax = 0.15
            text = "is"
        intervals [3]:
            xmin = 0.15
            xmax = 0.2
            text = "sil"
        intervals [4]:
            xmin = 0.2
            xmax = 0.3
            text = "it"
        intervals [5]:
            xmin = 0.3
            xmax = 0.4
            text = ""
"""


def test_ctm(tmp_path):
    path = tmp_path / "all.ctm"
    path.write_text(
        ";; a comment\na/1 1 0.00 0.10 this 0.9\na/1 1 0.10 0.05 is\na/1 1 0.15 0.05 <eps>\n"
        "b 1 1.0 0.5 more\na/1 1 0.20 0.10 it\n"
    )
    assert read_ctm(path) == {"a/1": WORDS, "b": [AlignedWord("more", 1.0, 1.5)]}
    path.write_text("a 1 0.0 0.1 ok\na 1 zero 0.1 no\n")
    with pytest.raises(DatasetError, match="line 2: expected id, channel, start, duration and"):
        read_ctm(path)


def test_text_grid(tmp_path):
    pytest.importorskip("praatio")
    path = tmp_path / "a.TextGrid"
    path.write_text(TEXT_GRID)
    assert read_text_grid(path) == WORDS
    path.write_text(TEXT_GRID.replace('"Words"', '"other"'))
    with pytest.raises(DatasetError, match="no tier called words, among phones, other"):
        read_text_grid(path)
    path.write_text("nothing")
    with pytest.raises(DatasetError, match="no TextGrid that can be read"):
        read_text_grid(path)


@pytest.mark.parametrize(
    "value",
    [
        [["this", 0, 0.1], ["is", 0.1, 0.15], ["it", 0.2, 0.3]],
        {"words": [{"word": w.word, "start": w.start, "end": w.end} for w in reversed(WORDS)]},
        {"alignments": [[w.word, [w.start, w.end], "SPEAKER_MAIN"] for w in WORDS]},
    ],
)
def test_json(value):
    assert words_of_json(value, "here") == WORDS


@pytest.mark.parametrize(
    "value", [5, {"other": []}, [["a"]], [["a", 2, 1]], [["a", -1, 1]], [["a", "x", 1]]]
)
def test_json_that_is_no_alignment(value):
    with pytest.raises(DatasetError, match="here: "):
        words_of_json(value, "here")


def test_a_build_with_words(corpus, tmp_path):
    """From a CTM for all, a folder, the manifest; an utterance without any has none."""
    (tmp_path / "all.ctm").write_text("s0/0 1 0 0.1 this\ns0/0 1 0.1 0.02 is\n")
    made = build_dataset(
        [corpus], tmp_path / "one", Settings(codec="dmel-narrow", words=str(tmp_path / "all.ctm"))
    ).dataset
    expected = (AlignedWord("this", 0, 0.1), AlignedWord("is", 0.1, 0.12))
    assert made[0].alignment == expected and made[1].alignment is None
    folder = tmp_path / "words"
    (folder / "s0").mkdir(parents=True)
    (folder / "s0" / "0.json").write_text(json.dumps([["this", 0, 0.1], ["is", 0.1, 0.12]]))
    (folder / "s1").mkdir()
    (folder / "s1" / "1.json").write_text("no JSON")
    lines = (corpus / "manifest.jsonl").read_text().splitlines()
    lines[2] = json.dumps(json.loads(lines[2]) | {"words": [["given", 0.05, 0.1]]})
    (corpus / "manifest.jsonl").write_text("\n".join(lines))
    report = build_dataset(
        [corpus], tmp_path / "two", Settings(codec="dmel-narrow", words=str(folder))
    )
    made = report.dataset
    assert made[0].alignment == expected
    assert made[2].alignment == (AlignedWord("given", 0.05, 0.1),)
    assert "words" not in made[2].extra and made[1].alignment is None
    assert made.description["unaligned"] == 1
    assert "1 items have no word times" in (tmp_path / "two" / "README.md").read_text()


def test_ids_of_text(corpus, tmp_path):
    """Each id is of exactly one word; together they are the ids of the text."""
    tokenizer = text_tokenizer("gpt-2")
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    from syllabary.lm.dataset.words.text_ids import TextTokenizer

    text = TextTokenizer(tmp_path)
    sentence = "Hello world, it's number 3.14 o'clock! naïve café"
    words = [AlignedWord(w, i, i + 1.0) for i, w in enumerate(sentence.split())]
    bare = [word._replace(word=word.word.strip(",!").lower()) for word in words]
    for given in (words, bare):
        found = text.words(sentence, given)
        assert sum((word.ids for word in found), ()) == text.ids(sentence)
        assert all(word.ids for word in found)
        assert tokenizer.decode(list(found[0].ids)).strip() == "Hello"
    # Words of another text are tokenized by themselves.
    other = text.words(sentence, [AlignedWord("something", 0, 1), AlignedWord("else", 1, 2)])
    assert other[1].ids == text.ids(" else") and other[0].ids == text.ids("something")
    assert text.words(None, [AlignedWord("a", 0, 1)])[0].ids == text.ids("a")
    made = build_dataset(
        [corpus], tmp_path / "set",
        Settings(codec="dmel-narrow", text_tokenizer=str(tmp_path / "tokenizer.json")),
    ).dataset  # fmt: skip
    assert made[0].text_ids == text.ids("this is number 0")
    assert made.header.options["text_tokenizer"] == text.description
    with pytest.raises(DatasetError, match=r"no such tokenizer\.json"):
        TextTokenizer(tmp_path / "none")


def test_pocketsphinx(speech_folder):
    """The words of a transcript are found one after the other, in the speech."""
    pytest.importorskip("pocketsphinx")
    from syllabary.audio import read_manifest
    from syllabary.lm.dataset.words.sphinx import SphinxAligner

    clips = (
        item
        for item in read_manifest(speech_folder / "manifest.jsonl")
        if item.extra.get("source", "").startswith("librispeech") and item.text
        if 2 < (item.duration_s or 0) < 5
    )
    clip = next(clips)
    wave, rate = clip.read(16000)
    aligner = SphinxAligner()
    words, text = aligner.align(wave, rate, f"“{clip.text}!”", "en")
    assert [word.word for word in words] == [part.strip(".,!?;:") for part in clip.text.split()]
    assert text == f"“{clip.text}!”"
    times = [time for word in words for time in (word.start, word.end)]
    assert times == sorted(times) and times[0] >= 0 and times[-1] <= wave.size / rate
    assert sum(word.end - word.start for word in words) > 0.4 * wave.size / rate
    # What lies outside of the words is quieter.
    inside = np.zeros(wave.size, bool)
    for word in words:
        inside[int(word.start * rate) : int(word.end * rate)] = True
    assert np.mean(wave[inside] ** 2) > 4 * np.mean(wave[~inside] ** 2)
    with pytest.raises(DatasetError, match="not in pocketsphinx's dictionary: xqzv"):
        aligner.align(wave, rate, "hello xqzv", None)
    with pytest.raises(DatasetError, match="aligns English, not de"):
        aligner.align(wave, rate, "hello", "de")
    with pytest.raises(DatasetError, match="no text to align"):
        aligner.align(np.zeros(100, np.float32), rate, None, None)


def test_aligners_by_name():
    for wrong in ("sphinx", "whisper", "pocketsphinx:x"):
        with pytest.raises(DatasetError, match="expected pocketsphinx or whisper:MODEL"):
            open_aligner(wrong, None)


def test_whisper(tmp_path):
    """A transcript's words in order, within the audio; without one, what is recognised."""
    from ...conftest import synthetic_speech
    from ...tiny_whisper import write_tiny_ctranslate2

    folder = write_tiny_ctranslate2(tmp_path / "tiny")
    from syllabary.lm.dataset.words.whisper import WhisperAligner

    aligner = WhisperAligner(str(folder))
    wave = synthetic_speech(24_000)
    words, text = aligner.align(wave, 16000, "hello, big world!", "en")
    assert "".join(word.word for word in words).replace(" ", "") == "hello,bigworld!"
    assert text == "hello, big world!"
    assert all(0 <= word.start <= word.end <= 1.5 for word in words)
    assert [word.start for word in words] == sorted(word.start for word in words)
    again, heard = aligner.align(wave, 16000, None, None)
    assert all(0 <= word.start <= word.end <= 1.5 for word in again)
    assert heard is None or isinstance(heard, str)
    with pytest.raises(DatasetError, match="does not know the language 'xx'"):
        aligner.align(wave, 16000, "hello", "xx")
    with pytest.raises(DatasetError, match="31 s; Whisper aligns a transcript of up to 30 s"):
        aligner.align(np.zeros(31 * 16000, np.float32), 16000, "hello", "en")
    with pytest.raises(DatasetError, match="no such folder of a Whisper model"):
        WhisperAligner(str(tmp_path / "none"))
