"""A change of weights is seen, and nothing else is taken for one."""

import copy
import gc

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from syllabary.codecs.weights import SAMPLES, WeightWatch


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Linear(5, 70), nn.BatchNorm1d(70))
        self.second = nn.Conv1d(3, 4, 2)
        self.second.weight = nn.Parameter(self.second.weight.detach().permute(2, 1, 0).contiguous())
        self.second.weight = nn.Parameter(self.second.weight.detach().permute(2, 1, 0))
        self.register_buffer("none", None)
        self.register_buffer("empty", torch.empty(0))
        self.register_buffer("spread", torch.zeros(1).expand(9), persistent=False)
        self.shared = self.first[0]


def train_a_step(net):
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.1, foreach=True)
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()


def in_inference_mode(net):
    with torch.inference_mode():
        net.first[0].bias.add_(1)


def one_value(net):
    with torch.no_grad():
        net.first[0].weight[3, 1] += 1


def restored_at_an_old_address(net):
    for _ in range(4):  # memory is given out again
        net.first[0].weight.data = net.first[0].weight.data * 2
        gc.collect()


CHANGES = {
    "optimizer": train_a_step,
    "inference mode": in_inference_mode,
    "one value": one_value,
    "statistics": lambda net: net.first[1](torch.randn(9, 70)),
    "state": lambda net: net.first.load_state_dict(net.first.state_dict()),
    "data": lambda net: net.second.weight.data.mul_(2),
    "numpy": lambda net: net.second.bias.detach().numpy().fill(3),
    "old address": restored_at_an_old_address,
    "assign": lambda net: net.load_state_dict(copy.deepcopy(net.state_dict()), assign=True),
    "part": lambda net: setattr(net, "second", copy.deepcopy(net.second)),
    "parameter": lambda net: setattr(net.first[0], "bias", nn.Parameter(torch.zeros(70))),
    "removed": lambda net: delattr(net, "second"),
    "added": lambda net: net.first.append(nn.Linear(70, 1)),
    "buffer": lambda net: setattr(net, "none", torch.ones(2)),
    "parametrized": lambda net: parametrizations.weight_norm(net.second),
    "dtype": lambda net: net.second.double(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_changes(change):
    net = Net()
    watch = WeightWatch(net)
    assert watch.holds() and watch.holds(sampled=False)
    CHANGES[change](net)
    assert not watch.holds()
    assert WeightWatch(net).holds()


def test_what_changes_nothing():
    net = Net()
    watch = WeightWatch(net)
    net.eval().train().requires_grad_(False).cpu().float().zero_grad()
    net.state_dict()
    with torch.no_grad():
        net.first.eval()(torch.randn(9, 5))
    assert watch.holds()


def test_not_a_number_is_no_change():
    net = nn.Linear(3, 3)
    nn.init.constant_(net.weight, torch.nan)
    assert WeightWatch(net).holds()


def test_memory_that_torch_moved_is_read_where_it_is():
    net = Net()
    watch = WeightWatch(net)
    net.share_memory()
    assert not watch.holds()
    assert all(map(torch.equal, watch._values, watch._read()))  # and is not the freed one


@pytest.mark.parametrize("count", [1, SAMPLES - 1, SAMPLES, SAMPLES + 1, 1000, 12_345])
def test_a_tensor_that_was_scaled_without_being_counted_is_seen(count):
    net = nn.Module()
    net.register_buffer("values", torch.ones(count))
    watch = WeightWatch(net)
    assert sum(len(part) for kind in watch._samples for part in kind) == min(count, SAMPLES)
    net.values.data.mul_(1.001)
    assert watch.holds(sampled=False) and not watch.holds()


def test_weights_of_inference_mode():
    with torch.inference_mode():
        net = nn.Linear(4, 4)
        watch = WeightWatch(net)
        assert watch.holds()
        net.weight.mul_(2)
        assert not watch.holds()
