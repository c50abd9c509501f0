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
    return (x < 0).to(x.dtype).mul_(-2).add_(1)  # in place: two passes less over memory where nothing fuses them


def scaled_gradient(x: Tensor, factor: Tensor | float) -> Tensor:
    """x, to the bit, with factor times its gradient."""
    kept = x.detach()
    return kept + factor * (x - kept)


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
