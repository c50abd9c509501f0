"""RAD: Regularizing Activation Distribution for Training Binarized Deep Networks (Ding et al., CVPR 2019, arXiv 1904.02823).

weights       w_b = sign(w), dL/dw = dL/dw_b, latent weights clamped to [-1, 1] after each step
activations   a_b = sign(x), straight-through estimator; the loss gains, for each layer, with mean m_c and standard deviation s_c
              of channel c over the batch and the map,

    strength mean_c [ max(2 - |m| - s, 0)^2 + max(s - 4, 0)^2 + max(m^2 - s^2, 0) ]

The terms keep from the inputs of the sign that all are so small that the gradient of sign is mistaken (|m| + s < 2), that they are
saturated (s > 4), and that nearly all of a channel have one sign (m^2 > s^2, degeneration). They are those of the authors'
code, ruizhoud/DistributionLoss. It takes their mean over layers, not their sum, and leaves out the layer behind the first
convolution; so its weight divided by the number of layers is `strength` here, 0.1 an own choice. The sign sees what batch norm
(and the shortcut) gives, without a clamp: structure "identity", as in the authors' AlexNet. The loss that is logged does not
contain the term.
"""

import torch
from torch import Tensor

from onebit.methods.bnn import SignWeight
from onebit.methods.method import Method
from onebit.methods.plain_sign import PlainSign
from onebit.nn.binarizer import with_term
from onebit.nn.structure import Structure, positive_number
from onebit.nn.surrogates import Surrogate, identity, ste

EPS = 1e-10  # of the variance, whose root has no slope at 0


def distribution_loss(x: Tensor) -> Tensor:
    """The mean over channels in the module's docstring: x (B, C, ...) -> (), float32 or wider."""
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    dims = (0, *range(2, x.dim()))
    mean = x.mean(dims)  # (C,)
    variance = x.var(dims, correction=0) + EPS
    deviation = variance.sqrt()
    small = (2 - mean.abs() - deviation).clamp(min=0) ** 2
    saturated = (deviation - 4).clamp(min=0) ** 2
    degenerate = (mean**2 - variance).clamp(min=0)
    return (small + saturated + degenerate).mean()


class ClampedSignWeight(SignWeight):
    """sign(w) of latent weights that stay in [-1, 1]."""

    @torch.no_grad()
    def after_step(self, weight: Tensor, gradient: Tensor | None) -> None:
        weight.clamp_(-1, 1)


class RegularizedActivation(PlainSign):
    """sign(x), and in training strength distribution_loss(x) in the loss: x (B, C, ...)."""

    def __init__(self, channels: int, surrogate: Surrogate, strength: float):
        super().__init__(channels, surrogate)
        self.strength = strength

    def forward(self, x: Tensor) -> Tensor:
        if self.training and torch.is_grad_enabled():
            x = with_term(x, self.strength * distribution_loss(x))
        return super().forward(x)


def rad(strength: float = 0.1) -> Method:
    """strength > 0 of a layer's term. Raises UserError for another value. A shortcut around two convolutions."""
    positive_number("rad", "strength", strength)
    return Method(
        "rad",
        lambda shape: ClampedSignWeight(shape, Surrogate(identity)),
        lambda channels: RegularizedActivation(channels, Surrogate(ste), strength),
        Structure(block="plain", nonlinearity="identity"),
    )
