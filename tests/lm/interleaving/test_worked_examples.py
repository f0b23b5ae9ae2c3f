"""Text and speech in one sequence by example: what published systems do, id by id."""

from fractions import Fraction

import numpy as np

from syllabary.lm.interleaving import (
    IGNORE,
    CosyVoice,
    FixedRatio,
    InnerMonologue,
    SpeechThenText,
    TextThenSpeech,
    Word,
    WordAligned,
    cut_units,
)

SPEECH = (0, 1000)  # so that units are themselves
A, B, C, D, E = range(1001, 1006)


def test_fixed_ratio_of_ist_lm():
    made = FixedRatio(SPEECH, n=2, m=3).join([A, B, C, D, E], range(9))
    assert made.ids.tolist() == [A, B, 0, 1, 2, C, D, 3, 4, 5, E, 6, 7, 8]
    assert made.targets.tolist() == [*made.ids[1:].tolist(), IGNORE]


def test_fixed_ratio_of_glm_4_voice():
    text, speech = np.arange(2000, 2030), np.arange(80)
    made = FixedRatio(SPEECH).join(text, speech)
    assert made.ids.tolist() == [
        *text[:13], *speech[:26], *text[13:26], *speech[26:52], *text[26:], *speech[52:],
    ]  # fmt: skip


def test_fixed_ratio_when_speech_ends_first():
    scheme = FixedRatio(SPEECH, n=1, m=2)
    assert scheme.join([A, B, C], [1, 2, 3]).ids.tolist() == [A, 1, 2, B, 3, C]
    dropped = FixedRatio(SPEECH, n=1, m=2, tail="drop").join([A, B, C], [1, 2, 3])
    assert dropped.ids.tolist() == [A, 1, 2, B, 3] and dropped.lost == 1


def test_fixed_ratio_with_markers():
    scheme = FixedRatio(
        SPEECH, n=2, m=2, begin=5000, end=5001, text_marker=5002, speech_marker=5003, text_end=5004
    )
    made = scheme.join([A, B, C], [1, 2, 3, 4, 5])
    assert made.ids.tolist() == [
        5000, 5002, A, B, 5003, 1, 2, 5002, C, 5004, 5003, 3, 4, 5, 5001,
    ]  # fmt: skip


def test_frames_are_not_torn():
    made = FixedRatio(SPEECH, n=1, m=2).join([A, B], np.arange(9).reshape(3, 3))
    assert made.ids.tolist() == [A, 0, 1, 2, 3, 4, 5, B, 6, 7, 8]


S, T, END, FILL = 5000, 5001, 5002, 5003


def test_cosyvoice():
    scheme = CosyVoice(SPEECH, begin=S, task=T, end=END, fill=FILL, n=2, m=4)
    made = scheme.join([A, B, C], range(1, 8))
    assert made.ids.tolist() == [S, A, B, 1, 2, 3, 4, C, T, 5, 6, 7]
    _ = IGNORE
    assert made.targets.tolist() == [_, _, 1, 2, 3, 4, FILL, _, 5, 6, 7, END]


def test_cosyvoice_where_the_text_fills_its_blocks():
    scheme = CosyVoice(SPEECH, begin=S, task=T, end=END, fill=FILL, n=2, m=4)
    made = scheme.join([A, B], range(1, 7))
    assert made.ids.tolist() == [S, A, B, 1, 2, 3, 4, T, 5, 6]
    _ = IGNORE
    assert made.targets.tolist() == [_, _, 1, 2, 3, 4, FILL, 5, 6, END]


def test_cosyvoice_of_short_speech_reads_all_text_first():
    scheme = CosyVoice(SPEECH, begin=S, task=T, end=END, fill=FILL, n=2, m=4)
    made = scheme.join([A, B, C], range(1, 7))  # 6 / 3 is not more than 4 / 2
    assert made.ids.tolist() == [S, A, B, C, T, 1, 2, 3, 4, 5, 6]
    _ = IGNORE
    assert made.targets.tolist() == [_, _, _, _, 1, 2, 3, 4, 5, 6, END]


def test_synthesis_and_recognition():
    made = TextThenSpeech(
        SPEECH, learn=("speech", "marker"), text_end=S, speech_begin=T, speech_end=END
    ).join([A, B], [7, 8])
    assert made.ids.tolist() == [A, B, S, T, 7, 8, END]
    assert made.targets.tolist() == [IGNORE, S, T, 7, 8, END, IGNORE]
    made = SpeechThenText(SPEECH, learn=("text",), speech_end=T).join([A, B], [7, 8])
    assert made.ids.tolist() == [7, 8, T, A, B]
    assert made.targets.tolist() == [IGNORE, IGNORE, A, B, IGNORE]


def test_units_cut_at_a_word_of_slamkit():
    """Ends .08, .20, .24, .40 s, cut at .20: every unit on one side."""
    units, durations = np.array([3, 49, 7, 254]), [2, 3, 1, 4]
    (cut,) = cut_units([0.20], 4, Fraction(25), durations)
    assert units[:cut].tolist() == [3, 49] and units[cut:].tolist() == [7, 254]
    words = [Word([A], 0.0, 0.20), Word([B], 0.20, 0.40)]
    scheme = WordAligned(SPEECH, frame_rate=25, text_marker=S, speech_marker=T)
    made, spans = scheme.join(words, units, [True, False], durations)
    assert made.ids.tolist() == [T, 3, 49, S, B]
    assert [span.units for span in spans] == [(0, 2), (2, 4)]
    made, _ = scheme.join(words, units, [False, True], durations)
    assert made.ids.tolist() == [S, A, T, 7, 254]


def test_moshi_s_inner_monologue():
    words = [Word([101, 102], 0.24, 0.50), Word([201], 0.80, 1.10)]
    row = InnerMonologue().lay(words, 15)
    assert row.ids.tolist() == [3, 3, 0, 101, 102, 3, 3, 3, 3, 0, 201, 3, 3, 3, 3]
    assert row.lost == 0 and row.late == 0


def test_words_that_are_spoken_faster_than_frames():
    """The original drops what was not said when the next word starts; shifting loses nothing."""
    words = [Word([1001, 1002, 1003], 0.08, 0.16), Word([1004], 0.16, 0.3), Word([1005], 0.8, 0.9)]
    dropped = InnerMonologue(when_full="drop").lay(words, 12)
    assert dropped.ids.tolist() == [0, 1001, 1004, 3, 3, 3, 3, 3, 3, 0, 1005, 3]
    assert dropped.lost == 2
    shifted = InnerMonologue().lay(words, 12)
    assert shifted.ids.tolist() == [0, 1001, 1002, 1003, 1004, 3, 3, 3, 3, 0, 1005, 3]
    assert shifted.lost == 0 and shifted.late == 2
    assert InnerMonologue().lay(words, 3).lost == 3
