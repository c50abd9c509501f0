"""Bi-Real Net (Liu et al., ECCV 2018, arXiv 1808.00278).

weights       w_b = alpha sign(w), alpha_o = mean |w_o| held constant in the backward pass
              dL/dw = dL/dw_b 1_{|w| <= 1}: the magnitude-aware gradient as the authors release it
activations   a_b = sign(a), dL/da = dL/da_b max(2 - 2|a|, 0)   (eq. 5)
structure     a real-valued shortcut around every convolution
"""

from torch import Tensor

from onebit.methods.method import Method, Structure, imagenet_resnets
from onebit.nn.binarizer import ActivationBinarizer, ActivationForm, WeightBinarizer, WeightForm, filter_mean
from onebit.nn.sign import approx_sign, sign, ste, surrogate_sign


class MagnitudeAwareSign(WeightBinarizer):
    def forward(self, weight: Tensor) -> Tensor:
        alpha = filter_mean(weight.detach(), magnitude=True)
        signs = surrogate_sign(weight, ste)  # value sign(w), gradient 1_{|w| <= 1}
        return (alpha * signs).detach() + (signs - signs.detach())  # value alpha sign(w) exactly, the same gradient

    def freeze(self, weight: Tensor) -> WeightForm:
        return WeightForm(sign(weight), filter_mean(weight, magnitude=True).flatten())


class ApproxSignActivation(ActivationBinarizer):
    def forward(self, x: Tensor) -> Tensor:
        return surrogate_sign(x, approx_sign)

    def freeze(self) -> ActivationForm:
        return ActivationForm()


def bireal() -> Method:
    return Method(
        "bireal",
        MagnitudeAwareSign,
        ApproxSignActivation,
        Structure(nonlinearity="identity"),
        imagenet_resnets(downsample="average"),
    )
