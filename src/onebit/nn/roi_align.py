"""What a feature map holds inside boxes, at one size (RoIAlign, He et al. 2017), for the boxes whose size belongs to its level.

Boxes of side s = sqrt(area) are read from the level of step 2^k (Lin et al. 2017, eq. 1; 10^-6 as torchvision's LevelMapper):

    k = floor(4 + log2(s / 224) + 10^-6), no less than the first level's and no more than the last's
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.ops import roi_align

CANONICAL_SIDE, CANONICAL_LEVEL, MARGIN = 224, 4, 1e-6


def sides(steps: Sequence[int]) -> list[tuple[float, float]]:
    """(low, high) of each level: it holds the boxes with low <= side < high; the last one's high is infinite."""
    levels = [round(math.log2(step)) for step in steps]
    bounds = [CANONICAL_SIDE * 2 ** (level - CANONICAL_LEVEL - MARGIN) for level in levels[1:]]
    return list(zip([0.0, *bounds], [*bounds, math.inf], strict=True))


class RoIAlign(nn.Module):
    """Boxes (B, R, 4), x1 y1 x2 y2 in pixels of the image, and a map (B, C, H, W) -> (B, R, size size C): row, column, channel.

    y[i, j] is the mean of samples x samples values in cell (i, j) of the box divided into size x size cells, interpolated
    linearly; the value of map position (y, x) is taken to lie at y, x (torchvision's roi_align with aligned=False, where a box is
    at least one position wide and high). Boxes without area, and those of other levels, give zeros: the sum over the levels is
    torchvision's MultiScaleRoIAlign.

    scale       positions of the map for each pixel of the image
    low, high   the box's side must be in [low, high), in pixels
    """

    def __init__(self, scale: float, low: float = 0.0, high: float = math.inf, size: int = 7, samples: int = 2):
        super().__init__()
        self.scale, self.low, self.high, self.size, self.samples = scale, low, high, size, samples

    def forward(self, boxes: Tensor, values: Tensor) -> Tensor:
        boxes, values = boxes.float(), values.float()  # in bfloat16 a box's edge may be a pixel off
        width, height = boxes[..., 2] - boxes[..., 0], boxes[..., 3] - boxes[..., 1]
        area = width * height
        side = area.sqrt()  # (B, R)
        inside = (area > 0) & (side >= self.low) & (side < self.high)
        image = inside.nonzero()[:, :1].to(boxes.dtype)  # (n, 1): of the batch
        found = roi_align(
            values, torch.cat([image, boxes[inside]], 1), self.size, self.scale, self.samples
        )  # (n, C, 7, 7)
        pooled = values.new_zeros(*inside.shape, values.shape[1] * self.size**2)
        pooled[inside] = found.permute(0, 2, 3, 1).flatten(1)  # (n, 7 7 C)
        return pooled

    def extra_repr(self) -> str:
        return f"scale={self.scale}, low={self.low:.6g}, high={self.high:.6g}, size={self.size}, samples={self.samples}"
