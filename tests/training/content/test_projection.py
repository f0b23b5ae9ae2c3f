import pytest
import torch

from syllabary.errors import QuantizerError
from syllabary.training.content.projection import phonetic_directions, steady_directions


@pytest.fixture
def frames():
    """Clean and perturbed features: the first direction says most and is steady, the second says
    as much and is shaken, the third says little and is steady."""
    generator = torch.Generator().manual_seed(0)
    clean = torch.randn(5000, 6, generator=generator) * torch.tensor([3, 3, 1, 0.5, 0.5, 0.5])
    noise = torch.randn(5000, 6, generator=generator) * torch.tensor([0.1, 5, 0.1, 1, 1, 1])
    mixing = torch.linalg.qr(torch.randn(6, 6, generator=generator)).Q
    return clean + 7, noise, mixing


def test_perturbations_move_every_direction_equally(frames):
    clean, noise, mixing = frames
    weight, bias = steady_directions(clean @ mixing, (clean + noise) @ mixing, 6)
    moved = (noise @ mixing).double() @ weight.T
    assert torch.allclose(moved.T @ moved / len(moved), torch.eye(6).double(), atol=0.05)
    mapped = (clean @ mixing).double() @ weight.T + bias
    assert torch.allclose(mapped.mean(0), torch.zeros(6).double(), atol=1e-9)
    spread = mapped.T @ mapped / len(mapped)
    assert torch.allclose(spread, spread.diagonal().diag(), atol=1e-6 * float(spread.max()))
    assert (spread.diagonal().diff() <= 0).all()


def test_less_evenness_leaves_more_of_what_perturbations_move(frames):
    clean, noise, mixing = frames
    moved = []
    for evenness in (0.0, 0.5, 1.0):
        weight, _ = steady_directions(clean @ mixing, (clean + noise) @ mixing, 6, evenness)
        mapped = noise.double() @ mixing.double() @ weight.T
        moved.append(float(mapped.var(0).max() / mapped.var(0).min()))
        if not evenness:
            assert torch.allclose(weight @ weight.T, torch.eye(6).double(), atol=1e-9)
    assert moved[0] > 4 * moved[1] > 4 * 4 * moved[2]


def test_steady_directions_come_first(frames):
    clean, noise, _ = frames
    weight, _ = steady_directions(clean, clean + noise, 2)
    share = weight.square() / weight.square().sum(1, keepdim=True)
    assert share[0, 0] > 0.95 and share[1, 2] > 0.95


def test_a_direction_without_noise_does_not_count_alone():
    clean = torch.randn(400, 3, generator=torch.Generator().manual_seed(1))
    weight, bias = steady_directions(clean, clean, 3)
    assert bool(weight.isfinite().all()) and bool(bias.isfinite().all())


def test_phonetic_directions_are_the_steady_ones_in_which_phones_differ():
    """Three phones differ as much in a steady plane as in a shaken one; speakers in a third."""
    generator = torch.Generator().manual_seed(2)
    phones = torch.randint(0, 3, (6000,), generator=generator)
    places = torch.tensor([[0.0, 0], [4, 0], [0, 4]])[phones]
    clean = torch.randn(6000, 6, generator=generator)
    clean[:, :2] += places
    clean[:, 2:4] += places
    clean[:, 4:] *= 30
    noise = 0.1 * torch.randn(6000, 6, generator=generator)
    noise[:, 2:4] *= 100
    weight, bias = phonetic_directions(clean, clean + noise, phones, 4)
    share = (weight * clean.double().std(0)).square()
    share /= share.sum(1, keepdim=True)
    assert (share[:2, :2].sum(1) > 0.9).all()
    # After the two directions in which phones differ come those of the most variance.
    assert (share[2:, 4:].sum(1) > 0.9).all()
    mapped = clean.double() @ weight.T + bias
    assert torch.allclose(mapped.mean(0), torch.zeros(4).double(), atol=1e-9)


def test_phonetic_directions_need_two_phones():
    clean = torch.randn(200, 3, generator=torch.Generator().manual_seed(3))
    with pytest.raises(QuantizerError, match=r"1 directions need 2 phones .* there are 1"):
        phonetic_directions(clean, clean, torch.zeros(200, dtype=torch.int64), 2)
