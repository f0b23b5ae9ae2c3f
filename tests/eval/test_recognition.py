import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syllabary.audio.files import read
from syllabary.audio.manifests import read_manifest
from syllabary.eval.metrics.interface import MetricError
from syllabary.eval.recognition import (
    DecodedUtterance,
    Recognizer,
    WordErrors,
    recognition_errors,
    word_errors,
)

words = st.lists(st.sampled_from(["a", "bee", "sea", "d's"]), max_size=8)


@pytest.fixture(scope="module")
def recognizer():
    pytest.importorskip("pocketsphinx")
    return Recognizer()


@pytest.fixture(scope="module")
def clips(speech_folder):
    wanted = ("2414-128291-0000.flac", "0093_000930035.flac")
    items = {item.path.name: item for item in read_manifest(speech_folder / "manifest.jsonl")}
    return [(items[name], read(items[name].path)[0]) for name in wanted]


@given(words.filter(bool), words)
@settings(deadline=None)
def test_word_errors(reference, heard):
    pytest.importorskip("jiwer")
    row = list(range(len(heard) + 1))
    for i, a in enumerate(reference, 1):
        above, row[0] = row[0], i
        for j, b in enumerate(heard, 1):
            above, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, above + (a != b))
    excess = max(0, row[-1] - len(reference))
    expected = WordErrors(row[-1] - excess, len(reference), 1, int(excess > 0), excess)
    assert word_errors(reference, heard) == expected and expected.rate <= 1


def test_rates_are_of_sums():
    assert (WordErrors(1, 2, 1) + WordErrors(0, 8, 1)).rate == 0.1
    looping = word_errors(["a", "b"], ["a"] * 50) + word_errors(["a"] * 8, ["a"] * 8)
    assert looping == WordErrors(2, 10, 2, 1, 47)
    with pytest.raises(MetricError, match="no words"):
        word_errors([], ["a"])
    with pytest.raises(MetricError, match="no words"):
        _ = WordErrors().rate


def test_words_depend_on_the_utterance_alone(recognizer, clips):
    (_, first), (_, second) = clips
    heard = recognizer.words(first, 16000)
    assert heard and all(word == word.lower() for word in heard)
    assert recognizer.words(first, 16000) == heard  # remembered
    other = Recognizer()
    other.words(second[:16000], 16000)
    other.words(0.01 * second[16000:24000], 16000)
    assert other.words(first, 16000) == heard


def test_bad_input(recognizer):
    with pytest.raises(MetricError, match="16000 Hz, got 8000"):
        recognizer.words(np.zeros(8000, np.float32), 8000)
    with pytest.raises(MetricError, match="finite"):
        recognizer.words(np.full(8000, np.nan, np.float32), 16000)


def test_errors_of_decoded_speech(recognizer, clips):
    pytest.importorskip("jiwer")
    (item, wave), _ = clips
    silence = np.zeros(410, np.float32)  # too short for a word, where half a second is "dog"
    broken = wave * np.nan
    report = recognition_errors(
        [
            DecodedUtterance("same", wave, wave, item.text),
            DecodedUtterance("nothing left", wave, silence),
            DecodedUtterance("nothing there", silence, silence, "one two"),
            DecodedUtterance("broken", wave, broken, "one two"),
        ],
        recognizer,
    )
    assert set(report.failures) == {"nothing there", "broken"}
    assert "nothing is recognised in the original" in report.failures["nothing there"]
    heard = len(recognizer.words(wave, 16000))
    # All words of one of two equal utterances are gone.
    assert report.against_original == WordErrors(heard, 2 * heard, 2)
    assert report.against_text == report.original_against_text
    assert report.against_text.words == len(item.text.split())
