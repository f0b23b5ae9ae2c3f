"""Losses: against other implementations, by hand, and what padding and ranks may change."""

import json
import math
from datetime import timedelta

import librosa
import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from hypothesis import given, settings
from hypothesis import strategies as st

from syllabary.audio.mel import MelSpectrogram
from syllabary.errors import TrainingError
from syllabary.training.losses import (
    AdversarialLoss,
    GradientBalancer,
    MelLossConfig,
    MultiResolutionSTFTLoss,
    MultiScaleMelLoss,
    STFTLossConfig,
    feature_matching_loss,
)
from syllabary.training.losses.spectra import Spectrum, magnitude

WINDOWS = (32, 64, 128, 256, 512, 1024, 2048)
TINY_MEL = MelLossConfig(window_lengths=(32, 64), num_mels=(5, 10))
TINY_STFT = STFTLossConfig((32, 64), (5, 16), (20, 64), complex_weight=0.5)


def noise(*shape, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return 0.1 * torch.randn(*shape, generator=generator, dtype=dtype)


def make(name):
    return {
        "mel": lambda: MultiScaleMelLoss(),
        "stft": lambda: MultiResolutionSTFTLoss(STFTLossConfig(complex_weight=0.5)),
    }[name]()


both = pytest.mark.parametrize("name", ["mel", "stft"])


# Spectra


@pytest.mark.parametrize(
    "window, hop, n_fft", [(32, 8, 32), (20, 5, 32), (20, 7, 32), (24, 32, 24)]
)
@pytest.mark.parametrize("samples", [1, 2, 45])
def test_spectrum_gradient(window, hop, n_fft, samples):
    spectrum = Spectrum(window, hop, n_fft, normalized=True)
    wave = noise(2, samples, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(spectrum, wave)
    assert torch.autograd.gradcheck(lambda wave: magnitude(spectrum(wave)), wave)


def test_spectrum_is_that_of_torch():
    wave = noise(3, 1000)
    ours = Spectrum(64, 16)(wave)
    theirs = torch.stft(
        wave, 64, 16, window=torch.hann_window(64), pad_mode="constant", return_complex=True
    )
    torch.testing.assert_close(ours, theirs.mT)
    wave = noise(1, 1600, seed=1).requires_grad_()
    (ours,) = torch.autograd.grad(magnitude(Spectrum(64, 16)(wave)).sum(), wave)
    theirs = torch.stft(
        wave, 64, 16, window=torch.hann_window(64), pad_mode="constant", return_complex=True
    )
    (theirs,) = torch.autograd.grad(theirs.abs().sum(), wave)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_spectrum_refuses_sizes_that_make_no_sense():
    for sizes in ((33, 8, 32), (32, 0, 32), (9, 3, 9)):
        with pytest.raises(ValueError, match="expected"):
            Spectrum(*sizes)


# Against other implementations


@pytest.mark.parametrize("scale", [0, 4, 6])
@pytest.mark.parametrize("sample_rate", [16000, 24000])
def test_mel_scale_is_that_of_librosa(scale, sample_rate):
    fake, real = noise(4000, seed=1).numpy(), noise(4000, seed=2).numpy() * 0.3
    window = WINDOWS[scale]

    def log_mel(wave):
        mel = librosa.feature.melspectrogram(
            y=wave, sr=sample_rate, n_fft=window, hop_length=window // 4, power=1.0,
            n_mels=(5, 10, 20, 40, 80, 160, 320)[scale], pad_mode="constant",
        )  # fmt: skip
        return np.log10(np.maximum(mel, 1e-5))

    expected = np.abs(log_mel(fake) - log_mel(real)).mean()
    loss = MultiScaleMelLoss(MelLossConfig(sample_rate=sample_rate))
    each = loss.distances(torch.from_numpy(fake)[None], torch.from_numpy(real)[None])
    assert each.shape == (7,)
    assert each[scale].item() == pytest.approx(expected, rel=1e-4)


def test_mel_filters_are_those_of_the_audio_room():
    loss = MultiScaleMelLoss()
    wave = noise(1, 5000)
    expected = MelSpectrogram(16000, 512, 512, 128, 80, 0, 8000)(wave).mT
    torch.testing.assert_close(10 ** loss.scales[4](wave), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore:Empty filters")
def test_channels_without_bins_are_left_out():
    """At 96 kHz librosa warns of empty filters at these scales; they would always be 0."""
    loss = MultiScaleMelLoss(MelLossConfig(sample_rate=96000))
    for scale, length, mels in zip(loss.scales, WINDOWS, loss.config.num_mels, strict=True):
        expected = librosa.filters.mel(sr=96000, n_fft=length, n_mels=mels)
        expected = expected[expected.sum(1) > 0]
        np.testing.assert_allclose(scale.filters.T, expected, atol=1e-6)
    assert loss.scales[-1].filters.shape[1] < 320
    assert all(scale.filters.any(0).all() for scale in loss.scales)


@pytest.mark.parametrize("samples", [1, 119, 120, 997])
def test_stft_is_that_of_numpy(samples):
    config = STFTLossConfig((256,), (120,), (200,), 1.0, 10.0, 100.0)
    fake, real = noise(samples, seed=1).numpy(), noise(samples, seed=2).numpy() * 0.4
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(200) / 200)

    def spectra(wave):
        padded = np.concatenate([np.zeros(100), wave, np.zeros(400)])
        frames = [padded[n * 120 : n * 120 + 200] * hann for n in range(1 + samples // 120)]
        return np.fft.rfft(np.stack(frames), n=256)

    ours, theirs = spectra(fake), spectra(real)
    size, truth = np.abs(ours), np.abs(theirs)
    level = max(np.linalg.norm(truth), 0.1 * math.sqrt(truth.size))
    log_size, log_truth = (np.log(np.maximum(each, 10**-3.5)) for each in (size, truth))
    expected = {
        "convergence": np.linalg.norm(truth - size) / level,
        "log": np.abs(log_size - log_truth).mean(),
        "complex": np.abs(ours - theirs).mean() / max(truth.mean(), 0.1),
    }
    loss = MultiResolutionSTFTLoss(config)
    rows = torch.from_numpy(fake)[None], torch.from_numpy(real)[None]
    terms = loss.terms(*rows)
    assert terms.keys() == expected.keys()
    for name, value in expected.items():
        assert terms[name].item() == pytest.approx(value, rel=2e-4), name
    total = expected["convergence"] + 10 * expected["log"] + 100 * expected["complex"]
    assert loss(*rows).item() == pytest.approx(total, rel=2e-4)
    assert "complex" not in MultiResolutionSTFTLoss().terms(*rows)


# What holds for both


@both
def test_zero_for_equal_and_growing_with_distortion(name):
    loss, wave = make(name), noise(2, 3000)
    assert loss(wave, wave) < 1e-6
    values = [loss(wave + level * noise(2, 3000, seed=5), wave) for level in (0.01, 0.1, 0.5, 2)]
    assert values == sorted(values) and values[0] > 1e-4
    gains = [loss(gain * wave, wave) for gain in (0.9, 0.5, 0.1, 0.0)]
    assert gains == sorted(gains) and gains[0] > 0


def test_mel_is_in_decades_of_amplitude():
    wave = noise(2, 16000)
    each = MultiScaleMelLoss().distances(0.1 * wave, wave)
    torch.testing.assert_close(each, torch.ones(7), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    "loss", [MultiScaleMelLoss(TINY_MEL), MultiResolutionSTFTLoss(TINY_STFT)], ids=["mel", "stft"]
)
def test_gradient_is_right_and_none_reaches_the_target(loss):
    fake = noise(2, 75, seed=1, dtype=torch.float64).requires_grad_()
    real = noise(2, 75, seed=2, dtype=torch.float64).requires_grad_()
    lengths = torch.tensor([75, 41])
    assert torch.autograd.gradcheck(lambda fake: loss(fake, real, lengths), fake)
    loss(fake, real, lengths).backward()
    assert real.grad is None
    assert (fake.grad[0] != 0).all() and (fake.grad[1, :41] != 0).all()
    assert (fake.grad[1, 41:] == 0).all()


@both
@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_padding_has_no_influence(name, data):
    loss = make(name)
    lengths = data.draw(st.lists(st.integers(0, 700), min_size=1, max_size=3))
    samples = max(*lengths, 1) + data.draw(st.integers(0, 600))
    rows = [(noise(1, n, seed=3 + n), noise(1, n, seed=4 + n)) for n in lengths]
    fake = torch.full((len(lengths), samples), math.nan)
    real = torch.full((len(lengths), samples), 7.0)
    for row, (n, (guess, truth)) in enumerate(zip(lengths, rows, strict=True)):
        fake[row, :n], real[row, :n] = guess, truth
    fake.requires_grad_()
    total = loss(fake, real, torch.tensor(lengths))
    alone = [loss(*row).item() if n else 0.0 for n, row in zip(lengths, rows, strict=True)]
    assert total.item() == pytest.approx(np.mean(alone), rel=1e-4, abs=1e-6)
    total.backward()
    assert fake.grad.isfinite().all()


@both
@pytest.mark.parametrize("samples", [1, 2, 7, 11, 12, 13, 127, 1999])
def test_any_number_of_samples(name, samples):
    fake = noise(2, samples, seed=1).requires_grad_()
    value = make(name)(fake, noise(2, samples, seed=2))
    value.backward()
    assert value.shape == () and value > 0 and value.isfinite()
    assert fake.grad.isfinite().all() and fake.grad.any()


@both
def test_silence_and_full_scale_have_finite_gradients(name):
    loss = make(name)
    for fake, real in ((0.0, noise(1, 2500)), (noise(1, 2500), 0.0), (0.0, 0.0)):
        fake = (torch.zeros(1, 2500) + fake).requires_grad_()
        value = loss(fake, torch.zeros(1, 2500) + real)
        value.backward()
        assert value.isfinite() and fake.grad.isfinite().all()
        assert value < 100


@both
def test_bfloat16_and_autocast_compute_in_float32(name):
    loss, fake, real = make(name), noise(2, 3000, seed=1), noise(2, 3000, seed=2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = loss(fake, real)
    assert inside.dtype == torch.float32 and torch.equal(inside, loss(fake, real))
    rough = fake.bfloat16().requires_grad_()
    value = loss(rough, real)
    value.backward()
    assert torch.equal(value, loss(fake.bfloat16().float(), real))
    assert rough.grad.dtype == torch.bfloat16


@both
def test_half_the_batch_on_each_rank_is_the_joined_batch(name):
    loss, fake, real = make(name), noise(4, 2000, seed=1), noise(4, 2000, seed=2)
    lengths = torch.tensor([2000, 300, 1999, 1])
    halves = [loss(fake[i : i + 2], real[i : i + 2], lengths[i : i + 2]) for i in (0, 2)]
    torch.testing.assert_close(sum(halves) / 2, loss(fake, real, lengths))


@both
def test_bad_input_is_named(name):
    loss, wave = make(name), noise(2, 100)
    for fake, real, lengths, message in (
        (wave, wave[:1], None, "one shape"),
        (wave[0], wave[0], None, "one shape"),
        (wave[:, :0], wave[:, :0], None, "not empty"),
        (wave.int(), wave, None, "floating-point"),
        (wave, wave, torch.tensor([1, 101]), "lengths in"),
        (wave, wave, torch.tensor([-1, 10]), "lengths in"),
        (wave, wave, torch.tensor([5]), "2 integer lengths"),
    ):
        with pytest.raises(TrainingError, match=message):
            loss(fake, real, lengths)


def test_bad_configurations_are_named():
    for config in (
        MelLossConfig(window_lengths=(32,)),
        MelLossConfig(window_lengths=(), num_mels=()),
        MelLossConfig(window_lengths=(30,), num_mels=(5,)),
        MelLossConfig(floor=0.0),
        MelLossConfig(fmax=9000.0),
    ):
        with pytest.raises(TrainingError):
            MultiScaleMelLoss(config)
    for config in (
        STFTLossConfig(fft_sizes=(512,)),
        STFTLossConfig((512,), (50,), (600,)),
        STFTLossConfig(floor=0.0),
    ):
        with pytest.raises(TrainingError):
            MultiResolutionSTFTLoss(config)


# Adversarial losses and feature matching


def test_adversarial_losses_by_hand():
    real = [torch.tensor([1.0, 3.0]), torch.tensor([[0.5]])]
    fake = [torch.tensor([-2.0, 0.0]), torch.tensor([[0.5]])]
    squares, hinge = AdversarialLoss("least_squares"), AdversarialLoss("hinge")
    # Real: (0 + 4) / 2 and 0.25; fake: (4 + 0) / 2 and 0.25.
    assert squares.discriminator(real, fake).item() == pytest.approx(1.125 + 1.125)
    assert squares.generator(fake).item() == pytest.approx(((9 + 1) / 2 + 0.25) / 2)
    # Real: (0 + 0) / 2 and 0.5; fake: (0 + 1) / 2 and 1.5.
    assert hinge.discriminator(real, fake).item() == pytest.approx(0.25 + 1.0)
    assert hinge.generator(fake).item() == pytest.approx((1.0 - 0.5) / 2)


@pytest.mark.parametrize("kind", ["least_squares", "hinge"])
def test_adversarial_losses_pull_opposite_ways(kind):
    loss = AdversarialLoss(kind)
    real, fake = (torch.zeros(3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    fake.data += 0.2
    up, down = torch.autograd.grad(loss.discriminator([real], [fake]), (real, fake))
    (fooled,) = torch.autograd.grad(loss.generator([fake]), fake)
    assert (up < 0).all() and (down > 0).all() and (fooled < 0).all()
    assert torch.autograd.gradcheck(lambda r, f: loss.discriminator([r], [f]), (real, fake))


def test_adversarial_loss_of_bad_input_is_named():
    with pytest.raises(TrainingError, match="least_squares, hinge"):
        AdversarialLoss("wasserstein")
    with pytest.raises(TrainingError, match="at least one"):
        AdversarialLoss().generator([])
    with pytest.raises(TrainingError, match="2 discriminators"):
        AdversarialLoss().discriminator([torch.ones(1)] * 2, [torch.ones(1)])


def test_feature_matching_by_hand():
    real = [[torch.tensor([2.0, -2.0]), torch.tensor([10.0])], [torch.tensor([0.5, 0.5])]]
    fake = [[torch.tensor([2.0, -1.0]), torch.tensor([15.0])], [torch.tensor([0.0, 0.0])]]
    assert feature_matching_loss(real, real) == 0
    # Layers: 0.5 of 2, 5 of 10; 0.5 of 0.5.
    assert feature_matching_loss(real, fake).item() == pytest.approx(((0.25 + 0.5) / 2 + 1) / 2)
    plain = feature_matching_loss(real, fake, normalized=False)
    assert plain.item() == pytest.approx(((0.5 + 5) / 2 + 0.5) / 2)


def test_feature_matching_sends_no_gradient_into_the_real_side():
    weight = torch.ones((), requires_grad=True)
    fake = noise(2, 3, 4, seed=1, dtype=torch.float64).requires_grad_()
    real = weight * noise(2, 3, 4, seed=2, dtype=torch.float64)
    loss = feature_matching_loss([[real]], [[fake]])
    loss.backward()
    assert weight.grad is None and (fake.grad != 0).all()
    real = real.detach()
    assert torch.autograd.gradcheck(lambda fake: feature_matching_loss([[real]], [[fake]]), fake)


def test_feature_matching_of_bad_input_is_named():
    one, two = torch.ones(2, 1), torch.ones(2, 2)
    for real, fake in (([], []), ([[]], [[]]), ([[one]], [[one, one]]), ([[one]], [[two]])):
        with pytest.raises(TrainingError):
            feature_matching_loss(real, fake)


# The balancer

SCALES = {"tiny": 1e-4, "middle": 1.0, "huge": 1e5}
FRACTIONS = {"tiny": 1.0, "middle": 2.0, "huge": 5.0}


def toy_losses(output, step):
    """Three losses that pull in orthogonal directions, so that each share can be read off."""
    thirds = output.chunk(3, dim=1)
    target = 1 + noise(*thirds[0].shape, seed=step).abs()
    return {
        name: scale * (third - target).square().mean()
        for (name, scale), third in zip(SCALES.items(), thirds, strict=True)
    }


def test_fractions_are_reached_whatever_the_scales():
    balancer = GradientBalancer(FRACTIONS, total_norm=3.0, decay=0.9)
    shares = torch.zeros(3)
    for step in range(40):
        output = noise(4, 30, seed=100 + step).requires_grad_()
        losses = toy_losses(output, step)
        norms = balancer.backward(losses, output)
        shares += torch.stack([part.norm(dim=1).sum() for part in output.grad.chunk(3, 1)]) / 40
        plain = torch.autograd.grad(toy_losses(output, step)["huge"], output)[0]
        assert norms["huge"] == pytest.approx(plain.norm(dim=1).sum().item(), rel=1e-5)
    expected = 3.0 * torch.tensor([1.0, 2.0, 5.0]) / 8
    torch.testing.assert_close(shares, expected, rtol=0.02, atol=0)


def test_average_starts_without_bias_and_decays():
    balancer = GradientBalancer({"a": 1.0}, decay=0.5)
    assert math.isnan(balancer.average_norm("a"))
    for slope, expected in ((4.0, 4.0), (1.0, (0.5 * 4 + 1) / 1.5), (1.0, (1 + 0.5 + 1) / 1.75)):
        output = torch.zeros(1, 1, requires_grad=True)
        grad, norms = balancer.combine({"a": slope * output.sum()}, output)
        assert norms == {"a": slope}
        assert balancer.average_norm("a") == pytest.approx(expected)
        assert grad.item() == pytest.approx(slope / expected)


def test_a_loss_left_out_keeps_its_average_and_yields_its_share():
    balancer = GradientBalancer({"a": 1.0, "b": 3.0}, decay=0.9)
    output = torch.zeros(1, 2, requires_grad=True)
    grad, _ = balancer.combine({"b": 7 * output[0, 1], "a": 5 * output[0, 0]}, output)
    torch.testing.assert_close(grad, torch.tensor([[0.25, 0.75]]))
    grad, norms = balancer.combine({"a": 5 * output[0, 0]}, output)
    torch.testing.assert_close(grad, torch.tensor([[1.0, 0.0]]))
    assert norms == {"a": 5.0} and balancer.average_norm("b") == 7.0


def test_the_batch_size_does_not_change_the_parameters_gradient():
    grads = []
    for repeats in (1, 4):
        weight = torch.ones((), requires_grad=True)
        output = weight * noise(2, 30).repeat(repeats, 1)
        losses = {"a": (output - 1).square().mean(), "b": 50 * (output + 2).abs().mean()}
        GradientBalancer({"a": 1.0, "b": 2.0}).backward(losses, output)
        grads.append(weight.grad)
    torch.testing.assert_close(*grads)


def test_only_the_model_gets_gradient():
    model, judge = torch.nn.Linear(6, 6), torch.nn.Linear(6, 1)
    output = model(noise(3, 6))
    logits = judge(output)  # shared by both losses
    GradientBalancer({"a": 1.0, "b": 1.0}).backward(
        {"a": logits.square().mean(), "b": logits.abs().mean()}, output
    )
    assert model.weight.grad is not None and judge.weight.grad is None


def balanced_descent(balancer, weight, steps):
    for step in steps:
        weight.grad = None
        output = weight * (1 + noise(2, 30, seed=step))
        balancer.backward(toy_losses(output, step), output)
        weight.data -= 0.1 * weight.grad
    return weight.detach().clone()


def test_resume_is_exact():
    weight = torch.ones(30, requires_grad=True)
    whole = balanced_descent(GradientBalancer(FRACTIONS), weight, range(12))
    weight = torch.ones(30, requires_grad=True)
    first = GradientBalancer(FRACTIONS)
    balanced_descent(first, weight, range(5))
    resumed = GradientBalancer(FRACTIONS)
    resumed.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert torch.equal(balanced_descent(resumed, weight, range(5, 12)), whole)
    # The state matters: a fresh balancer goes elsewhere.
    weight = torch.ones(30, requires_grad=True)
    balanced_descent(GradientBalancer(FRACTIONS), weight, range(5))
    fresh = balanced_descent(GradientBalancer(FRACTIONS), weight, range(5, 12))
    assert not torch.equal(fresh, whole)


def test_balancer_of_bad_input_is_named():
    for arguments in (({},), ({"a": 0.0},), ({"a": 1.0}, -1.0), ({"a": 1.0}, 1.0, 1.0)):
        with pytest.raises(TrainingError):
            GradientBalancer(*arguments)
    balancer = GradientBalancer({"a": 1.0, "b": 1.0})
    output = torch.ones(2, 3, requires_grad=True)
    good = output.sum()
    for losses, message in (
        ({}, "among a, b"),
        ({"a": good, "c": good}, "among a, b"),
        ({"a": output}, "scalar"),
        ({"a": torch.ones(())}, "depend"),
        ({"a": torch.ones((), requires_grad=True) * 2}, "depend"),
        ({"a": output.sum(), "b": output.sum() * math.nan}, "'b' isn't finite"),
    ):
        with pytest.raises(TrainingError, match=message):
            balancer.combine(losses, output)
    assert math.isnan(balancer.average_norm("a")), "a failed step must not enter the average"
    with pytest.raises(TrainingError, match="state for a, b"):
        balancer.load_state_dict(GradientBalancer({"a": 1.0}).state_dict())


# Two ranks


def joint_step(rows, world):
    """Gradients of one weight over three balanced steps on `rows` of a batch of four."""
    balancer = GradientBalancer({"mel": 2.0, "features": 1.0}, decay=0.5)
    mel = MultiScaleMelLoss(TINY_MEL)
    found = []
    for step in range(3):
        weight = torch.ones(200, dtype=torch.float64, requires_grad=True)
        fake = noise(4, 200, seed=step, dtype=torch.float64)[rows] * weight
        scale = torch.tensor([1.0, 2.0, 30.0, 4.0]).double()[rows, None]
        real = noise(4, 200, seed=50 + step, dtype=torch.float64)[rows] * scale
        losses = {"mel": mel(fake, real), "features": feature_matching_loss([[real]], [[fake]])}
        values = torch.stack(list(losses.values())).detach()
        balancer.backward(losses, fake)
        if world > 1:
            for each in (weight.grad, values):
                dist.all_reduce(each)
                each /= world
        found.append((weight.grad, values))
    return found, balancer.state_dict()


def one_rank(rank, folder):
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/meeting",
        rank=rank,
        world_size=2,
        timeout=timedelta(seconds=120),
    )
    try:
        return joint_step(slice(2 * rank, 2 * rank + 2), 2)
    finally:
        dist.destroy_process_group()


def other_rank(_, folder):
    torch.set_num_threads(1)
    torch.save(one_rank(1, folder), f"{folder}/1.pt")


def test_two_ranks_are_one_with_the_joined_batch(tmp_path):
    joined, state = joint_step(slice(0, 4), 1)
    other = mp.spawn(other_rank, (str(tmp_path),), nprocs=1, join=False)
    here = one_rank(0, str(tmp_path))
    other.join()
    for found, rank_state in (here, torch.load(tmp_path / "1.pt")):
        torch.testing.assert_close(found, joined)
        assert rank_state["sums"] == pytest.approx(state["sums"], rel=1e-12)
        assert rank_state["weights"] == state["weights"]
