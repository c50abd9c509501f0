"""MeliusNet (Bethge et al., WACV 2021, arXiv 2001.05936): dense blocks, which add 64 channels, each followed by an improvement
block, which corrects them. Blocks, channels behind transitions and the stem are those of the authors' code
(hpi-xnor/BMXNet-v2-examples: meliusnet.py, basenet_dense.py, common_layers.py with `grouped_stem`, as their runs have it).

Everything real keeps the ReLU of the paper; `structure={"nonlinearity": ...}` replaces it in stem, transitions and head. There
is none between binary convolutions. Of the structure, norm_weight and initialization count as well.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from onebit.methods.method import Method
from onebit.models.architecture import Architecture, architecture
from onebit.models.blocks import binary_conv, initialize
from onebit.nn.structure import Structure

GROWTH = 64


class DenseBlock(nn.Module):
    """(x, conv(bn(x))): x (B, C, H, W) -> (B, C + 64, H, W)."""

    def __init__(self, method: Method, channels: int):
        super().__init__()
        self.bn = nn.BatchNorm2d(channels)
        self.conv = binary_conv(method, channels, GROWTH, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.conv(self.bn(x))], 1)


class ImprovementBlock(nn.Module):
    """x + (0, conv(bn(x))): adds to the last 64 channels of x (B, C, H, W)."""

    def __init__(self, method: Method, channels: int):
        super().__init__()
        self.before = channels - GROWTH
        self.bn = nn.BatchNorm2d(channels)
        self.conv = binary_conv(method, channels, GROWTH, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + F.pad(self.conv(self.bn(x)), (0, 0, 0, 0, self.before, 0))


def _stem(structure: Structure, in_channels: int) -> list[nn.Module]:
    """In place of 7x7: 3x3 convolutions of 32, 32 and 64 channels in 1, 4 and 8 groups, and max pooling; a quarter of the size."""
    layers: list[nn.Module] = []
    for inputs, outputs, stride, groups in ((in_channels, 32, 2, 1), (32, 32, 1, 4), (32, GROWTH, 1, 8)):
        conv = nn.Conv2d(inputs, outputs, 3, stride, 1, groups=groups, bias=False)
        layers += [conv, nn.BatchNorm2d(outputs), structure.activation(outputs)]
    return [*layers, nn.MaxPool2d(3, 2, 1)]


class MeliusNet(nn.Module):
    """x (B, in_channels, H, W) -> logits (B, classes); packed, H and W are at least 17.

    depths    pairs of blocks in each stage
    widths    channels behind the transition after each stage but the last: norm, 2x2 max pooling, ReLU, real 1x1 convolution.
              At odd sizes the last window has the pixels that there are
    """

    def __init__(
        self,
        method: Method,
        structure: Structure,
        depths: tuple[int, ...],
        widths: tuple[int, ...],
        classes: int,
        in_channels: int,
    ):
        super().__init__()
        self.stem = nn.Sequential(*_stem(structure, in_channels))
        self.stages, self.transitions, channels = nn.ModuleList(), nn.ModuleList(), GROWTH
        for index, depth in enumerate(depths):
            stage = nn.Sequential()
            for _ in range(depth):
                stage.append(DenseBlock(method, channels))
                channels += GROWTH
                stage.append(ImprovementBlock(method, channels))
            self.stages.append(stage)
            transition = nn.Sequential(nn.BatchNorm2d(channels))
            if index < len(widths):
                transition += nn.Sequential(
                    nn.MaxPool2d(2, ceil_mode=True),
                    structure.activation(channels),
                    nn.Conv2d(channels, widths[index], 1, bias=False),
                )
                channels = widths[index]
            else:
                transition.append(structure.activation(channels))
            self.transitions.append(transition)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(channels, classes)
        initialize(self, structure, "fan_in")

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)  # (B, 64, H / 4, W / 4)
        for stage, transition in zip(self.stages, self.transitions, strict=True):
            x = transition(stage(x))
        return self.linear(self.pool(x).flatten(1))


def _of(depths: tuple[int, ...], widths: tuple[int, ...]) -> Architecture:
    @architecture("dense", structure={"nonlinearity": "relu"})
    def build(
        method: Method, structure: Structure, *, classes: int = 10, in_channels: int = 3, image_size: int = 32
    ) -> MeliusNet:
        return MeliusNet(method, structure, depths, widths, classes, in_channels)

    return build


meliusnet22 = _of((4, 5, 4, 4), (160, 224, 256))
meliusnet29 = _of((4, 6, 8, 6), (128, 192, 256))
meliusnet42 = _of((5, 8, 14, 10), (160, 256, 416))
meliusnet59 = _of((6, 12, 24, 12), (192, 320, 544))
