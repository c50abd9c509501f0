"""ImageNet ResNet-18 and ResNet-34 (He et al. 2016, table 1): a 7x7 stem of stride 2 and 3x3 max pooling, four stages
of 64 to 512 channels, 1x1 shortcuts, in the structures of the binary papers (see Structure).

With method "float" they are torchvision's resnet18 and resnet34. Convolutions start from N(0, 2 / (k^2 O)) as there and
in AdaBin's released code; RBNN's starts from N(0, 2 / (k^2 I)), which its structure says.
"""

from onebit.methods.method import Method
from onebit.models.architecture import Architecture, architecture
from onebit.models.resnet import ResNet, projection
from onebit.nn.structure import Structure

WIDTHS = (64, 128, 256, 512)


def _wide(depths: tuple[int, ...]) -> Architecture:
    @architecture("residual_imagenet")
    def build(
        method: Method, structure: Structure, *, classes: int = 10, in_channels: int = 3, image_size: int = 32
    ) -> ResNet:
        return ResNet(method, structure, WIDTHS, depths, projection, classes, in_channels, "fan_out", stem=7)

    return build


imagenet_resnet18, imagenet_resnet34 = _wide((2, 2, 2, 2)), _wide((3, 4, 6, 3))
