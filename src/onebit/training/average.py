"""The moving average of a network's weights, which no step waits for."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


class Average(AveragedModel):
    """torch's AveragedModel with an exponential moving average of the parameters,

        v <- d v + (1 - d) w,  after the first step v <- w

    and the network's buffers as they are. Whether a step is the first is a number on the device there, which each update reads and
    so waits for; here, only the first update does.

    Args:
        model: the network
        decay: d, in (0, 1)
    """

    def __init__(self, model: nn.Module, decay: float):
        super().__init__(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=False)
        self.begun: bool | None = None  # not known: a checkpoint may be loaded

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Update the average after a step of `model`."""
        self.begun = bool(self.n_averaged) if self.begun is None else True
        pairs: list[tuple[Any, Any]] = [(self.module.buffers(), model.buffers())]
        averaged: list[Tensor] = [p.detach() for p in self.module.parameters()]
        current: list[Tensor] = [p.detach() for p in model.parameters()]
        if self.begun:
            self.multi_avg_fn(averaged, current, 0)  # type: ignore[misc]
        else:
            pairs.append((averaged, current))
        for to, source in pairs:
            for kept, now in zip(to, source, strict=True):
                kept.copy_(now)
        self.n_averaged += 1
