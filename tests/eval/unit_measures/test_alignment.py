import json
from dataclasses import replace
from pathlib import PurePosixPath

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syllabary.audio.files import read, write
from syllabary.audio.manifests import Utterance, read_manifest
from syllabary.audio.transcripts import words_of
from syllabary.eval.metrics.interface import MetricError
from syllabary.eval.unit_measures import alignment_cache
from syllabary.eval.unit_measures.alignment import (
    PHONES,
    AlignmentError,
    PhoneAligner,
    PhoneAlignment,
)
from syllabary.eval.unit_measures.alignment_cache import AlignmentCache, align_utterances


@pytest.fixture(scope="module")
def clips(speech_folder):
    """Three short utterances of different speakers, whose words the dictionary has."""
    wanted = ("2414-128291-0000.flac", "0093_000930035.flac", "0053_000530006.flac")
    items = read_manifest(speech_folder / "manifest.jsonl")
    return [next(item for item in items if item.path.name == name) for name in wanted]


@pytest.fixture(scope="module")
def aligner():
    pytest.importorskip("pocketsphinx")
    return PhoneAligner()


def alignment(names, frames, num_samples=None):
    starts = np.cumsum([0, *frames[:-1]])
    samples = sum(frames) * 160 if num_samples is None else num_samples
    phones = np.array([PHONES.index(name) for name in names])
    return PhoneAlignment(phones, starts, sum(frames), samples)


def test_a_frame_takes_the_phone_at_its_centre():
    # Borders at 57.8 and 97.8 ms.
    found = alignment(["SIL", "AA", "S"], [5, 4, 6])
    assert found.intervals()[:, 0].tolist() == pytest.approx([0, 0.0578, 0.0978])
    names = [PHONES[index] for index in found.labels(50)]  # centres 10, 30, 50, 70, 90, 110, …
    assert names == ["SIL"] * 3 + ["AA"] * 2 + ["S"] * 3
    shifted = [PHONES[index] for index in found.labels(50, centre=0.02)]  # 20, 40, 60, 80, 100, …
    assert shifted == ["SIL"] * 2 + ["AA"] * 2 + ["S"] * 4
    assert len(found.labels(50, num_frames=20)) == 20
    assert set(found.labels(50, num_frames=20)[8:]) == {PHONES.index("S")}
    with pytest.raises(MetricError, match="frame rate 0"):
        found.labels(0)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=20), st.floats(5, 200), st.data())
@settings(deadline=None)
def test_labels_are_the_phone_of_the_interval_around_each_centre(frames, rate, data):
    phones = data.draw(st.lists(st.integers(0, 39), min_size=len(frames), max_size=len(frames)))
    found = alignment([PHONES[index] for index in phones], frames)
    borders = found.intervals()
    assert borders[0, 0] == 0 and borders[-1, 1] == found.num_samples / 16000
    assert (borders[1:, 0] == borders[:-1, 1]).all() and (borders[:, 1] >= borders[:, 0]).all()
    labels = found.labels(rate)
    for frame, label in enumerate(labels):
        time = (frame + 0.5) / rate
        near = np.abs(borders - time).min() < 1e-6
        around = [p for p, (a, b) in zip(phones, borders, strict=True) if a <= time < b]
        assert near or time >= borders[-1, 1] or label == around[0]


