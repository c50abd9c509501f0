"""SSD's default boxes (Liu et al., ECCV 2016, sec. 2.2) as torchvision has them: scales of the image's side, ratios of a box's.

Of a map k with the scale s_k, boxes of width s_k sqrt(r) and height s_k / sqrt(r) for the ratios r of RATIOS and their
inverses, and a square of side sqrt(s_k s_{k+1}), at the centre of each of its cells.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.image_list import ImageList

SIZE = 300  # pixels, for which the paper chose them; other sizes take them in proportion
SCALES = (0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05)
STEPS = (8, 16, 32, 64, 100, 300)  # pixels between cells
RATIOS = ((2,), (2, 3), (2, 3), (2, 3), (2,), (2,))
WEIGHTS = (10.0, 10.0, 5.0, 5.0)  # of the box coding: one over the variances .1 and .2


def generator(image_size: int) -> DefaultBoxGenerator:
    steps = [step * image_size / SIZE for step in STEPS]
    return DefaultBoxGenerator([list(ratios) for ratios in RATIOS], scales=list(SCALES), steps=steps)


def counts() -> list[int]:
    """Boxes of a cell of each map."""
    return [2 + 2 * len(ratios) for ratios in RATIOS]


def default_boxes(image_size: int, sizes: Sequence[int]) -> Tensor:
    """float32 (R, 4), x1 y1 x2 y2 in pixels, of square maps of these sides: map by map, row by row, cell by cell."""
    maps = [torch.zeros(1, 1, size, size) for size in sizes]
    images = ImageList(torch.zeros(1, 3, image_size, image_size), [(image_size, image_size)])
    (boxes,) = generator(image_size)(images, maps)
    return boxes


def settings(image_size: int, sizes: Sequence[int]) -> list[dict[str, Any]]:
    """The same as a record: of each map its size, pixels from cell to cell, and widths and heights of a cell's boxes."""
    made = generator(image_size)
    levels = []
    for size, step, pairs in zip(sizes, made.steps, made._wh_pairs, strict=True):
        boxes = (pairs.clamp(0, 1) * image_size).tolist()
        levels.append({"map": [size, size], "step": [float(step), float(step)], "boxes": boxes})
    return levels
