"""The contract between a method and everything else.

Whatever a method does in training, it freezes to the binary form

    weights       w[o] = scale[o] * B[o] + offset[o]      B in {-1, +1}
    activations   a    = scale * A + offset,  A = +1 where x >= threshold else -1

with `threshold` a number, one per channel, or the mean of the sample. Packing, the engine, the analysis and the common
checks speak only of these two dataclasses.

A binarizer has three duties:

    forward(x)                  training and evaluation, differentiable through a surrogate of `sign`
    set_progress(fraction, ..)  schedules; called once at the start of each epoch with epoch / epochs in [0, 1]
    freeze(..)                  its half of the binary form

and two optional ones, for methods that need them: `regularization(weight)`, a term added to the loss, and
`after_step(weight, gradient)`, called after each optimizer step with the step's (synchronised) gradient, before clipping.
Schedules are buffers: they are saved with the model, and changing them does not recompile a compiled model.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class WeightForm:
    """w[o] = scale[o] * signs[o] + offset[o]; signs (O, ...) in {-1, +1}; scale, offset (O,). offset None means 0."""

    signs: Tensor
    scale: Tensor
    offset: Tensor | None = None

    def weight(self) -> Tensor:
        """The real-valued weights, shaped like `signs`."""
        per_channel = (-1, *[1] * (self.signs.dim() - 1))
        weight = self.signs * self.scale.reshape(per_channel)  # (O, ...)
        return weight if self.offset is None else weight + self.offset.reshape(per_channel)


@dataclass(frozen=True)
class ActivationForm:
    """a = scale * A + offset, A = +1 where x >= threshold, else -1; threshold: number, (C,) or "sample_mean"."""

    threshold: float | Tensor | Literal["sample_mean"] = 0.0
    scale: float = 1.0
    offset: float = 0.0

    def signs(self, x: Tensor) -> Tensor:
        """A of x (B, C, ...), in x's dtype."""
        threshold = self.threshold
        if isinstance(threshold, str):
            threshold = x.mean(dim=tuple(range(1, x.dim())), keepdim=True)  # (B, 1, ...)
        elif isinstance(threshold, Tensor):
            threshold = threshold.reshape(1, -1, *[1] * (x.dim() - 2))  # (1, C, ...)
        return (x < threshold).to(x.dtype).mul_(-2).add_(1)  # torch.where of two numbers is slower, and float32

    def activation(self, x: Tensor) -> Tensor:
        """The real-valued activations of x (B, C, ...)."""
        return self.scale * self.signs(x) + self.offset


class WeightBinarizer(nn.Module):
    """Base of weight binarizers. Built with the weight's shape (O, ...) so that it can own per-channel parameters."""

    def __init__(self, shape: torch.Size):
        super().__init__()
        self.shape = shape

    def per_channel(self, value: float = 0.0) -> Tensor:
        """A (O, 1, ...) tensor filled with value."""
        return torch.full((self.shape[0], *[1] * (len(self.shape) - 1)), value)

    def initialize(self, weight: Tensor) -> None:
        """Set parameters that start from the weights; called after the model's own weight initialisation."""

    def set_progress(self, fraction: float, weight: Tensor) -> None:
        """Move schedules, and state derived from the weights, to fraction = epoch / epochs of the training."""

    def forward(self, weight: Tensor) -> Tensor:
        raise NotImplementedError

    def freeze(self, weight: Tensor) -> WeightForm:
        raise NotImplementedError

    def regularization(self, weight: Tensor) -> Tensor | None:
        """A term of the loss, or None."""
        return None

    def after_step(self, weight: Tensor, gradient: Tensor | None) -> None:
        """Called after each optimizer step: the new weight, and the gradient of the loss by the old one, unclipped."""


class ActivationBinarizer(nn.Module):
    """Base of activation binarizers. Built with the number of input channels."""

    def __init__(self, channels: int):
        super().__init__()
        self.channels = channels

    def set_progress(self, fraction: float) -> None:
        """Move schedules to fraction = epoch / epochs of the training."""

    def forward(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def freeze(self) -> ActivationForm:
        raise NotImplementedError


def filter_mean(weight: Tensor, magnitude: bool = False) -> Tensor:
    """Mean of w (or |w|) over all but the first dimension, kept: (O, 1, ...)."""
    return (weight.abs() if magnitude else weight).mean(dim=tuple(range(1, weight.dim())), keepdim=True)


class Schedule(nn.Module):
    """Buffers t = 10^(T_min + f (T_max - T_min)), with f the progress, and k = max(1/t, 1).

    IR-Net eq. 11, RBNN eq. 12; AdaBin's released code. `t_floor` bounds t from below (1 for RBNN's activations: k = 1).
    """

    t: Tensor
    k: Tensor

    def __init__(self, t_min: float, t_max: float, t_floor: float = 0.0):
        super().__init__()
        self.log10_t = (math.log10(t_min), math.log10(t_max))
        self.t_floor = t_floor
        self.register_buffer("t", torch.tensor(1.0))
        self.register_buffer("k", torch.tensor(1.0))
        self.set_progress(0.0)

    def set_progress(self, fraction: float) -> None:
        low, high = self.log10_t
        t = max(10.0 ** (low + fraction * (high - low)), self.t_floor)
        self.t.fill_(t)
        self.k.fill_(max(1.0 / t, 1.0))
