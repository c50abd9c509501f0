"""Layers of binary networks: the convolution and linear layer whose operands are binarized, and the nonlinearities around."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from onebit.binarizer import ActivationBinarizer, WeightBinarizer


class BinaryConv2d(nn.Conv2d):
    """y = conv2d(a(x), w(weight)) + bias with zero padding: x (B, C, H, W) -> y (B, O, H', W').

    `weight_binarizer` and `activation_binarizer` come from a method; None leaves that operand real (for two-step training
    with binary activations and real weights, and for analyses). Padded taps contribute 0, not an activation value.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = False,
        *,
        weight_binarizer: WeightBinarizer | None = None,
        activation_binarizer: ActivationBinarizer | None = None,
    ):
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias)
        self.weight_binarizer = weight_binarizer
        self.activation_binarizer = activation_binarizer
        if weight_binarizer is not None:
            weight_binarizer.initialize(self.weight.detach())

    def forward(self, x: Tensor) -> Tensor:
        if self.activation_binarizer is not None:
            x = self.activation_binarizer(x)
        weight = self.weight if self.weight_binarizer is None else self.weight_binarizer(self.weight)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class BinaryLinear(nn.Linear):
    """y = a(x) w(weight)^T + bias: x (B, I) -> y (B, O), operands binarized as in BinaryConv2d."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = False,
        *,
        weight_binarizer: WeightBinarizer | None = None,
        activation_binarizer: ActivationBinarizer | None = None,
    ):
        super().__init__(in_features, out_features, bias)
        self.weight_binarizer = weight_binarizer
        self.activation_binarizer = activation_binarizer
        if weight_binarizer is not None:
            weight_binarizer.initialize(self.weight.detach())

    def forward(self, x: Tensor) -> Tensor:
        if self.activation_binarizer is not None:
            x = self.activation_binarizer(x)
        weight = self.weight if self.weight_binarizer is None else self.weight_binarizer(self.weight)
        return F.linear(x, weight, self.bias)


def binary_layers(model: nn.Module) -> list[tuple[str, BinaryConv2d | BinaryLinear]]:
    """(name, layer) of every binary layer, in registration order."""
    return [(name, m) for name, m in model.named_modules() if isinstance(m, BinaryConv2d | BinaryLinear)]


def set_progress(model: nn.Module, fraction: float) -> None:
    """The hook of the start of an epoch: move every binarizer's schedule to fraction = epoch / epochs."""
    for _, layer in binary_layers(model):
        if layer.weight_binarizer is not None:
            layer.weight_binarizer.set_progress(fraction, layer.weight.detach())
        if layer.activation_binarizer is not None:
            layer.activation_binarizer.set_progress(fraction)


def regularization(model: nn.Module) -> Tensor | None:
    """The sum of the methods' loss terms, or None where the method has none."""
    terms = [
        term
        for _, layer in binary_layers(model)
        if layer.weight_binarizer is not None
        and (term := layer.weight_binarizer.regularization(layer.weight)) is not None
    ]
    return torch.stack(terms).sum() if terms else None


def after_step(model: nn.Module) -> None:
    """The hook after an optimizer step, for methods that watch weights and gradients."""
    for _, layer in binary_layers(model):
        if layer.weight_binarizer is not None:
            layer.weight_binarizer.after_step(layer.weight)


class Maxout(nn.Module):
    """y = positive_c max(x, 0) + negative_c min(x, 0), both learned per channel (AdaBin sec. 3.3; starts at 1, 0.25)."""

    def __init__(self, channels: int):
        super().__init__()
        self.positive = nn.Parameter(torch.ones(channels))
        self.negative = nn.Parameter(torch.full((channels,), 0.25))

    def forward(self, x: Tensor) -> Tensor:
        positive, negative = (p.reshape(1, -1, *[1] * (x.dim() - 2)).to(x.dtype) for p in (self.positive, self.negative))
        return positive * x.clamp(min=0) + negative * x.clamp(max=0)


class RPReLU(nn.Module):
    """y = PReLU_c(x + shift_in_c) + shift_out_c (ReActNet, Liu et al. 2020, eq. 4); slope starts at 0.25, shifts at 0."""

    def __init__(self, channels: int):
        super().__init__()
        self.shift_in = nn.Parameter(torch.zeros(channels))
        self.slope = nn.Parameter(torch.full((channels,), 0.25))
        self.shift_out = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        shape = (1, -1, *[1] * (x.dim() - 2))
        shift_in, slope, shift_out = (p.reshape(shape).to(x.dtype) for p in (self.shift_in, self.slope, self.shift_out))
        x = x + shift_in
        return x.clamp(min=0) + slope * x.clamp(max=0) + shift_out


class OptionA(nn.Module):
    """The parameter-free ResNet shortcut: every stride-th pixel, missing channels filled with zeros on both sides.

    (B, C, H, W) -> (B, out_channels, ceil(H / stride), ceil(W / stride))   (He et al. 2016, option A)
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int):
        super().__init__()
        missing = out_channels - in_channels
        self.stride, self.before, self.after = stride, missing // 2, missing - missing // 2

    def forward(self, x: Tensor) -> Tensor:
        x = x[:, :, :: self.stride, :: self.stride]
        return F.pad(x, (0, 0, 0, 0, self.before, self.after))
