"""SSD300 on VGG-16 as BiDet trains it in one bit (Wang et al., CVPR 2020; their ssd/ code), the body that AdaBin compares with.

    stages    2 of 64, 2 of 128, 3 of 256, 3 of 512, 3 of 512 channels: binary 3x3 convolution, batch norm, + shortcut. Where VGG
              pools, the next stage's first convolution has stride 2, and its shortcut is an average of 2x2 pixels, a real 1x1
              convolution and batch norm. The very first convolution is real, without a shortcut
    source 1  L2Norm of the fourth stage, 38 x 38 at 300 pixels
    source 2  3x3 max pooling of stride 1, a binary 3x3 convolution of 1024 channels and dilation 6, batch norm, ReLU; a real 1x1
              convolution of 1024 channels, batch norm, ReLU
    extras    binary 1x1 and 3x3 convolutions: 256 and 512, 128 and 256 with stride 2; 128 and 256 twice without padding

Otherwise than there: padding is zero, not -1; after a sum stands the method's nonlinearity, which is none there (structure
nonlinearity = "identity"); the first extra reads source 2 before its ReLU, whose signs would all be +1; a box has four offsets,
without variances.
"""

from torch import Tensor, nn

from onebit.errors import UserError
from onebit.methods.method import Method
from onebit.models.architecture import architecture
from onebit.models.blocks import binary_conv, initialize
from onebit.models.resnet import projection
from onebit.models.ssd import SSD, Extra, SSDHeads, declare, sides
from onebit.nn.l2_norm import L2Norm
from onebit.nn.structure import Structure

STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))


class Block(nn.Module):
    """act(bn(conv(x)) + shortcut(x)): (B, I, H, W) -> (B, O, H / stride, W / stride)."""

    def __init__(self, method: Method, structure: Structure, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv = binary_conv(method, inputs, outputs, 3, stride, 1)
        self.bn = nn.BatchNorm2d(outputs)
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same else projection(method, structure, inputs, outputs, stride)
        self.act = structure.activation(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(self.conv(x)) + self.shortcut(x))


class SSDVGG(SSD):
    """Images (B, in_channels, S, S) -> {"scores" (B, R, classes + 1), "offsets" (B, R, 4)}.

    width   times the channels of all layers but heads
    """

    def __init__(
        self, method: Method, structure: Structure, classes: int, in_channels: int, image_size: int, width: float
    ):
        super().__init__()
        if type(width) not in (int, float) or not 1 / 64 <= width <= 4:
            raise UserError(f"width = {width!r} must be a number from 1/64 to 4")

        def of(channels: int) -> int:
            return max(1, round(width * channels))

        first = of(STAGES[0][0])
        self.conv1 = nn.Conv2d(in_channels, first, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(first)
        stages, inputs = [], first
        for stage, (channels, depth) in enumerate(STAGES):
            blocks = []
            for index in range(depth - (not stage)):  # of which the real convolution is one
                blocks.append(Block(method, structure, inputs, of(channels), 2 if stage and not index else 1))
                inputs = of(channels)
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)
        self.norm = L2Norm(of(512))
        self.pool5 = nn.MaxPool2d(3, 1, 1)
        self.conv6 = binary_conv(method, inputs, of(1024), 3, padding=6, dilation=6)
        self.bn6, self.relu6 = nn.BatchNorm2d(of(1024)), nn.ReLU()
        self.conv7 = nn.Conv2d(of(1024), of(1024), 1, bias=False)
        self.bn7, self.relu7 = nn.BatchNorm2d(of(1024)), nn.ReLU()
        sizes = ((1024, 256, 512, False), (512, 128, 256, False), (256, 128, 256, True), (256, 128, 256, True))
        self.extras = nn.ModuleList(
            Extra(method, structure, of(inner), of(hidden), of(outer), last) for inner, hidden, outer, last in sizes
        )
        self.heads = SSDHeads([of(c) for c in (512, 1024, 512, 256, 256, 256)], classes)
        initialize(self, structure, "fan_out")
        self.heads.reset()
        declare(self, image_size, sides(image_size, halvings=3, windows=2))

    def sources(self, x: Tensor) -> list[Tensor]:
        x = self.bn1(self.conv1(x))
        for stage in self.stages[:4]:
            x = stage(x)
        found = [self.norm(x)]
        x = self.pool5(self.stages[4](x))
        x = self.bn7(self.conv7(self.relu6(self.bn6(self.conv6(x)))))
        found.append(self.relu7(x))
        for extra in self.extras:
            x = extra(x)
            found.append(x)
        return found


@architecture("residual_imagenet", "detection", {"downsample": "average"})
def ssd300_vgg16(
    method: Method,
    structure: Structure,
    *,
    classes: int = 20,
    in_channels: int = 3,
    image_size: int = 300,
    width: float = 1.0,
) -> SSDVGG:
    return SSDVGG(method, structure, classes, in_channels, image_size, width)
