"""The one sign, and the surrogate gradients that train through it.

    sign(x) = +1 where x >= 0 (so sign(+0) = sign(-0) = +1), -1 elsewhere

Its derivative is 0 almost everywhere, so every method replaces it in the backward pass by the derivative of a smoother
function, the surrogate. A surrogate here is a pure function `derivative(x, *parameters) -> tensor shaped like x`;
`surrogate_sign(x, derivative, *parameters)` is sign forward and `grad * derivative(x, *parameters)` backward.

| name           | derivative at x                          | source                                     |
|----------------|------------------------------------------|--------------------------------------------|
| ste            | 1 where |x| <= 1, else 0                 | Hubara et al. 2016 (BNN), eq. 4            |
| identity       | 1                                        | Bengio et al. 2013                         |
| approx_sign    | max(2 - 2|x|, 0)                         | Liu et al. 2018 (Bi-Real Net), eq. 5       |
| ede            | k t (1 - tanh^2(t x))                    | Qin et al. 2020 (IR-Net), eq. 10           |
| training_aware | max(k (sqrt(2) t - t^2 |x|), 0)          | Lin et al. 2020 (RBNN), eq. 13             |
| swish_sign     | b (2 - b x tanh(b x / 2)) / (1 + cosh b x) | Darabi et al. 2018 (BNN+), eq. 5         |
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Surrogate = Callable[..., Tensor]


def sign(x: Tensor) -> Tensor:
    """+1 where x >= 0, -1 elsewhere, in x's dtype. NaN gives +1 here; packing and loading refuse NaN."""
    return (x < 0).to(x.dtype).mul_(-2).add_(1)  # in place: two passes less over memory where nothing fuses them


def ste(x: Tensor) -> Tensor:
    """1 where |x| <= 1, else 0: the slope of clamp(x, -1, 1) (BNN, eq. 4)."""
    # 1 where |x| <= 1, else 0, exactly; a comparison would make torch.compile keep masks, which a CPU reads slowly
    return (2 - x.abs()).floor().clamp(0, 1)


def identity(x: Tensor) -> Tensor:
    """1: the slope of x (Bengio et al. 2013)."""
    return torch.ones_like(x)


def approx_sign(x: Tensor) -> Tensor:
    """max(2 - 2|x|, 0): the slope of a piecewise quadratic (Bi-Real Net, eq. 5)."""
    return (2 - 2 * x.abs()).clamp(min=0)


def ede(x: Tensor, t: Tensor, k: Tensor) -> Tensor:
    """k t (1 - tanh^2(t x)): the slope of k tanh(t x) (IR-Net, eq. 10)."""
    return k * t * (1 - torch.tanh(t * x) ** 2)


def training_aware(x: Tensor, t: Tensor, k: Tensor) -> Tensor:
    """max(k (sqrt(2) t - t^2 |x|), 0) (RBNN, eq. 13)."""
    return (k * (2 * torch.sqrt(t * t / 2) - t * t * x.abs())).clamp(min=0)


def swish_sign(x: Tensor, b: Tensor) -> Tensor:
    """b (2 - b x tanh(b x / 2)) / (1 + cosh b x): the slope of SignSwish (BNN+, eq. 5)."""
    return b * (2 - b * x * torch.tanh(b * x / 2)) / (1 + torch.cosh(b * x))


class _SurrogateSign(torch.autograd.Function):
    # No *parameters: where no gradient is wanted, the compiler of PyTorch 2.14 counts those of a call against the names
    # here, and leaves out ctx if the call has as many.
    @staticmethod
    def forward(ctx: Any, x: Tensor, derivative: Surrogate, p: Tensor | None = None, q: Tensor | None = None) -> Tensor:
        ctx.save_for_backward(x, *(tensor for tensor in (p, q) if tensor is not None))
        ctx.derivative = derivative
        return sign(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, *parameters = ctx.saved_tensors
        # The derivative first: a product is laid out in memory as its first factor, and a gradient may lie otherwise than x.
        return ctx.derivative(x, *parameters).to(grad.dtype) * grad, None, *(None for _ in parameters)


def surrogate_sign(x: Tensor, derivative: Surrogate, *parameters: Tensor) -> Tensor:
    """sign(x) forward; backward multiplies the incoming gradient by derivative(x, *parameters)."""
    return _SurrogateSign.apply(x, derivative, *parameters)
