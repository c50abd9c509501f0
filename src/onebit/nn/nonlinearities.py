"""The nonlinearities of binary networks.

Each is one function of its input with a hand-written derivative, so that training keeps one tensor for the backward pass,
where the chain of clamps would keep masks as well, which a CPU reads slowly.

A derivative is the first factor of its product with the gradient: the product is laid out in memory as its first factor, and
gradients that come from a pooling are not laid out as the maps are.
"""

from typing import Any

import torch
from torch import Tensor, nn


class _Hardtanh(torch.autograd.Function):
    """y = max(-1, min(x, 1)); dx = dy where |y| < 1: the derivative needs y alone, which the next layer keeps anyway."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = x.clamp(-1, 1)
        ctx.save_for_backward(y)
        # Asked in `backward`, it would make torch.compile (2.14) copy every gradient to (B, C, H, W).
        ctx.channels_last = x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        if not ctx.channels_last:
            return _inside(y) * grad
        # As a function of (B, H, W, C): of RBNN's gradients the compiler would else choose the layout, and often not this one.
        y, grad = (t.permute(0, 2, 3, 1) for t in (y, grad))
        return (_inside(y) * grad).permute(0, 3, 1, 2)


def _inside(y: Tensor) -> Tensor:
    """1 where |y| < 1, 0 where |y| = 1."""
    return (1 - y.abs()).ceil()


class Hardtanh(nn.Module):
    """y = max(-1, min(x, 1))."""

    def forward(self, x: Tensor) -> Tensor:
        return _Hardtanh.apply(x)


class ClippedGELU(nn.GELU):
    """GELU of max(x, -5), within 1.5e-6 of GELU: negative for every negative x, so that its sign is x's.

    GELU itself is x (1 + erf(x / sqrt 2)) / 2 in PyTorch, whose float32 sum is 0 below about -5.5: there the signs of what
    a binary layer sees would all be +1, by rounding alone, and -1 where GELU is computed more exactly.
    """

    least = -5.0

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.clamp(min=self.least))


def _over_channels(x: Tensor) -> tuple[int, ...]:
    """The dimensions of x (B, C, ...) other than its channels."""
    return (0, *range(2, x.dim()))


class _TwoSlopes(torch.autograd.Function):
    """y = positive_c max(x, 0) + negative_c min(x, 0): x (B, C, ...), slopes (C,) -> y (B, C, ...)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        ctx.save_for_backward(x, positive, negative)
        shape = (1, -1, *[1] * (x.dim() - 2))
        return positive.reshape(shape) * x.clamp(min=0) + negative.reshape(shape) * x.clamp(max=0)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, positive, negative = ctx.saved_tensors
        shape, dims = (1, -1, *[1] * (x.dim() - 2)), _over_channels(x)
        slope = torch.where(x >= 0, positive.reshape(shape), negative.reshape(shape))
        return slope * grad, (x.clamp(min=0) * grad).sum(dims), (x.clamp(max=0) * grad).sum(dims)


class Maxout(nn.Module):
    """y = positive_c max(x, 0) + negative_c min(x, 0), both learned per channel (AdaBin sec. 3.3; starts at 1, 0.25)."""

    def __init__(self, channels: int):
        super().__init__()
        self.positive = nn.Parameter(torch.ones(channels))
        self.negative = nn.Parameter(torch.full((channels,), 0.25))

    def forward(self, x: Tensor) -> Tensor:
        return _TwoSlopes.apply(x, self.positive.to(x.dtype), self.negative.to(x.dtype))


class RPReLU(nn.Module):
    """y = PReLU_c(x + shift_in_c) + shift_out_c (ReActNet, Liu et al. 2020, eq. 4); slope starts at 0.25, shifts at 0."""

    def __init__(self, channels: int):
        super().__init__()
        self.shift_in = nn.Parameter(torch.zeros(channels))
        self.slope = nn.Parameter(torch.full((channels,), 0.25))
        self.shift_out = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        shape = (1, -1, *[1] * (x.dim() - 2))
        shift_in, slope, shift_out = (p.to(x.dtype) for p in (self.shift_in, self.slope, self.shift_out))
        x = x + shift_in.reshape(shape)
        return _TwoSlopes.apply(x, torch.ones_like(slope), slope) + shift_out.reshape(shape)
