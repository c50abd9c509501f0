"""Triad: one method from what three papers each attack alone: the two values (AdaBin), the angle (RBNN), oscillation (ReBNN).

weights, per filter of n elements, with AdaBin's adaptive set:

    beta = mean(w),  alpha = ||w - beta||_2 / sqrt(n),  u = (w - beta) / alpha,  w_b = alpha sign(u) + beta

activations, per layer with learned alpha and beta, in AdaBin's released form:

    a_b = alpha (sign(v) + beta),  v = (x - beta) / alpha

backward: EDE for weights, as AdaBin; for activations 1 where |v| <= 1.5, in place of max(2 - 2|v|, 0). The wide slope neither
falls off early nor explodes: what short schedules need.

ResNet-20 after 10 epochs of CIFAR-10: 73.0 %, where AdaBin has 70.5 (docs/results/ours.md). Options add the papers' other means, each
to be measured alone; none is on by default:

    rotation      RBNN's: sign(u~) in place of sign(u), u~ = u + |sin theta| (R1^T U R2 - u), rotated until half-way
    floor         OvSW's: before a step, g <- g floor ||w|| / ||g|| for filters with ||g|| / ||w|| < floor
    resilience    ReBNN's weighted reconstruction loss in the last fifth of the training, of the equalised weights:
                  resilience / 2 sum_o ||u_o - sign(u_o)||^2
    soft          the fraction of the training over which activations go from clamp to sign: in training
                  h sign(v) + (1 - h) clamp(v, -1, 1), h = min(progress / soft, 1)

A float teacher is no matter of binarization and a recipe's: cifar10-resnet20-triad-distilled (72.4 % there, and 1.6 points between
two seeds, so not the default).
"""

import torch
from torch import Tensor

from onebit.errors import UserError
from onebit.methods.adabin import AdaptiveSet, EqualizedSign
from onebit.methods.method import Method
from onebit.methods.ovsw import floor_gradient
from onebit.methods.rbnn import RotatedSign
from onebit.nn.binarizer import WeightBinarizer, WeightForm, filter_mean
from onebit.nn.sign import sign
from onebit.nn.structure import Structure
from onebit.nn.surrogates import Surrogate, constant, ede, sharpening, ste

CLIP = 1.5
RESILIENT_FROM = 0.8  # of the training
ROTATE_UNTIL = 0.5


class ResilientSet(EqualizedSign):
    """alpha sign(u) + beta of each filter, with the floor and the resilience of the module: w (O, ...)."""

    gamma: Tensor

    def __init__(self, shape: torch.Size, surrogate: Surrogate, floor: float = 0.0, resilience: float = 0.0):
        super().__init__(shape, surrogate)
        self.floor, self.resilience = floor, resilience
        self.register_buffer("gamma", torch.tensor(0.0))

    def set_progress(self, fraction: float, weight: Tensor) -> None:
        super().set_progress(fraction, weight)
        self.gamma.fill_(self.resilience if fraction >= RESILIENT_FROM else 0.0)

    def before_step(self, weight: Tensor, gradient: Tensor) -> None:
        if self.floor:
            floor_gradient(weight, gradient, self.floor)

    def regularization(self, weight: Tensor) -> Tensor | None:
        if not self.resilience:
            return None
        u = self.equalized(weight, *self.set_of(weight))
        return 0.5 * self.gamma * ((u - sign(u.detach())) ** 2).sum()


class RotatedSet(RotatedSign):
    """scale sign(u~) + beta of each filter, u~ its standardised weights, rotated as RBNN's: w (O, ...)."""

    def forward(self, weight: Tensor) -> Tensor:
        return super().forward(weight) + filter_mean(weight)

    def freeze(self, weight: Tensor) -> tuple[WeightForm, ...]:
        (form,) = super().freeze(weight)
        return (WeightForm(form.signs, form.scale, filter_mean(weight).flatten()),)


class SoftSet(AdaptiveSet):
    """alpha (sign(v) + beta), in training from clamp(v, -1, 1) to sign(v) over the first `soft` of it: x (B, C, ...)."""

    hardness: Tensor

    def __init__(self, channels: int, surrogate: Surrogate, soft: float):
        super().__init__(channels, surrogate, "released")
        self.soft = soft
        self.register_buffer("hardness", torch.tensor(0.0))

    def set_progress(self, fraction: float) -> None:
        super().set_progress(fraction)
        self.hardness.fill_(min(fraction / self.soft, 1.0))

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        v = (x - self.beta) / self.alpha
        s = self.hardness * self.surrogate(v) + (1 - self.hardness) * v.clamp(-1, 1)
        return self.alpha * (s + self.beta)


def triad(rotation: bool = False, floor: float = 0.0, resilience: float = 0.0, soft: float = 0.0) -> Method:
    """rotation true or false; floor, resilience at least 0; soft in [0, 1): see the module.

    Raises UserError for other values, and for a rotation together with floor or resilience.
    """
    if type(rotation) is not bool:
        raise UserError(f"triad: rotation = {rotation!r} must be true or false")
    for name, value in (("floor", floor), ("resilience", resilience), ("soft", soft)):
        if type(value) not in (int, float) or not 0 <= value < 1:
            raise UserError(f"triad: {name} = {value!r} must be a number in [0, 1)")
    if rotation and (floor or resilience):
        raise UserError("triad: rotation goes with neither floor nor resilience; leave one of them out")

    def weight(shape: torch.Size) -> WeightBinarizer:
        surrogate = sharpening(ede, 1e-3, 10.0)
        if rotation:
            return RotatedSet(shape, surrogate, "combined", ROTATE_UNTIL)
        return ResilientSet(shape, surrogate, floor, resilience)

    def activation(channels: int) -> AdaptiveSet:
        surrogate = Surrogate(ste, clip=constant(CLIP))
        return SoftSet(channels, surrogate, soft) if soft else AdaptiveSet(channels, surrogate, "released")

    return Method(
        "triad",
        weight,
        activation,
        Structure(nonlinearity="maxout"),
        {"residual_imagenet": {"downsample": "average"}},
    )
