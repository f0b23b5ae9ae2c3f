import io

import numpy as np
import pytest
import soundfile

from syllabary.audio.pcm import PCMDecoder, PCMEncoder
from syllabary.errors import WaveError


@pytest.mark.parametrize("pcm_format", ["s16le", "f32le", "mulaw"])
@pytest.mark.parametrize("piece", [1, 3, 1000])
def test_bytes_survive_in_any_pieces(pcm_format, piece):
    rng = np.random.default_rng(0)
    if pcm_format == "s16le":
        data = rng.integers(-32768, 32768, 500).astype("<i2").tobytes()
    elif pcm_format == "f32le":
        data = rng.standard_normal(500).astype("<f4").tobytes()
    else:
        # 0x7f is a negative zero, which comes back as the other one.
        data = bytes(byte for byte in rng.integers(0, 256, 500).tolist() if byte != 0x7F)
    decoder, encoder = PCMDecoder(pcm_format), PCMEncoder(pcm_format)
    parts = [decoder.push(data[at : at + piece]) for at in range(0, len(data), piece)]
    assert all(part.dtype == np.float32 for part in parts)
    assert b"".join(map(encoder.push, parts)) == data
    assert not decoder.leftover and not encoder.clipped
    if pcm_format != "mulaw":
        assert decoder.push(b"\1").size == 0 and decoder.leftover == b"\1"


def test_samples_are_those_of_audio_files():
    wave = np.random.default_rng(1).uniform(-1.01, 1.01, 100_000).astype(np.float32)
    wave[:4] = 1, -1, 0.5 / 32768, -0.5 / 32768
    wave[4:50_000] *= 10.0 ** np.linspace(-12, 0, 49_996, dtype=np.float32)
    file = io.BytesIO()
    soundfile.write(file, np.clip(wave, -1, 1), 16000, "PCM_16", format="RAW", endian="LITTLE")
    encoder = PCMEncoder("s16le")
    assert encoder.push(wave) == file.getvalue()
    assert encoder.clipped == np.count_nonzero(np.abs(wave) > 1)
    stored = np.frombuffer(file.getvalue(), "<i2")
    assert np.array_equal(PCMDecoder("s16le").push(file.getvalue()) * 32768, stored)


def test_mu_law_is_that_of_libsndfile():
    every = np.arange(-32768, 32768).astype("<i2")
    file = io.BytesIO()
    soundfile.write(file, every, 8000, "ULAW", format="RAW")
    assert PCMEncoder("mulaw").push(PCMDecoder("s16le").push(every.tobytes())) == file.getvalue()
    file.seek(0)
    settings = {"samplerate": 8000, "channels": 1, "subtype": "ULAW", "format": "RAW"}
    levels, _ = soundfile.read(file, dtype="int16", **settings)
    assert np.array_equal(PCMDecoder("mulaw").push(file.getvalue()) * 32768, levels)


@pytest.mark.parametrize("kind", [PCMDecoder, PCMEncoder])
def test_unknown_formats(kind):
    with pytest.raises(WaveError, match=r"s16le, f32le, mulaw; got 's24le'"):
        kind("s24le")
