"""Shield this package from torch's global settings.

Programs create models under other default dtypes and devices (`torch.set_default_dtype`, a
``torch.device("meta")`` context), cast the module that contains a tokenizer, and fork. None of that
may change a code.
"""

import os
import threading
from abc import ABCMeta
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import wraps
from typing import Any, ParamSpec, Self, TypeVar

import torch
from torch import Tensor, nn

P = ParamSpec("P")
R = TypeVar("R")

_CPU = torch.device("cpu")
_AUTOCAST = "cpu", "cuda"
_nothing = nullcontext()


# --- defaults ------------------------------------------------------------------------------------


class _DefaultDtype:
    """Set the default dtype to float32 while any thread is inside; torch's default is global."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.inside = 0
        self.before = torch.float32

    def __enter__(self) -> None:
        with self.lock:
            if not self.inside:
                self.before = torch.get_default_dtype()
                torch.set_default_dtype(torch.float32)
            self.inside += 1

    def __exit__(self, *failure: object) -> None:
        with self.lock:
            self.inside -= 1
            if not self.inside:
                torch.set_default_dtype(self.before)


_default_dtype = _DefaultDtype()


def plain_torch() -> AbstractContextManager[None]:
    """Return a context in which new tensors default to float32 on the CPU and autocast is off.

    In a forked process, it also limits torch to one thread: see `_settle_after_fork`.
    """
    if _inherited_threads is not None:
        _settle_after_fork()
    cast = [device for device in _AUTOCAST if torch.is_autocast_enabled(device)]
    if not cast and not _default_dtype.inside:
        # One new tensor tells both defaults, sooner than the functions that return them.
        made = torch.empty(0)
        if made.dtype is torch.float32 and made.device == _CPU:
            return _nothing
    return _plain_defaults(cast)


@contextmanager
def _plain_defaults(cast: list[str]) -> Iterator[None]:
    with ExitStack() as stack:
        for device in cast:
            stack.enter_context(torch.autocast(device, enabled=False))
        stack.enter_context(_default_dtype)
        stack.enter_context(_CPU)
        yield


def plainly(call: Callable[P, R]) -> Callable[P, R]:
    """Decorate a function to run under `plain_torch`, without gradients or inference mode.

    Tensors created in inference mode can't be changed outside of it, where streams continue.
    """

    @wraps(call)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        # Contexts that change nothing are left out, since streams call for every frame.
        if torch.is_inference_mode_enabled():
            with torch.inference_mode(False), torch.no_grad(), plain_torch():
                return call(*args, **kwargs)
        if torch.is_grad_enabled():
            with torch.no_grad(), plain_torch():
                return call(*args, **kwargs)
        with plain_torch():
            return call(*args, **kwargs)

    return run


def made_plainly(call: Callable[P, R]) -> Callable[P, R]:
    """Decorate a function that creates modules to run under `plain_torch`, with gradients on.

    Weights created in inference mode can't be changed outside of it, and with gradients off torch
    treats a folded weight as a buffer.
    """

    @wraps(call)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        with torch.inference_mode(False), torch.enable_grad(), plain_torch():
            return call(*args, **kwargs)

    return run


# --- modules -------------------------------------------------------------------------------------


class _PlainlyMade(ABCMeta):
    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        return _construct(super().__call__, args, kwargs)


@made_plainly
def _construct(make: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    made = make(*args, **kwargs)
    made._made_whole()
    return made


class PlainModule(nn.Module, metaclass=_PlainlyMade):
    """A module that is created under `plain_torch` and keeps its dtypes.

    `.half()`, `.bfloat16()`, `.double()`, `.type()` and `.to(dtype)`, on it or on a parent module,
    can move it but not cast it, since rounded weights would give other codes.
    """

    def _made_whole(self) -> None:
        """Hook that is called after the constructors of all classes have run."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Apply what `.to`, `.half` and similar methods do, without changing dtypes."""

        def keep_dtype(tensor: Tensor) -> Tensor:
            changed = fn(tensor)
            return changed if changed.dtype == tensor.dtype else tensor.to(changed.device)

        return super()._apply(keep_dtype, recurse)


# --- forked processes ----------------------------------------------------------------------------

#: Torch's number of threads when this process was forked, until checked to be safe.
_inherited_threads: int | None = None


def _notice_fork() -> None:
    global _inherited_threads, _default_dtype
    _inherited_threads = torch.get_num_threads()
    _default_dtype.lock = threading.Lock()


def _settle_after_fork() -> None:
    """Limit torch to one thread after a fork, unless the process has set a number itself.

    Threads don't survive a fork, but OpenMP still counts on them: the first parallel operation
    would wait for them forever.
    """
    global _inherited_threads
    inherited, _inherited_threads = _inherited_threads, None
    if inherited != 1 and torch.get_num_threads() == inherited:
        torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_notice_fork)
