"""CIFAR ResNets: 6n + 2 layers of 16, 32, 64 channels with parameter-free shortcuts (He et al. 2016, sec. 4.2), and
ResNet-18 with a 3x3 stem, 64 to 512 channels and 1x1 shortcuts, in the structures of the binary papers (see Structure).
"""

from onebit.methods.method import Method
from onebit.models.architecture import Architecture, architecture
from onebit.models.resnet import ResNet, option_a, projection
from onebit.nn.structure import Structure


def _thin(depth: int) -> Architecture:
    @architecture("residual_cifar")
    def build(
        method: Method, structure: Structure, *, classes: int = 10, in_channels: int = 3, image_size: int = 32
    ) -> ResNet:
        return ResNet(
            method, structure, (16, 32, 64), (depth,) * 3, option_a, classes, in_channels, convolutions="kaiming_normal"
        )

    return build


resnet8, resnet20, resnet56 = _thin(1), _thin(3), _thin(9)


def _wide(widths: tuple[int, ...]) -> Architecture:
    @architecture("residual_cifar_wide")
    def build(
        method: Method, structure: Structure, *, classes: int = 10, in_channels: int = 3, image_size: int = 32
    ) -> ResNet:
        return ResNet(method, structure, widths, (2,) * 4, projection, classes, in_channels, convolutions="default")

    return build


resnet18 = _wide((64, 128, 256, 512))
# Narrower ones of the code that IR-Net's and RBNN's authors share (models_cifar/resnet2.py: resnet18A_1w1a and so on).
resnet18a, resnet18b, resnet18c = _wide((32, 32, 64, 128)), _wide((32, 64, 128, 256)), _wide((64, 64, 128, 256))
