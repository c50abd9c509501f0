"""ReBNN: Resilient Binary Neural Network (Xu et al., AAAI 2023, arXiv 2302.00956).

weights       w_b = alpha_o sign(w), alpha learned per filter; the loss gains the weighted reconstruction loss

    L_R = 1/2 sum_o gamma_o ||w_o - alpha_o sign(w_o)||^2

    dL/dw     = alpha (dL/dw_b 1_{|w| <= 1}) + gamma (w - alpha sign(w))
    dL/dalpha = sum dL/dw_b sign(w) - gamma sum (w - alpha sign(w)) sign(w)       (the minus is missing in print)
    gamma_o   = (fraction of signs flipped by the last step) * max_j |dL/dw_b|, clamped to [1e-5, 2e-4]

"released": the authors' layer, whose clamps are exchanged so that gamma = 2e-4 always; w_b = 0.02 |alpha| sign(w),
alpha from a normal distribution, and

    dL/dw = alpha dL/dw_b + gamma (w - 0.02 alpha sign(w))                        (no clipping, no 0.02)
    dL/dalpha = sum dL/dw_b w - gamma sum (w - 0.02 alpha sign(w)) 0.02 sign(w)   (w where the derivative has sign(w))

activations   RSign with max(2 - 2|x|, 0), structure with RPReLU, both as ReActNet.
"""

from typing import Any

import torch
from torch import Tensor, nn

from onebit.errors import UserError
from onebit.methods.learned_scale import LearnedScaleSign
from onebit.methods.method import Method, choose
from onebit.methods.reactnet import RSign
from onebit.nn.binarizer import WeightBinarizer, WeightForm
from onebit.nn.sign import sign
from onebit.nn.structure import Structure
from onebit.nn.surrogates import Surrogate, approx_sign, ste

GAMMA_MIN, GAMMA_MAX = 1e-5, 2e-4
RELEASED_SCALE = 0.02


class ResilientSign(LearnedScaleSign):
    """The paper's weights. gamma, and what it is computed from, are buffers that only training needs."""

    gamma: Tensor
    last_weight: Tensor
    last_scale: Tensor

    def __init__(self, shape: torch.Size, surrogate: Surrogate, bounds: tuple[float, float] = (GAMMA_MIN, GAMMA_MAX)):
        super().__init__(shape, surrogate)
        self.bounds = bounds
        self.register_buffer("gamma", self.per_channel(bounds[0]))
        self.register_buffer("last_weight", torch.zeros(shape))
        self.register_buffer("last_scale", self.per_channel(1.0))

    @torch.no_grad()
    def initialize(self, weight: Tensor) -> None:
        super().initialize(weight)
        self._remember(weight)

    def _remember(self, weight: Tensor) -> None:
        self.last_weight.copy_(weight)
        self.last_scale.copy_(self.scale)

    def set_progress(self, fraction: float, weight: Tensor) -> None:
        super().set_progress(fraction, weight)
        with torch.no_grad():
            self._remember(weight)

    def regularization(self, weight: Tensor) -> Tensor:
        return 0.5 * (self.gamma * (weight - self.scale * sign(weight.detach())) ** 2).sum()

    @torch.no_grad()
    def after_step(self, weight: Tensor, gradient: Tensor | None) -> None:
        """gamma for the next step (eq. in the module's docstring), from this step's gradient and flips.

        gradient = alpha dL/dw_b 1_{|w| <= 1} + gamma (w - alpha sign(w)) at the weights before the step, so dL/dw_b
        follows from the remembered weights; where |w| > 1 it reads 0. Under data parallelism it is the synchronised
        gradient, so gamma is the same on every rank.
        """
        if gradient is not None:
            last_sign = sign(self.last_weight)
            pull = self.gamma * (self.last_weight - self.last_scale * last_sign)
            gradient = (gradient - pull) / torch.where(self.last_scale == 0, 1.0, self.last_scale)
            dims = tuple(range(1, weight.dim()))
            flips = (sign(weight) != last_sign).float().mean(dim=dims, keepdim=True)  # (O, 1, ...)
            self.gamma.copy_((flips * gradient.abs().amax(dim=dims, keepdim=True)).clamp(*self.bounds))
        self._remember(weight)


class _ReleasedFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, alpha: Tensor) -> Tensor:
        ctx.save_for_backward(weight, alpha)
        return RELEASED_SCALE * alpha * sign(weight)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        weight, alpha = ctx.saved_tensors
        b = RELEASED_SCALE * sign(weight)
        pull = GAMMA_MAX * (weight - alpha * b)
        grad_alpha = (grad * weight - pull * b).sum(dim=tuple(range(1, weight.dim())), keepdim=True)
        return pull + grad * alpha, grad_alpha


class ReleasedResilientSign(WeightBinarizer):
    """The authors' weights: w_b = 0.02 |alpha| sign(w), alpha learned per filter, their gradients as in the module."""

    def __init__(self, shape: torch.Size):
        super().__init__(shape)
        self.scaling_factor = nn.Parameter(torch.randn_like(self.per_channel()))

    def forward(self, weight: Tensor) -> Tensor:
        return _ReleasedFunction.apply(weight, self.scaling_factor.abs())

    def freeze(self, weight: Tensor) -> tuple[WeightForm, ...]:
        return (WeightForm(sign(weight), RELEASED_SCALE * self.scaling_factor.detach().abs().flatten()),)


def rebnn(variant: str = "paper", gamma_min: float = GAMMA_MIN, gamma_max: float = GAMMA_MAX) -> Method:
    """variant: the weights' form, "paper" or "released"; 0 <= gamma_min <= gamma_max: the paper's bounds of gamma, of which
    0 and 0 leave its reconstruction loss out. Raises UserError for other values."""
    choose("rebnn", "variant", variant, ("paper", "released"))
    for name, value in (("gamma_min", gamma_min), ("gamma_max", gamma_max)):
        if type(value) not in (int, float) or not 0 <= value < 1:
            raise UserError(f"rebnn: {name} = {value!r} must be a number in [0, 1)")
    if gamma_min > gamma_max:
        raise UserError(f"rebnn: gamma_min = {gamma_min} is above gamma_max = {gamma_max}; exchange them")
    bounds = (float(gamma_min), float(gamma_max))
    if variant == "released" and bounds != (GAMMA_MIN, GAMMA_MAX):
        raise UserError(f"rebnn: the released gamma is always {GAMMA_MAX}; leave gamma_min and gamma_max out")

    def weight(shape: torch.Size) -> WeightBinarizer:
        return ResilientSign(shape, Surrogate(ste), bounds) if variant == "paper" else ReleasedResilientSign(shape)

    structure = Structure(nonlinearity="rprelu", stem_nonlinearity=False, head_norm=False)
    return Method(
        "rebnn",
        weight,
        lambda channels: RSign(channels, Surrogate(approx_sign)),
        structure,
        {"residual_imagenet": {"downsample": "average"}},
    )
