"""ReSTE: Estimator Meets Equilibrium Perspective (Wu et al., ICCV 2023, arXiv 2308.06689).

weights       w_b = mean |w| sign(w), the mean over the whole layer, through which the gradient flows, too
activations   a_b = sign(a)
backward      both signs through the power function sign(x) |x|^(1/o): |x|^(1/o - 1) / o where |x| <= 1.5, bounded below 0.1
              (onebit.nn.surrogates.reste); o = 1 + 2 (1 - cos(pi f / 2)) at the fraction f of training: the straight-through
              estimator at first, closer to sign at the end

As in the authors' code, DravenALG/ReSTE, which is RBNN's without rotations and standardisation. Their blocks are
convolution, ReLU, batch norm, sum, so that nothing follows the sum; ReLU before batch norm is no structure here. In their paper
o moves over training as well, to 3.
"""

import math

from torch import Tensor

from onebit.methods.dorefa import for_each_filter
from onebit.methods.method import Method
from onebit.methods.plain_sign import PlainSign
from onebit.nn.binarizer import WeightBinarizer, WeightForm
from onebit.nn.sign import sign
from onebit.nn.structure import Structure
from onebit.nn.surrogates import Surrogate, constant
from onebit.nn.surrogates import reste as power_slope

O_END, CLIP = 3.0, 1.5


def surrogate() -> Surrogate:
    """The power function's, o from 1 to 3 by a quarter of a cosine."""
    return Surrogate(power_slope, o=exponent, clip=constant(CLIP))


def exponent(fraction: float) -> float:
    """1 + (O_END - 1) (1 - cos(pi / 2 fraction))."""
    return 1 + (O_END - 1) * (1 - math.cos(math.pi / 2 * fraction))


class LayerMeanSign(WeightBinarizer):
    """w_b = mean |w| sign(w) over the layer, both factors differentiated: w (O, ...)."""

    def forward(self, weight: Tensor) -> Tensor:
        return weight.abs().mean() * self.surrogate(weight)

    def freeze(self, weight: Tensor) -> tuple[WeightForm, ...]:
        return (WeightForm(sign(weight), for_each_filter(weight.detach().abs().mean(), weight).flatten()),)


def reste() -> Method:
    """ReSTE, in networks with a shortcut around two convolutions. It has no options."""
    return Method(
        "reste",
        lambda shape: LayerMeanSign(shape, surrogate()),
        lambda channels: PlainSign(channels, surrogate()),
        Structure(block="plain", nonlinearity="identity"),
        {"residual_imagenet": {"block": "bireal"}},
    )
