"""RBNN: Rotated Binary Neural Network (Lin et al., NeurIPS 2020, arXiv 2009.13055).

A rotation turns the weights towards their own signs before they are binarized. With the weights of one filter (or of the
whole layer) as a matrix W (n1, n2), n1 n2 = n, and orthogonal R1 (n1, n1), R2 (n2, n2), which stand for R1 (x) R2 (n, n):

    rotated   R1^T W R2
    w~        W + alpha (R1^T W R2 - W),  alpha = |sin theta|, theta learned      (eq. 11)
    w_b       scale sign(w~), scale learned per filter

R1, R2 maximise tr(B (R1^T W R2)^T) over B in {-1, +1}, R1, R2, by three cycles at the start of each epoch (eq. 8-10):

    B  = sign(R1^T W R2)
    R1 = V U^T  with  B R2^T W^T = U S V^T
    R2 = U V^T  with  W^T R1 B   = U S V^T

backward (eq. 13-16): F'(x) = max(k (sqrt(2) t - t^2 |x|), 0) in place of the derivative of sign, then
dw~/dW = (1 - alpha) I + alpha R^T, dw~/dalpha = R1^T W R2 - W, dalpha/dtheta = sign(sin theta) cos theta.

variant      rotations, theta          weights          activations                        dw~/dW
"paper"      one of each per layer     as they are      sign(a), F' with the weights' t     as above
"released"   R1, R2 shared by the      standardised     sign((a - mean) / std) per sample,  (1 - alpha) I: the rotated
             filters, theta each       per filter       F' with max(t, 1)                   part is detached
"combined"   as released               as released      as released                         as above

In "released", alpha starts at 1 and no gradient reaches the weights until weight decay has pulled theta down, which takes
tens of epochs. The scale is learned in all three, as released (the paper's is the optimum of eq. 1), and starts from mean|w|
of the weights that training starts from; the authors take it before they draw those anew.

"combined" learns from the first step and is the default: 88.1 % against 61.0 % (paper) and 53.2 % (released) for a Bi-Real
ResNet-8 after 15 epochs of digits with t_max = 2, mean of three seeds (docs/results.md). `t_max` ends the schedule of t (10
in the paper): F'(0) = sqrt(2) t for t >= 1, so products through many layers explode in schedules too short to have a small
learning rate by then. `rotate_until` is the fraction of training after which R1, R2 stay as they are (1 in the paper): a
rotation flips signs at the start of each epoch, and what the learning rate of a short schedule's last epochs cannot
repair is lost. In the paper's 1000 epochs weight decay has brought alpha, and with it the flips, close to 0 by then.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from onebit.errors import UserError
from onebit.methods.learned_scale import LearnedScaleSign
from onebit.methods.method import Method, choose
from onebit.methods.plain_sign import PlainSign
from onebit.nn.binarizer import (
    ActivationBinarizer,
    ActivationForm,
    WeightBinarizer,
    standardized,
)
from onebit.nn.sign import Derivative, sign
from onebit.nn.structure import Structure, positive_number
from onebit.nn.surrogates import Surrogate, sharpening, training_aware

VARIANTS = ("paper", "released", "combined")
ROTATIONS = ("adjustable", "full", "none")
T_MIN = 1e-2


def factors(n: int) -> tuple[int, int]:
    """n = n1 n2 with n1 the largest divisor that is at most sqrt(n)."""
    n1 = next(d for d in range(math.isqrt(n), 0, -1) if n % d == 0)
    return n1, n // n1


def align(matrices: Tensor, r1: Tensor, r2: Tensor, cycles: int = 3) -> tuple[Tensor, Tensor]:
    """R1, R2 after `cycles` of B -> R1 -> R2 (eq. 8-10) for matrices (M, n1, n2) that share them.

    Five products over all filters a cycle: Y = W R2, R1^T Y, sum B Y^T, R1 B, sum W^T (R1 B). The polar factors maximise
    the summed trace, so the mean cosine between R1^T W R2 and its signs never falls.
    """
    flat = matrices.flatten(0, 1)  # (M n1, n2)
    for _ in range(cycles):
        y = matrices @ r2  # (M, n1, n2)
        b = sign(r1.T @ y)
        r1 = polar(torch.bmm(y, b.transpose(1, 2)).sum(0))  # (n1, n1), the transpose of sum B R2^T W^T
        r2 = polar(flat.T @ (r1 @ b).flatten(0, 1))  # (n2, n2)
    return r1, r2


def polar(matrix: Tensor) -> Tensor:
    """The orthogonal Q that maximises tr(Q^T G) for G (n, n): U V^T of G = U S V^T."""
    u, _, vh = torch.linalg.svd(matrix)
    return u @ vh


def align_by_filter(matrices: Tensor, r1: Tensor, r2: Tensor, cycles: int = 3) -> tuple[Tensor, Tensor]:
    """The same as written in the paper, one filter at a time as in the authors' layer: the reference of `align`."""
    for _ in range(cycles):
        signs = [sign(r1.T @ w @ r2) for w in matrices]
        u, _, vh = torch.linalg.svd(sum(b @ r2.T @ w.T for b, w in zip(signs, matrices, strict=True)))
        r1 = (u @ vh).T
        u, _, vh = torch.linalg.svd(sum(w.T @ r1 @ b for b, w in zip(signs, matrices, strict=True)))
        r2 = u @ vh
    return r1, r2


