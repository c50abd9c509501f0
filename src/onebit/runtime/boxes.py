"""Boxes, labels and scores from a detector's outputs, in numpy: the oracle of csrc/boxes, which gives the same bits.

Of an image with rows r (anchors, or proposals) of x1 y1 x2 y2 in pixels of the network's input, as torchvision's BoxCoder decodes,
`ops.nms` suppresses, and SSD and RoIHeads go about it:

    p = softmax(scores[r])                                      float64, rounded to float32; channel 0 is the background
    w = x2 − x1,  cx = x1 + w / 2                               likewise h and cy
    cx' = dx / wx · w + cx,  w' = e^min(dw / ww, ln(1000 / 16)) · w
    x1' = cx' − w' / 2,  x2' = cx' + w' / 2                     clipped to 0..width

Every operation is rounded to float32; e^x is that of `exponentials`. For each label: the boxes with p > score that are at
least `smallest` wide and high, of them the `candidates` of the highest p, of equal ones the lower row first; in this order a box
is kept unless one that was kept before overlaps it by more than `overlap`:

    inter / (area + area' − inter) > overlap

Then the boxes of all labels by p, of equal ones the lower label first, and of them the first `most`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from onebit.errors import UserError
from onebit.runtime import exponentials
from onebit.runtime.box_settings import WITH_ANCHORS, WITHOUT_ANCHORS, BoxSettings
from onebit.runtime.extension import available, extension

LARGEST = np.float32(math.log(1000 / 16))  # of a logarithm of sizes
HALF = np.float32(0.5)


class Found(NamedTuple):
    """The boxes of an image, the best first.

    boxes    float32 (N, 4), x1 y1 x2 y2 in pixels of the network's input
    scores   float32 (N,)
    labels   int64 (N,): 0 is the first label, no background among them
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray


def anchors(settings: BoxSettings) -> np.ndarray:
    """float32 (R, 4), x1 y1 x2 y2, computed in float64 and rounded: grid by grid, row by row, column by column, box by box."""
    grids = []
    for grid in settings.anchors or ():
        (rows, columns), (down, right) = grid.map, grid.step
        half = np.array(grid.boxes, np.float64) / 2  # (N, 2): width, height
        y, x, box = np.indices((rows, columns, len(half)))  # (rows, columns, N) each
        centre = np.stack([(x + 0.5) * right, (y + 0.5) * down], axis=-1)
        corners = np.concatenate([centre - half[box], centre + half[box]], axis=-1)  # (rows, columns, N, 4)
        grids.append(corners.reshape(-1, 4))
    return np.concatenate(grids).astype(np.float32)


def detections(outputs: Sequence[np.ndarray], settings: BoxSettings) -> list[Found]:
    """What is found in each image of a batch: by the engine, where it is built.

    outputs   scores, offsets and, where there are no anchors, proposals: (B, R, C), as a detector in PyTorch gives them, or
              (B, C, R, 1), as its file does

    Raises UserError for outputs that are not a detector's.
    """
    rows = rows_of(outputs, settings)
    if not available():
        return by_numpy(rows, settings)
    proposals = rows[2] if settings.anchors is None else None
    return [Found(*image) for image in extension().boxes(json.dumps(settings.to_dict()), *rows[:2], proposals)]


def rows_of(outputs: Sequence[np.ndarray], settings: BoxSettings) -> list[np.ndarray]:
    """float32 (B, R, C) of each output. Raises UserError for outputs that are not a detector's."""
    rows = [x[..., 0].swapaxes(1, 2) if x.ndim == 4 else x for x in outputs]
    names = WITHOUT_ANCHORS if settings.anchors is None else WITH_ANCHORS
    count = rows[0].shape[1] if settings.anchors is None else sum(map(len, settings.anchors))
    batch, channels = len(rows[0]), rows[0].shape[-1]
    wide = {"scores": (channels,), "offsets": (4, 4 * channels), "proposals": (4,)}
    fits = len(rows) == len(names) and channels > 1
    if not (fits and all(x.shape in [(batch, count, c) for c in wide[name]] for name, x in zip(names, rows))):
        given = ", ".join(str(x.shape) for x in outputs)
        raise UserError(
            f"outputs {given} are not {', '.join(names)} of {count} rows; boxes are found in images of {settings.size[0]} × "
            f"{settings.size[1]}, the size that the detector was made for"
        )
    return [np.ascontiguousarray(x, np.float32) for x in rows]


