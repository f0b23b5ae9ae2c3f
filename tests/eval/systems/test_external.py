"""External programs: small Python scripts that keep the upper 8 bits of each sample, late."""

import json
import sys

import numpy as np
import pytest

from syllabary.errors import SyllabaryError
from syllabary.eval.systems import catalogue
from syllabary.eval.systems.external import External
from syllabary.eval.systems.interface import MissingSystemError

from ...conftest import synthetic_speech

ENCODE = """
import sys, wave
with wave.open(sys.argv[1]) as file:
    assert (file.getnchannels(), file.getsampwidth()) == (1, 2)
    data = file.readframes(file.getnframes())
open(sys.argv[2], "wb").write(b"HEAD" + data[1::2])
"""
DECODE = """
import sys, wave
late, rate = int(sys.argv[3]), int(sys.argv[4])
data = open(sys.argv[1], "rb").read()[4:]
samples = b"".join(bytes([0x80, byte]) for byte in bytes(late) + data)
with wave.open(sys.argv[2], "wb") as file:
    file.setnchannels(1); file.setsampwidth(2); file.setframerate(rate)
    file.writeframes(samples[: len(data) * 2])
"""


@pytest.fixture
def made(tmp_path):
    """Writes the programs and a description, and gives the system."""

    def make(late=0, rate=16000, encoder=ENCODE, decoder=DECODE, **fields):
        (tmp_path / "encode.py").write_text(encoder)
        (tmp_path / "decode.py").write_text(decoder)
        known = {
            "name": "eight-bits",
            "sample_rate": 16000,
            "encode": [sys.executable, "encode.py", "{input}", "{output}"],
            "decode": [
                *(sys.executable, "decode.py", "{input}", "{output}", str(late), str(rate)),
            ],
        }
        known |= fields
        path = tmp_path / "codec.json"
        path.write_text(json.dumps({k: v for k, v in known.items() if v is not None}))
        return catalogue.find(str(path))

    return make


def test_there_and_back(made):
    wave = synthetic_speech(4001)
    system = made(license="MIT", source="here")
    found = system.reconstruct(wave)
    assert isinstance(system, External) and system.kind == "codec"
    assert found.wave.shape == wave.shape and 0 < np.abs(found.wave - wave).max() <= 2**-8 + 2**-16
    assert found.bits == 8 * 4005
    fields = json.loads(json.dumps(system.to_json()))
    assert fields["name"] == "eight-bits" and fields["license"] == "MIT"
    assert "bits: size of the encoded file" in fields["setting"]
    assert {"encode.py", "decode.py"} < set(fields["versions"])
    assert catalogue.find(system.given).digest == system.digest


def test_delay_is_taken_off_and_the_end_comes_out(made):
    wave = synthetic_speech(4001)
    system = made(late=100, delay=100)
    found = system.reconstruct(wave)
    assert np.abs(found.wave - wave).max() <= 2**-8 + 2**-16
    assert system.to_json()["delay_ms"] == 6.25
    assert found.bits == 8 * 4105  # with the zeros behind it


def test_another_rate_of_the_program(made):
    wave = synthetic_speech(8000)
    system = made(rate=8000, program_rate=8000)
    found = system.reconstruct(wave)
    expected = catalogue.find("original-8k").reconstruct(wave).wave
    assert found.wave.shape == wave.shape and np.abs(found.wave - expected).max() < 2**-7
    assert found.bits == 8 * 4004 and "at 8000 Hz" in system.setting
    with pytest.raises(RuntimeError, match="gave 16000 Hz, expected 8000"):
        made(rate=16000, program_rate=8000).reconstruct(wave)


def test_ways_to_count_bits(made):
    wave = synthetic_speech(4001)
    assert made(bits={"header_bytes": 4}).reconstruct(wave).bits == 8 * 4001
    frames = {"frame_bits": 13, "frame_samples": 320}
    assert made(bits=frames).reconstruct(wave).bits == 13 * 13
    with pytest.raises(ValueError, match="no Ogg page"):
        made(bits="ogg").reconstruct(wave)


def test_failures_say_why(made):
    wave = synthetic_speech(400)
    with pytest.raises(RuntimeError, match=r"(?s)no licence key.*\(exit 3\)"):
        made(encoder="import sys; sys.stderr.write('no licence key'); sys.exit(3)").reconstruct(
            wave
        )
    with pytest.raises(RuntimeError, match=r"wrote no b\.wav"):
        made(decoder="").reconstruct(wave)
    with pytest.raises(RuntimeError, match="can't be read"):
        made(decoder="import sys; open(sys.argv[2], 'w').write('x')").reconstruct(wave)
    with pytest.raises(RuntimeError, match=r"not done after 0\.2 s"):
        made(encoder="import time; time.sleep(20)", timeout_s=0.2).reconstruct(wave)


def test_missing_programs_and_files(made):
    marks = ["{input}", "{output}"]
    with pytest.raises(MissingSystemError, match="eight-bits: no program no-such-program in the"):
        made(encode=["no-such-program", *marks])
    with pytest.raises(MissingSystemError, match=r"no program .*/not-here$"):
        made(decode=["./not-here", *marks])
    with pytest.raises(MissingSystemError, match=r"no file .*weights\.bin"):
        made(files=["weights.bin"])


def test_no_shell_looks_at_it(made, tmp_path):
    encode = [sys.executable, "encode.py", "{input}", "{output}", "; touch", "hacked", "$(touch x)"]
    made(encode=encode).reconstruct(synthetic_speech(100))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["codec.json", "decode.py", "encode.py"]


def test_the_digest_knows_scripts_and_weights(made, tmp_path):
    digests = {made().digest, made(encoder=ENCODE + "#").digest, made(delay=1).digest}
    (tmp_path / "weights.bin").write_bytes(b"1")
    digests.add(made(files=["weights.bin"]).digest)
    (tmp_path / "weights.bin").write_bytes(b"2")
    digests.add(made(files=["weights.bin"]).digest)
    assert len(digests) == 5 and made().digest in digests


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"sample_rate": None}, "no field 'sample_rate'"),
        ({"colour": "red"}, "unknown field 'colour'"),
        ({"sample_rate": 0}, "sample_rate is 0"),
        ({"sample_rate": True}, "sample_rate is True"),
        ({"name": ""}, "a name is text"),
        ({"delay": -1}, "a delay at least 0"),
        ({"suffix": "/x"}, "suffix is '/x'"),
        ({"files": [1]}, "files is a list of words"),
        ({"timeout_s": -1}, "timeout_s is -1"),
        ({"bits": "guess"}, "bits is 'guess'"),
        ({"bits": {"frame_bits": 1}}, "bits is"),
        ({"bits": {"frame_bits": 1, "frame_samples": 0}}, "bits is"),
    ],
)
def test_wrong_fields(made, change, what):
    with pytest.raises(SyllabaryError, match=what):
        made(**change)


def test_wrong_files(tmp_path):
    with pytest.raises(SyllabaryError, match="No such file"):
        catalogue.find(str(tmp_path / "none.json"))
    path = tmp_path / "a.json"
    for text, what in (("{", "not JSON"), ("[]", "expected an object")):
        path.write_text(text)
        with pytest.raises(SyllabaryError, match=what):
            catalogue.find(str(path))
    fields = {"name": "x", "sample_rate": 8000, "decode": ["cat", "{input}", "{output}"]}
    path.write_text(json.dumps(fields | {"encode": ["cat", "{input}"]}))
    with pytest.raises(SyllabaryError, match=r"encode has no \{output\}"):
        catalogue.find(str(path))
