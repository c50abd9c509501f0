"""Elastic binarizers (BiT, Liu et al., NeurIPS 2022, arXiv 2205.13016): a scale alpha learned for each layer, a shift b per channel.

Formulas stand in `bit`, whose authors' code has two limits that these have not. There alpha is at least 1e-5, and a layer whose alpha
passes 0 is dead; here alpha counts by its size |alpha|, of at least 1e-5. And where u = 1/2 is rounded to even there, it is rounded up
here, as the sign of 0 is 1.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from onebit.nn.binarizer import ActivationBinarizer, ActivationForm
from onebit.nn.sign import scaled_gradient, sign
from onebit.nn.surrogates import Surrogate, ste

LEAST = 1e-5  # of alpha


class _Step(torch.autograd.Function):
    """alpha h, h = 1 where x >= t, else 0. With v = (x - t) / alpha, so that u = v + 1/2 where t = alpha / 2 - b:

    dx = da 1_{|v| <= 1/2},  dt = -dx,  dalpha = sum da h - dx v
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, alpha: Tensor, threshold: Tensor) -> Tensor:
        v = (x - threshold) / alpha
        step = (sign(v) + 1) / 2
        ctx.save_for_backward(v, step, threshold)
        return alpha * step

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        v, step, threshold = ctx.saved_tensors
        inner = ste(v, 0.5) * grad
        return inner, (grad * step - inner * v).sum(), -inner.sum_to_size(threshold.shape)


class Elastic(ActivationBinarizer):
    """What elastic binarizers share: alpha, and the shift b per channel, if any. x (B, C, ...)."""

    start: float  # alpha begins at so many times mean |x|

    def __init__(self, channels: int, surrogate: Surrogate | None, shifts: bool = True):
        super().__init__(channels, surrogate)
        self.alpha = nn.Parameter(torch.tensor(1.0))
        self.shift = nn.Parameter(torch.zeros(channels)) if shifts else None

    @torch.no_grad()
    def initialize(self, x: Tensor) -> None:
        self.alpha.copy_((self.start * x.abs().mean()).clamp(min=LEAST))

    def scale(self) -> Tensor:
        size = self.alpha.abs()
        return size.detach().clamp(min=LEAST) + (size - size.detach())  # with a gradient below the bound, too

    def threshold(self, level: Tensor, like: Tensor | None = None) -> Tensor:
        """level - b: a number, or (C,); with `like` (B, C, ...) in its type and (1, C, 1, ...)."""
        if like is not None:
            level = level.to(like.dtype)
        if self.shift is None:
            return level
        if like is None:
            return level - self.shift
        return level - self.shift.reshape(1, -1, *[1] * (like.dim() - 2)).to(like.dtype)


class ElasticSign(Elastic):
    """alpha sign(x + b)."""

    start = 2.0

    def __init__(self, channels: int):
        super().__init__(channels, Surrogate(ste))

    def forward(self, x: Tensor) -> Tensor:
        alpha = self.scale()
        u = (x - self.threshold(torch.zeros_like(alpha), x)) / alpha.detach().to(x.dtype)
        return scaled_gradient(alpha, 1 / math.sqrt(x.numel())).to(x.dtype) * self.surrogate(u)

    def freeze(self) -> tuple[ActivationForm, ...]:
        alpha = self.scale().detach()
        return (ActivationForm(self.threshold(torch.zeros_like(alpha)).detach(), float(alpha)),)


class ElasticStep(Elastic):
    """alpha where x + b >= alpha / 2, else 0, of what is never negative."""

    start = 4.0

    def __init__(self, channels: int, shifts: bool = True):
        super().__init__(channels, None, shifts)

    def forward(self, x: Tensor) -> Tensor:
        alpha = scaled_gradient(self.scale(), 1 / math.sqrt(x.numel()))
        return _Step.apply(x, alpha.to(x.dtype), self.threshold(alpha / 2, x))

    def freeze(self) -> tuple[ActivationForm, ...]:
        half = self.scale().detach() / 2
        threshold = self.threshold(half).detach()
        return (ActivationForm(threshold if self.shift is not None else float(threshold), float(half), float(half)),)


class ElasticLevels(Elastic):
    """alpha q, q = u rounded and cut to the whole numbers from `low` to `high`, u = (x + b) / alpha: so many sums of steps.

    dx = da_b 1_{low <= u <= high},  dalpha = 1/sqrt(n high) sum da_b (low where u < low, q - u in between, high where u > high)
    """

    def __init__(self, channels: int, low: int, high: int, shifts: bool = True):
        super().__init__(channels, None, shifts)
        self.low, self.high = low, high
        self.start = (2.0 if low else 4.0) / math.sqrt(high)

    def forward(self, x: Tensor) -> Tensor:
        alpha = scaled_gradient(self.scale(), 1 / math.sqrt(x.numel() * self.high))
        u = (x - self.threshold(torch.zeros_like(alpha), x)) / alpha.to(x.dtype)
        cut = u.clamp(self.low, self.high)
        with torch.no_grad():
            q = torch.full_like(x, self.low)
            for level in self.levels(alpha):
                q += x >= self.threshold(level, x)
        return alpha.to(x.dtype) * (cut + (q - cut).detach())

    def levels(self, alpha: Tensor) -> list[Tensor]:
        """Where x + b reaches the next level."""
        return [(number + 0.5) * alpha for number in range(self.low, self.high)]

    def freeze(self) -> tuple[ActivationForm, ...]:
        alpha = self.scale().detach()
        half, lowest = float(alpha) / 2, self.low * float(alpha)
        thresholds = [self.threshold(level).detach() for level in self.levels(alpha)]
        thresholds = [t if self.shift is not None else float(t) for t in thresholds]  # type: ignore[misc]
        return tuple(ActivationForm(t, half, half + lowest * (not i)) for i, t in enumerate(thresholds))
