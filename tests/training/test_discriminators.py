"""Discriminators: shapes at every length, sizes, sameness, and that they learn."""

import pytest
import torch

from syllabary.errors import TrainingError
from syllabary.training.discriminators import (
    DAC_BANDS,
    Discriminators,
    DiscriminatorsConfig,
    MultiPeriodConfig,
    MultiPeriodDiscriminator,
    MultiScaleSTFTConfig,
    MultiScaleSTFTDiscriminator,
)
from syllabary.training.losses import AdversarialLoss, feature_matching_loss

SMALL_PERIODS = MultiPeriodConfig((2, 3, 7), width=2, growth=(1, 2, 4))
SMALL_STFT = MultiScaleSTFTConfig((64, 32), width=4)
BANDED = MultiScaleSTFTConfig((256, 64), width=4, bands=DAC_BANDS)
SMALL = DiscriminatorsConfig(SMALL_PERIODS, SMALL_STFT)


def noise(*shape, seed=0):
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def seeded(make, config, seed=0):
    torch.manual_seed(seed)
    return make(config)


def parameters(module):
    return sum(each.numel() for each in module.parameters())


# Sizes


@pytest.mark.parametrize(
    "module, config, count",
    [
        (MultiPeriodDiscriminator, MultiPeriodConfig(), 2_577_250),
        (MultiScaleSTFTDiscriminator, MultiScaleSTFTConfig(), 31_730),
        (MultiScaleSTFTDiscriminator, MultiScaleSTFTConfig(width=32), 472_490),
        (MultiScaleSTFTDiscriminator, MultiScaleSTFTConfig(bands=DAC_BANDS), 157_170),
        (Discriminators, DiscriminatorsConfig(), 2_577_250 + 31_730),
    ],
)
def test_parameter_counts(module, config, count):
    assert parameters(module(config)) == count
    assert len(list(module(config).state_dict())) == len(list(module(config).parameters())), (
        "windows follow from the configuration and are not saved"
    )


