"""IR-Net: Forward and Backward Information Retention (Qin et al., CVPR 2020, arXiv 1909.10788).

weights       w^ = (w - mean) / std per filter (unbiased std), w_b = 2^round(log2 mean |w^|) sign(w^)   (eq. 6-8)
activations   a_b = sign(a)
backward      EDE for both: k t (1 - tanh^2(t x)); t from 10^-3 to 10^1 as released (10^-1 in the paper)   (eq. 10-11)
"""

import torch
from torch import Tensor

from onebit.methods.method import Method, choose
from onebit.methods.plain_sign import PlainSign
from onebit.nn.binarizer import WeightBinarizer, WeightForm, filter_mean, standardized
from onebit.nn.sign import sign
from onebit.nn.structure import Structure
from onebit.nn.surrogates import ede, sharpening

T_MIN = {"paper": 1e-1, "released": 1e-3}


class BalancedSign(WeightBinarizer):
    """w_b = 2^round(log2 mean |w^|) sign(w^), w^ standardised per filter (eq. 6-8): w (O, ...)."""

    def scale(self, balanced: Tensor) -> Tensor:
        """A power of two, so that hardware can shift instead of multiply: (O, ...) -> (O, 1, ...)."""
        return torch.exp2(filter_mean(balanced.detach(), magnitude=True).log2().round())

    def forward(self, weight: Tensor) -> Tensor:
        balanced = standardized(weight)
        return self.scale(balanced) * self.surrogate(balanced)

    def freeze(self, weight: Tensor) -> tuple[WeightForm, ...]:
        balanced = standardized(weight)
        return (WeightForm(sign(balanced), self.scale(balanced).flatten()),)


def irnet(variant: str = "released") -> Method:
    """variant: where t begins, "paper" (0.1) or "released" (0.001). Raises UserError for another."""
    choose("irnet", "variant", variant, tuple(T_MIN))
    t_min = T_MIN[variant]
    return Method(
        "irnet",
        lambda shape: BalancedSign(shape, sharpening(ede, t_min, 10.0)),
        lambda channels: PlainSign(channels, sharpening(ede, t_min, 10.0)),
        Structure(block="plain"),
    )
