"""Feature pyramid (Lin et al. 2017) in a method's convolutions, as IDa-Det's released code wires it: its 1x1 laterals are 3x3, both
they and the outputs are binary, and a PReLU follows each.

Unlike there a batch norm stands between convolution and PReLU: from scratch, without trained weights to start from, the maps of
the levels otherwise differ in scale by orders of magnitude.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from onebit.methods.method import Method
from onebit.models.blocks import binary_conv


def unit(method: Method, inputs: int, outputs: int) -> nn.Sequential:
    """3x3 convolution, batch norm, PReLU: (B, I, H, W) -> (B, O, H, W)."""
    return nn.Sequential(binary_conv(method, inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.PReLU(outputs))


class FPN(nn.Module):
    """Maps (B, widths[i], H / 2^i, W / 2^i) -> one more map than given, each of `channels`, the last of half the size."""

    def __init__(self, method: Method, widths: tuple[int, ...], channels: int):
        super().__init__()
        self.laterals = nn.ModuleList(unit(method, width, channels) for width in widths)
        self.outputs = nn.ModuleList(unit(method, channels, channels) for _ in widths)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        sums = [lateral(x) for lateral, x in zip(self.laterals, maps, strict=True)]
        for level in range(len(sums) - 1, 0, -1):
            sums[level - 1] = sums[level - 1] + F.interpolate(sums[level], scale_factor=2.0, mode="nearest")
        found = [output(x) for output, x in zip(self.outputs, sums, strict=True)]
        return [*found, F.max_pool2d(found[-1], 1, 2)]
