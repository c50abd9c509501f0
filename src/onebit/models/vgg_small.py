"""VGG-small (Zhang et al. 2018, LQ-Nets): six 3x3 convolutions of 128, 128, 256, 256, 512, 512 channels, one linear layer.

As in the binary papers: the first convolution and the linear layer are real, and where a convolution is followed by
pooling the order is convolution, max pooling, batch norm, nonlinearity. Inputs (B, C, S, S), S a multiple of 8.
"""

from torch import Tensor, nn

from onebit.errors import UserError
from onebit.methods.method import Method
from onebit.models.architecture import Architecture
from onebit.models.blocks import binary_conv, initialize
from onebit.nn.structure import Structure

WIDTHS = (128, 128, 256, 256, 512, 512)


class VGGSmall(nn.Module):
    """x (B, in_channels, S, S) -> logits (B, classes). Raises UserError for an S = image_size that 8 does not divide."""

    def __init__(
        self, method: Method, structure: Structure, *, classes: int = 10, in_channels: int = 3, image_size: int = 32
    ):
        super().__init__()
        if image_size % 8:
            raise UserError(
                f"vgg_small: image size {image_size} is not a multiple of 8; choose {image_size // 8 * 8 or 8}"
            )
        layers: list[nn.Module] = []
        inputs = in_channels
        for index, width in enumerate(WIDTHS):
            first = index == 0
            layers.append(
                nn.Conv2d(inputs, width, 3, 1, 1, bias=False) if first else binary_conv(method, inputs, width, 3, 1, 1)
            )
            if index % 2:
                layers.append(nn.MaxPool2d(2))
            layers += [nn.BatchNorm2d(width), structure.activation(width)]
            inputs = width
        self.features = nn.Sequential(*layers)
        self.linear = nn.Linear(inputs * (image_size // 8) ** 2, classes)
        initialize(self, structure, "fan_out")
        nn.init.normal_(self.linear.weight, std=0.01)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)  # (B, 512, S/8, S/8)
        return self.linear(x.flatten(1))


vgg_small = Architecture(VGGSmall, "plain")
