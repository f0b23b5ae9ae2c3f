"""What is made is float32 and on the CPU, and stays float32, whatever others set."""

import os
import threading

import pytest
import torch
from torch import nn

from syllabary import plain_torch
from syllabary.plain_torch import PlainModule, made_plainly, plainly


class Plain(PlainModule):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)
        self.register_buffer("wide", torch.zeros(3, dtype=torch.float64))
        self.register_buffer("count", torch.tensor(7))


@pytest.fixture
def other_defaults():
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):
            yield
    finally:
        torch.set_default_dtype(torch.float32)


def test_made_under_other_defaults(other_defaults):
    made = Plain()
    assert made.layer.weight.dtype == torch.float32 and not made.layer.weight.is_meta
    assert int(made.count) == 7
    assert torch.zeros(1).dtype == torch.float64 and torch.zeros(1).is_meta


def test_made_in_inference_mode_and_without_gradients():
    with torch.inference_mode():
        made = Plain()
    with torch.no_grad():
        folded = made_plainly(lambda: (made.layer.weight * 2).requires_grad)()
    assert not made.layer.weight.is_inference() and folded


def test_made_under_autocast():
    class Product(PlainModule):
        def __init__(self):
            super().__init__()
            thirds = torch.full((4, 4), 1 / 3)
            self.register_buffer("constant", thirds @ thirds)

    expected = Product().constant
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(Product().constant, expected)
        assert torch.is_autocast_enabled("cpu")


def test_an_error_leaves_the_defaults_as_they_were(other_defaults):
    @plainly
    def fails():
        assert torch.zeros(1).dtype == torch.float32
        assert not torch.is_grad_enabled()
        raise KeyError

    with pytest.raises(KeyError):
        fails()
    assert torch.get_default_dtype() == torch.float64
    assert torch.get_default_device() == torch.device("meta")


def test_threads_that_overlap_see_float32_and_leave_the_default(other_defaults):
    inside, leave, seen = threading.Barrier(2, timeout=20), threading.Event(), []

    def first():
        with plain_torch.plain_torch():
            inside.wait()
            leave.wait(20)

    def second():
        with plain_torch.plain_torch():
            inside.wait()
            leave.set()
            thread.join(20)
            seen.append(torch.zeros(1).dtype)

    thread = threading.Thread(target=first)
    other = threading.Thread(target=second)
    thread.start()
    other.start()
    other.join(20)
    assert seen == [torch.float32]
    assert torch.get_default_dtype() == torch.float64


@pytest.mark.parametrize("held", [False, True])
def test_dtypes_stay(held):
    made = Plain()
    holder = nn.Sequential(made, nn.Linear(2, 2)) if held else made
    before = {name: tensor.dtype for name, tensor in made.state_dict().items()}
    values = made.layer.weight.detach().clone()
    for cast in (nn.Module.half, nn.Module.bfloat16, nn.Module.double, nn.Module.float):
        cast(holder)
        holder.type(torch.float16)
        assert {name: tensor.dtype for name, tensor in made.state_dict().items()} == before
        assert torch.equal(made.layer.weight, values)
    holder.to("meta", torch.float16)
    assert made.layer.weight.is_meta and made.layer.weight.dtype == torch.float32


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.parametrize("chosen, expected", [(None, 1), (2, 2), (1, 1)])
def test_one_thread_in_a_forked_process_unless_it_chose_another_number(chosen, expected):
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        child = os.fork()
        if not child:
            if chosen:
                torch.set_num_threads(chosen)
            with plain_torch.plain_torch():
                pass
            os._exit(torch.get_num_threads())
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == expected
        with plain_torch.plain_torch():
            assert torch.get_num_threads() == 3  # not in the parent
    finally:
        torch.set_num_threads(before)
