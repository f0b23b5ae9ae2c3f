"""Normalisation of transcripts in any script into words, for word and character errors.

A text is one string however it was typed, so that spelling, not encoding, is compared:

- Composed and decomposed letters are equal (Unicode's NFC): é and e + ´, Hangul and its jamo,
  Indic vowel signs of two parts, the Thai ำ. Letters and digits of full or half width, Arabic
  presentation forms and ligatures are the letters they stand for. Fractions, superscripts and
  circled numbers are not taken apart: NFKC, which does so, also makes a space and a stray mark of
  each ´ or ¨.
- Case is folded (ß is ss), without regard to the language: I is i, in Turkish too. İ is i.
- Letters, marks, numbers and apostrophes are kept; all else stands between words. Marks are Indic
  and Thai vowel signs, tones, Arabic and Hebrew vowels: another mark is another spelling. A mark on
  nothing (of an emoji, say) is dropped. Apostrophes are equal however they are typed, the letter ʼ
  of Ukrainian and the ʻ of Hawaiian and Uzbek among them.
- What has neither sound nor shape joins what it stands in, as if it were not there: zero-width
  (non-)joiners, soft hyphens, marks of direction and variation; and so does the Arabic tatweel,
  which only stretches a word. A zero-width space separates words.

Numbers stay as they are written: 20 is neither "twenty" nor ٢٠. Nothing is cut into words where
none are written apart: in Thai, Lao, Khmer, Burmese, Chinese and Japanese a "word" is what lies
between spaces and punctuation, and character errors say more.
"""

import re
import unicodedata

_APOSTROPHES = dict.fromkeys(map(ord, "\u2018\u2019\u201b\u02bb\u02bc\uff07`\u00b4"), "'")

#: Signs of no sound and no shape, beside the format characters (category Cf): the joiner of
#: graphemes, Hangul and Khmer fillers, variation selectors, tatweel and its N'Ko sibling.
_NOTHING = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef"
    "\u0640\u07fa]"
)
_ZERO_WIDTH_SPACE = "\u200b"

#: Compatibility decompositions that change no more than shapes; those of the ligatures among the
#: alphabetic presentation forms, U+FB00 to U+FB4F, have other tags.
_SHAPES = ("<wide>", "<narrow>", "<initial>", "<medial>", "<final>", "<isolated>")

#: The Thai and the Lao vowel am, which NFKC takes apart and nothing puts together.
_AM = (("\u0e4d\u0e32", "\u0e33"), ("\u0ecd\u0eb2", "\u0eb3"))

#: A dot above a letter that has one: what is left of İ in lower case.
_SECOND_DOT = re.compile("(?<=[ij\u012f])\u0307")


def words_of(text: str) -> list[str]:
    """Split a transcript into words: case folded, without punctuation, one spelling per character.

    Apostrophes at the ends of words are kept: 'tis, dogs'.
    """
    text = "".join(map(_letters, unicodedata.normalize("NFC", text))).casefold()
    text = "".join(c for c in text.translate(_APOSTROPHES) if not _is_nothing(c))
    text = _SECOND_DOT.sub("", unicodedata.normalize("NFC", text))
    for parts, vowel in _AM:
        text = text.replace(parts, vowel)
    kept: list[str] = []
    for character in unicodedata.normalize("NFC", text):
        kind = unicodedata.category(character)[0]
        if kind in "LN" or character == "'":
            kept.append(character)
        elif kind != "M":
            kept.append(" ")
        elif kept and kept[-1] not in " '":  # otherwise a mark without a base character
            kept.append(character)
    return [word for word in "".join(kept).split() if word.strip("'")]


def _letters(character: str) -> str:
    """Return the letters, or the digit, of which a character is a presentation form."""
    if not (character.isalpha() or character.isdecimal()):
        return character
    shape = unicodedata.decomposition(character).partition(" ")[0]
    if shape not in _SHAPES and not "\ufb00" <= character <= "\ufb4f":
        return character
    # The spaces are for seven Arabic forms that are a vowel sign on a space.
    return unicodedata.normalize("NFKC", character).strip(" ")


def _is_nothing(character: str) -> bool:
    if character == _ZERO_WIDTH_SPACE:
        return False
    return unicodedata.category(character) == "Cf" or _NOTHING.match(character) is not None
