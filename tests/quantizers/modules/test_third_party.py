"""Quantizers of vector-quantize-pytorch through the adapter."""

import sys

import pytest
import torch

from syllabary.errors import QuantizerError
from syllabary.quantizers.modules import ThirdPartyQuantizer

DIM = 6


def frames(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_a_missing_package_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "vector_quantize_pytorch", None)
    with pytest.raises(QuantizerError, match="pip install vector-quantize-pytorch"):
        ThirdPartyQuantizer.create("LFQ", dim=DIM)


class TestWithThePackage:
    @pytest.fixture(autouse=True)
    def package(self):
        return pytest.importorskip("vector_quantize_pytorch")

    def build(self, name):
        torch.manual_seed(0)
        settings = {
            "LFQ": {"codebook_size": 64, "dim": DIM},
            "SimVQ": {"codebook_size": 16, "dim": DIM},
            "VectorQuantize": {"codebook_size": 16, "dim": DIM},
            "ResidualVQ": {"codebook_size": 16, "num_quantizers": 3, "dim": DIM},
            "ResidualLFQ": {"codebook_size": 64, "num_quantizers": 3, "dim": DIM},
            "ResidualSimVQ": {"codebook_size": 16, "num_quantizers": 3, "dim": DIM},
            "FSQ": {"levels": [5, 4, 3], "dim": DIM},
            "ResidualFSQ": {"levels": [5, 3, 3], "num_quantizers": 2, "dim": DIM},
            "GroupedResidualVQ": {
                "codebook_size": 16,
                "num_quantizers": 3,
                "groups": 2,
                "dim": DIM,
            },
            "LatentQuantize": {"levels": [5, 5, 3], "dim": DIM},
        }[name]
        return ThirdPartyQuantizer.create(name, **settings)

    CODEBOOKS = {  # noqa: RUF012
        "LFQ": 1,
        "SimVQ": 1,
        "VectorQuantize": 1,
        "ResidualVQ": 3,
        "ResidualLFQ": 3,
        "ResidualSimVQ": 3,
        "FSQ": 1,
        "ResidualFSQ": 2,
        "GroupedResidualVQ": 6,
        "LatentQuantize": 1,
    }

    @pytest.mark.parametrize("name", CODEBOOKS)
    def test_the_interface(self, name):
        module = self.build(name)
        x, mask = frames(2, 30, DIM), torch.arange(30) < torch.tensor([[30], [11]])
        trained = module.train()(x.clone().requires_grad_(), mask)
        assert trained.quantized.shape == x.shape and trained.quantized.requires_grad
        assert len(module.codebook_sizes) == self.CODEBOOKS[name]
        module.eval()
        result = module(x, mask)
        assert result.codes.shape == (2, self.CODEBOOKS[name], 30)
        assert result.codes.dtype == torch.int64
        assert torch.equal(module.decode(result.codes), result.quantized)
        assert result.statistics["perplexity"].shape == (self.CODEBOOKS[name],)
        assert torch.equal(module.encode(x), module(x).codes)
        # What it gives by itself, for the same vectors.
        own = module.module(x[:1].transpose(1, 2) if name == "LatentQuantize" else x[:1])[0]
        own = own.transpose(1, 2) if name == "LatentQuantize" else own
        assert torch.allclose(own, result.quantized[:1], atol=1e-5)
        noisy = x.clone()
        noisy[~mask] = torch.nan
        assert torch.equal(module(noisy, mask).codes, result.codes)
        before = {key: value.clone() for key, value in module.state_dict().items()}
        module.train().encode(x)
        for key, value in module.state_dict().items():
            assert torch.equal(value, before[key]), key
        assert module.module.training

    def test_padding_teaches_nothing(self):
        states = []
        for filling in (0.0, 1e3):
            module = self.build("VectorQuantize").train()
            x, mask = frames(2, 30, DIM), torch.arange(30) < torch.tensor([[30], [11]])
            x[~mask] = filling
            module(x, mask)
            states.append(module.state_dict())
        for key, value in states[0].items():
            assert torch.equal(value, states[1][key]), key
        nothing = self.build("LFQ").train()(x, torch.zeros_like(mask))
        assert nothing.codes.shape == (2, 1, 30) and float(nothing.loss) == 0

    def test_channels_first(self):
        torch.manual_seed(0)
        x = frames(2, DIM, DIM)
        settings = {"codebook_size": 16, "dim": DIM, "channel_first": True}
        module = ThirdPartyQuantizer.create("SimVQ", **settings).eval()
        result = module(x)
        assert torch.equal(module.decode(result.codes), result.quantized)
        own = module.module(x.transpose(1, 2))[0].transpose(1, 2)
        assert torch.allclose(own, result.quantized, atol=1e-6)

    def test_losses_are_its_own(self):
        module = self.build("SimVQ").train()
        x = frames(1, 30, DIM)
        assert torch.equal(module(x).loss, module.module(x)[2])

    def test_its_dropout(self, package):
        torch.manual_seed(0)
        own = package.ResidualVQ(dim=DIM, codebook_size=16, num_quantizers=4, quantize_dropout=True)
        module = ThirdPartyQuantizer(own, DIM).train()
        numbers = {module(frames(2, 10, DIM)).codes.shape[1] for _ in range(15)}
        assert len(numbers) > 1 and max(numbers) <= 4

    def test_what_does_not_fit_is_said(self, package):
        with pytest.raises(QuantizerError, match="no quantizer 'nonsense'"):
            ThirdPartyQuantizer.create("nonsense")
        with pytest.raises(QuantizerError, match="can't decode"):
            ThirdPartyQuantizer(torch.nn.Linear(3, 3), 3)
        with pytest.raises(QuantizerError, match="dim"):
            ThirdPartyQuantizer(torch.nn.Linear(3, 3))
        module = self.build("ResidualVQ").eval()
        with pytest.raises(QuantizerError, match="code 16 of codebook 1"):
            codes = module.encode(frames(1, 5, DIM))
            codes[0, 1, 2] = 16
            module.decode(codes)