class StandardSign(LearnedScaleSign):
    """w_b = scale sign(x), x the filters standardised, but for "paper" the weights as they are: RBNN without its rotation."""

    def __init__(self, shape: torch.Size, surrogate: Surrogate, variant: str):
        super().__init__(shape, surrogate)
        self.per_filter = variant != "paper"

    def standardize(self, weight: Tensor) -> Tensor:
        """What is binarized, or rotated before, shaped like weight."""
        return standardized(weight) if self.per_filter else weight

    def real(self, weight: Tensor) -> Tensor:
        return self.standardize(weight)


class RotatedSign(StandardSign):
    """w_b = scale sign(w~), w~ = W + |sin theta| (R1^T W R2 - W) of each filter or the layer (eq. 11): w (O, ...).

    adjustable   whether theta is learned; else w~ = R1^T W R2
    """

    r1: Tensor
    r2: Tensor

    def __init__(
        self,
        shape: torch.Size,
        surrogate: Surrogate,
        variant: str,
        rotate_until: float = 1.0,
        adjustable: bool = True,
    ):
        super().__init__(shape, surrogate, variant)
        self.rotate_until = rotate_until
        self.detached = variant == "released"
        n1, n2 = factors(math.prod(shape[1:]) if self.per_filter else math.prod(shape))
        self.register_buffer("r1", nn.init.orthogonal_(torch.empty(n1, n1)))
        self.register_buffer("r2", nn.init.orthogonal_(torch.empty(n2, n2)))
        theta = self.per_channel(math.pi / 2)
        scale = self.scale
        del self.scale  # it comes after theta: optimizers' states in checkpoints go by the order
        self.theta = nn.Parameter(theta if self.per_filter else theta[:1].clone()) if adjustable else None
        self.scale = scale

    def matrices(self, weight: Tensor) -> Tensor:
        """The filters, or the layer, as the matrices W that are rotated."""
        return weight.reshape(-1, self.r1.shape[0], self.r2.shape[0])  # (O or 1, n1, n2)

    @torch.no_grad()
    def set_progress(self, fraction: float, weight: Tensor) -> None:
        super().set_progress(fraction, weight)
        if fraction > self.rotate_until:
            return
        r1, r2 = align(self.matrices(self.standardize(weight)), self.r1, self.r2)
        self.r1.copy_(r1)
        self.r2.copy_(r2)

    def rotate(self, weight: Tensor) -> Tensor:
        """R1^T W R2, shaped like weight."""
        with torch.autocast(weight.device.type, enabled=False):  # signs near 0 must not depend on the precision
            return (self.r1.T @ self.matrices(weight) @ self.r2).reshape(weight.shape)

    def rotated(self, weight: Tensor) -> Tensor:
        """w~ = W + |sin theta| (R1^T W R2 - W), or R1^T W R2 where theta is not learned; shaped like weight."""
        weight = self.standardize(weight)
        rotated = self.rotate(weight)
        if self.theta is None:
            return rotated
        return weight + self.theta.sin().abs() * ((rotated.detach() if self.detached else rotated) - weight)

    def real(self, weight: Tensor) -> Tensor:
        return self.rotated(weight)


