"""SiMaN: Sign-to-Magnitude Network Binarization (Lin et al., TPAMI 2023, arXiv 2102.07981).

weights       w^ = (w - mean) / std of each filter; b = +1 where |w^| is in the larger half of the filter, else -1 (the paper's 0,
              which its code, lmbxmu/SiMaN, writes as -1); w_b = scale b, scale learned per filter from mean |w|
              dL/d|w^| = dL/db, so dL/dw^ = sign(w^) dL/db
activations   sign((a - mean) / std) over each sample, gradient max(2 - 2|u|, 0) at u = (a - mean) / std, as released
structure     as RBNN's

A filter of n weights has n // 2 of b = +1. That is sign(|w^| - m) with m the (n // 2)-th largest |w^|, a constant in the backward
pass; weights that tie with it are +1, too, and so is the one weight of a filter of n = 1. A surrogate given as an option is
taken at |w^| - m.

Different here: the authors' code centres the stored weights at each step and clamps their magnitudes between two percentiles (5 %
from either end, less over training), which is left out, and adds 1e-5 to variances. Its weights have no weight decay, which is
the recipe's: `weight_decay = 0`.
"""

from torch import Tensor

from onebit.methods.learned_scale import LearnedScaleSign
from onebit.methods.method import Method
from onebit.methods.rbnn import CentredSign
from onebit.nn.binarizer import standardized
from onebit.nn.structure import Structure
from onebit.nn.surrogates import Surrogate, approx_sign, identity


class MagnitudeHalf(LearnedScaleSign):
    """w_b = scale_o sign(|w^| - m_o), m_o the median from above of filter o: w (O, ...)."""

    def real(self, weight: Tensor) -> Tensor:
        """|w^| - m, shaped like w."""
        size = standardized(weight).abs()
        rows = size.detach().flatten(1)  # (O, n)
        half = max(rows.shape[1] // 2, 1)
        middle = rows.sort(dim=1, descending=True).values[:, half - 1]  # (O,); kthvalue is not deterministic on GPUs
        return size - middle.reshape(-1, *[1] * (weight.dim() - 1))


def siman() -> Method:
    """SiMaN, in RBNN's networks. It has no options."""
    return Method(
        "siman",
        lambda shape: MagnitudeHalf(shape, Surrogate(identity)),
        lambda channels: CentredSign(channels, Surrogate(approx_sign)),
        Structure(block="plain"),
        {
            "residual_cifar_wide": {"shortcut": "binary", "stem_nonlinearity": False},
            "residual_imagenet": {"block": "bireal"},
        },
    )
