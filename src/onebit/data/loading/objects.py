"""Pictures with boxes, behind the interface of photographs: what is known of them, and what becomes of it.

Boxes that no detector can find are put right or left out when a set is loaded, and a line on standard error says how many and
where the first one is: a box whose corners are exchanged is turned, one that leaves its image is cut at the edge, one without
an area in it is left out. Training sets also leave out what scores count neither way: VOC's difficult and COCO's crowds.
Images that keep no box stay.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from onebit.data.boxes import Boxes
from onebit.data.dataset import Data
from onebit.data.inputs import IMAGENET_MEAN, IMAGENET_STD, Images, Normalization
from onebit.data.loading.augmentation import cut_to
from onebit.data.loading.photographs import Photographs
from onebit.data.loading.preparation import Cut, Prepared
from onebit.data.loading.warning import warn
from onebit.data.loading.windows import Window, Windows, boxes_in, part_in
from onebit.data.options import LoadOptions
from onebit.errors import UserError
from onebit.runtime.contents import content_of

SMALLEST = 0.01  # pixels: a side shorter than this is none
FILL = tuple(round(255 * value) for value in IMAGENET_MEAN)  # of the canvas around a picture: 0 once normalised


@dataclass
class Annotated:
    """What annotations say of a set, in their order, as they say it.

    images, sources   paths of the N images, and of the files that describe them
    sizes             width and height of the images, (N, 2)
    counts            boxes of each image, (N,); M in all
    corners           x1, y1, x2, y2 in pixels, (M, 4)
    labels            (M,)
    difficult, crowd  bool (M,)
    first             number of the first pixel where corners are numbers of pixels, the last one included: 1 of VOC; 0 where
                      they are places between pixels, as in COCO
    """

    images: Sequence[str]
    sources: Sequence[str]
    sizes: np.ndarray
    counts: np.ndarray
    corners: np.ndarray
    labels: np.ndarray
    difficult: np.ndarray
    crowd: np.ndarray
    first: int


class Known(NamedTuple):
    """Of one image: boxes float32 (N, 4) in its pixels, labels int64 (N,), flags bool (N,), its size and names for messages."""

    boxes: np.ndarray
    labels: np.ndarray
    difficult: np.ndarray
    crowd: np.ndarray
    width: int
    height: int
    image: str
    source: str


class ObjectSamples:
    """A file for each image, and boxes.

    Args:
        root: folder of the set
        where: the split, as messages name it
        annotated: what annotations say
        training: whether difficult boxes and crowds are left out
    """

    def __init__(self, root: Path, where: str, annotated: Annotated, training: bool):
        self.root = root
        self.shards = [len(annotated.images)]
        self.paths, self.sources = (
            np.array([os.fsencode(path.removeprefix(os.path.join(root, ""))) for path in paths])
            for paths in (annotated.images, annotated.sources)
        )  # bytes, fixed width
        self.sizes = annotated.sizes.astype(np.int64)
        self.boxes, kept = put_right(where, annotated)
        if training:
            kept &= ~(annotated.difficult | annotated.crowd)
        image_of = np.repeat(np.arange(len(annotated.images)), annotated.counts)[kept]
        self.ends = np.searchsorted(image_of, np.arange(len(annotated.images) + 1))  # (N + 1,)
        self.boxes, self.labels = self.boxes[kept], annotated.labels[kept].astype(np.int64)
        self.difficult, self.crowd = annotated.difficult[kept], annotated.crowd[kept]

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, index: int) -> str:
        return os.path.join(self.root, os.fsdecode(self.paths[index]))

    def read(self, index: int) -> bytes:
        return content_of(self.name(index))

    def known(self, index: int) -> Known:
        own = slice(self.ends[index], self.ends[index + 1])
        width, height = self.sizes[index].tolist()
        source = os.path.join(self.root, os.fsdecode(self.sources[index]))
        parts = (self.boxes[own], self.labels[own], self.difficult[own], self.crowd[own])
        return Known(*parts, width, height, self.name(index), source)


def put_right(where: str, annotated: Annotated) -> tuple[np.ndarray, np.ndarray]:
    """Boxes float32 (M, 4) between pixels, within their images, and which have an area there, bool (M,).

    Where corners are numbers of pixels, a pixel that is its own first and last one in a row or column is no object. Says on
    standard error what it changed.
    """
    image_of = np.repeat(np.arange(len(annotated.images)), annotated.counts)  # (M,)
    corners = annotated.corners.reshape(-1, 2, 2)  # (M, corners, x and y)
    low, high = corners.min(1), corners.max(1)  # (M, 2)
    turned = (corners[:, 0] > corners[:, 1]).any(1)
    empty = (high <= low).any(1)
    limits = annotated.sizes[image_of]  # (M, 2)
    raw = np.concatenate([low - annotated.first, high], 1)  # (M, 4)
    boxes = np.clip(raw, 0, np.tile(limits, 2)).astype(np.float32)
    kept = ~empty & (boxes[:, 2:] - boxes[:, :2] >= SMALLEST).all(1)
    cut = kept & (np.abs(boxes - raw) > 0.5).any(1)  # less is rounding
    turned &= kept
    if (changed := turned | cut | ~kept).any():
        counts = {
            "left out, which have no area in their images": ~kept,
            "cut at the edges of their images": cut,
            "with exchanged corners turned": turned,
        }
        said = ", ".join(f"{int(which.sum())} {what}" for what, which in counts.items() if which.any())
        first = annotated.sources[int(image_of[int(changed.argmax())])]
        warn(f"{where}: of {len(boxes)} boxes {said}; the first is in {first}")
    return boxes, kept


class Joined(NamedTuple):
    """Boxes of B images one after the other: float32 (M, 4), int64 (M,), bool (M,) twice; how many of each, and its index."""

    boxes: Tensor
    labels: Tensor
    difficult: Tensor
    crowd: Tensor
    counts: list[int]
    images: list[int]


class ObjectPreparation:
    """Pictures stretched to the square that the network takes; the target of each is its `Boxes` in pixels of that square.

    In training a random window (`Windows`) of the picture is stretched. Its colours are changed after that, at the network's
    size: as SSD does before it, but for the rounding of pixels, and several times as fast. What a window shows beyond the
    picture has ImageNet's mean colour.

    Args:
        options: image size, augmentation
        cut: of evaluation, if it does not follow from the image size
    """

    def __init__(self, options: LoadOptions, cut: Cut | None = None):
        self.size = options.image_size
        self.evaluated = (cut[0], cut[1]) if cut else (self.size, self.size)
        self.windows = Windows(options.zoom_out, options.iou_crop, options.mirror, options.vertical_flip)
        self.colours = colours(options.photometric)

    def training(self, picture: Image.Image, known: Known, index: int) -> Prepared:
        check_size(picture, known)
        boxes = torch.from_numpy(known.boxes)
        window, kept = self.windows(boxes, known.width, known.height)
        part, x, y = part_in(picture, window, self.size, self.size)
        pixels = functional.pil_to_tensor(self.colours(part))
        if part.size != (self.size, self.size):
            canvas = torch.tensor(FILL, dtype=torch.uint8)[:, None, None].repeat(1, self.size, self.size)
            canvas[:, y : y + part.height, x : x + part.width] = pixels
            pixels = canvas
        seen = boxes_in(boxes, window, self.size, self.size)
        kept &= ((seen[:, 2:] - seen[:, :2]) >= 1).all(1)  # of others nothing is left to see
        return Prepared(pixels, target(known, seen, kept, index))

    def evaluation(self, picture: Image.Image, known: Known, index: int) -> Prepared:
        check_size(picture, known)
        height, width = self.evaluated
        boxes = torch.from_numpy(known.boxes)
        seen = boxes_in(boxes, Window(0, 0, known.width, known.height), width, height)
        kept = torch.ones(len(boxes), dtype=torch.bool)
        return Prepared(cut_to(height, width, None)(picture), target(known, seen, kept, index))

    def join(self, targets: Sequence[Boxes]) -> Joined:
        boxes, labels, difficult, crowd = (
            torch.cat([getattr(target, name) for target in targets])
            for name in ("boxes", "labels", "difficult", "crowd")
        )
        counts, images = [len(target) for target in targets], [target.image for target in targets]
        return Joined(boxes, labels, difficult, crowd, counts, images)

    def targets(self, joined: Joined, device: torch.device) -> tuple[Boxes, ...]:
        flat = (joined.boxes, joined.labels, joined.difficult, joined.crowd)
        parts = [part.to(device, non_blocking=True).split(joined.counts) for part in flat]
        return tuple(
            Boxes(boxes, labels, difficult, crowd, image)
            for boxes, labels, difficult, crowd, image in zip(*parts, joined.images, strict=True)
        )


def target(known: Known, boxes: Tensor, kept: Tensor, index: int) -> Boxes:
    labels, difficult, crowd = (torch.from_numpy(part)[kept] for part in (known.labels, known.difficult, known.crowd))
    return Boxes(boxes[kept], labels, difficult, crowd, index)


def colours(strength: float) -> v2.Transform:
    """SSD's changes of brightness, contrast, saturation and hue, `strength` times the usual ranges: 1/8, 1/2 and 1/2 about 1, and 1/20
    of the circle of hues. From 1 on as in SSD: each of every other picture, and the order of channels too; a weaker one leaves
    that order, by which some things are told apart, and changes every picture."""
    if not strength:
        return v2.Identity()
    around = [(max(0.0, 1 - strength * part), 1 + strength * part) for part in (0.125, 0.5, 0.5)]
    hue = 0.05 * strength
    return (v2.RandomPhotometricDistort if strength >= 1 else v2.ColorJitter)(*around, (-hue, hue))


def check_size(picture: Image.Image, known: Known) -> None:
    if picture.size != (known.width, known.height):
        has = f"{picture.width} x {picture.height}"
        raise UserError(
            f"{known.source} says {known.width} x {known.height} pixels, {known.image} has {has} (upright, as its EXIF says); "
            "correct the size, and the boxes with it"
        )


def objects(
    name: str, train: ObjectSamples, test: ObjectSamples, labels: tuple[str, ...], options: LoadOptions
) -> Data:
    """The data set of these samples, at the image size of the options, normalised as ImageNet."""
    normalization = Normalization(IMAGENET_MEAN, IMAGENET_STD)
    sets = [Photographs(samples, options, normalization, ObjectPreparation) for samples in (train, test)]
    return Data(name, sets[0], sets[1], Images(3, options.image_size, normalization), labels, "detection")
