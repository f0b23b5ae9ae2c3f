"""What holds for every quantizer module."""

import copy
import math
import pickle

import pytest
import torch

from syllabary.errors import QuantizerError
from syllabary.quantizers.modules import (
    FiniteScalarQuantizer,
    FiniteScalarQuantizerConfig,
    GroupedVectorQuantizer,
    GroupedVectorQuantizerConfig,
    MaskedChannelResidualVectorQuantizer,
    MaskedChannelResidualVectorQuantizerConfig,
    RandomProjectionQuantizer,
    RandomProjectionQuantizerConfig,
    ResidualFiniteScalarQuantizer,
    ResidualVectorQuantizer,
    ResidualVectorQuantizerConfig,
    VectorQuantizer,
    VectorQuantizerConfig,
)

DIM = 12


def vector(**settings):
    return VectorQuantizerConfig(DIM, 16, **settings)


def residual(quantizer, stages=4):
    return ResidualVectorQuantizerConfig(quantizer, stages)


def build(name):
    torch.manual_seed(0)
    small = VectorQuantizerConfig(DIM // 3, 16)
    masked = MaskedChannelResidualVectorQuantizerConfig
    return {
        "ema": lambda: VectorQuantizer(vector()),
        "gradient": lambda: VectorQuantizer(vector(update="gradient", passing="rotation")),
        "factorised": lambda: VectorQuantizer(
            vector(codebook_dim=4, metric="cosine", update="gradient")
        ),
        "residual": lambda: ResidualVectorQuantizer(residual(vector())),
        "residual-dac": lambda: ResidualVectorQuantizer(
            residual(vector(codebook_dim=4, metric="cosine", update="gradient"))
        ),
        "grouped": lambda: GroupedVectorQuantizer(
            GroupedVectorQuantizerConfig(residual(small, 2), 3)
        ),
        "masked-channel": lambda: MaskedChannelResidualVectorQuantizer(
            masked(residual(vector(), 5), 3)
        ),
        "fsq": lambda: FiniteScalarQuantizer(
            FiniteScalarQuantizerConfig((8, 5, 5, 5), DIM, noise_dropout=0.5)
        ),
        "residual-fsq": lambda: ResidualFiniteScalarQuantizer(
            FiniteScalarQuantizerConfig((4, 5) * (DIM // 2)), 3
        ),
        "random-projection": lambda: RandomProjectionQuantizer(
            RandomProjectionQuantizerConfig(DIM, 32, 4, num_codebooks=2)
        ),
    }[name]()


LEARNED = ("ema", "gradient", "factorised")
VARIABLE = ("residual", "residual-dac", "grouped", "masked-channel", "residual-fsq")
NAMES = (*LEARNED, *VARIABLE, "fsq", "random-projection")
every = pytest.mark.parametrize("name", NAMES)


def batch(seed=0, rows=3, frames=40):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, frames, DIM, generator=generator)
    lengths = torch.randint(1, frames + 1, (rows,), generator=generator)
    return x, torch.arange(frames) < lengths[:, None]


def trained(name, steps=3):
    module = build(name).train()
    for step in range(steps):
        module(*batch(step))
    return module.eval()


@every
def test_shapes_and_dtypes(name):
    module = build(name)
    x, mask = batch()
    for training in (True, False):
        result = module.train(training)(x, mask)
        codebooks = len(module.codebook_sizes)
        assert result.codes.shape == (3, codebooks, 40) and result.codes.dtype == torch.int64
        assert result.quantized.dtype == torch.float32
        assert result.quantized.shape == module.decode(result.codes).shape
        assert {"perplexity", "used_share"} <= set(result.statistics)
        for value in result.statistics.values():
            assert value.shape == (codebooks,)
        assert (result.statistics["used_share"] > 0).all()
        assert torch.equal(result.loss, sum(result.losses.values(), start=torch.zeros(())))
        assert not result.codes.requires_grad
    assert module(torch.zeros(2, 0, DIM)).codes.shape == (2, codebooks, 0)


@every
def test_decode_is_what_eval_gives_bit_for_bit(name):
    module = trained(name)
    x, mask = batch(7)
    result = module(x, mask)
    assert torch.equal(module.decode(result.codes), result.quantized)
    with torch.no_grad():
        assert torch.equal(module.decode(result.codes), result.quantized)
    plain = module(x)
    assert torch.equal(module.encode(x), plain.codes)
    assert len(plain.codes.unique()) > 8


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"random-projection", "residual-fsq"}))
def test_unrounded_vectors_are_those_of_codebooks_that_have_them(name):
    """A codebook with the very vectors that are looked up in it rounds nothing."""
    x, _ = batch(9, rows=1, frames=16)
    if name == "fsq":
        fine = FiniteScalarQuantizerConfig((4095, 4094, 4095), DIM)
        module = FiniteScalarQuantizer(fine).eval()
        torch.testing.assert_close(module.unrounded(x), module(x).quantized, rtol=0, atol=1e-3)
        return
    module = trained(name)

    def knows_them(stage, inputs, outputs=None):
        stage.set_codebook(stage.project_in(inputs[0][0]).detach())

    stages = [part for part in module.modules() if isinstance(part, VectorQuantizer)]
    quantize = VectorQuantizer.quantize
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            VectorQuantizer,
            "quantize",
            lambda stage, *inputs: knows_them(stage, inputs) or quantize(stage, *inputs),
        )
        quantized = module(x).quantized
    assert stages
    torch.testing.assert_close(module.unrounded(x), quantized, rtol=1e-5, atol=1e-5)


