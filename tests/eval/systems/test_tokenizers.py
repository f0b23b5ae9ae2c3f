import json

import numpy as np
import pytest

import syllabary
from syllabary.codecs.spec import bits_for
from syllabary.errors import SyllabaryError, UnknownTokenizerError
from syllabary.eval.systems import catalogue
from syllabary.eval.systems.tokenizers import TokenizerSystem

from ... import tiny_codecs
from ...conftest import synthetic_speech


@pytest.fixture(scope="module")
def rvq():
    return tiny_codecs.rvq(name="tiny")


def test_a_tokenizer_and_its_codebooks(rvq):
    wave = synthetic_speech(5000)
    for given, count in (("tiny", 4), ("tiny:4", 4), ("tiny:1", 1)):
        system = TokenizerSystem(given, rvq)
        found = system.reconstruct(wave)
        tokens = rvq.encode(wave, 16000, num_codebooks=count)
        assert found.tokens.equal(tokens) and system.num_codebooks == count
        assert np.array_equal(found.wave, rvq.decode(tokens)[0].numpy())
        assert found.bits == int(tokens.lengths[0]) * count * bits_for(32)
        assert system.name == given and system.kind == "tokenizer" and system.delay == 0
    with pytest.raises(SyllabaryError, match="takes 1 to 4 codebooks, got 9"):
        TokenizerSystem("tiny:9", rvq)
    assert TokenizerSystem("tiny:4", rvq).digest == TokenizerSystem("tiny", rvq).digest
    assert TokenizerSystem("tiny:2", rvq).digest != TokenizerSystem("tiny", rvq).digest


def test_digests_tell_vocoders_and_codebooks_apart():
    dmel = TokenizerSystem("dmel")
    assert TokenizerSystem("dmel:80").digest == dmel.digest
    assert TokenizerSystem("dmel-fine").digest != dmel.digest
    plain = TokenizerSystem("dmel", syllabary.load("dmel", vocoder=None))
    assert plain.tokenizer.spec.tokens.digest == dmel.tokenizer.spec.tokens.digest
    assert plain.digest != dmel.digest
    with pytest.raises(SyllabaryError, match="takes 80 codebooks, got 3"):
        TokenizerSystem("dmel:3")


def test_a_directory(rvq, tmp_path):
    folder = tmp_path / "my:7"
    rvq.save_pretrained(folder)
    system = catalogue.find(str(folder))
    assert system.name == str(folder) and system.digest == TokenizerSystem("tiny", rvq).digest
    assert catalogue.find(f"{folder}:2").num_codebooks == 2
    assert catalogue.find(system.given).digest == system.digest
    assert catalogue.find(f"{folder}/.:2").name == f"{folder}:2"


def test_what_is_said_of_it(rvq):
    fields = json.loads(json.dumps(TokenizerSystem("tiny:2", rvq).to_json()))
    assert fields["num_codebooks"] == 2 and fields["delay_ms"] == 0
    assert fields["tokenizer"]["parameters"] == rvq.spec.parameters
    assert fields["tokenizer"]["latency_ms"] == rvq.spec.latency_ms
    assert fields["tokenizer"]["broken_promises"] == {}
    assert {"syllabary", "torch"} <= set(fields["versions"])
    assert fields["setting"] == "2 codebooks, 50 Hz, 0.5 kbit/s"
    assert json.loads(json.dumps(catalogue.find("noise").to_json()))["tokenizer"] is None


def test_a_wrong_number_of_samples_is_a_failure(rvq, monkeypatch):
    system = TokenizerSystem("tiny", rvq)
    decode = rvq.decode
    monkeypatch.setattr(rvq, "decode", lambda tokens: decode(tokens)[:, :-1])
    with pytest.raises(RuntimeError, match="tiny gave"):
        system.reconstruct(synthetic_speech(5000))


def test_an_unknown_one_has_neighbours():
    with pytest.raises(UnknownTokenizerError, match=r"lyra-v2-3\.2"):
        catalogue.find("lyra-v2-3")
