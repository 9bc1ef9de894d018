"""Exponential moving average of weights."""

from __future__ import annotations

import torch
from torch import nn


class Ema:
    """Shadow of a module's state; `decay` warms up so that early weights are forgotten quickly."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.shadow = {name: value.detach().clone() for name, value in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Moves the shadow toward the module after optimiser step number `step` (from 0)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        state = module.state_dict()
        averaged = [name for name, value in state.items() if value.is_floating_point()]
        # One fused call: a U-Net has hundreds of small tensors, and a GPU pays for every launch.
        torch._foreach_lerp_(
            [self.shadow[name] for name in averaged], [state[name] for name in averaged], 1 - decay
        )
        for name in state.keys() - set(averaged):
            self.shadow[name].copy_(state[name])

    def copy_to(self, module: nn.Module) -> None:
        """Puts the averaged weights into `module`."""
        module.load_state_dict(self.shadow)
