"""Residual quantization and what is built on it: against oracles and by hand."""

import pytest
import torch

from syllabary.errors import QuantizerError
from syllabary.quantizers import ResidualChain
from syllabary.quantizers.modules import (
    GroupedVectorQuantizer,
    GroupedVectorQuantizerConfig,
    MaskedChannelResidualVectorQuantizer,
    MaskedChannelResidualVectorQuantizerConfig,
    ResidualVectorQuantizer,
    ResidualVectorQuantizerConfig,
    VectorQuantizerConfig,
    pass_gradient,
)


def frames(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def config(dim=6, size=8, stages=4, dropout=(), **settings):
    quantizer = VectorQuantizerConfig(dim, size, **settings)
    return ResidualVectorQuantizerConfig(quantizer, stages, dropout)


def trained(module, dim=6, steps=3):
    for step in range(steps):
        module.train()(frames(3, 50, dim, seed=step))
    return module.eval()


class TestResidual:
    def test_codes_and_vectors_against_vector_quantize_pytorch(self):
        package = pytest.importorskip("vector_quantize_pytorch")
        module = trained(ResidualVectorQuantizer(config()))
        oracle = package.ResidualVQ(dim=6, codebook_size=8, num_quantizers=4).eval()
        for index, layer in enumerate(oracle.layers):
            layer._codebook.embed.data.copy_(module.stage(index).codebook)
        x = frames(2, 200, 6, seed=9)
        quantized, codes, _ = oracle(x)
        result = module(x)
        assert torch.equal(result.codes, codes.transpose(1, 2))
        assert torch.allclose(result.quantized, quantized, atol=1e-6)

    def test_codes_against_float64(self):
        module = trained(ResidualVectorQuantizer(config()))
        x = frames(2, 200, 6, seed=9)
        residual = x.double()
        codes = module.encode(x)
        for index in range(4):
            codebook = module.stage(index).codebook.double()
            distances = (residual[..., None, :] - codebook).square().sum(-1)
            assert torch.equal(distances.argmin(-1), codes[:, index])
            residual = residual - codebook[codes[:, index]]

    def test_eval_mode_uses_the_chain_and_agrees_with_the_loop(self, monkeypatch):
        module = trained(ResidualVectorQuantizer(config()))
        x = frames(2, 60, 6, seed=9)
        calls = []
        for name in ("encode", "decode"):
            plain = getattr(ResidualChain, name)

            def spy(self, *arguments, name=name, plain=plain):
                calls.append(name)
                return plain(self, *arguments)

            monkeypatch.setattr(ResidualChain, name, spy)
        codes = module.encode(x)
        decoded = module.decode(codes)
        assert calls == ["encode", "decode"]
        module.train()
        assert torch.equal(module.encode(x), codes)
        assert torch.equal(module.decode(codes), decoded)
        assert calls == ["encode", "decode"]

    def test_a_changed_codebook_changes_the_chain(self):
        module = trained(ResidualVectorQuantizer(config()))
        x = frames(2, 60, 6, seed=9)
        old = module.encode(x)
        decoded = module.decode(old)
        module.stage(3).codebook.data.neg_()
        assert torch.equal(module.encode(x)[:, :3], old[:, :3])
        assert not torch.equal(module.encode(x), old)
        assert not torch.equal(module.decode(old), decoded)

    @pytest.mark.parametrize("passing", ["straight_through", "rotation"])
    def test_the_gradient_passes_the_whole_stack_once(self, passing):
        module = ResidualVectorQuantizer(config(passing=passing, commitment_weight=0.0))
        x, weights = frames(2, 30, 6), frames(2, 30, 6, seed=1)
        leaf = x.clone().requires_grad_()
        result = module.train()(leaf)
        (result.quantized * weights).sum().backward()
        other = x.clone().requires_grad_()
        (pass_gradient(other, result.quantized, passing) * weights).sum().backward()
        assert torch.equal(leaf.grad, other.grad)

    def test_losses_are_those_of_each_residual(self):
        module = trained(ResidualVectorQuantizer(config(commitment_weight=0.5)))
        x = frames(2, 30, 6, seed=4).requires_grad_()
        result = module(x)
        expected, total, gradient = 0.0, torch.zeros(2, 30, 6), torch.zeros(2, 30, 6)
        for index in range(4):
            total = total + module.stage(index).codebook[result.codes[:, index]]
            expected += 0.5 * float((x.detach() - total).square().mean())
            gradient += 0.5 * 2 * (x.detach() - total) / x.numel()
        assert float(result.loss.detach()) == pytest.approx(expected, rel=1e-5)
        result.loss.backward()
        assert torch.allclose(x.grad, gradient, atol=1e-7)

    def test_factorised_stages_by_hand(self):
        torch.manual_seed(0)
        settings = {"codebook_dim": 3, "metric": "cosine", "update": "gradient"}
        module = trained(ResidualVectorQuantizer(config(**settings)))
        x = frames(2, 30, 6, seed=4)
        residual = x
        codes = module.encode(x)
        for index in range(4):
            stage = module.stage(index)
            inner = stage.project_in(residual)
            scores = torch.nn.functional.cosine_similarity(
                inner[..., None, :], stage.codebook, dim=-1
            )
            assert torch.equal(scores.argmax(-1), codes[:, index])
            residual = residual - stage.project_out(stage.codebook[codes[:, index]])
        assert torch.allclose(module.decode(codes), x - residual, atol=1e-5)


class TestDropout:
    def numbers(self, module, steps=40):
        x = frames(1, 20, 6)
        return [module.train()(x).codes.shape[1] for _ in range(steps)]

    def test_takes_only_and_all_of_what_is_listed(self):
        module = ResidualVectorQuantizer(config(dropout=[1, 2, 4]))
        assert set(self.numbers(module)) == {1, 2, 4}
        assert module.eval()(frames(1, 20, 6)).codes.shape[1] == 4
        assert module.train()(frames(1, 20, 6), num_codebooks=3).codes.shape[1] == 3

    def test_follows_from_the_seed_and_goes_on_after_loading(self):
        first = ResidualVectorQuantizer(config(dropout=range(1, 5)))
        again = ResidualVectorQuantizer(config(dropout=range(1, 5)))
        numbers = self.numbers(first)
        head = self.numbers(again, 15)
        resumed = ResidualVectorQuantizer(config(dropout=range(1, 5)))
        resumed.load_state_dict(again.state_dict())
        assert head + self.numbers(resumed, 25) == numbers
        other = ResidualVectorQuantizer(config(dropout=range(1, 5), seed=1))
        assert self.numbers(other) != numbers

    def test_an_item_that_is_there_more_often_is_taken_more_often(self):
        module = ResidualVectorQuantizer(config(dropout=(1, 4, 4, 4)))
        numbers = self.numbers(module, 100)
        assert numbers.count(4) > 1.7 * numbers.count(1) > 0

    def test_left_out_codebooks_do_not_learn_but_have_gradients(self):
        module = ResidualVectorQuantizer(config(update="gradient"))
        trained(module, steps=1)
        before = [module.stage(index).codebook.clone() for index in range(4)]
        usage = module.stage(3).usage.clone()
        result = module.train()(frames(2, 30, 6, seed=5), num_codebooks=2)
        result.loss.backward()
        for index in range(4):
            gradient = module.stage(index).codebook.grad
            assert bool((gradient != 0).any()) == (index < 2)
        assert torch.equal(module.stage(3).codebook, before[3])
        assert torch.equal(module.stage(3).usage, usage)

    @pytest.mark.parametrize("dropout", [(0,), (5,), (1, 9)])
    def test_bad_numbers(self, dropout):
        with pytest.raises(QuantizerError, match="dropout"):
            config(dropout=dropout)


class TestGrouped:
    def test_is_a_residual_quantizer_for_each_group_in_the_order_promised(self):
        module = GroupedVectorQuantizer(GroupedVectorQuantizerConfig(config(3, stages=2), 4))
        trained(module, dim=12)
        x = frames(2, 40, 12, seed=5)
        codes, result = module.encode(x), module(x)
        assert codes.shape == (2, 8, 40)
        for group in range(4):
            alone = module.group(group)(x[..., 3 * group : 3 * group + 3].contiguous())
            assert torch.equal(codes[:, [group, 4 + group]], alone.codes)
            part = result.quantized[..., 3 * group : 3 * group + 3]
            assert torch.equal(part, alone.quantized)
            for key, value in alone.statistics.items():
                assert torch.equal(result.statistics[key][[group, 4 + group]], value)
        assert len({tuple(module.group(g).stage(0).codebook[0].tolist()) for g in range(4)}) == 4

    def test_dropout_takes_whole_stages(self):
        settings = GroupedVectorQuantizerConfig(config(3, stages=3, dropout=(1, 3)), 2)
        module = GroupedVectorQuantizer(settings).train()
        numbers = {module(frames(1, 30, 6)).codes.shape[1] for _ in range(20)}
        assert numbers == {2, 6}


class TestMaskedChannel:
    def module(self, dim=8, masked=3, stages=5, **settings):
        residual = config(dim, stages=stages, **settings)
        return MaskedChannelResidualVectorQuantizer(
            MaskedChannelResidualVectorQuantizerConfig(residual, masked)
        )

    @pytest.mark.parametrize("masked", [1, 2, 3, 5])
    def test_by_hand(self, masked):
        module = trained(self.module(masked=masked), dim=8)
        x = frames(2, 40, 8, seed=5)
        codes = module.encode(x)
        total = torch.zeros_like(x)
        for index in range(5):
            given = x - total
            if index < masked:
                low, high = index * 8 // masked, (index + 1) * 8 // masked
                given = torch.zeros_like(x)
                given[..., low:high] = x[..., low:high]
            codebook = module.stage(index).codebook
            nearest = (given[..., None, :] - codebook).square().sum(-1).argmin(-1)
            assert torch.equal(nearest, codes[:, index])
            total = total + codebook[nearest]
            if index < masked:
                codebook = codebook.clone()
                codebook[:, low:high] = 0
                assert (codebook == 0).all()
        assert torch.allclose(module(x).quantized, total)

    def test_the_first_codebook_does_not_see_other_channels(self):
        module = trained(self.module(), dim=8)
        x = frames(2, 40, 8, seed=5)
        other = x.clone()
        other[..., 2:] = frames(2, 40, 6, seed=6)
        assert torch.equal(module.encode(x)[:, 0], module.encode(other)[:, 0])
        assert not torch.equal(module.encode(x)[:, 1], module.encode(other)[:, 1])

    @pytest.mark.parametrize("masked", [0, 6])
    def test_bad_settings(self, masked):
        with pytest.raises(QuantizerError, match="masked_codebooks"):
            self.module(masked=masked)
