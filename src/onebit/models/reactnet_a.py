"""ReActNet-A (Liu et al., ECCV 2020, arXiv 2003.03488, sec. 4.1): MobileNetV1 with full 3x3 convolutions in place of depthwise
ones, without squeeze, and with a shortcut around every convolution that needs no parameters.

Channels 32, 64, 128 x 2, 256 x 2, 512 x 6, 1024 x 2 behind a real 3x3 stem of stride 2; every block that doubles them but the
first has stride 2. Where channels double, the authors' code (mobilenet/1_step1/reactnet.py) has two 1x1 convolutions of C
channels with a norm each, whose outputs stand behind each other: one convolution of 2C channels here, which is the same, since
scales and norms are per channel, and the shortcut is the input twice.

Of the structure of a method, nonlinearity, stem_nonlinearity, head_norm, norm_weight and initialization count. Shortcuts are
around each convolution and average 2x2 pixels in any case.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from onebit.methods.method import Method
from onebit.models.architecture import architecture
from onebit.models.blocks import binary_conv, initialize
from onebit.nn.structure import Structure

WIDTHS = (32, 64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)


class ReActBlock(nn.Module):
    """x (B, I, H, W) -> (B, O, H / stride, W / stride), O = I or 2I.

    y = act(bn1(conv3x3(x)) + pool(x)), pool the mean of stride x stride pixels: at odd sizes, of those that there are
    z = act(bn2(conv1x1(y)) + y), or (y, y) in place of y where O = 2I
    """

    def __init__(self, method: Method, structure: Structure, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.doubles = outputs != inputs
        self.pool = nn.AvgPool2d(2, 2, ceil_mode=True, count_include_pad=False) if stride == 2 else nn.Identity()
        self.conv1 = binary_conv(method, inputs, inputs, 3, stride, 1)
        self.bn1 = nn.BatchNorm2d(inputs)
        self.act1 = structure.activation(inputs)
        self.conv2 = binary_conv(method, inputs, outputs, 1)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.act2 = structure.activation(outputs)

    def forward(self, x: Tensor) -> Tensor:
        y = self.act1(self.bn1(self.conv1(x)) + self.pool(x))
        shortcut = torch.cat([y, y], 1) if self.doubles else y  # (B, O, H / stride, W / stride)
        return self.act2(self.bn2(self.conv2(y)) + shortcut)


class ReActNetA(nn.Module):
    """x (B, in_channels, H, W) -> logits (B, classes)."""

    def __init__(self, method: Method, structure: Structure, classes: int, in_channels: int):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, WIDTHS[0], 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTHS[0])
        self.act1 = structure.activation(WIDTHS[0]) if structure.stem_nonlinearity else nn.Identity()
        self.blocks = nn.Sequential()
        for index, (inputs, outputs) in enumerate(pairwise(WIDTHS)):
            stride = 2 if index and inputs != outputs else 1
            self.blocks.append(ReActBlock(method, structure, inputs, outputs, stride))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.bn2 = nn.BatchNorm1d(WIDTHS[-1]) if structure.head_norm else nn.Identity()
        self.linear = nn.Linear(WIDTHS[-1], classes)
        initialize(self, structure, "default")

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(self.act1(self.bn1(self.conv1(x))))  # (B, 1024, H / 32, W / 32)
        x = self.pool(x).flatten(1)  # (B, 1024)
        return self.linear(self.bn2(x))


@architecture("mobile")
def reactnet_a(
    method: Method, structure: Structure, *, classes: int = 10, in_channels: int = 3, image_size: int = 32
) -> ReActNetA:
    """ReActNet-A, of 29 million weights with 1000 classes, 28 million of them binary."""
    return ReActNetA(method, structure, classes, in_channels)
