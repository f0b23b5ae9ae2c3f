"""`UnitTokenizer`: centroids of any encoder, soft units, and the way back to sound."""

import copy

import pytest
import torch

import syllabary
from syllabary.errors import CheckpointError, QuantizerError
from syllabary.semantic.encoders import catalogue
from syllabary.semantic.encoders.log_mel import LogMel, LogMelConfig
from syllabary.semantic.encoders.mfcc import MFCC
from syllabary.semantic.speaking.mel_table import MelTableConfig
from syllabary.semantic.units.tokenizer import UnitTokenizer

from ... import tiny_units
from ...conftest import synthetic_speech


def speech(num_samples: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(synthetic_speech(num_samples, seed))


@pytest.fixture(scope="module")
def units() -> UnitTokenizer:
    return tiny_units.tokenizer_of(MFCC().eval(), 40, "mfcc-units")


def test_codes_are_the_nearest_centroids(units):
    batch = torch.zeros(2, 9000)
    batch[0], batch[1, :5000] = speech(9000), speech(5000, 1)
    tokens = units.encode(batch, 16000, [9000, 5000])
    features, frames = units.features(batch, 16000, [9000, 5000])
    assert frames.tolist() == tokens.lengths.tolist() == [29, 16]
    distances, same_frames = units.encode_soft(batch, 16000, [9000, 5000])
    assert distances.shape == (2, 29, 40) and torch.equal(frames, same_frames)
    assert not distances[1, 16:].any() and not features[1, 16:].any()
    for row, count in enumerate(frames):
        expected = torch.cdist(features[row].double(), units.centroids[0].double()) ** 2
        assert torch.allclose(distances[row, :count].double(), expected[:count], rtol=1e-5)
        assert torch.equal(tokens.codes[row, 0, :count], distances[row, :count].argmin(1))


def test_runs_are_merged_and_restored(units):
    tokens = units.encode(speech(16000).repeat_interleave(4), 16000)
    merged = tokens.deduplicate()
    assert int(merged.lengths) < int(tokens.lengths)
    assert merged.restore().equal(tokens)
    assert merged.bitrate() < tokens.bitrate()


def test_centroids_of_another_encoder_are_refused():
    with pytest.raises(QuantizerError, match="39 dimensions"):
        UnitTokenizer.of(MFCC(), torch.zeros(10, 768))
    with pytest.raises(QuantizerError, match="39 dimensions"):
        UnitTokenizer.of(MFCC(), torch.zeros(39))
    with pytest.raises(QuantizerError, match="NaN"):
        UnitTokenizer.of(MFCC(), torch.full((10, 39), float("nan")))
    with pytest.raises(QuantizerError, match="2 sets of centroids for 1 groups"):
        UnitTokenizer.of(MFCC(), [torch.zeros(10, 39)] * 2)


def test_imported_centroids_say_that_they_have_no_sound(tmp_path):
    units = UnitTokenizer.of(MFCC(), torch.randn(10, 39), "imported")
    assert units.spec.decoder_latency is None
    tokens = units.encode(speech(3000), 16000)
    with pytest.raises(CheckpointError, match="no way back to sound"):
        units.decode(tokens)
    units.save_pretrained(tmp_path)
    assert syllabary.load(tmp_path).encode(speech(3000), 16000).equal(tokens)
    # A table that comes later gives sound, and changes neither tokens nor their digest.
    speaking = units.with_mel_table(torch.randn(10, 80) - 3)
    assert speaking.spec.tokens.digest == units.spec.tokens.digest
    assert speaking.decode(tokens).shape == (1, 3000)
    with pytest.raises(QuantizerError, match="mel table"):
        units.with_mel_table(torch.zeros(9, 80))


def test_the_digest_follows_encoder_and_centroids(units):
    others = [
        tiny_units.tokenizer_of(MFCC(), 41),
        tiny_units.tokenizer_of(catalogue.find("log-mel"), 40),
        UnitTokenizer.of(units.encoder, units.centroids[0] + 1e-3),
    ]
    digests = {other.spec.tokens.digest for other in [units, *others]}
    assert len(digests) == 4
    quieter = units.with_mel_table(units.vocoder.table - 1, MelTableConfig(width=0.1))
    assert quieter.spec.tokens.digest == units.spec.tokens.digest
    assert quieter.full_digest != units.full_digest


def test_each_layer_has_a_codebook():
    pytest.importorskip("transformers")
    units = tiny_units.MAKERS["tiny-two-layer-units"]()
    wave = speech(8000)
    tokens = units.encode(wave, 16000)
    assert tokens.codes.shape == (1, 2, 25)
    first = units.encode(wave, 16000, num_codebooks=1)
    assert torch.equal(first.codes, tokens.codes[:, :1])
    # Sound comes from the first codebook, so fewer codebooks sound the same.
    assert torch.equal(units.decode(first), units.decode(tokens))
    soft, _ = units.encode_soft(wave, 16000, codebook=1)
    assert torch.equal(soft[0].argmin(1), tokens.codes[0, 1])


def test_decoding_speaks_the_spectra_of_the_units():
    """With a unit a frame, the sound has the spectrum that the table says."""
    encoder = LogMel().eval()
    wave = speech(2 * 16000)
    frames = encoder.features([wave])[0]
    units = UnitTokenizer.of(encoder, frames, "all").with_mel_table(frames)
    tokens = units.encode(wave, 16000)
    spoken = units.decode(tokens)
    assert spoken.shape == (1, len(wave))
    heard = encoder.features([spoken[0]])[0]
    loud = frames > -3.0
    error = (heard - frames)[loud].abs().mean()
    silent = (frames + 5)[loud].abs().mean()
    assert error < 0.25 < silent, f"{float(error):.3f}"


def test_silence_after_the_end_is_silent(units):
    """The row is ended by silence, not by whatever unit is the first."""
    table = torch.zeros(40, 80)
    table[1:] = -5.0
    loud_first = units.with_mel_table(table)
    codes = torch.ones(1, 1, 20, dtype=torch.long)
    tokens = loud_first.encode(torch.zeros(20 * 320), 16000)
    import dataclasses

    quiet = loud_first.decode(dataclasses.replace(tokens, codes=codes))
    noisy = loud_first.decode(dataclasses.replace(tokens, codes=codes * 0))
    assert float(quiet.abs().max()) < 0.01 < float(noisy.abs().max())


def test_another_hop_has_no_such_sound(units):
    encoder = LogMel(LogMelConfig(hop=200)).eval()
    other = UnitTokenizer.of(encoder, torch.randn(4, 80))
    with pytest.raises(ValueError, match=r"\(16000, 320\), the encoder \(16000, 200\)"):
        other.with_mel_table(torch.zeros(4, 80))
    config = MelTableConfig(LogMelConfig(hop=200))
    assert other.with_mel_table(torch.zeros(4, 80), config).spec.tokens.frame_rate == 80


def test_copies_and_changed_weights_are_searched_anew(units):
    wave = speech(6000)
    tokens = units.encode(wave, 16000)
    other = copy.deepcopy(units)
    assert other.encode(wave, 16000).equal(tokens)
    other.centroids[0].copy_(units.centroids[0].flip(0))
    codes = other.encode(wave, 16000).codes
    # Equal centroids, of silence, have several indices.
    assert torch.equal(other.centroids[0][codes], units.centroids[0][tokens.codes])
    assert not torch.equal(codes, tokens.codes)


def test_a_published_encoder_is_saved_with_its_units(tmp_path):
    pytest.importorskip("transformers")
    units = tiny_units.tokenizer_of(tiny_units.encoder("hubert"), name="hubert-units")
    units.save_pretrained(tmp_path / "units")
    loaded = syllabary.load(tmp_path / "units")
    assert loaded.spec == units.spec
    assert loaded.encode(speech(5000), 16000).equal(units.encode(speech(5000), 16000))
    encoder = catalogue.find(str(tmp_path / "units"))
    assert torch.equal(
        encoder.features([speech(5000)])[0], units.encoder.features([speech(5000)])[0]
    )
