"""Muon in float32 against torch's, which iterates in bfloat16; and where bfloat16 is used."""

import pytest
import torch
from torch import nn

from syllabary.quantizers.modules import distributed
from syllabary.training import precision


@pytest.mark.parametrize("shape", [(24, 24), (16, 24), (16, 48), (48, 16)])
def test_an_orthogonal_matrix_of_the_same_directions(shape):
    torch.manual_seed(0)
    matrix = torch.randn(shape)
    found = precision.orthogonalized(matrix)
    values = torch.linalg.svdvals(found)
    assert values.min() > 0.6 and values.max() < 1.25
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    turned = u.T @ found @ v.T
    assert (turned - torch.diag(turned.diagonal())).abs().max() < 1e-3
    assert not precision.orthogonalized(torch.zeros(shape)).any()


def test_wide_matrices_take_the_same_iterations():
    torch.manual_seed(1)
    matrix = torch.randn(16, 48) * torch.logspace(0, -3, 16)[:, None]
    x = matrix.double() / matrix.double().norm()
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x + (-4.775 * gram + 2.0315 * gram @ gram) @ x
    assert (precision.orthogonalized(matrix) - x).abs().max() < 1e-4


def steps(
    kind: type[torch.optim.Muon], state: dict | None = None
) -> tuple[list[nn.Parameter], dict]:
    torch.manual_seed(0)
    matrices = [nn.Parameter(torch.randn(12, 20)), nn.Parameter(torch.randn(30, 8))]
    unused = nn.Parameter(torch.ones(3, 3))
    optimizer = kind(
        [*matrices, unused], lr=0.01, momentum=0.9, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"
    )
    if state is not None:
        optimizer.load_state_dict(state)
    for _ in range(4):
        optimizer.zero_grad()
        sum((matrix - 1).square().sum() for matrix in matrices).backward()
        optimizer.step()
    assert torch.equal(unused, torch.ones(3, 3))
    return matrices, optimizer.state_dict()


def test_steps_are_those_of_torch_but_for_rounding():
    ours, state = steps(precision.MuonInFloat32)
    theirs, their_state = steps(torch.optim.Muon)
    torch.manual_seed(0)
    way = (theirs[0] - torch.randn(12, 20)).norm()
    assert (ours[0] - theirs[0]).norm() < 0.02 * way
    assert state["param_groups"] == their_state["param_groups"]
    assert state["state"].keys() == their_state["state"].keys()
    # A run goes on with either's state.
    for kind, other in ((precision.MuonInFloat32, their_state), (torch.optim.Muon, state)):
        steps(kind, other)


def test_bfloat16_only_where_the_processor_has_it(monkeypatch):
    matrix = nn.Parameter(torch.randn(4, 4))
    for there, kind in ((True, torch.optim.Muon), (False, precision.MuonInFloat32)):
        monkeypatch.setattr(precision, "has_bfloat16", lambda _, there=there: there)
        assert type(precision.muon([matrix], lr=0.1)) is kind
        for wanted in (False, True):
            with precision.in_bfloat16("cpu", wanted):
                product = matrix @ matrix
            assert product.dtype == (torch.bfloat16 if there and wanted else torch.float32)


def test_ranks_divide_the_matrices(monkeypatch):
    """Each of three computes some, and what it leaves to the others is zero until it is summed."""
    matrices = [torch.full(shape, 2.0) for shape in ((4, 4), (8, 8), (4, 4), (2, 2), (8, 4))]
    sums: list[torch.Tensor] = []
    computed: list[tuple[int, ...]] = []

    def counted(matrix):
        computed.append(tuple(matrix.shape))
        return matrix + 1

    monkeypatch.setattr(distributed, "_joined", lambda: True)
    monkeypatch.setattr(distributed.dist, "get_world_size", lambda: 3)
    monkeypatch.setattr(distributed.dist, "all_reduce", lambda values: sums.append(values.clone()))
    for rank in range(3):
        monkeypatch.setattr(distributed.dist, "get_rank", lambda rank=rank: rank)
        found = distributed.divided_over_ranks(counted, matrices)
        assert [part.shape for part in found] == [each.shape for each in matrices]
    assert sorted(computed) == sorted(tuple(each.shape) for each in matrices)
    assert torch.equal(sum(sums), torch.full((4 * 4 + 64 + 4 * 4 + 4 + 32,), 3.0))
    # The largest matrix alone, against all the others.
    assert min(int((values != 0).sum()) for values in sums) >= 32


def test_one_rank_computes_all_of_them():
    assert distributed.divided_over_ranks(torch.neg, []) == []
    (found,) = distributed.divided_over_ranks(torch.neg, [torch.ones(2)])
    assert torch.equal(found, -torch.ones(2))
