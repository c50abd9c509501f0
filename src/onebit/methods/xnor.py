"""XNOR-Net (Rastegari et al., ECCV 2016, arXiv 1603.05279).

weights       w_b = alpha sign(w), alpha_o = mean |w_o|         (eq. 6; the optimum of ||w - alpha b||^2)
              dL/dw by differentiating both factors, with the straight-through estimator for sign:
              dL/dw = alpha 1_{|w| <= 1} dL/dw_b + sign(w) mean(dL/dw_b sign(w))
activations   a_b = sign(a), straight-through estimator. The map K of input scales is left out: it varies over the image,
              and the batch norm that follows absorbs its mean.
"""

from torch import Tensor

from onebit.methods.method import Method
from onebit.methods.plain_sign import PlainSign
from onebit.nn.binarizer import WeightBinarizer, WeightForm, filter_mean
from onebit.nn.sign import sign
from onebit.nn.structure import Structure
from onebit.nn.surrogates import Surrogate, ste


class MeanScaledSign(WeightBinarizer):
    """w_b = mean |w_o| sign(w), both factors differentiated (eq. 6): w (O, ...)."""

    def forward(self, weight: Tensor) -> Tensor:
        return filter_mean(weight, magnitude=True) * self.surrogate(weight)

    def freeze(self, weight: Tensor) -> tuple[WeightForm, ...]:
        return (WeightForm(sign(weight), filter_mean(weight, magnitude=True).flatten()),)


def xnor() -> Method:
    """XNOR-Net, in networks with a shortcut around two convolutions. It has no options."""
    return Method(
        "xnor",
        lambda shape: MeanScaledSign(shape, Surrogate(ste)),
        lambda channels: PlainSign(channels, Surrogate(ste)),
        Structure(block="plain"),
    )