@every
def test_unrounded_vectors_do_not_depend_on_the_batch(name):
    module = trained(name)
    x, _ = batch(8, rows=5, frames=61)
    if name == "random-projection":
        with pytest.raises(QuantizerError, match="does not decode"):
            module.unrounded(x)
        return
    found = module.unrounded(x)
    assert found.shape == x.shape and found.dtype == torch.float32
    for row in range(5):
        assert torch.equal(module.unrounded(x[row, None, 7:30]), found[row, None, 7:30])
    with pytest.raises(QuantizerError, match="NaN"):
        module.unrounded(x * float("nan"))
    if name in ("ema", "gradient"):
        assert torch.equal(found, x)


def test_decoded_parts_of_finite_scalar_stages_add_up():
    module = ResidualFiniteScalarQuantizer(FiniteScalarQuantizerConfig((5, 4, 3), DIM), 3).eval()
    codes = module.encode(batch(3)[0])
    for count in (1, 2, 3):
        parts = module.decode_parts(codes[:, :count])
        assert len(parts) == count
        total = torch.stack(parts).sum(0)
        torch.testing.assert_close(total, module.decode(codes[:, :count]), rtol=0, atol=1e-5)


@every
def test_codes_do_not_depend_on_the_batch(name):
    module = trained(name)
    x, _ = batch(8, rows=5, frames=61)
    codes, quantized = module.encode(x), module(x).quantized
    for row in range(5):
        assert torch.equal(module.encode(x[row, None]), codes[row, None])
        assert torch.equal(module.decode(codes[row, None]), quantized[row, None])
    if name != "random-projection":
        for part in (slice(0, 1), slice(13, 44), slice(60, 61)):
            assert torch.equal(module.encode(x[:, part]), codes[..., part])


@every
def test_padding_has_no_influence(name):
    """NaN there, something else there, or fewer padded frames: the same learning and results."""
    state, seen = [], []
    for kind in ("nan", "huge", "cut"):
        module = build(name).train()
        torch.manual_seed(1)
        for step in range(3):
            x, mask = batch(step)
            mask[:, 30:] = False
            x[~mask] = {"nan": math.nan, "huge": 1e30, "cut": 0.0}[kind]
            if kind == "cut":
                x, mask = x[:, :30], mask[:, :30]
            result = module(x.requires_grad_(), mask)
            assert result.loss.isfinite()
        codes = module.eval()(x, mask).codes
        state.append(module.state_dict())
        valid = codes.transpose(1, 2)[mask]
        seen.append((result.loss, result.statistics, valid))
    # Without padding at the end sums of losses go another way round, but codebooks stay.
    for other, (loss, statistics, codes) in zip(state[1:], seen[1:], strict=True):
        for key, value in other.items():
            assert torch.equal(value, state[0][key]), key
        assert torch.allclose(loss, seen[0][0], rtol=1e-6)
        assert torch.equal(codes, seen[0][2])
        for key, value in statistics.items():
            assert torch.equal(value, seen[0][1][key]), key


@every
def test_gradient_stops_at_padding(name):
    module = build(name).train()
    x, mask = batch(3)
    x.requires_grad_()
    result = module(x, mask)
    if not result.quantized.requires_grad:
        assert name == "random-projection"
        return
    (result.quantized.square().sum() + result.loss).backward()
    assert (x.grad[~mask] == 0).all() and (x.grad[mask] != 0).any(-1).all()
    assert x.grad.isfinite().all()
    for key, parameter in module.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), key


