"""XNOR-Net++: Improved Binary Neural Networks (Bulat and Tzimiropoulos, BMVC 2019, arXiv 1909.13863).

output        y = (sign(a) * sign(w)) . Gamma: one learned scale in place of XNOR-Net's two computed ones
backward      straight-through estimator for both signs; dL/dGamma_o = sum over images and pixels of dL/dy (sign(a) * sign(w))_o

Gamma is a number per output channel here, the paper's first construction, which is a scale of the weights: w_b = Gamma_o sign(w).
Its best one, Gamma = alpha (x) beta (x) gamma, has factors for each row and column of the map besides: such scales vary over the
image, which no binary form holds, and fit one size of image alone. Gamma starts from mean |w| of each filter, and
PReLU is the nonlinearity: own choices. As described in the paper.
"""

from onebit.methods.learned_scale import LearnedScaleSign
from onebit.methods.method import Method
from onebit.methods.plain_sign import PlainSign
from onebit.nn.structure import Structure
from onebit.nn.surrogates import Surrogate, ste


def xnor_plus_plus() -> Method:
    """XNOR-Net++, in networks with a shortcut around two convolutions. It has no options."""
    return Method(
        "xnor_plus_plus",
        lambda shape: LearnedScaleSign(shape, Surrogate(ste)),
        lambda channels: PlainSign(channels, Surrogate(ste)),
        Structure(block="plain", nonlinearity="prelu"),
    )
