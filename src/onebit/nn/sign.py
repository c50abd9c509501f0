"""The one sign, and sign with another function's derivative.

    sign(x) = +1 where x >= 0 (so sign(+0) = sign(-0) = +1), -1 elsewhere

Its derivative is 0 almost everywhere, so every method replaces it in the backward pass by the derivative of a smoother
function, the surrogate; `onebit.nn.surrogates` has them by name.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Derivative = Callable[..., Tensor]


def sign(x: Tensor) -> Tensor:
    """+1 where x >= 0, -1 elsewhere, in x's dtype. NaN gives +1 here; packing and loading refuse NaN."""
    if torch.compiler.is_compiling():
        return (x < 0).to(x.dtype) * -2 + 1
    below = torch.lt(x.detach(), 0, out=torch.empty_like(x, requires_grad=False))  # 0 or 1 in x's dtype: four to eight
    return below.mul_(-2).add_(1)  # times as fast as a comparison that is converted


class _ScaledGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: Tensor | float) -> Tensor:
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad * ctx.factor, None


def scaled_gradient(x: Tensor, factor: Tensor | float) -> Tensor:
    """x with factor, a constant, times its gradient."""
    return _ScaledGradient.apply(x, factor)


class _WithGradientOf(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, x: Tensor) -> Tensor:
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor]:
        return None, grad


def with_gradient_of(value: Tensor, x: Tensor) -> Tensor:
    """value, a constant otherwise, whose gradient goes to x as it is; both shaped alike."""
    return _WithGradientOf.apply(value, x)


class _SurrogateSign(torch.autograd.Function):
    # No *parameters: where no gradient is wanted, the compiler of PyTorch 2.14 counts those of a call against the names
    # here, and leaves out ctx if the call has as many.
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, derivative: Derivative, p: Tensor | None = None, q: Tensor | None = None
    ) -> Tensor:
        ctx.save_for_backward(x, *(tensor for tensor in (p, q) if tensor is not None))
        ctx.derivative = derivative
        return sign(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, *parameters = ctx.saved_tensors
        # The derivative first: a product is laid out in memory as its first factor, and a gradient may lie otherwise than x.
        return ctx.derivative(x, *parameters).to(grad.dtype) * grad, None, *(None for _ in parameters)


def surrogate_sign(x: Tensor, derivative: Derivative, *parameters: Tensor) -> Tensor:
    """sign(x) forward; backward multiplies the incoming gradient by derivative(x, *parameters)."""
    return _SurrogateSign.apply(x, derivative, *parameters)
