import sys
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syllabary.audio.manifests import Utterance
from syllabary.audio.transcripts import words_of
from syllabary.eval.metrics import words
from syllabary.eval.metrics.interface import Clip, Ratio
from syllabary.eval.probes.characters import Alphabet, normalise
from syllabary.eval.recognition import word_errors
from syllabary.eval.unit_measures.invariance import parallel_sentences

FORMS = ("NFC", "NFD", "NFKC", "NFKD")

#: What is said, and the same with other vowel signs or tones in every word.
OTHER_MARKS = {
    "Hindi": ("हिन्दी में नमस्ते", "हीन्दू मैं नमस्तू"),
    "Bengali, signs of two parts": ("আমার সোনার বাংলা", "আমরা সেনার বংলা"),
    "Tamil": ("தமிழ் மொழி", "தமீழ் மோழி"),
    "Malayalam": ("മലയാളം ഭാഷ", "മലയളം ഭാഷി"),
    "Burmese": ("မြန်မာ စာ", "မြန်မီ စီ"),
    "Khmer": ("ភាសា ខ្មែរ", "ភីសា ខ្មេរ"),
    "Thai": ("ภาษาที่ดี น้ำ", "ภาษาทู่ดู น่ำ"),
    "Arabic, vowelled": ("كَتَبَ دَرْسٌ", "كُتِبَ دَرْسٍ"),
    "Hebrew, pointed": ("שָׁלוֹם סֵפֶר", "שָׂלוֹם סַפָּר"),
    "Vietnamese": ("tiếng việt", "tiêng viết"),
    "Yoruba": ("ọkọ̀ ọ̀kọ̀", "ọkọ́ ọ̀kọ"),
}

#: Pairs of spellings that are one.
EQUAL = {
    "no punctuation": ("«¿Qué?» — ¡sí, señor!", "qué sí señor"),
    "case": ("ΟΔΌΣ STRASSE", "οδός Straße"),
    "Turkish capital": ("İstanbul İĞNE", "istanbul iğne"),
    "Lithuanian": ("i̇̀ į̇́", "ì į́"),
    "full width": ("ＡＢＣ１２ ｶﾞｷﾞ", "abc12 ガギ"),
    "ligatures": ("eﬃcient ﬁn", "efficient fin"),
    "presentation forms": ("ﻣﺮﺣﺒﺎ ﻻ ﷺ", "مرحبا لا صلى الله عليه وسلم"),
    "tatweel": ("مرحـــبا", "مرحبا"),
    "Persian joiners": ("می\u200cخواهم", "میخواهم"),
    "Hindi joiners": ("क्\u200dष", "क्ष"),
    "Thai sara am": ("น้ำ", "น้\u0e4dา"),
    "soft hyphens, byte order and direction": ("\ufeffso\u00adft \u200eleft\u202c", "soft left"),
    "apostrophes": ("don’t don´t don`t don＇t", "don't don't don't don't"),
    "apostrophes that are letters": ("мʼясо oʻzbek", "м'ясо o'zbek"),
    "zero-width spaces": ("ភាសា\u200bខ្មែរ", "ភាសា ខ្មែរ"),
    "marks on nothing": ("yes ❤️ ´ \u0301 '\u0301", "yes"),
    "variation selectors": ("葛\U000e0100 1\ufe0f", "葛 1"),
    "Hangul": ("한국어 ㈜", "한국어"),
}


@pytest.mark.parametrize("language", OTHER_MARKS)
def test_every_word_with_another_mark_is_an_error(language):
    said, heard = OTHER_MARKS[language]
    reference = words_of(said)
    assert len(reference) == len(said.split()) == len(words_of(heard))
    errors = word_errors(reference, words_of(heard))
    assert (errors.edits, errors.words) == (len(reference), len(reference))
    assert normalise(said) != normalise(heard)
    for text in (said, heard):
        assert " ".join(words_of(text)) == unicodedata.normalize("NFC", text)


@pytest.mark.parametrize(
    "text", [*(said for said, _ in OTHER_MARKS.values()), "한국어 말", "Ǭ ṩ क़"]
)
def test_composed_and_decomposed_text_is_one(text):
    assert len({tuple(words_of(unicodedata.normalize(form, text))) for form in FORMS}) == 1
    assert len(words_of(text)) == len(text.split())


@pytest.mark.parametrize("case", EQUAL)
def test_equal_spellings(case):
    one, other = EQUAL[case]
    assert words_of(one) == words_of(other)


def test_words():
    assert words_of("The danger trail, Philip Steels, etc.") == [
        *("the", "danger", "trail", "philip", "steels", "etc")
    ]
    assert words_of("DON’T re-do 'it' -- ' _now_!") == ["don't", "re", "do", "'it'", "now"]
    assert words_of(" ?! ") == []
    # Numbers as they are written: nothing is spelled out or taken apart.
    assert words_of("20 ٢٠ x² ½, 3.5 %") == ["20", "٢٠", "x²", "½", "3", "5"]
    # Long vowels and repetitions of Japanese and Thai are letters.
    assert words_of("「ラーメン」、時々 ต่างๆ") == ["ラーメン", "時々", "ต่างๆ"]


def test_every_character_is_kept_or_not_whatever_its_form():
    for number in range(sys.maxunicode + 1):
        character = chr(number)
        kind = unicodedata.category(character)
        if kind in ("Cs", "Co", "Cn"):
            continue
        text = f"a{character}b"
        found = words_of(text)
        assert words_of(unicodedata.normalize("NFD", text)) == found, hex(number)
        assert words_of(" ".join(found)) == found, hex(number)
        if kind[0] in "PSZC" and character not in "'’‘‛`´＇\u1fef\u1ffd":
            assert "".join(found) == "ab", hex(number)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=8))
@settings(deadline=None, max_examples=200)
def test_words_are_words_already(text):
    found = words_of(text)
    assert words_of(" ".join(found)) == found
    assert words_of(unicodedata.normalize("NFD", text)) == found
    assert all(word and word.split() == [word] for word in found)


def test_scores_of_marks(monkeypatch):
    """WER and CER of a reconstruction in which a recogniser hears one other vowel sign."""

    class Listener:
        name, languages = "listener", None

        def words(self, wave, sample_rate, language=None):
            return words_of(unicodedata.normalize("NFD", "हिन्दी मैं"))

    monkeypatch.setattr(words, "default_recognizer", Listener)
    wave = np.full(400, 0.1, np.float32)
    clip = Clip(wave, wave, 16000, "हिन्दी में", "hi")
    assert words.word_error(clip) == Ratio(1, 2)
    assert words.character_error(clip) == Ratio(1, len("हिन्दी में"))
    assert words.differential_word_error(clip) == Ratio(0, 2)


def test_characters_of_probes_have_marks():
    text = normalise("नमस्ते, “ดี” ÜBER!")
    assert text == "नमस्ते ดี über"
    alphabet = Alphabet([text])
    assert alphabet.decode(alphabet.numbers(text)) == text


def test_sentences_of_two_speakers_are_one_in_either_form(tmp_path):
    spoken = "le résumé naïf"
    items = [
        Utterance(tmp_path / name, name, text=unicodedata.normalize(form, text), speaker=name)
        for name, form, text in (
            ("a", "NFC", spoken),
            ("b", "NFD", spoken.upper()),
            ("c", "NFC", "le resume naif"),
        )
    ]
    assert parallel_sentences(items) == [items[:2]]
