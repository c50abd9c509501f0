"""BNN: Binarized Neural Networks (Hubara et al., NeurIPS 2016, arXiv 1602.02830).

weights       w_b = sign(w)      dL/dw = dL/dw_b 1_{|w| <= 1}   (eq. 4, straight-through estimator)
activations   a_b = sign(a)      dL/da = dL/da_b 1_{|a| <= 1}
"""

from torch import Tensor

from onebit.methods.method import Method, Structure
from onebit.nn.binarizer import ActivationBinarizer, ActivationForm, WeightBinarizer, WeightForm
from onebit.nn.sign import sign, ste, surrogate_sign


class SignWeight(WeightBinarizer):
    def forward(self, weight: Tensor) -> Tensor:
        return surrogate_sign(weight, ste)

    def freeze(self, weight: Tensor) -> WeightForm:
        return WeightForm(sign(weight), weight.new_ones(weight.shape[0]))


class SignActivation(ActivationBinarizer):
    def forward(self, x: Tensor) -> Tensor:
        return surrogate_sign(x, ste)

    def freeze(self) -> ActivationForm:
        return ActivationForm()


def bnn() -> Method:
    return Method("bnn", SignWeight, SignActivation, Structure(block="plain"))
