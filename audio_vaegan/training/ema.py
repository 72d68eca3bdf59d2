"""Exponential moving average of weights: what is sampled, evaluated and exported."""

import copy

import torch
from torch import nn


class Ema:
    """A running average of a module's parameters; the decay rises from 0 so that early weights are forgotten.

    After step t the decay is min(`decay`, (1 + t) / (10 + t)).
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.module = copy.deepcopy(module).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        averages: list[torch.Tensor] = list(self.module.parameters())
        values = [p.detach() for p in module.parameters()]
        torch._foreach_lerp_(averages, values, 1 - decay)