@every
def test_float32_inside_under_autocast_and_for_bfloat16(name):
    module = trained(name)
    x, _ = batch(9)
    half = x.bfloat16()
    expected = module(half.float())
    with torch.autocast("cpu", torch.bfloat16):
        inside = module(half)
        assert torch.equal(module.encode(half), expected.codes)
        assert torch.equal(module.decode(inside.codes), expected.quantized)
    assert torch.equal(inside.codes, expected.codes)
    assert torch.equal(inside.quantized, expected.quantized)
    assert torch.equal(inside.loss, expected.loss)
    assert torch.equal(module.encode(half), expected.codes)
    module.train()
    with torch.autocast("cpu", torch.bfloat16):
        result = module(half)
    assert result.quantized.dtype == torch.float32 and result.loss.dtype == torch.float32


@every
def test_saved_and_loaded_and_copied_gives_the_same_codes(name, tmp_path):
    module = trained(name)
    x, _ = batch(10)
    codes, quantized = module.encode(x), module(x).quantized
    torch.save(module.state_dict(), tmp_path / "state.pt")
    fresh = build(name).eval()
    fresh.encode(x)
    fresh.load_state_dict(torch.load(tmp_path / "state.pt"))
    for other in (fresh, copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(other.encode(x), codes)
        assert torch.equal(other(x).quantized, quantized)
    # Training goes on from there exactly as it would have.
    for other in (module, fresh):
        torch.manual_seed(2)
        other.train()(*batch(11))
    for key, value in module.state_dict().items():
        assert torch.equal(value, fresh.state_dict()[key]), key


@every
def test_eval_and_encode_learn_nothing(name):
    module = trained(name)
    before = copy.deepcopy(module.state_dict())
    module(*batch(12))
    module.train().encode(batch(12)[0])
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())


@every
def test_bad_input_is_named(name):
    module = trained(name)
    x, mask = batch()
    bad = x.clone()
    bad[0, 0, 0] = math.nan
    for wrong, word in (
        (x.long(), "floating-point"),
        (x[0], "shape"),
        (x[..., :-1], "shape"),
        (bad, "NaN"),
        ([[0.0]], "floating-point"),
    ):
        for call in (module, module.encode):
            with pytest.raises(QuantizerError, match=word):
                call(wrong)
    for wrong, word in ((mask.float(), "bool"), (mask[:, :-1], "shape")):
        with pytest.raises(QuantizerError, match=word):
            module(x, wrong)
    codes = module.encode(x)
    sizes = module.codebook_sizes
    high, low = codes.clone(), codes.clone()
    high[1, -1, 2] = sizes[-1]
    low[0, 0, 5] = -1
    for wrong, word in (
        (high, f"code {sizes[-1]} of codebook {len(sizes) - 1}"),
        (low, "code -1 of codebook 0"),
        (codes.float(), "integer"),
        (codes[0], "shape"),
        (codes[:, :0], "shape"),
        (torch.cat([codes, codes], 1), "shape"),
    ):
        with pytest.raises(QuantizerError, match=word):
            module.decode(wrong)
    assert torch.equal(module.decode(codes.int()), module.decode(codes))


@pytest.mark.parametrize("name", VARIABLE)
def test_fewer_codebooks_are_the_first_ones(name):
    module = trained(name)
    x, _ = batch(13)
    codes = module.encode(x)
    step = 3 if name == "grouped" else 1
    errors = []
    for number in range(step, codes.shape[1] + 1, step):
        result = module(x, num_codebooks=number)
        assert torch.equal(result.codes, codes[:, :number])
        assert torch.equal(module.encode(x, num_codebooks=number), codes[:, :number])
        assert torch.equal(module.decode(codes[:, :number]), result.quantized)
        assert result.statistics["perplexity"].shape == (number,)
        errors.append(float((result.quantized.detach() - x).square().mean()))
    if name in ("residual", "grouped"):
        assert errors == sorted(errors, reverse=True) and errors[-1] < 0.8 * errors[0]
    for wrong in (0, codes.shape[1] + step, *([2] if name == "grouped" else [])):
        for call in (module, module.encode):
            with pytest.raises(QuantizerError, match="codebooks"):
                call(x, num_codebooks=wrong)


@every
def test_statistics_against_their_definition(name):
    module = trained(name)
    x, mask = batch(14)
    result = module(x, mask)
    for index, size in enumerate(module.codebook_sizes):
        codes = result.codes[:, index][mask]
        shares = codes.unique(return_counts=True)[1].double() / len(codes)
        entropy = -(shares * shares.log()).sum()
        assert float(result.statistics["perplexity"][index]) == pytest.approx(
            float(entropy.exp()), rel=1e-5
        )
        assert float(result.statistics["used_share"][index]) == pytest.approx(
            len(codes.unique()) / size
        )
