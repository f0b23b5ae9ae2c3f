"""The FSQ codec: one implicit codebook or a residual stack, with levels chosen after training."""

import dataclasses
import math

import pytest
import torch

import syllabary
from syllabary.codecs.fsq.tokenizer import FSQCodec, FSQConfig
from syllabary.errors import SyllabaryError

from .. import tiny_codecs
from ..conftest import synthetic_speech


@pytest.fixture(scope="module")
def residual():
    return tiny_codecs.fsq(num_codebooks=3)


@pytest.fixture(scope="module")
def wave():
    return torch.from_numpy(synthetic_speech(8000))


def with_levels(codec, levels):
    """The same weights with other levels."""
    other = FSQCodec(dataclasses.replace(codec.config, levels=levels)).eval()
    other.load_state_dict(codec.state_dict())
    return other


def test_one_codebook_of_all_levels(wave):
    codec = tiny_codecs.fsq()
    tokens = codec.encode(wave, 16000)
    assert codec.spec.tokens.codebook_sizes == (60,)
    assert tokens.codes.shape == (1, 1, 25) and int(tokens.codes.max()) < 60
    assert len(tokens.codes.unique()) > 5
    assert codec.decode(tokens).shape == (1, 8000)
    assert FSQConfig().network.hop == 320
    assert 50 * math.ceil(math.log2(math.prod(FSQConfig().levels))) == 800


def test_fewer_codebooks_are_a_prefix_of_more(residual, wave):
    full = residual.encode(wave, 16000)
    assert full.codes.shape == (1, 3, 25)
    for count in range(1, 4):
        some = residual.encode(wave, 16000, num_codebooks=count)
        assert torch.equal(some.codes, full.codes[:, :count])
        assert residual.decode(some).shape == (1, 8000)
    plain = with_levels(tiny_codecs.fsq(), (5, 4, 3))
    assert torch.equal(plain.encode(wave, 16000).codes, full.codes[:, :1])


def test_more_codebooks_come_nearer(residual, wave):
    encoder = residual.encoder.double()
    with torch.no_grad():
        latents, _ = encoder.latents(encoder.windows_of(wave[None].double()))
    residual.encoder.float()
    latents = latents.float()
    inside = residual.quantizer.project_in(latents)
    bounded = residual.quantizer(latents).quantized  # all three, through project_out
    errors = []
    with torch.no_grad():
        for count in range(1, 4):
            found = residual.dequantize(residual.quantize(latents, count))
            errors.append(float((found - bounded).square().mean()))
    assert inside.shape[-1] == 3
    assert errors[0] > 4 * errors[1] > 0 and errors[2] < 1e-9


def test_levels_may_be_fewer_than_in_training(wave):
    codec = tiny_codecs.fsq()
    digests = {codec.spec.tokens.digest}
    for levels in ((4, 4, 2), (3, 3, 3), (2, 2, 2)):
        fewer = with_levels(codec, levels)
        tokens = fewer.encode(wave, 16000)
        assert fewer.spec.tokens.codebook_sizes == (math.prod(levels),)
        assert int(tokens.codes.max()) < math.prod(levels)
        assert fewer.decode(tokens).shape == (1, 8000)
        assert fewer.spec.bitrate < codec.spec.bitrate
        # Other codes, another meaning.
        assert fewer.spec.tokens.digest not in digests
        digests.add(fewer.spec.tokens.digest)
    with pytest.raises(RuntimeError, match="size mismatch"):
        with_levels(codec, (5, 4, 3, 2))


def test_a_code_of_minus_one_adds_nothing(residual):
    codes = torch.randint(0, 60, (1, 6, 3))
    codes[:, 4:] = -1
    with torch.no_grad():
        latents = residual.dequantize(codes)
        assert not latents[:, 4:].any()
        assert torch.equal(latents[:, :4], residual.dequantize(codes[:, :4]))
        assert not residual.dequantize(torch.full((1, 5, 3), -1)).any()
        fewer = codes.clone()
        fewer[:, 2:, 1:] = -1  # a stream may go on with fewer codebooks
        some = residual.dequantize(fewer)
        assert torch.equal(some[:, :2], latents[:, :2])
        assert torch.equal(some[:, 2:4], residual.dequantize(codes[:, 2:4, :1]))
        assert not some[:, 4:].any()


def test_fewer_codebooks_stream_as_they_decode(residual, wave):
    for count in (1, 2, 3):
        tokens = residual.encode(wave, 16000, num_codebooks=count)
        with residual.stream(num_codebooks=count) as session:
            pcm = [session.decode(tokens.frames(n, min(n + 3, 25))) for n in range(0, 25, 3)]
            pcm.append(session.flush().wave)
        assert torch.equal(torch.cat(pcm, 1), residual.decode(tokens))


