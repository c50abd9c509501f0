"""BNN+: Improved Binary Network Training (Darabi et al. 2018, arXiv 1812.11800; later "Regularized Binary Network Training").

backward      SwishSign for weights and activations: sign's derivative becomes that of
                  SS(x) = 2 sigma(b x) (1 + b x (1 - sigma(b x))) - 1,
                  SS'(x) = b (2 - b x tanh(b x / 2)) / (1 + cosh b x),  b = 5   (eq. 4-5)
loss          L + strength sum over layers, filters o and weights of |alpha_o - |w||: pulls weights to -+alpha
weights       w_b = alpha_o sign(w), with alpha learned per filter from both: from the loss through w_b, and from the sum above

The sum has one of the paper's two norms; the other squares. The strength, constant over training, and one alpha per filter, which
starts from mean |w_o|, are own choices. As described in the paper; no authors' code is public.
"""

import torch
from torch import Tensor

from onebit.methods.learned_scale import LearnedScaleSign
from onebit.methods.method import Method
from onebit.methods.plain_sign import PlainSign
from onebit.nn.structure import Structure, positive_number
from onebit.nn.surrogates import Surrogate, constant, swish_sign

BETA = 5.0


class RegularizedSign(LearnedScaleSign):
    """w_b = scale_o sign(w), and strength sum |scale_o - |w|| in the loss: w (O, ...)."""

    def __init__(self, shape: torch.Size, surrogate: Surrogate, strength: float):
        super().__init__(shape, surrogate)
        self.strength = strength

    def regularization(self, weight: Tensor) -> Tensor:
        return self.strength * (self.scale - weight.abs()).abs().sum()


def bnn_plus(strength: float = 1e-6) -> Method:
    """strength > 0 of the regularization. Raises UserError for another value. A shortcut around two convolutions."""
    positive_number("bnn_plus", "strength", strength)
    return Method(
        "bnn_plus",
        lambda shape: RegularizedSign(shape, Surrogate(swish_sign, b=constant(BETA)), strength),
        lambda channels: PlainSign(channels, Surrogate(swish_sign, b=constant(BETA))),
        Structure(block="plain"),
    )