@pytest.mark.parametrize("samples", [1, 2, 7, 15, 16, 17, 31, 97, 1009])
def test_period_shapes(samples):
    judgement = seeded(MultiPeriodDiscriminator, SMALL_PERIODS)(noise(2, samples))
    assert len(judgement.logits) == len(judgement.features) == 3
    for period, logits, features in zip(
        (2, 3, 7), judgement.logits, judgement.features, strict=True
    ):
        time = -(-samples // period)
        for channels, feature in zip((2, 4, 8), features, strict=True):
            # Strides 3, 3 and then 1.
            time = -(-time // 3) if channels < 8 else time
            assert feature.shape == (2, channels, time, period)
        assert logits.shape == (2, time, period)
        assert logits.isfinite().all()


@pytest.mark.parametrize("samples", [1, 2, 7, 15, 16, 17, 31, 97, 1009])
def test_stft_shapes(samples):
    judgement = seeded(MultiScaleSTFTDiscriminator, SMALL_STFT)(noise(2, samples))
    assert len(judgement.logits) == len(judgement.features) == 2
    for window, logits, features in zip(
        (64, 32), judgement.logits, judgement.features, strict=True
    ):
        frames, bins = 1 + samples // (window // 4), [window // 2 + 1]
        for _ in range(3):
            bins.append(-(-bins[-1] // 2))
        expected = [(2, 4, frames, count) for count in (*bins, bins[-1])]
        assert [tuple(feature.shape) for feature in features] == expected
        assert logits.shape == (2, frames, bins[-1])


def test_bands_cover_every_bin_once_and_do_not_mix():
    module = seeded(MultiScaleSTFTDiscriminator, BANDED)
    for scale, bins in zip(module.discriminators, (129, 33), strict=True):
        assert scale.bands[0][0] == 0 and scale.bands[-1][1] == bins
        edges = list(zip(scale.bands, scale.bands[1:], strict=False))
        assert all(before[1] == after[0] for before, after in edges)
    wave = noise(1, 2000)
    features = module(wave).features[0]
    assert len(features) == 25
    # A high tone changes what the last band sees and, beyond the window's side lobes, no other.
    tone = 0.1 * torch.sin(2 * torch.pi * 0.45 * torch.arange(2000))
    changed = module(wave + tone).features[0]
    difference = [
        (new - old)[:, :, 8:-8].abs().max() for old, new in zip(features, changed, strict=True)
    ]
    assert max(difference[:5]) < 1e-3 < 1e-1 < difference[20]


# Behaviour


def test_period_discriminator_is_a_two_dimensional_convolution():
    """The published form: a (kernel, 1) convolution over (time / p, p)."""
    module = seeded(MultiPeriodDiscriminator, SMALL_PERIODS)
    wave = noise(2, 7 * 30)
    hidden = wave.view(2, 1, 30, 7)
    for place, layer in enumerate(module.discriminators[2].layers):
        hidden = torch.nn.functional.conv2d(
            hidden, layer.weight[..., None], layer.bias, (3 if place < 2 else 1, 1), (2, 0)
        )
        hidden = torch.where(hidden > 0, hidden, 0.1 * hidden)
        torch.testing.assert_close(module(wave).features[2][place], hidden)


def test_shifts_by_a_period_and_a_hop_shift_the_features():
    wave = torch.cat([noise(1, 500), torch.zeros(1, 500)], 1)
    periods = seeded(MultiPeriodDiscriminator, SMALL_PERIODS)
    stft = seeded(MultiScaleSTFTDiscriminator, SMALL_STFT)
    for period, which in ((2, 0), (3, 1), (7, 2)):
        shift = 3 * period  # the first layer's stride
        now, then = (periods(each).features[which][0] for each in (wave, wave.roll(shift, 1)))
        torch.testing.assert_close(now[:, :, 2:-2], then[:, :, 3:-1])
    now, then = (stft(each).features[0][0] for each in (wave, wave.roll(16, 1)))
    torch.testing.assert_close(now[:, :, 4:-4], then[:, :, 5:-3], rtol=1e-4, atol=1e-5)


def test_the_seed_decides_the_weights_and_the_rows_do_not_mix():
    wave = noise(3, 999)
    first, again, other = (seeded(Discriminators, SMALL, seed)(wave) for seed in (1, 1, 2))
    for one, two, three in zip(first.logits, again.logits, other.logits, strict=True):
        assert torch.equal(one, two) and not torch.allclose(one, three)
    alone = seeded(Discriminators, SMALL, 1)(wave[1:2])
    for one, two in zip(first.logits, alone.logits, strict=True):
        torch.testing.assert_close(one[1:2], two)


def test_state_survives_saving():
    module, copy = seeded(Discriminators, SMALL, 1), seeded(Discriminators, SMALL, 2)
    copy.load_state_dict(module.state_dict())
    for one, two in zip(module(noise(1, 400)).logits, copy(noise(1, 400)).logits, strict=True):
        assert torch.equal(one, two)


def test_joined_is_its_families_in_order():
    module, wave = seeded(Discriminators, SMALL), noise(2, 500)
    judgement = module(wave)
    parts = [family(wave) for family in module.families.values()]
    assert list(module.families) == ["multi_period", "multi_scale_stft"]
    expected = parts[0] + parts[1]
    assert (
        len(judgement.logits) == 5
        and [len(each) for each in judgement.features] == [3] * 3 + [5] * 2
    )
    for one, two in zip(judgement.logits, expected.logits, strict=True):
        assert torch.equal(one, two)
    only = Discriminators(DiscriminatorsConfig(SMALL_PERIODS, None))
    assert len(only(wave).logits) == 3


def test_gradient_reaches_the_wave_and_every_weight():
    module = seeded(Discriminators, SMALL)
    wave = noise(2, 701, seed=4).requires_grad_()
    judgement = module(wave)
    loss = AdversarialLoss().generator(judgement.logits)
    loss = loss + feature_matching_loss(module(noise(2, 701)).features, judgement.features)
    loss.backward()
    assert wave.grad.isfinite().all() and (wave.grad != 0).float().mean() > 0.99
    for name, weight in module.named_parameters():
        assert weight.grad is not None and weight.grad.any(), name


@pytest.mark.parametrize("family", ["multi_period", "multi_scale_stft"])
def test_gradient_is_right(family):
    config = MultiPeriodConfig((3,), 2, (1, 2)), MultiScaleSTFTConfig((16,), 2, (1,))
    module = seeded(Discriminators, DiscriminatorsConfig(*config)).double().families[family]
    wave = noise(1, 20).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda wave: tuple(module(wave).logits), wave)


def test_autocast_takes_spectra_in_float32():
    module, wave = seeded(Discriminators, SMALL), noise(2, 800)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = module(wave)
    for one, two in zip(rough.logits, module(wave).logits, strict=True):
        assert one.dtype == torch.bfloat16
        torch.testing.assert_close(one.float(), two, rtol=0.05, atol=0.02)


@pytest.mark.parametrize("config, steps", [
    (DiscriminatorsConfig(MultiPeriodConfig((2, 3, 7), width=8, growth=(1, 2, 4)), None), 70),
    (DiscriminatorsConfig(None, SMALL_STFT), 25),
    (DiscriminatorsConfig(None, BANDED), 25),
], ids=["periods", "stft", "bands"])  # fmt: skip
def test_learns_to_tell_noise_from_a_sine(config, steps):
    module = seeded(Discriminators, config)
    optimizer = torch.optim.Adam(module.parameters(), 1e-2, (0.8, 0.99))
    loss = AdversarialLoss("hinge")

    def batch(seed):
        generator = torch.Generator().manual_seed(seed)
        pitch = 0.02 + 0.05 * torch.rand(4, 1, generator=generator)
        phase = 6.28 * torch.rand(4, 1, generator=generator)
        sines = 0.14 * torch.sin(2 * torch.pi * pitch * torch.arange(600) + phase)
        return sines, noise(4, 600, seed=seed)

    def evaluate(seed):
        halves = [logits.chunk(2) for logits in module(torch.cat(batch(seed))).logits]
        return loss.discriminator(*zip(*halves, strict=True))

    before = evaluate(1000).item()
    for step in range(steps):
        optimizer.zero_grad()
        evaluate(step).backward()
        optimizer.step()
    assert before > 1.8
    with torch.no_grad():
        assert evaluate(1000).item() < 0.5, "batches that it hasn't seen"
        sines, noises = batch(1001)
        for real, fake in zip(module(sines).logits, module(noises).logits, strict=True):
            assert real.mean() > 0 > fake.mean()


# Errors


def test_bad_input_and_configurations_are_named():
    module = seeded(Discriminators, SMALL)
    for wave in (noise(10), noise(1, 1, 10), noise(2, 0), noise(0, 5), torch.ones(1, 5).int()):
        with pytest.raises(TrainingError, match="expected a floating-point"):
            module(wave)
    for config in (
        MultiPeriodConfig(periods=()),
        MultiPeriodConfig(periods=(0,)),
        MultiPeriodConfig(growth=()),
        MultiPeriodConfig(width=0),
        MultiPeriodConfig(kernel_size=4),
    ):
        with pytest.raises(TrainingError):
            MultiPeriodDiscriminator(config)
    for config in (
        MultiScaleSTFTConfig(window_lengths=()),
        MultiScaleSTFTConfig(window_lengths=(30,)),
        MultiScaleSTFTConfig(dilations=()),
        MultiScaleSTFTConfig(width=0),
        MultiScaleSTFTConfig(bands=((0.5, 0.2),)),
        MultiScaleSTFTConfig(bands=((0.0, 1.1),)),
        MultiScaleSTFTConfig(window_lengths=(16,), bands=((0.0, 0.01),)),
    ):
        with pytest.raises(TrainingError):
            MultiScaleSTFTDiscriminator(config)
    with pytest.raises(TrainingError, match="at least one family"):
        Discriminators(DiscriminatorsConfig(None, None))
