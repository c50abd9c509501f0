"""CIFAR ResNets: 6n + 2 layers of 16, 32, 64 channels with parameter-free shortcuts (He et al. 2016, sec. 4.2), and
ResNet-18 with a 3x3 stem, 64 to 512 channels and 1x1 shortcuts, in the structures of the binary papers (see Structure).

The first convolution and the last linear layer are real. Inputs (B, C, H, W) of any H, W; outputs (B, classes).
"""

from collections.abc import Callable

from torch import Tensor, nn

from onebit.layers import OptionA
from onebit.methods import Method, Structure
from onebit.models.blocks import Block, binary_conv, initialize

Shortcut = Callable[[Method, Structure, int, int, int], nn.Module]


def option_a(method: Method, structure: Structure, inputs: int, outputs: int, stride: int) -> nn.Module:
    return OptionA(inputs, outputs, stride)


def projection(method: Method, structure: Structure, inputs: int, outputs: int, stride: int) -> nn.Module:
    """1x1 convolution and batch norm; binary where the structure says so (RBNN's ResNet-18)."""
    if structure.shortcut == "binary":
        conv = binary_conv(method, inputs, outputs, 1, stride)
    else:
        conv = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs))


class ResNet(nn.Module):
    def __init__(
        self,
        method: Method,
        structure: Structure,
        widths: tuple[int, ...],
        depths: tuple[int, ...],
        shortcut: Shortcut,
        classes: int,
        in_channels: int,
        convolutions: str,
    ):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, widths[0], 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.act1 = structure.activation(widths[0]) if structure.stem_nonlinearity else nn.Identity()
        stages, inputs = [], widths[0]
        for stage, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            blocks = []
            for index in range(depth):
                stride = 2 if stage and not index else 1
                same = stride == 1 and inputs == width
                path = nn.Identity() if same else shortcut(method, structure, inputs, width, stride)
                blocks.append(Block(method, structure, inputs, width, stride, path))
                inputs = width
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.bn2 = nn.BatchNorm1d(inputs) if structure.head_norm else nn.Identity()
        self.linear = nn.Linear(inputs, classes)
        initialize(self, structure, convolutions)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act1(self.bn1(self.conv1(x)))  # (B, 16, H, W)
        for stage in self.stages:
            x = stage(x)
        x = self.pool(x).flatten(1)  # (B, 64)
        return self.linear(self.bn2(x))


def _thin(depth: int) -> Callable[..., ResNet]:
    def build(method: Method, structure: Structure, classes: int, in_channels: int, image_size: int) -> ResNet:
        return ResNet(
            method, structure, (16, 32, 64), (depth,) * 3, option_a, classes, in_channels, convolutions="kaiming_normal"
        )

    return build


resnet8, resnet20, resnet56 = _thin(1), _thin(3), _thin(9)


def resnet18(method: Method, structure: Structure, classes: int, in_channels: int, image_size: int) -> ResNet:
    return ResNet(
        method, structure, (64, 128, 256, 512), (2,) * 4, projection, classes, in_channels, convolutions="default"
    )
