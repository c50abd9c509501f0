"""LAB: Loss-aware Binarization of Deep Networks (Hou et al., ICLR 2017, arXiv 1611.01600).

weights       w_b = alpha sign(w), with alpha = ||d . w||_1 / ||d||_1 over the layer: the closed-form proximal Newton step, which
              minimises sum_j d_j (w_j - w_b,j)^2 where d is the diagonal of the loss's Hessian; a constant in the backward pass
              dL/dw = dL/dw_b
curvature     d = sqrt(v) + 1e-8, v <- 0.999 v + 0.001 (dL/dw_b)^2 after each step: the second moment that Adam computes
activations   a_b = sign(a), straight-through estimator

Different here: v is the layer's own, so that LAB trains with every optimizer, where the paper reads Adam's; the bias correction of
v and the learning rate in d are left out, since alpha depends on the ratios of d alone. Before the first step v = 0, and alpha is
mean |w|. Where another `weight_surrogate` is chosen, v is of the gradient that it gives. As described in the paper; the authors'
code (Theano) was not compared.
"""

import torch
from torch import Tensor

from onebit.methods.bireal import MagnitudeAwareSign
from onebit.methods.dorefa import for_each_filter
from onebit.methods.method import Method
from onebit.methods.plain_sign import PlainSign
from onebit.nn.structure import Structure
from onebit.nn.surrogates import Surrogate, identity, ste

DECAY, EPS = 0.999, 1e-8


class LossAwareSign(MagnitudeAwareSign):
    """w_b = alpha sign(w), alpha = sum d |w| / sum d over the layer: w (O, ...). Only training moves `moment`, the module's v."""

    moment: Tensor

    def __init__(self, shape: torch.Size, surrogate: Surrogate):
        super().__init__(shape, surrogate)
        self.register_buffer("moment", torch.zeros(shape))

    def scale(self, weight: Tensor) -> Tensor:
        wide = torch.promote_types(weight.dtype, torch.float32)  # half precision rounds EPS to 0, and overflows
        curvature = self.moment.to(wide).sqrt() + EPS
        mean = (curvature * weight.abs().to(wide)).sum() / curvature.sum()
        return for_each_filter(mean.to(weight.dtype), weight)

    @torch.no_grad()
    def after_step(self, weight: Tensor, gradient: Tensor | None) -> None:
        if gradient is not None:
            self.moment.lerp_(gradient.square(), 1 - DECAY)


def lab() -> Method:
    """LAB, in networks with a shortcut around two convolutions. It has no options."""
    return Method(
        "lab",
        lambda shape: LossAwareSign(shape, Surrogate(identity)),
        lambda channels: PlainSign(channels, Surrogate(ste)),
        Structure(block="plain"),
    )
