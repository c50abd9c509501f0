"""OvSW: Overcoming Silent Weights for Accurate Binary Neural Networks (Xiang et al., ECCV 2024, arXiv 2407.05257).

weights       w_b = s_o sign(w), s_o = mean |w^| of the standardised filter, held constant; dL/dw = s_o dL/dw_b
              before each step, for each filter, adaptive gradient scaling and silence awareness decaying:

    g <- g delta ||w|| / ||g||   where ||g|| / ||w|| < delta              (||g|| at least 1e-6, ||w|| at least 1e-3)
    g <- g + decay w             for weights whose flips m < 1e-4,  m <- 0.999 m + 0.001 [sign flipped by the last step]

activations   a_b = sign(a), gradient max(2 - 2|a'|, 0); in training a' = a / sqrt(var(a) + 1e-5) over each sample, the divisor held
              constant

Over half of the signs never change in training, since gradients do not know how large the weights are; a floor on the gradient
relative to the weights makes them. delta 0.04 and decay 9e-4 are the authors' for ResNet-20 on CIFAR-10, as is m = 0 at the
start. As in the authors' code, JingyangXiang/OvSW, whose norm of weights adds 1e-5 to variances. Its ResNet-20 has shortcuts around
each convolution, which pool pixels by averaging; here they skip pixels. The floor is taken before gradients are clipped.
"""

import torch
from torch import Tensor

from onebit.methods.method import Method
from onebit.methods.recu import NormalizedSign
from onebit.nn.binarizer import WeightBinarizer, WeightForm, filter_mean, standardized
from onebit.nn.sign import sign
from onebit.nn.structure import Structure, positive_number
from onebit.nn.surrogates import Surrogate, approx_sign, identity

LEAST_GRADIENT, LEAST_WEIGHT = 1e-6, 1e-3
MEMORY, SILENT = 0.999, 1e-4


def norm(x: Tensor) -> Tensor:
    """The Euclidean norm of each filter: (O, ...) -> (O, 1, ...)."""
    return x.square().sum(dim=tuple(range(1, x.dim())), keepdim=True).sqrt()


def floor_gradient(weight: Tensor, gradient: Tensor, delta: float) -> None:
    """g <- g delta ||w|| / ||g|| for filters with ||g|| / ||w|| < delta, in place: weight, gradient (O, ...)."""
    size, floor = norm(gradient).clamp(min=LEAST_GRADIENT), delta * norm(weight).clamp(min=LEAST_WEIGHT)
    gradient.mul_((floor / size).clamp(min=1))


class AwakenedSign(WeightBinarizer):
    """The module's weights: w (O, ...). `flips` (m) and the signs of the last step are buffers that only training needs."""

    flips: Tensor
    last_sign: Tensor

    def __init__(self, shape: torch.Size, surrogate: Surrogate, delta: float, decay: float):
        super().__init__(shape, surrogate)
        self.delta, self.decay = delta, decay
        self.register_buffer("flips", torch.zeros(shape))
        self.register_buffer("last_sign", torch.ones(shape))

    @torch.no_grad()
    def initialize(self, weight: Tensor) -> None:
        self.last_sign.copy_(sign(weight))

    def set_progress(self, fraction: float, weight: Tensor) -> None:
        super().set_progress(fraction, weight)
        self.last_sign.copy_(sign(weight))  # the weights may have been loaded since they were drawn

    def scale(self, weight: Tensor) -> Tensor:
        """mean |w^| (O, 1, ...), a constant."""
        return filter_mean(standardized(weight.detach()), magnitude=True)

    def forward(self, weight: Tensor) -> Tensor:
        return self.scale(weight) * self.surrogate(weight)

    @torch.no_grad()
    def before_step(self, weight: Tensor, gradient: Tensor) -> None:
        floor_gradient(weight, gradient, self.delta)
        gradient.add_(torch.where(self.flips < SILENT, self.decay * weight, 0))

    @torch.no_grad()
    def after_step(self, weight: Tensor, gradient: Tensor | None) -> None:
        signs = sign(weight)
        self.flips.lerp_((signs != self.last_sign).to(self.flips.dtype), 1 - MEMORY)
        self.last_sign.copy_(signs)

    def freeze(self, weight: Tensor) -> tuple[WeightForm, ...]:
        return (WeightForm(sign(weight), self.scale(weight).flatten()),)


def ovsw(delta: float = 0.04, decay: float = 9e-4) -> Method:
    """delta > 0, the gradient's floor relative to the weights, and decay > 0 of silent weights. Raises UserError for others."""
    positive_number("ovsw", "delta", delta)
    positive_number("ovsw", "decay", decay)
    return Method(
        "ovsw",
        lambda shape: AwakenedSign(shape, Surrogate(identity), delta, decay),
        lambda channels: NormalizedSign(channels, Surrogate(approx_sign), constant=True),
        Structure(),
        {"residual_cifar_wide": {"block": "plain", "stem_nonlinearity": False}},
    )
