"""Bi-Real Net (Liu et al., ECCV 2018, arXiv 1808.00278).

weights       w_b = alpha sign(w), alpha_o = mean |w_o| held constant in the backward pass
              dL/dw = dL/dw_b 1_{|w| <= 1}: the magnitude-aware gradient as the authors release it
activations   a_b = sign(a), dL/da = dL/da_b max(2 - 2|a|, 0)   (eq. 5)
structure     a real-valued shortcut around every convolution
"""

from torch import Tensor

from onebit.methods.method import Method
from onebit.methods.plain_sign import PlainSign
from onebit.nn.binarizer import WeightBinarizer, WeightForm, filter_mean
from onebit.nn.sign import sign
from onebit.nn.structure import Structure
from onebit.nn.surrogates import Surrogate, approx_sign, ste


class MagnitudeAwareSign(WeightBinarizer):
    """w_b = mean |w_o| sign(w), dL/dw = dL/dw_b times the surrogate's slope at w: w (O, ...)."""

    def scale(self, weight: Tensor) -> Tensor:
        """alpha (O, 1, ...), a constant in the backward pass."""
        return filter_mean(weight, magnitude=True)

    def forward(self, weight: Tensor) -> Tensor:
        signs = self.surrogate(weight)
        scaled = self.scale(weight.detach()) * signs
        return scaled.detach() + (signs - signs.detach())  # value alpha sign(w) exactly, the same gradient

    def freeze(self, weight: Tensor) -> tuple[WeightForm, ...]:
        return (WeightForm(sign(weight), self.scale(weight).flatten()),)


def bireal() -> Method:
    """Bi-Real Net: a shortcut around each convolution and no nonlinearity but the sign. It has no options."""
    return Method(
        "bireal",
        lambda shape: MagnitudeAwareSign(shape, Surrogate(ste)),
        lambda channels: PlainSign(channels, Surrogate(approx_sign)),
        Structure(nonlinearity="identity"),
        {"residual_imagenet": {"downsample": "average"}},
    )
