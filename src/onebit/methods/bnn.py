"""BNN: Binarized Neural Networks (Hubara et al., NeurIPS 2016, arXiv 1602.02830).

weights       w_b = sign(w)      dL/dw = dL/dw_b 1_{|w| <= 1}   (eq. 4, straight-through estimator)
activations   a_b = sign(a)      dL/da = dL/da_b 1_{|a| <= 1}
"""

from torch import Tensor

from onebit.methods.method import Method
from onebit.methods.plain_sign import PlainSign
from onebit.nn.binarizer import WeightBinarizer, WeightForm
from onebit.nn.sign import sign
from onebit.nn.structure import Structure
from onebit.nn.surrogates import Surrogate, ste


class SignWeight(WeightBinarizer):
    """w_b = sign(w), dL/dw = dL/dw_b times the surrogate's slope at w (eq. 4)."""

    def forward(self, weight: Tensor) -> Tensor:
        return self.surrogate(weight)

    def freeze(self, weight: Tensor) -> tuple[WeightForm, ...]:
        return (WeightForm(sign(weight), weight.new_ones(weight.shape[0])),)


def bnn() -> Method:
    """BNN, in networks with a shortcut around two convolutions. It has no options."""
    return Method(
        "bnn",
        lambda shape: SignWeight(shape, Surrogate(ste)),
        lambda channels: PlainSign(channels, Surrogate(ste)),
        Structure(block="plain"),
    )
