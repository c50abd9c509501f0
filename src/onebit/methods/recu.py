"""ReCU: Reviving the Dead Weights in Binary Neural Networks (Xu et al., ICCV 2021, arXiv 2103.12369).

weights       w^ = (w - mean) 2 sqrt(2) / sqrt(var + 1e-5) per filter, clamped to +-Q (the rectified clamp unit),
              Q = -mean|w^| ln(2 - 2 tau) over the layer, a constant, tau from 0.85 to 0.99; w_b = scale sign(w^), scale learned per filter;
              the gradient passes sign unchanged and stops at the clamp
activations   a_b = sign(a), gradient max(2 - 2|a'|, 0); in training a' = a / sqrt(var(a) + 1e-5) over each sample,
              as released, which leaves the sign as it is
"""

import math

import torch
from torch import Tensor, nn

from onebit.methods.method import Method
from onebit.methods.plain_sign import PlainSign
from onebit.nn.binarizer import WeightBinarizer, WeightForm, degree, filter_mean
from onebit.nn.sign import sign
from onebit.nn.structure import Structure
from onebit.nn.surrogates import Surrogate, approx_sign, identity

TAU_MIN, TAU_MAX = 0.85, 0.99
EPS = 1e-5


class RectifiedClampSign(WeightBinarizer):
    """w_b = scale sign(clamp(w^, -Q, Q)), scale learned per filter; Q from tau as in the module: w (O, ...)."""

    tau: Tensor

    def __init__(self, shape: torch.Size, surrogate: Surrogate):
        super().__init__(shape, surrogate)
        self.scale = nn.Parameter(torch.rand_like(self.per_channel()))
        self.register_buffer("tau", torch.tensor(TAU_MIN))

    def set_progress(self, fraction: float, weight: Tensor) -> None:
        """tau = 0.85 + (0.99 - 0.85) (e^fraction - 1) / (e - 1), as in the authors' main.py."""
        super().set_progress(fraction, weight)
        self.tau.fill_(TAU_MIN + (TAU_MAX - TAU_MIN) * math.expm1(fraction) / math.expm1(1))

    def standardize(self, weight: Tensor) -> Tensor:
        """w^ = (w - mean) 2 sqrt(2) / sqrt(var + 1e-5) of each filter, shaped like weight."""
        dims = tuple(range(1, weight.dim()))
        centred = weight - filter_mean(weight)
        return centred / (torch.sqrt(centred.var(dim=dims, keepdim=True, correction=degree(weight)) + EPS) / 2 / 2**0.5)

    def forward(self, weight: Tensor) -> Tensor:
        standardized = self.standardize(weight)
        q = -(standardized.abs().mean() * torch.log(2 - 2 * self.tau)).detach()
        clamped = torch.minimum(torch.maximum(standardized, -q), q)
        return self.scale * self.surrogate(clamped)

    def freeze(self, weight: Tensor) -> tuple[WeightForm, ...]:
        return (WeightForm(sign(self.standardize(weight)), self.scale.detach().flatten()),)


class NormalizedSign(PlainSign):
    """a_b = sign(a), the surrogate at a' = a / sqrt(var(a) + 1e-5) of each sample: a (B, C, ...).

    constant   whether the gradient takes the divisor for a constant
    """

    def __init__(self, channels: int, surrogate: Surrogate, constant: bool = False):
        super().__init__(channels, surrogate)
        self.constant = constant

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            of = x.detach() if self.constant else x
            variance = of.var(dim=tuple(range(1, x.dim())), keepdim=True, correction=degree(x))
            x = x / torch.sqrt(variance + EPS)
        return super().forward(x)


def recu() -> Method:
    """ReCU: a shortcut around each convolution, then hardtanh. It has no options."""
    return Method(
        "recu",
        lambda shape: RectifiedClampSign(shape, Surrogate(identity)),
        lambda channels: NormalizedSign(channels, Surrogate(approx_sign)),
        Structure(block="bireal"),
    )
