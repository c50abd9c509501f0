"""RBONN: Recurrent Bilinear Optimization for Binary Neural Networks (Xu et al., ECCV 2022, arXiv 2209.01542).

weights       w_b = alpha_o sign(w), alpha learned per filter, straight-through estimator; the loss gains
              lambda / 2 sum_o ||w_o - alpha_o sign(w_o)||^2, lambda = 1e-4, in which w and alpha are coupled

After each step the filters whose weights have become sparse while their scales are dense are carried back along themselves,

    w^{t+1} <- w^{t+1} + U_o DReLU(w^t),    DReLU(w_o) = w_o if not D(||w_o||_1) and D(|alpha_o|), else 0
    D(x_o) = 1 where the rank of x_o among the O filters of the layer, from 1 up, is above T = int(tau O), tau = 0.6
    U_o    <- |U_o - eta sum dL/dw^{t+1} DReLU(w^t)|,  U from 0.2, one number per filter, eta = 1e-4

activations   RSign with max(2 - 2|x|, 0), structure with RPReLU, both as ReActNet

As the same authors print it (Binary Neural Networks, CRC Press 2023, eq. 3.122-3.136). Their code, SteveTsui/RBONN, differs: w_b =
0.02 |alpha| sign(w) with a gradient for alpha that holds w in place of sign(w), as ReBNN's released layer; in training the
convolution takes w - U DReLU of the last gradient, not of the weights, while the stored weights stay; and its indicator compares
the positions that a sort of alpha returns, not ranks. eta is its learning rate of U at the start; alpha and the gradient of the
whole loss stand for A = 1 / alpha and that of the task's.
"""

import torch
from torch import Tensor

from onebit.methods.learned_scale import LearnedScaleSign
from onebit.methods.method import Method
from onebit.methods.reactnet import RSign
from onebit.nn.binarizer import filter_mean
from onebit.nn.sign import sign
from onebit.nn.structure import Structure
from onebit.nn.surrogates import Surrogate, approx_sign, ste

LAMBDA, TAU = 1e-4, 0.6
U_FIRST, ETA = 0.2, 1e-4


def dense(values: Tensor) -> Tensor:
    """D of the module's docstring: values (O,) -> bool (O,); the largest O - int(tau O)."""
    ranks = values.argsort(stable=True).argsort()  # from 0
    return ranks >= int(TAU * len(values))


class BilinearSign(LearnedScaleSign):
    """The module's weights: w (O, ...). Buffers that only training needs: U, the last step's weights and what it added to them
    over U."""

    recurrent: Tensor
    last_weight: Tensor
    backtracked: Tensor

    def __init__(self, shape: torch.Size, surrogate: Surrogate):
        super().__init__(shape, surrogate)
        self.register_buffer("recurrent", self.per_channel(U_FIRST))
        self.register_buffer("last_weight", torch.zeros(shape))
        self.register_buffer("backtracked", torch.zeros(shape))

    @torch.no_grad()
    def initialize(self, weight: Tensor) -> None:
        super().initialize(weight)
        self.last_weight.copy_(weight)

    def set_progress(self, fraction: float, weight: Tensor) -> None:
        super().set_progress(fraction, weight)
        self.last_weight.copy_(weight)

    def regularization(self, weight: Tensor) -> Tensor:
        return LAMBDA / 2 * ((weight - self.scale * sign(weight.detach())) ** 2).sum()

    def drelu(self, weight: Tensor) -> Tensor:
        """The filters of w that are sparse and have dense scales, the others 0: shaped like w."""
        chosen = ~dense(filter_mean(weight, magnitude=True).flatten()) & dense(self.scale.abs().flatten())
        return torch.where(chosen.reshape(self.recurrent.shape), weight, 0)

    @torch.no_grad()
    def after_step(self, weight: Tensor, gradient: Tensor | None) -> None:
        if gradient is not None:
            added = self.drelu(self.last_weight)
            weight.add_(self.recurrent * added)
            # gradient is at the weights that the last call left, which contain what it added
            slope = (gradient * self.backtracked).sum(dim=tuple(range(1, weight.dim())), keepdim=True)
            self.recurrent.copy_((self.recurrent - ETA * slope).abs())
            self.backtracked.copy_(added)
        self.last_weight.copy_(weight)


def rbonn() -> Method:
    """RBONN: a shortcut around each convolution, then RPReLU. It has no options."""
    return Method(
        "rbonn",
        lambda shape: BilinearSign(shape, Surrogate(ste)),
        lambda channels: RSign(channels, Surrogate(approx_sign)),
        Structure(nonlinearity="rprelu", stem_nonlinearity=False, head_norm=False),
        {"residual_imagenet": {"downsample": "average"}},
    )
