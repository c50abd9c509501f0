"""The contract between a method and everything else.

Whatever a method does in training, it freezes to binary forms

    weights       w[o] = scale[o] * B[o] + offset[o]      B in {-1, +1}
    activations   a    = scale * A + offset,  A = +1 where x >= threshold else -1

with `threshold` a number, one per channel, or the mean of the sample. Nearly all methods have one form of each. Where
`freeze` returns several, the real weight is the sum of the forms' weights and the real activation the sum of the forms'
activations (ABC-Net's bases), so that a layer of N activation forms and M weight forms is the sum of N x M binary
products. Packing, the engine, the analysis and the common checks speak only of these two dataclasses.

A binarizer has three duties:

    forward(x)                  training and evaluation, differentiable through a surrogate of `sign`
    set_progress(fraction, ..)  schedules; called once at the start of each epoch with epoch / epochs in [0, 1]
    freeze(..)                  its half of the binary form, a tuple of one or more

and optional ones, for methods that need them: `regularization(weight)`, a term added to the loss;
`before_step(weight, gradient)`, called with the step's (synchronised) gradient, which it may change in place, before clipping;
`after_step(weight, gradient)`, called after each optimizer step with the same gradient, as it was before clipping. A term of
the activations enters the loss through `with_term`.
Every binarizer trains through its `surrogate`, which a method's options may exchange; the base class moves its schedule.
Schedules are buffers: they are saved with the model, and changing them does not recompile a compiled model.
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from onebit.nn.surrogates import Surrogate


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

    def to(self, dtype: torch.dtype) -> "WeightForm":
        """The same numbers in another type."""
        offset = None if self.offset is None else self.offset.to(dtype)
        return WeightForm(self.signs.to(dtype), self.scale.to(dtype), offset)


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
    """Base of weight binarizers. Built with the weight's shape (O, ...) so that it can own per-channel parameters.

    surrogate   sign with the gradient that trains it; None where the gradient is no sign's
    """

    def __init__(self, shape: torch.Size, surrogate: Surrogate | None = None):
        super().__init__()
        self.shape = shape
        self.surrogate: Any = surrogate

    def per_channel(self, value: float = 0.0) -> Tensor:
        """A (O, 1, ...) tensor filled with value."""
        return torch.full((self.shape[0], *[1] * (len(self.shape) - 1)), value)

    def initialize(self, weight: Tensor) -> None:
        """Set parameters that start from the weights; called after the model's own weight initialisation."""

    def set_progress(self, fraction: float, weight: Tensor) -> None:
        """Move schedules, and state derived from the weights, to fraction = epoch / epochs of the training."""
        if self.surrogate is not None:
            self.surrogate.set_progress(fraction)

    def forward(self, weight: Tensor) -> Tensor:
        """The binary weights of the latent ones, (O, ...) -> (O, ...), with the gradient that trains those."""
        raise NotImplementedError

    def freeze(self, weight: Tensor) -> tuple[WeightForm, ...]:
        """The forms whose sum is what `forward` gives for these weights (O, ...)."""
        raise NotImplementedError

    def regularization(self, weight: Tensor) -> Tensor | None:
        """A term of the loss, or None."""
        return None

    def before_step(self, weight: Tensor, gradient: Tensor) -> None:
        """Called before each optimizer step, before clipping: the gradient of the loss, which may be changed in place."""

    def after_step(self, weight: Tensor, gradient: Tensor | None) -> None:
        """Called after each optimizer step: the new weight, which may be changed in place, and the gradient of the loss by
        the old one, unclipped."""


class ActivationBinarizer(nn.Module):
    """Base of activation binarizers. Built with the number of input channels; `surrogate` as of the weights."""

    def __init__(self, channels: int, surrogate: Surrogate | None = None):
        super().__init__()
        self.channels = channels
        self.surrogate: Any = surrogate

    def set_progress(self, fraction: float) -> None:
        """Move schedules to fraction = epoch / epochs of the training."""
        if self.surrogate is not None:
            self.surrogate.set_progress(fraction)

    def initialize(self, x: Tensor) -> None:
        """Set parameters that start from a batch of the layer's inputs x (B, C, ...), where the caller has one: a learned
        threshold from their mean. Signs of inputs that are never negative are constant until it has left 0."""

    def forward(self, x: Tensor) -> Tensor:
        """The binary activations of x, (B, C, ...) -> (B, C, ...), in x's dtype, with the gradient that trains x."""
        raise NotImplementedError

    def freeze(self) -> tuple[ActivationForm, ...]:
        """The forms whose sum is what `forward` gives in evaluation."""
        raise NotImplementedError


class _WithTerm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, term: Tensor) -> Tensor:
        ctx.dtype = term.dtype
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        return grad, torch.ones((), dtype=ctx.dtype, device=grad.device)


def with_term(x: Tensor, term: Tensor) -> Tensor:
    """x, whose use adds `term` (a scalar) to whatever loss is differentiated: its gradient is 1 there.

    So an activation binarizer adds a loss of its inputs, which no hook sees. The loss that is logged does not contain it. Over
    parts of a batch, and over devices, gradients are averaged, hence the term is, too.
    """
    return _WithTerm.apply(x, term)


def filter_mean(weight: Tensor, magnitude: bool = False) -> Tensor:
    """Mean of w (or |w|) over all but the first dimension, kept: (O, 1, ...)."""
    return (weight.abs() if magnitude else weight).mean(dim=tuple(range(1, weight.dim())), keepdim=True)


def standardized(weight: Tensor) -> Tensor:
    """(w - mean) / std of each filter of w (O, ...), shaped like w; std^2 = sum (w - mean)^2 / (n - 1).

    A constant filter (see `constant`), which has no direction to move in, gives 0, and its gradient is 0.
    """
    dims = tuple(range(1, weight.dim()))
    mean = filter_mean(weight)
    deviation = weight.std(dim=dims, keepdim=True, correction=degree(weight))
    return (weight - mean) / deviation.masked_fill(constant(deviation, mean), torch.inf)


def degree(x: Tensor) -> int:
    """What to take from the count n of the elements of x[0] in a variance: 1, but 0 of a single one, whose variance is 0."""
    return min(x[0].numel() - 1, 1)


def constant(deviation: Tensor, mean: Tensor) -> Tensor:
    """Where all elements are equal, by their standard deviation and mean: it may be rounding instead of 0.

    Not where they are NaN, which must not be hidden.
    """
    return deviation <= 8 * torch.finfo(mean.dtype).eps * mean.abs()
