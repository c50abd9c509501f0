"""SSD300 on ResNet-18: sources are the last three stages and three maps after them, at 300 x 300 of 38, 19, 10, 5, 3 and 1 rows.

The 7x7 stem, the 1x1 shortcuts and the heads are real, all other convolutions the method's. No paper's structure: what two
CPU cores can train.
"""

from torch import Tensor, nn

from onebit.methods.method import Method
from onebit.models.architecture import architecture
from onebit.models.blocks import initialize
from onebit.models.resnet import Body, projection
from onebit.models.resnet_imagenet import WIDTHS
from onebit.models.ssd import SSD, Extra, SSDHeads, declare, sides
from onebit.nn.structure import Structure


class SSDResNet(SSD, Body):
    """Images (B, in_channels, S, S) -> {"scores" (B, R, classes + 1), "offsets" (B, R, 4)}."""

    def __init__(
        self,
        method: Method,
        structure: Structure,
        depths: tuple[int, ...],
        classes: int,
        in_channels: int,
        image_size: int,
    ):
        super().__init__(method, structure, WIDTHS, depths, projection, in_channels, stem=7)
        self.extras = nn.ModuleList(
            Extra(method, structure, inputs, 128, 256, last=index == 2) for index, inputs in enumerate((512, 256, 256))
        )
        self.heads = SSDHeads((*WIDTHS[1:], 256, 256, 256), classes)
        initialize(self, structure, "fan_out")
        self.heads.reset()
        declare(self, image_size, sides(image_size, halvings=4, windows=1))

    def sources(self, x: Tensor) -> list[Tensor]:
        found = self.maps(x)[1:]
        for extra in self.extras:
            found.append(extra(found[-1]))
        return found


@architecture("residual_imagenet", "detection")
def ssd300_resnet18(
    method: Method, structure: Structure, *, classes: int = 20, in_channels: int = 3, image_size: int = 300
) -> SSDResNet:
    return SSDResNet(method, structure, (2, 2, 2, 2), classes, in_channels, image_size)