class _StandardizedSign(torch.autograd.Function):
    """sign(u), u = (x - mean) / std over each sample of n elements; backward through the derivative F' of a surrogate, std
    and mean, with g = F'(u) dL/dy:

        dL/dx = (g - mean(g) - u sum(g u) / (n - 1)) / std

    sign(u) = sign(x - mean), so the forward pass needs no division, and x is all that is kept for the backward pass. A
    sample whose elements are all equal has no direction to move in: its gradient is 0.

    The backward pass sees a sample as one row of n elements, in the order in which they lie in memory. As maps, most of its
    operands have one value a sample, and torch.compile (2.14) then vectorizes over samples in bf16, with a stride of n.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, derivative: Derivative, p: Tensor | None = None, q: Tensor | None = None
    ) -> Tensor:
        dims = tuple(range(1, x.dim()))
        n = x[0].numel()
        # Asked in `backward`, it would make torch.compile (2.14) copy every gradient to (B, C, H, W).
        ctx.channels_last = x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)
        wide = torch.promote_types(x.dtype, torch.float32)  # of the statistics of a bf16 x
        mean = x.mean(dims, keepdim=True, dtype=wide)  # (B, 1, ...)
        # Over the same pass as the mean. Its cancellation costs digits of the gradient's scale alone, none of the signs.
        variance = (x.to(wide).square().sum(dims, keepdim=True) - n * mean.square()) / max(n - 1, 1)
        ctx.save_for_backward(x, mean, variance, *(tensor for tensor in (p, q) if tensor is not None))
        ctx.derivative = derivative
        return sign(x - mean).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, mean, variance, *parameters = ctx.saved_tensors
        if ctx.channels_last:
            x, grad = (v.permute(0, 2, 3, 1) for v in (x, grad))  # (B, H, W, C)
        shape, dtype = x.shape, x.dtype
        x, grad, mean, variance = (v.reshape(len(v), -1) for v in (x, grad, mean, variance))  # (B, n), (B, 1)
        rounding = 4 * torch.finfo(mean.dtype).eps * mean.square()  # of a variance that is really 0
        inverse = torch.where(variance > rounding, variance, torch.inf).rsqrt()
        u = (x - mean) * inverse
        g = ctx.derivative(u, *parameters) * grad
        along = u * ((g * u).sum(1, keepdim=True) / max(x.shape[1] - 1, 1))
        dx = ((g - g.mean(1, keepdim=True) - along) * inverse).to(dtype).reshape(shape)
        return dx.permute(0, 3, 1, 2) if ctx.channels_last else dx, None, *(None for _ in parameters)


class CentredSign(ActivationBinarizer):
    """The released activations: sign((a - mean) / std) over each sample (B; C, H, W), in training and evaluation."""

    def forward(self, x: Tensor) -> Tensor:
        return _StandardizedSign.apply(x, self.surrogate.derivative, *self.surrogate.parameters_now())

    def freeze(self) -> tuple[ActivationForm, ...]:
        return (ActivationForm(threshold="sample_mean"),)


def rbnn(
    variant: str = "combined", t_max: float = 10.0, rotate_until: float = 1.0, rotation: str = "adjustable"
) -> Method:
    """variant "paper", "released" or "combined"; t_max > 0; rotate_until in [0, 1], a fraction of training: see the module.

    rotation: "adjustable" (eq. 11), "full" (alpha = 1 always: the paper's ablation B + T + R) or "none" (B + T).

    Raises UserError for other values.
    """
    choose("rbnn", "variant", variant, VARIANTS)
    choose("rbnn", "rotation", rotation, ROTATIONS)
    positive_number("rbnn", "t_max", t_max)
    if type(rotate_until) not in (int, float) or not 0 <= rotate_until <= 1:
        raise UserError(f"rbnn: rotate_until must be from 0 to 1, a fraction of training, got {rotate_until!r}")

    def weight(shape: torch.Size) -> WeightBinarizer:
        surrogate = sharpening(training_aware, T_MIN, t_max)
        if rotation == "none":
            return StandardSign(shape, surrogate, variant)
        return RotatedSign(shape, surrogate, variant, rotate_until, rotation == "adjustable")

    def activation(channels: int) -> ActivationBinarizer:
        if variant == "paper":
            return PlainSign(channels, sharpening(training_aware, T_MIN, t_max))
        return CentredSign(channels, sharpening(training_aware, T_MIN, t_max, 1.0))

    return Method(
        "rbnn",
        weight,
        activation,
        Structure(block="plain", norm_weight=1e-8),
        {
            "residual_cifar_wide": {"shortcut": "binary", "stem_nonlinearity": False, "norm_weight": 1.0},
            "residual_imagenet": {"block": "bireal", "initialization": "fan_in"},
            "plain": {"norm_weight": 1.0},
        },
    )
