"""AdamW and Muon for a module's parameters, with gradients averaged over ranks and clipped."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..precision import muon
from ..recipe import OptimizerConfig
from .ranks import average_gradients


def _decays(parameter: nn.Parameter) -> bool:
    """Whether a parameter has weight decay, unlike biases and gains such as a weight norm's (n, 1,
    1).
    """
    return sum(size > 1 for size in parameter.shape) >= 2


class ModuleOptimizer:
    """Optimizers for the parameters of a module that require a gradient at construction.

    Args:
        module: already on its device.
        config: of the optimizers.
        matrices: the parameters for Muon, if the configuration uses it.
    """

    def __init__(
        self, module: nn.Module, config: OptimizerConfig, matrices: Iterable[nn.Parameter] = ()
    ) -> None:
        self.config = config
        self.parameters = [p for p in module.parameters() if p.requires_grad]
        hidden = [p for p in matrices if p.requires_grad] if config.muon_lr else []
        chosen = set(hidden)
        others = [p for p in self.parameters if p not in chosen]
        self.muon: torch.optim.Muon | None = None
        if hidden:
            self.muon = muon(
                hidden,
                lr=config.muon_lr,
                momentum=config.muon_momentum,
                weight_decay=config.weight_decay,
            )
        groups: list[dict[str, Any]] = [
            {"params": [p for p in others if _decays(p)]},
            {"params": [p for p in others if not _decays(p)], "weight_decay": 0.0},
        ]
        self.adam = torch.optim.AdamW(
            [group for group in groups if group["params"]],
            lr=config.lr,
            betas=config.betas,
            eps=config.eps,
            weight_decay=config.weight_decay,
            fused=config.fused,
        )

    def clear(self) -> None:
        for parameter in self.parameters:
            parameter.grad = None

    def clipped_norm(self) -> Tensor:
        """Average the gradients over ranks and clip them; return the norm before clipping, a
        scalar.
        """
        trained = [p for p in self.parameters if p.requires_grad]
        average_gradients(trained)
        grads = [p.grad for p in trained if p.grad is not None]
        norm = nn.utils.get_total_norm(grads)
        if self.config.clip_norm:
            nn.utils.clip_grads_with_norm_(trained, self.config.clip_norm, norm)
        return norm

    def step(self, rate: float) -> float:
        """Take a step at this fraction of the maximal learning rate; return AdamW's learning rate.

        Parameters without a gradient are unchanged.
        """
        lr = self.config.lr * rate
        for group in self.adam.param_groups:
            group["lr"] = lr
        self.adam.step()
        if self.muon is not None:
            for group in self.muon.param_groups:
                group["lr"] = self.config.muon_lr * rate
            self.muon.step()
        return lr

    def state_dict(self) -> dict[str, Any]:
        return {
            "adam": self.adam.state_dict(),
            "muon": self.muon.state_dict() if self.muon is not None else None,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.adam.load_state_dict(state["adam"])
        if self.muon is not None:
            self.muon.load_state_dict(state["muon"])
