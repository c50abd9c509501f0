"""The pieces that network families share: a method's convolution and linear layer, the residual block, initialisation."""

import torch
from torch import Tensor, nn

from onebit.methods.method import Method
from onebit.nn.layers import BinaryConv2d, BinaryLinear, binary_layers
from onebit.nn.structure import Structure


def binary_conv(
    method: Method, inputs: int, outputs: int, kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1
) -> nn.Conv2d:
    """The method's convolution without bias; a real-valued nn.Conv2d for the full-precision parent."""
    if method.weight is None and method.activation is None:
        return nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, bias=False)
    return BinaryConv2d(
        inputs,
        outputs,
        kernel,
        stride,
        padding,
        dilation,
        weight_binarizer=method.weight(torch.Size((outputs, inputs, kernel, kernel))) if method.weight else None,
        activation_binarizer=method.activation(inputs) if method.activation else None,
    )


def binary_linear(
    method: Method | None, inputs: int, outputs: int, bias: bool = True, nonnegative: bool = False
) -> nn.Linear:
    """The method's linear layer; a real-valued nn.Linear for the full-precision parent. nonnegative: whether its inputs never are
    negative."""
    if method is None or (method.weight is None and method.activation is None):
        return nn.Linear(inputs, outputs, bias)
    activation = method.nonnegative if nonnegative and method.nonnegative is not None else method.activation
    return BinaryLinear(
        inputs,
        outputs,
        bias,
        weight_binarizer=method.weight(torch.Size((outputs, inputs))) if method.weight else None,
        activation_binarizer=activation(inputs) if activation else None,
    )


class Block(nn.Module):
    """Two 3x3 convolutions with shortcuts: x (B, I, H, W) -> (B, O, H / stride, W / stride).

    plain    y = act(bn1(conv1(x)));  act(bn2(conv2(y)) + shortcut(x))
    bireal   y = act(bn1(conv1(x)) + shortcut(x));  act(bn2(conv2(y)) + y)
    """

    def __init__(
        self, method: Method, structure: Structure, inputs: int, outputs: int, stride: int, shortcut: nn.Module
    ):
        super().__init__()
        self.bireal = structure.block == "bireal"
        self.conv1 = binary_conv(method, inputs, outputs, 3, stride, 1)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.act1 = structure.activation(outputs)
        self.conv2 = binary_conv(method, outputs, outputs, 3, 1, 1)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.act2 = structure.activation(outputs)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        shortcut = self.shortcut(x)
        y = self.bn1(self.conv1(x))
        y = self.act1(y + shortcut) if self.bireal else self.act1(y)
        return self.act2(self.bn2(self.conv2(y)) + (y if self.bireal else shortcut))


def initialize(model: nn.Module, structure: Structure, convolutions: str = "kaiming_normal") -> None:
    """Weights, then whatever the binarizers derive from them.

    convolutions: "kaiming_normal" (fan in, of linear layers too), "fan_in" N(0, 2 / (k^2 I)),
    "fan_out" N(0, 2 / (k^2 O)), or "default" (PyTorch's); the structure's own initialization, where it names one, goes
    before.
    """
    convolutions = structure.initialization or convolutions
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            if convolutions in ("kaiming_normal", "fan_in"):
                nn.init.kaiming_normal_(module.weight)
            elif convolutions == "fan_out":
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.constant_(module.weight, structure.norm_weight)
        elif isinstance(module, nn.Linear) and convolutions == "kaiming_normal":
            nn.init.kaiming_normal_(module.weight)
    start_weights(model)


def start_weights(model: nn.Module) -> None:
    """Let the weight binarizers start from the weights, once those are initialised."""
    for _, layer in binary_layers(model):
        if layer.weight_binarizer is not None:
            layer.weight_binarizer.initialize(layer.weight.detach())
