"""CIFAR ResNets: 6n + 2 layers of 16, 32, 64 channels with parameter-free shortcuts (He et al. 2016, sec. 4.2), and
ResNet-18 with a 3x3 stem, 64 to 512 channels and 1x1 shortcuts, in the structures of the binary papers (see Structure).
"""

from collections.abc import Callable

from onebit.methods import Method, Structure
from onebit.models.resnet import ResNet, option_a, projection


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
