"""SSD's random windows: which part of a picture, or of a canvas around it, a network sees, and where the boxes are in it.

Zoom-out, crop and mirror (Liu et al., ECCV 2016, section 2.2 and its code) are drawn one after the other for the boxes alone,
by torchvision's transforms; the picture is resized once, at the end, from the window that they leave.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2
from torchvision.tv_tensors import BoundingBoxes, BoundingBoxFormat

SMALLEST = 4  # pixels of a side: the least of which 0.3, the smallest crop, leaves one


@dataclass(frozen=True)
class Window:
    """left, top    corner of the window in pixels of the picture; negative on a canvas around it
    width, height   of the window in the same pixels
    mirrored        whether it is seen from behind
    turned          whether it is upside down, after that
    """

    left: int
    top: int
    width: int
    height: int
    mirrored: bool = False
    turned: bool = False


class Crop(v2.RandomIoUCrop):
    """torchvision's crop: its attempts are drawn together, not one by one, which takes a tenth of the time. The crop has the same
    distribution: the first attempt that fits is taken."""

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        (boxes,) = flat_inputs  # (N, 4)
        sides = torch.tensor([boxes.canvas_size[1], boxes.canvas_size[0]])  # width, height
        corners = boxes.as_subclass(Tensor)[:, None]  # (N, 1, 4)
        centres = (corners[..., :2] + corners[..., 2:]) / 2  # (N, 1, 2)
        while (least := self.options[int(torch.randint(len(self.options), ()))]) < 1:
            drawn = torch.rand(self.trials, 2, 2)
            size = (sides * (self.min_scale + (self.max_scale - self.min_scale) * drawn[:, 0])).long()  # (T, 2)
            start = ((sides - size) * drawn[:, 1]).long()
            aspect = size[:, 0] / size[:, 1]
            within = ((start < centres) & (centres < start + size)).all(2)  # (N, T)
            shared = (corners[..., 2:].minimum(start + size) - corners[..., :2].maximum(start)).clamp(min=0).prod(2)
            areas = (corners[..., 2:] - corners[..., :2]).prod(2) + size.prod(1)  # (N, T)
            overlap = torch.where(within, shared / (areas - shared), -1).amax(0)  # (T,)
            fits = (self.min_aspect_ratio <= aspect) & (aspect <= self.max_aspect_ratio) & (overlap >= least)
            if fits.any():
                chosen = int(fits.int().argmax())
                (left, top), (width, height) = start[chosen].tolist(), size[chosen].tolist()
                kept = within[:, chosen]
                return {"top": top, "left": left, "height": height, "width": width, "is_within_crop_area": kept}
        return {}


class Windows:
    """Random windows.

    zoom_out: half of the pictures lie anywhere on a canvas whose sides are r times theirs, r ~ U(1, zoom_out); 1 means none
    iou_crop: crops of 0.3 to 1 of each side, at most twice as long as wide, in which some box has its centre and an overlap
        (IoU with the crop) of at least 0, 0.1, 0.3, 0.5, 0.7 or 0.9, or no crop: one of these seven, at even odds
    mirror: half of the windows
    vertical_flip: half of the windows
    """

    def __init__(self, zoom_out: float, iou_crop: bool, mirror: bool, vertical_flip: bool = False):
        self.zoom = v2.RandomZoomOut(side_range=(1.0, zoom_out)) if zoom_out > 1 else None
        self.crop = Crop() if iou_crop else None
        self.mirror = mirror
        self.vertical_flip = vertical_flip

    def __call__(self, boxes: Tensor, width: int, height: int) -> tuple[Window, Tensor]:
        """boxes float32 (N, 4) of a picture -> a window, and which boxes have their centres in it, bool (N,)."""
        window, kept = Window(0, 0, width, height), torch.ones(len(boxes), dtype=torch.bool)
        if self.zoom is not None and torch.rand(()) < 0.5:
            left, top, right, bottom = self.zoom.make_params([on_canvas(boxes, window)])["padding"]
            window = Window(-left, -top, left + width + right, top + height + bottom)
        crops = self.crop is not None and len(boxes) and min(width, height) >= SMALLEST
        if self.crop is not None and crops and (drawn := self.crop.make_params([on_canvas(boxes, window)])):
            kept = drawn["is_within_crop_area"]
            corner = (window.left + drawn["left"], window.top + drawn["top"])
            window = Window(*corner, drawn["width"], drawn["height"])
        if self.mirror and torch.rand(()) < 0.5:
            window = replace(window, mirrored=True)
        if self.vertical_flip and torch.rand(()) < 0.5:
            window = replace(window, turned=True)
        return window, kept


def on_canvas(boxes: Tensor, window: Window) -> BoundingBoxes:
    """Boxes of a picture (N, 4) as seen from the corner of a window."""
    corner = torch.tensor([window.left, window.top] * 2, dtype=boxes.dtype)
    return BoundingBoxes(boxes - corner, format=BoundingBoxFormat.XYXY, canvas_size=(window.height, window.width))


def boxes_in(boxes: Tensor, window: Window, width: int, height: int) -> Tensor:
    """Boxes of a picture in pixels of the window, resized to width x height: float32 (N, 4), clipped to it."""
    scale = torch.tensor([width / window.width, height / window.height] * 2)
    limits = torch.tensor([width, height] * 2, dtype=torch.float32)
    seen = (on_canvas(boxes, window).as_subclass(Tensor) * scale).clamp(min=torch.zeros(4), max=limits)
    if window.mirrored:
        seen = torch.stack([width - seen[:, 2], seen[:, 1], width - seen[:, 0], seen[:, 3]], 1)
    if window.turned:
        seen = torch.stack([seen[:, 0], height - seen[:, 3], seen[:, 2], height - seen[:, 1]], 1)
    return seen


def part_in(picture: Image.Image, window: Window, width: int, height: int) -> tuple[Image.Image, int, int]:
    """What of the picture is seen in a window that is resized to width x height (bilinear, antialiased), and the column and
    row where its corner is; the rest of the window shows nothing of the picture."""
    x, columns, across = overlap(window.left, window.width, picture.width, width)
    y, rows, down = overlap(window.top, window.height, picture.height, height)
    source = (across[0], down[0], across[1], down[1])
    if (columns, rows) == picture.size and source == (0, 0, *picture.size):
        part = picture
    else:
        part = picture.resize((columns, rows), Image.Resampling.BILINEAR, source)
    if window.mirrored:
        part, x = part.transpose(Image.Transpose.FLIP_LEFT_RIGHT), width - x - columns
    if window.turned:
        part, y = part.transpose(Image.Transpose.FLIP_TOP_BOTTOM), height - y - rows
    return part, x, y


def overlap(start: int, length: int, pixels: int, size: int) -> tuple[int, int, tuple[float, float]]:
    """Along one axis, of a window from `start` that becomes `size` pixels: the first of them that shows the picture of
    `pixels`, how many do (at least 1), and between which places of the picture those lie, exactly."""
    scale = length / size
    first = max(0, math.ceil(-start / scale - 1e-9))
    last = min(size, math.floor((pixels - start) / scale + 1e-9))
    if last > first:
        return first, last - first, (max(0.0, start + first * scale), min(float(pixels), start + last * scale))
    begin, end = max(0.0, float(start)), min(float(pixels), float(start + length))  # less than a pixel of it is seen
    return min(int((begin - start) / scale), size - 1), 1, (begin, end)