def by_numpy(rows: Sequence[np.ndarray], settings: BoxSettings) -> list[Found]:
    """The same of (B, R, C), without the engine."""
    scores, offsets, *proposals = rows
    around = proposals[0] if proposals else np.repeat(anchors(settings)[None], len(scores), 0)  # (B, R, 4)
    return [boxes_of(*image, settings) for image in zip(scores, offsets, around)]


def boxes_of(scores: np.ndarray, offsets: np.ndarray, places: np.ndarray, settings: BoxSettings) -> Found:
    """Of one image: scores (R, K + 1), offsets (R, 4) or (R, 4·(K + 1)), places (R, 4)."""
    p = exponentials.softmax(scores)[:, 1:]  # (R, K)
    offsets = offsets.reshape(len(p), -1, 4)  # (R, 1 or K + 1, 4)
    found = []
    for label in range(p.shape[1]):
        (rows,) = np.nonzero(p[:, label] > np.float32(settings.score))
        boxes = clipped(
            decoded(offsets[rows, (label + 1) % offsets.shape[1]], places[rows], settings.weights), settings.size
        )
        size = boxes[:, 2:] - boxes[:, :2]
        large = (size >= np.float32(settings.smallest)).all(1)  # and no NaN
        boxes, best = boxes[large], p[rows[large], label]
        order = np.argsort(-best, kind="stable")[: settings.candidates]
        boxes, best = boxes[order], best[order]
        kept = suppressed(boxes, settings.overlap, settings.most)
        found.append(Found(boxes[kept], best[kept], np.full(len(kept), label)))
    boxes, best, labels = (np.concatenate(parts) for parts in zip(*found))
    order = np.argsort(-best, kind="stable")[: settings.most]
    return Found(boxes[order], best[order], labels[order])


def decoded(offsets: np.ndarray, places: np.ndarray, weights: Sequence[float]) -> np.ndarray:
    """(N, 4) of offsets (N, 4), their weights, and anchors or proposals (N, 4)."""
    with np.errstate(all="ignore"):  # outputs may be anything
        size = places[:, 2:] - places[:, :2]
        centre = places[:, :2] + HALF * size
        steps = offsets / np.array(weights, np.float32)
        logs = np.where(steps[:, 2:] > LARGEST, LARGEST, steps[:, 2:])
        half = HALF * (exponentials.exp(logs.astype(np.float64)).astype(np.float32) * size)
        centre = steps[:, :2] * size + centre
        corners: np.ndarray = np.concatenate([centre - half, centre + half], axis=1)
    return corners


def clipped(boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    height, width = size
    most = np.array([width, height, width, height], np.float32)
    boxes = np.where(boxes < 0, np.float32(0), boxes)
    return np.where(boxes > most, most, boxes)


def suppressed(boxes: np.ndarray, overlap: float, most: int) -> np.ndarray:
    """The places of the first `most` that no box which is kept before overlaps by more; the boxes (N, 4) are in order."""
    size = boxes[:, 2:] - boxes[:, :2]
    areas = size[:, 0] * size[:, 1]
    rest = np.arange(len(boxes))
    kept: list[int] = []
    while len(rest) and len(kept) < most:
        first, rest = rest[0], rest[1:]
        kept.append(first)
        corner = np.maximum(boxes[first, :2], boxes[rest, :2])
        sides = np.maximum(np.minimum(boxes[first, 2:], boxes[rest, 2:]) - corner, np.float32(0))
        inter = sides[:, 0] * sides[:, 1]
        with np.errstate(invalid="ignore"):  # of two empty boxes
            shared = inter / (areas[first] + areas[rest] - inter)
        rest = rest[~(shared.astype(np.float64) > overlap)]
    return np.array(kept, np.int64)