def test_alignment_of_speech(aligner, clips):
    for item in clips:
        wave, rate = read(item.path)
        found = aligner.align(wave, rate, item.text)
        assert found.starts[0] == 0 and (found.ends > found.starts).all()
        assert abs(found.num_frames / 100 - len(wave) / rate) < 0.03
        said = [PHONES[index] for index in found.phones if index]
        # The spoken form of every word, one after the other, is one that the dictionary has.
        for word in words_of(item.text):
            spellings = [word, *(f"{word}({number})" for number in range(2, 6))]
            forms = [aligner._dictionary.lookup_word(spelling) for spelling in spellings]
            fitting = [f.split() for f in forms if f and said[: len(f.split())] == f.split()]
            assert fitting, (word, said)
            said = said[len(max(fitting, key=len)) :]
        # Speech is louder than what is taken for silence.
        power = np.array([(part**2).mean() for part in np.array_split(wave, len(wave) // 160)])
        quiet = found.labels(100, len(power)) == 0
        assert np.median(power[~quiet]) > 4 * np.median(power[quiet])


def test_alignments_do_not_depend_on_those_before(aligner, clips):
    waves = [(read(item.path)[0], item.text) for item in clips]
    first = [aligner.align(wave, 16000, text) for wave, text in waves]
    again = [aligner.align(wave, 16000, text) for wave, text in reversed(waves)][::-1]
    fresh = [PhoneAligner().align(waves[-1][0], 16000, waves[-1][1])]
    for one, other in zip([*first, first[-1]], again + fresh, strict=True):
        assert (one.phones == other.phones).all() and (one.starts == other.starts).all()


def test_what_cannot_be_aligned_is_named(aligner, clips):
    wave, rate = read(clips[0].path)
    with pytest.raises(AlignmentError, match="not in the dictionary: zarathustra, 42"):
        aligner.align(wave, rate, "Zarathustra spoke 42 times")
    with pytest.raises(AlignmentError, match="no words"):
        aligner.align(wave, rate, "…")
    with pytest.raises(AlignmentError, match="does not fit"):
        aligner.align(wave[:1600], rate, "what hath happened unto me")
    with pytest.raises(MetricError, match="16000 Hz, got 8000"):
        aligner.align(wave, 8000, "me")
    with pytest.raises(MetricError, match="finite"):
        aligner.align(wave * np.nan, rate, "me")
    # and the next one is as if nothing had happened
    assert len(aligner.align(wave, rate, clips[0].text).phones) > 10


def test_damaged_lines_of_the_cache_count_as_absent(tmp_path):
    path = tmp_path / "cache.jsonl"
    whole = {"key": "a", "phones": "SIL AA", "frames": [3, 4]}
    damaged = [
        {"key": "b", "phones": "SIL AA", "frames": [3]},
        {"key": "c", "phones": "NOISE", "frames": [3]},
        {"key": "d", "frames": [3]},
        {"key": "e", "phones": "SIL", "frames": [0]},
        ["f"],
    ]
    lines = [json.dumps(each).encode() for each in (whole, *damaged)]
    path.write_bytes(b"\n".join([*lines, b"\xff\xfe", b'{"key": "g", "err']))
    assert set(AlignmentCache(path)._entries) == {"a"}


def test_cache(tmp_path, clips, monkeypatch):
    pytest.importorskip("pocketsphinx")
    path = tmp_path / "some" / "alignments.jsonl"
    unknown = replace(clips[1], text="zarathustra", name=PurePosixPath("unknown"))
    silent = replace(clips[1], text=None, name=PurePosixPath("silent"))
    absent = Utterance(tmp_path / "no.wav", PurePosixPath("absent"), text="no")
    items = [*clips[1:], unknown, silent, absent]
    done = []
    first = align_utterances(items, AlignmentCache(path), done.append)
    assert list(first.found) == [item.name for item in clips[1:]]
    reasons = {str(name): reason for name, reason in first.missing.items()}
    assert reasons["silent"] == "no transcript" and "no such file" in reasons["absent"]
    assert "zarathustra" in reasons["unknown"]
    # A line that was cut short costs that line only; others come without pocketsphinx.
    lines = path.read_text().splitlines()
    assert len(lines) == 3 and all(json.loads(line)["key"] for line in lines)
    path.write_text("\n".join(lines) + '\n{"key": "ab\n[]\n')
    monkeypatch.setattr(alignment_cache, "PhoneAligner", None)
    again = align_utterances(items, AlignmentCache(path))
    assert again.missing == first.missing
    for name, found in first.found.items():
        other = again.found[name]
        assert (found.phones == other.phones).all() and (found.starts == other.starts).all()
        assert found.num_frames == other.num_frames and found.num_samples == other.num_samples
    # Other samples or another text are other keys.
    wave, _ = read(clips[1].path)
    for changed, text in ((wave * 0.5, clips[1].text), (wave, "one")):
        with pytest.raises(TypeError):
            AlignmentCache(path).align(changed, 16000, text)


def test_two_processes_may_save(tmp_path, clips):
    pytest.importorskip("pocketsphinx")
    path = tmp_path / "alignments.jsonl"
    one, other = AlignmentCache(path), AlignmentCache(path)
    for cache, item in ((one, clips[1]), (other, clips[2])):
        cache.align(read(item.path)[0], 16000, item.text)
    one.save()
    other.save()
    assert len(path.read_text().splitlines()) == 2


def test_rate_of_the_file_does_not_matter_to_a_list(tmp_path, clips):
    """A file of another rate is resampled, not refused."""
    pytest.importorskip("pocketsphinx")
    import soxr

    wave = soxr.resample(read(clips[1].path)[0], 16000, 24000)
    write(tmp_path / "a.wav", wave, 24000)
    item = Utterance(tmp_path / "a.wav", PurePosixPath("a"), text=clips[1].text)
    found = align_utterances([item], AlignmentCache(tmp_path / "cache.jsonl")).found
    assert len(found[item.name].phones) > 5
