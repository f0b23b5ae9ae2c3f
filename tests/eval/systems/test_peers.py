"""Opus, Codec2 and Lyra, where this machine has them; how they are missed where it has not."""

import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syllabary.audio.files import read
from syllabary.eval.systems import catalogue
from syllabary.eval.systems.interface import MissingSystemError
from syllabary.eval.systems.lyra import Lyra
from syllabary.eval.systems.ogg import ogg_packets
from syllabary.eval.systems.samples import at_rate, fitted, to_int16

from ...conftest import ROOT, synthetic_speech

sys.path.insert(0, str(ROOT / "benchmarks"))
from peers import lag


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [
        ("opus-6", 4, 7),
        ("opus-12-hard-cbr", 11.5, 13),
        ("codec2-3200", 3.19, 3.25),
        ("codec2-700C", 0.69, 0.73),
        ("lyra-v2-3.2", 3.19, 3.25),
    ],
)
def test_peers_keep_time_and_length(name, least, most, demo_clip):
    try:
        codec = catalogue.find(name)
    except MissingSystemError as reason:
        pytest.skip(str(reason))
    assert codec.name == name and codec.kind == "codec" and len(codec.digest) == 64
    assert codec.versions and codec.license and codec.source
    wave = read(demo_clip)[0][: 3 * 16000 + 123]
    found = codec.reconstruct(wave)
    assert found.wave.shape == wave.shape and found.wave.dtype == np.float32
    assert abs(lag(wave, found.wave)) < 80
    assert least < found.bits / 1000 * 16000 / len(wave) < most
    codec.reconstruct(synthetic_speech(16000))
    again = codec.reconstruct(wave)
    assert np.array_equal(found.wave, again.wave)  # nothing of one file reaches the next
    for count in (1, 319, 321):
        assert codec.reconstruct(wave[:count]).wave.shape == (count,)


def test_more_bits_sound_closer(demo_clip):
    try:
        codecs = [catalogue.find(f"opus-{kbps}") for kbps in (6, 9, 12)]
    except MissingSystemError as reason:
        pytest.skip(str(reason))
    wave = read(demo_clip)[0][: 3 * 16000]
    found = [codec.reconstruct(wave) for codec in codecs]
    assert found[0].bits < found[1].bits < found[2].bits
    spectrum = np.abs(np.fft.rfft(wave.reshape(-1, 400)))
    errors = [
        np.abs(np.abs(np.fft.rfft(one.wave.reshape(-1, 400))) - spectrum).sum() for one in found
    ]
    assert errors[0] > errors[1] > errors[2]


@pytest.mark.parametrize(
    ("name", "what"), [("opus-6", "no opusenc and opusdec"), ("codec2-1300", "no c2enc and c2dec")]
)
def test_missing_programs_are_named(name, what, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingSystemError, match=what):
        catalogue.find(name)


def test_a_missing_lyra_says_what_would_bring_it(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    with pytest.raises(MissingSystemError, match="pip install ai-edge-litert"):
        Lyra("3.2", tmp_path)
    monkeypatch.setitem(sys.modules, "ai_edge_litert", sys)  # any module
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", sys)
    with pytest.raises(MissingSystemError, match=f"no Lyra weights in {tmp_path}"):
        Lyra("3.2", tmp_path)
    monkeypatch.setenv("SYLLABARY_LYRA", str(tmp_path / "elsewhere"))
    with pytest.raises(MissingSystemError, match="elsewhere; set SYLLABARY_LYRA"):
        Lyra("3.2")


def page(lacing, body):
    return b"OggS" + bytes(22) + bytes([len(lacing), *lacing]) + body


def test_ogg_packets():
    first = page([19, 255, 255], bytes(529))
    second = page([10, 7], bytes(17))
    assert ogg_packets(first + second) == [19, 520, 7]
    with pytest.raises(ValueError, match="no Ogg page at byte 559"):
        ogg_packets(first + bytes(3) + second)
    with pytest.raises(ValueError, match="at byte 559 is cut short"):
        ogg_packets(first + second[:-1])


@given(sizes=st.lists(st.integers(0, 700), max_size=20), per_page=st.integers(1, 255))
def test_packets_come_out_whatever_the_pages(sizes, per_page):
    lacing = [part for size in sizes for part in [255] * (size // 255) + [size % 255]]
    pages = [lacing[at : at + per_page] for at in range(0, len(lacing), per_page)]
    assert ogg_packets(b"".join(page(part, bytes(sum(part))) for part in pages)) == sizes


@given(length=st.integers(0, 400), wanted=st.integers(0, 400))
def test_fitted(length, wanted):
    wave = np.arange(1, length + 1, dtype=np.float64)
    found = fitted(wave, wanted)
    assert found.shape == (wanted,) and found.dtype == np.float32
    shared = min(length, wanted)
    assert np.array_equal(found[:shared], wave[:shared]) and not found[shared:].any()


def test_sixteen_bits_and_rates():
    assert to_int16(np.array([-2, -1, 0, 0.5, 1, 2])).tolist() == [
        *(-32768, -32768, 0, 16384, 32767, 32767)
    ]
    wave = synthetic_speech(8001)
    assert np.array_equal(at_rate(wave, 16000, 16000), wave)
    assert abs(len(at_rate(wave, 16000, 8000)) - 4000.5) <= 1
    assert at_rate(wave[:0], 16000, 8000).shape == (0,)
