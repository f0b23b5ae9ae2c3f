"""Vector quantization: look-up, updates, start, revival, gradients."""

import math

import pytest
import torch
from torch.nn import functional

from syllabary.errors import QuantizerError
from syllabary.quantizers.modules import VectorQuantizer, VectorQuantizerConfig, pass_gradient


def quantizer(dim=6, size=8, **settings):
    return VectorQuantizer(VectorQuantizerConfig(dim, size, **settings))


def frames(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("metric", ["l2", "cosine"])
def test_codes_are_the_nearest_by_brute_force(metric):
    module = quantizer(metric=metric, kmeans_rounds=0).eval()
    x, codebook = frames(2, 300, 6, seed=1).double(), module.codebook.double()
    if metric == "l2":
        expected = (x[..., None, :] - codebook).square().sum(-1).argmin(-1)
    else:
        expected = functional.cosine_similarity(x[..., None, :], codebook, dim=-1).argmax(-1)
    codes = module.encode(x.float())
    assert torch.equal(codes[:, 0], expected)
    assert torch.equal(module.decode(codes), module.codebook[expected])


def test_factorised_look_up_by_hand():
    torch.manual_seed(0)
    module = quantizer(codebook_dim=3, metric="cosine", update="gradient", kmeans_rounds=0).eval()
    x = frames(2, 50, 6)
    inner = module.project_in(x)
    expected = functional.cosine_similarity(inner[..., None, :], module.codebook, dim=-1).argmax(-1)
    result = module(x)
    assert torch.equal(result.codes[:, 0], expected)
    assert torch.allclose(result.quantized, module.project_out(module.codebook[expected]))


@pytest.mark.parametrize("update", ["ema", "gradient"])
def test_losses_against_float64(update):
    module = quantizer(update=update, commitment_weight=0.3, codebook_weight=0.7, kmeans_rounds=0)
    x, mask = frames(2, 30, 6), torch.rand(2, 30) < 0.7
    before = module.codebook.detach().clone()
    result = module.train()(x, mask)
    error = (x - before[result.codes[:, 0]])[mask].double().square().mean()
    assert float(result.losses["commitment"].detach()) == pytest.approx(
        0.3 * float(error), rel=1e-5
    )
    if update == "gradient":
        assert float(result.losses["codebook"].detach()) == pytest.approx(
            0.7 * float(error), rel=1e-5
        )
        assert float(result.loss.detach()) == pytest.approx(float(error), rel=1e-5)
    else:
        assert set(result.losses) == {"commitment"}


def test_gradients_of_the_losses():
    module = quantizer(update="gradient", commitment_weight=0.25, kmeans_rounds=0, revive_below=0)
    x = frames(2, 30, 6).requires_grad_()
    result = module.train()(x)
    result.loss.backward()
    codes = result.codes[:, 0]
    difference = (x - module.codebook[codes]).detach()
    assert torch.allclose(x.grad, 0.25 * 2 * difference / x.numel(), atol=1e-8)
    expected = torch.zeros(8, 6)
    expected.index_add_(0, codes.flatten(), -2 * difference.flatten(0, 1) / x.numel())
    assert torch.allclose(module.codebook.grad, expected, atol=1e-7)


def test_gradient_descent_moves_codes_to_the_means():
    """The codebook loss has its minimum where Lloyd's does."""
    module = quantizer(2, 4, update="gradient", kmeans_rounds=0, revive_below=0, seed=3).train()
    x = frames(1, 200, 2)
    optimizer = torch.optim.SGD(module.parameters(), lr=2.0)
    for _ in range(80):
        optimizer.zero_grad()
        result = module(x)
        result.loss.backward()
        optimizer.step()
    codes = module.eval().encode(x)[0, 0]
    for code in codes.unique():
        assert torch.allclose(module.codebook[code], x[0, codes == code].mean(0), atol=1e-3)


@pytest.mark.parametrize("steps", [1, 3])
def test_moving_means_against_vector_quantize_pytorch(steps):
    package = pytest.importorskip("vector_quantize_pytorch")
    oracle = package.VectorQuantize(
        dim=6, codebook_size=8, decay=0.9, eps=1e-12, threshold_ema_dead_code=0
    ).train()
    module = quantizer(decay=0.9, revive_below=0).train()
    start = frames(8, 6, seed=5)
    module.set_codebook(start)
    # Ours starts with an even share of the first batch for each code.
    share = 3 * 40 / 8
    oracle._codebook.embed.data.copy_(start)
    oracle._codebook.cluster_size.fill_(share)
    oracle._codebook.embed_avg.data.copy_(start * share)
    for step in range(steps):
        x = frames(3, 40, 6, seed=10 + step)
        _, codes, _ = oracle(x)
        assert torch.equal(module(x).codes[:, 0], codes)
        assert torch.allclose(module.codebook, oracle._codebook.embed[0], atol=1e-5)
        assert torch.allclose(module.usage, oracle._codebook.cluster_size[0], rtol=1e-5)


def test_moving_means_ignore_padding_and_unused_codes_stay():
    module = quantizer(decay=0.5, revive_below=0, kmeans_rounds=0).train()
    start = module.codebook.clone()
    x, mask = frames(1, 10, 6), torch.arange(10)[None] < 4
    codes = module(x, mask).codes[0, 0]
    for code in range(8):
        chosen = x[0, :4][codes[:4] == code]
        # The prior is an even share of 4 frames over 8 codes.
        expected = (0.5 * start[code] + chosen.sum(0)) / (0.5 + len(chosen))
        assert torch.allclose(module.codebook[code], expected, atol=1e-6)
    assert float(module.usage.sum()) == pytest.approx(4.0)


def test_a_batch_of_padding_teaches_nothing():
    module = quantizer().train()
    nothing = torch.zeros(2, 5, dtype=torch.bool)
    assert float(module(frames(2, 5, 6), nothing).loss) == 0
    assert not bool(module.has_codebook)
    module(frames(2, 50, 6))
    before = module.codebook.clone(), module.usage.clone()
    result = module(frames(2, 5, 6, seed=1), nothing)
    assert torch.equal(before[0], module.codebook) and torch.equal(before[1], module.usage)
    assert float(result.statistics["perplexity"]) == 1.0
    # Nor where there are dead codes to revive, and nothing to revive them with.
    module.usage[0] = 0
    assert float(module(frames(2, 5, 6), nothing).statistics["revived"]) == 0


class TestStart:
    def test_ends_where_each_code_is_the_mean_of_its_frames(self):
        x = frames(1, 120, 2)
        module = quantizer(2, 5, kmeans_rounds=40, decay=0.0).train()
        result = module(x)
        for code in range(5):
            mean = x[0, result.codes[0, 0] == code].mean(0)
            assert torch.allclose(result.quantized[0, result.codes[0, 0] == code], mean, atol=1e-6)

    def test_more_rounds_leave_less_error(self):
        x = frames(4, 300, 6)
        errors = []
        for rounds in (0, 1, 10):
            module = quantizer(size=32, kmeans_rounds=rounds).train()
            errors.append(float(module(x).losses["commitment"]))
        assert errors[0] > errors[1] > errors[2]

    def test_follows_from_the_seed_alone(self):
        codebooks = []
        for seed in (0, 0, 1):
            torch.rand(1)
            module = quantizer(seed=seed).train()
            module(frames(2, 50, 6))
            codebooks.append(module.codebook)
        assert torch.equal(codebooks[0], codebooks[1])
        assert not torch.equal(codebooks[0], codebooks[2])

    def test_too_few_frames_are_made_up_for_by_the_next_batches(self):
        module = quantizer(size=32).train()
        used = []
        for step in range(6):
            module(frames(1, 10, 6, seed=step))
            used.append(int((module.usage > 0).sum()))
        assert used[0] == 10 and used[-1] == 32
        assert len(module.codebook.unique(dim=0)) == 32

    def test_a_given_codebook_is_kept(self):
        module = quantizer(decay=0.999, revive_below=0).train()
        given = frames(8, 6, seed=4)
        module.set_codebook(given)
        module(frames(2, 50, 6))
        assert torch.allclose(module.codebook, given, atol=0.05)
        for wrong in (given[:4], given * math.nan):
            with pytest.raises(QuantizerError, match="codebook"):
                module.set_codebook(wrong)


class TestRevival:
    def dead(self, update="ema", count=2, **settings):
        module = quantizer(size=8, update=update, **settings).train()
        module(frames(4, 50, 6))
        with torch.no_grad():
            module.codebook[:count] = 1e3
            module.usage[:count] = 0
        return module

    @pytest.mark.parametrize("update", ["ema", "gradient"])
    def test_dead_codes_become_frames_of_the_batch(self, update):
        module = self.dead(update, decay=0.99)
        x = frames(4, 50, 6, seed=1)
        mask = torch.arange(50) < torch.tensor([50, 3, 20, 1])[:, None]
        kept = module.codebook[2:].detach().clone()
        result = module(x, mask)
        assert float(result.statistics["revived"]) == 2
        # They are found at once: the frames they came from are their own.
        for code in range(2):
            row, frame = (result.codes[:, 0] == code).logical_and(mask).nonzero().T
            assert len(row) >= 1
            exact = (result.quantized[row, frame] == x[row, frame]).all(-1)
            assert exact.any()
        if update == "gradient":
            assert torch.equal(module.codebook[2:], kept)
        assert float(module(x, mask).statistics["revived"]) == 0

    def test_the_threshold_does_not_depend_on_the_batch_size(self):
        """A code with a twentieth of a uniform share dies; one with a fifth lives: in any batch."""
        for number in (320, 3200):
            shares = torch.tensor([0.05, 0.2, *[(8 - 0.25) / 6] * 6]) / 8
            codes = torch.repeat_interleave(torch.arange(8), (shares * number).round().long())
            centres = 10 * torch.eye(8)
            module = quantizer(8, 8, decay=0.5, revive_below=0.1).train()
            module.set_codebook(centres)
            x = centres[codes][None]
            for _ in range(3):
                assert float(module(x).statistics["revived"]) == 0
            for _ in range(12):
                if float(module(x).statistics["revived"]):
                    break
            else:
                pytest.fail("the rare code was never revived")
            assert not torch.allclose(module.codebook[0], centres[0])
            assert torch.allclose(module.codebook[1], centres[1])

    def test_more_dead_codes_than_frames(self):
        module = self.dead(count=6)
        x = frames(1, 3, 6, seed=2)
        result = module(x)
        assert float(result.statistics["revived"]) == 3
        assert torch.equal(result.quantized, x)

    def test_off(self):
        module = self.dead(revive_below=0.0)
        assert float(module(frames(4, 50, 6, seed=1)).statistics["revived"]) == 0
        assert (module.codebook[:2] == 1e3).all()

    def test_keeps_a_codebook_in_use(self):
        """Data that moves away: without revival codes stay behind."""
        used = {}
        for threshold in (0.0, 0.1):
            module = quantizer(size=32, decay=0.8, revive_below=threshold).train()
            for step in range(60):
                x = frames(2, 200, 6, seed=step)
                result = module(x if step < 5 else x * 0.05 + 5)
            used[threshold] = float(result.statistics["used_share"])
        assert used[0.1] > 0.9 > 0.5 > used[0.0]


class TestStaleness:
    """No way of changing the codebook leaves eval mode with an old one."""

    @pytest.mark.parametrize("update", ["ema", "gradient"])
    @pytest.mark.parametrize("way", ["in place", "data", "load", "optimizer", "replace", "set"])
    def test_every_way(self, update, way):
        module = quantizer(update=update, kmeans_rounds=0).eval()
        x = frames(2, 20, 6)
        old = module.encode(x)
        new = module.codebook.detach().flip(0).clone()
        if way == "in place":
            with torch.no_grad():
                module.codebook.copy_(new)
        elif way == "data":
            module.codebook.data[:] = new
        elif way == "load":
            module.load_state_dict({**module.state_dict(), "codebook": new})
        elif way == "optimizer":
            change = module.codebook.detach() - new
            parameter = torch.nn.Parameter(module.codebook.detach())
            parameter.data = module.codebook.data
            parameter.grad = change
            torch.optim.SGD([parameter], lr=1.0).step()
        elif way == "replace":
            module.codebook = torch.nn.Parameter(new) if update == "gradient" else new
        else:
            module.set_codebook(new)
        if way == "optimizer":
            fresh = quantizer(update=update, kmeans_rounds=0).eval()
            fresh.load_state_dict(module.state_dict())
            assert torch.equal(module.encode(x), fresh.encode(x))
        assert torch.equal(module.encode(x), 7 - old)

    def test_it_is_prepared_once(self):
        module = quantizer(kmeans_rounds=0).eval()
        search = module._search([module.codebook])
        module.encode(frames(1, 5, 6))
        assert module._search([module.codebook]) is search


class TestGradient:
    def test_straight_through(self):
        x, quantized = frames(5, 4).requires_grad_(), frames(5, 4, seed=1)
        passed = pass_gradient(x, quantized)
        weights = frames(5, 4, seed=2)
        (passed * weights).sum().backward()
        assert torch.equal(passed, quantized) and torch.equal(x.grad, weights)

    def test_rotation_against_the_matrix(self):
        """The paper's definition, in float64: R turns x into the direction of its code."""
        x, quantized = frames(40, 5).double().requires_grad_(), frames(40, 5, seed=1).double()
        passed = pass_gradient(x, quantized, "rotation")
        weights = frames(40, 5, seed=2).double()
        (passed * weights).sum().backward()
        assert torch.equal(passed, quantized)
        for e, q, weight, gradient in zip(x.detach(), quantized, weights, x.grad, strict=True):
            a, b = e / e.norm(), q / q.norm()
            middle = (a + b) / (a + b).norm()
            matrix = torch.eye(5) - 2 * torch.outer(middle, middle) + 2 * torch.outer(b, a)
            scale = q.norm() / e.norm()
            assert torch.allclose(scale * matrix @ e, q)
            assert torch.allclose(matrix @ matrix.T, torch.eye(5).double(), atol=1e-12)
            assert torch.allclose(gradient, scale * matrix.T @ weight)

    def test_rotation_against_vector_quantize_pytorch(self):
        package = pytest.importorskip("vector_quantize_pytorch.vector_quantize_pytorch")
        x, quantized, weights = frames(40, 5), frames(40, 5, seed=1), frames(40, 5, seed=2)
        gradients = []
        for function in (package.rotate_to, lambda a, b: pass_gradient(a, b, "rotation")):
            leaf = x.clone().requires_grad_()
            (function(leaf, quantized) * weights).sum().backward()
            gradients.append(leaf.grad)
        assert torch.allclose(*gradients, rtol=1e-4, atol=1e-5)

    def test_rotation_of_special_vectors(self):
        x = torch.tensor([[0.0, 0], [1, 2], [3, 4], [1, 0]], requires_grad=True)
        quantized = torch.tensor([[1.0, 1], [0, 0], [3, 4], [-2, 0]])
        weights = frames(4, 2)
        (pass_gradient(x, quantized, "rotation") * weights).sum().backward()
        assert torch.equal(x.grad[:2], weights[:2])
        assert torch.allclose(x.grad[2], weights[2])
        assert torch.allclose(x.grad[3], 2 * weights[3] * torch.tensor([-1.0, 1.0]))

    def test_unknown(self):
        with pytest.raises(QuantizerError, match="straight_through, rotation"):
            pass_gradient(frames(2, 2), frames(2, 2), "guess")

    @pytest.mark.parametrize("passing", ["straight_through", "rotation"])
    def test_through_the_module(self, passing):
        module = quantizer(passing=passing, commitment_weight=0.0, kmeans_rounds=0)
        module.set_codebook(frames(8, 6, seed=3))
        x, weights = frames(2, 10, 6), frames(2, 10, 6, seed=1)
        for training in (False, True):
            leaf = x.clone().requires_grad_()
            result = module.train(training)(leaf)
            (result.quantized * weights).sum().backward()
            other = x.clone().requires_grad_()
            (pass_gradient(other, result.quantized, passing) * weights).sum().backward()
            assert torch.equal(leaf.grad, other.grad)


@pytest.mark.parametrize(
    "settings",
    [
        {"metric": "l1"},
        {"update": "guess"},
        {"passing": "guess"},
        {"decay": 1.0},
        {"revive_below": 1.0},
        {"kmeans_rounds": -1},
        {"codebook_dim": 0},
        {"size": 0},
    ],
)
def test_bad_settings(settings):
    with pytest.raises(QuantizerError):
        quantizer(**settings)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_module_in_half_precision_learns_in_float32(dtype):
    plain, half = quantizer(size=4, decay=0.5), quantizer(size=4, decay=0.5).to(dtype)
    for step in range(12):  # codes die and are revived
        x = frames(2, 40, 6, seed=step) + 10 * step
        plain(x), half(x)
    assert half.sums.dtype == half.codebook.dtype == torch.float32
    assert torch.equal(plain.codebook, half.codebook)


def test_a_codebook_that_is_loaded_alone_stays():
    module = quantizer(size=4)
    codebook = frames(4, 6, seed=3)
    module.load_state_dict({"codebook": codebook}, strict=False)
    module(frames(2, 40, 6))
    assert (module.codebook - codebook).norm() < 0.2 * codebook.norm()
