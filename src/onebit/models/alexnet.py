"""AlexNet as XNOR-Net binarizes it (Rastegari et al., ECCV 2016, sec. 3.2; allenai/XNOR-Net, models/alexnetxnor.lua): five
convolutions and two fully connected layers, the latter as convolutions, without groups and dropout; the first convolution and the
layer of the classes are real.

XNOR-Net's block is norm, sign, binary convolution, and max pooling behind it where there is any. Between two binary layers
stands then pooling, norm, sign: as here, where the method's nonlinearity stands behind the norm. Hardtanh changes no sign, so
that methods which have it are XNOR-Net's network. Stem and head keep ReLU in every method. XNOR-Net alone has a
second norm behind the stem's pooling, which comes before the first sign: so it is here.
"""

from torch import Tensor, nn

from onebit.errors import UserError
from onebit.methods.method import Method
from onebit.models.architecture import Architecture
from onebit.models.blocks import binary_conv, initialize
from onebit.nn.structure import Structure

SMALLEST = 63  # pixels, of which 3x3 pooling leaves one
BINARY = (  # channels, kernel, padding, whether pooling follows
    (256, 5, 2, True),
    (384, 3, 1, False),
    (384, 3, 1, False),
    (256, 3, 1, True),
)
HIDDEN = 4096


def pooled(size: int) -> int:
    """Rows of a map of so many behind max pooling of 3x3 pixels, stride 2."""
    return (size - 3) // 2 + 1


class AlexNet(nn.Module):
    """x (B, in_channels, S, S) -> logits (B, classes), S = image_size. Raises UserError for an S below 63."""

    def __init__(
        self, method: Method, structure: Structure, *, classes: int = 10, in_channels: int = 3, image_size: int = 224
    ):
        super().__init__()
        if image_size < SMALLEST:
            raise UserError(f"alexnet: image size {image_size} is too small; choose {SMALLEST} or more")
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, 96, 11, 4, 2, bias=False), nn.BatchNorm2d(96), nn.ReLU(), nn.MaxPool2d(3, 2)
        )
        size, inputs = pooled((image_size + 4 - 11) // 4 + 1), 96
        layers: list[nn.Module] = [nn.BatchNorm2d(96), structure.activation(96)]
        for outputs, kernel, padding, pool in BINARY:
            layers.append(binary_conv(method, inputs, outputs, kernel, 1, padding))
            if pool:
                layers.append(nn.MaxPool2d(3, 2))
                size = pooled(size)
            layers += [nn.BatchNorm2d(outputs), structure.activation(outputs)]
            inputs = outputs
        layers += [binary_conv(method, inputs, HIDDEN, size), nn.BatchNorm2d(HIDDEN), structure.activation(HIDDEN)]
        layers += [binary_conv(method, HIDDEN, HIDDEN, 1), nn.BatchNorm2d(HIDDEN), nn.ReLU()]
        self.features = nn.Sequential(*layers)
        self.linear = nn.Linear(HIDDEN, classes)
        initialize(self, structure, "fan_in")

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(self.stem(x))  # (B, 4096, 1, 1)
        return self.linear(x.flatten(1))


alexnet = Architecture(AlexNet, "plain")