def test_saving_and_loading(residual, wave, tmp_path):
    residual.save_pretrained(tmp_path)
    loaded = syllabary.load(tmp_path)
    assert isinstance(loaded, FSQCodec) and loaded.config == residual.config
    assert loaded.spec == residual.spec
    tokens = residual.encode(wave, 16000)
    assert loaded.encode(wave, 16000).equal(tokens)
    assert torch.equal(loaded.decode(tokens), residual.decode(tokens))


def test_the_digest_does_not_depend_on_the_decoder():
    codec, other, third = (tiny_codecs.fsq() for _ in range(3))
    with torch.no_grad():
        other.decoder.head.gains.bias[0] += 1
        third.quantizer.project_in.bias[0] += 1
    assert other.spec.tokens.digest == codec.spec.tokens.digest != third.spec.tokens.digest


def test_half_the_frames(wave):
    codec = tiny_codecs.fsq(640)
    assert float(codec.spec.frame_rate) == 25
    assert codec.spec.bitrate == 25 * 6
    assert codec.encode(wave, 16000).codes.shape == (1, 1, 13)


@pytest.mark.parametrize("levels", [(), (1, 5), (2**32, 2**32)])
def test_bad_levels(levels):
    with pytest.raises(SyllabaryError):
        FSQCodec(dataclasses.replace(tiny_codecs.fsq_config(), levels=levels))


@pytest.mark.parametrize("levels", [(5, 4, 3), (8, 8, 5), (2, 3, 2)])
def test_compiled_quantization_gives_the_codes_and_vectors_of_the_modules(levels):
    """The compiled one is used on a CPU; the modules train, and run elsewhere."""
    codec = with_levels(tiny_codecs.fsq(), levels)
    encode, vectors = codec.quantizing_arrays(), codec.dequantizing_arrays()
    dim = codec.network.latent_dim
    latents = torch.randn(20_000, dim, generator=torch.Generator().manual_seed(1)) / 2
    with torch.no_grad():
        expected = codec.quantizer.encode(latents[None])[0].T
        found = torch.from_numpy(encode(latents.numpy(), 1))
        assert int((found != expected).sum()) == 0
        assert len(expected.unique()) > math.prod(levels) / 2
        for some in (1, 3, 129):  # any number of frames gives the same
            assert torch.equal(torch.from_numpy(encode(latents[:some].numpy(), 1)), found[:some])
        # Any order in memory, too.
        assert torch.equal(torch.from_numpy(encode(latents.T.contiguous().T.numpy(), 1)), found)
        assert torch.equal(torch.from_numpy(encode(latents.numpy()[::-2], 1)), found.flip(0)[::2])
        decoded = codec.quantizer.decode(expected.T[None])[0]
        assert torch.allclose(torch.from_numpy(vectors(expected.numpy())), decoded, atol=1e-6)
    absent = expected[:4].clone()
    absent[1:3] = -1
    assert not vectors(absent.numpy())[1:3].any() and vectors(absent.numpy())[[0, 3]].any()


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -float("inf")])
def test_compiled_quantization_refuses_what_is_no_number(wrong):
    codec = tiny_codecs.fsq()
    latents = torch.zeros(3, codec.network.latent_dim)
    latents[1, 2] = wrong
    with pytest.raises(SyllabaryError, match="NaN or infinite"):
        codec.quantizing_arrays()(latents.numpy(), 1)
    for code in (-2, 60):
        with pytest.raises(SyllabaryError, match=f"code {code} is not in 0..59"):
            codec.dequantizing_arrays()(torch.tensor([[0], [code]]).numpy())


def test_streams_of_one_codebook_are_compiled_from_samples_to_codes_and_back(wave):
    codec = tiny_codecs.fsq()
    tokens = codec.encode(wave, 16000)
    with codec.stream(3) as session:
        assert codec.start_encoder(3, 1).compiled and codec.start_decoder(3).compiled
        codes, waves = [], []
        for at in range(0, 8000, 700):
            some = session.encode(wave[None, at : at + 700].expand(3, -1))
            codes.append(some.codes)
            waves.append(session.decode(some))
    together = torch.cat(codes, 2)
    assert torch.equal(together, tokens.codes[..., : together.shape[2]].expand(3, -1, -1))
    pcm = torch.cat(waves, 1)
    assert torch.equal(pcm, codec.decode(tokens)[:, : pcm.shape[1]].expand(3, -1))
