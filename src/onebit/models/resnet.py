"""The residual network that the families share: a real stem, stages of two-convolution blocks, a real linear layer.

Inputs (B, C, H, W) of any H, W; outputs (B, classes). Names of layers are the same in every family.
"""

from collections.abc import Callable

from torch import Tensor, nn

from onebit.methods.method import Method
from onebit.models.blocks import Block, binary_conv, initialize
from onebit.nn.layers import OptionA
from onebit.nn.structure import Structure

Shortcut = Callable[[Method, Structure, int, int, int], nn.Module]


def option_a(method: Method, structure: Structure, inputs: int, outputs: int, stride: int) -> nn.Module:
    """The shortcut without parameters, see OptionA."""
    return OptionA(inputs, outputs, stride)


def projection(method: Method, structure: Structure, inputs: int, outputs: int, stride: int) -> nn.Module:
    """1x1 convolution and batch norm: binary where the structure says so (RBNN's CIFAR ResNet-18), of every stride-th
    pixel or of the mean of stride x stride pixels. At odd sizes the last mean is of the pixels that there are, so that
    both paths of a block have ceil(H / stride) rows."""
    average = structure.downsample == "average" and stride > 1
    conv_stride = 1 if average else stride
    if structure.shortcut == "binary":
        conv = binary_conv(method, inputs, outputs, 1, conv_stride)
    else:
        conv = nn.Conv2d(inputs, outputs, 1, conv_stride, bias=False)
    pool = [nn.AvgPool2d(stride, stride, ceil_mode=True, count_include_pad=False)] if average else []
    return nn.Sequential(*pool, conv, nn.BatchNorm2d(outputs))


class Body(nn.Module):
    """The convolutions: x (B, in_channels, H, W) -> a map after each stage.

    widths, depths       channels and blocks of each stage; all but the first begin with stride 2
    shortcut             builds the paths around blocks that change shape: option_a or projection
    stem                 3: 3x3 convolution of stride 1; 7: 7x7 of stride 2, then 3x3 max pooling of stride 2
    """

    def __init__(
        self,
        method: Method,
        structure: Structure,
        widths: tuple[int, ...],
        depths: tuple[int, ...],
        shortcut: Shortcut,
        in_channels: int,
        stem: int = 3,
    ):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, widths[0], stem, 1 if stem == 3 else 2, stem // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.act1 = structure.activation(widths[0]) if structure.stem_nonlinearity else nn.Identity()
        self.stem_pool = nn.Identity() if stem == 3 else nn.MaxPool2d(3, 2, 1)
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

    def maps(self, x: Tensor) -> list[Tensor]:
        """(B, widths[i], H_i, W_i) of each stage i, each half as high and wide as the one before."""
        x = self.stem_pool(self.act1(self.bn1(self.conv1(x))))  # (B, widths[0], H, W), or H / 4, W / 4
        found = []
        for stage in self.stages:
            x = stage(x)
            found.append(x)
        return found


class ResNet(Body):
    """x (B, in_channels, H, W) -> logits (B, classes). Arguments as of Body, and

    convolutions         initialisation, see `initialize`
    """

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
        stem: int = 3,
    ):
        super().__init__(method, structure, widths, depths, shortcut, in_channels, stem)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.bn2 = nn.BatchNorm1d(widths[-1]) if structure.head_norm else nn.Identity()
        self.linear = nn.Linear(widths[-1], classes)
        initialize(self, structure, convolutions)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.maps(x)[-1]).flatten(1)  # (B, widths[-1])
        return self.linear(self.bn2(x))
