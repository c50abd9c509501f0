"""The operators of detectors in two stages in ONNX, which has suppression and RoiAlign but chooses as many boxes as there are: here
each image has the rows that the file says, those that are none 0."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from onnx import helper

from onebit.export.onnx.drawing import Drawing, Value
from onebit.runtime.boxes import LARGEST
from onebit.runtime.graph import Node
from onebit.runtime.regions import anchors
from onebit.runtime.tensors import Arrays

LOWEST = np.float32(-3.4e38)  # no logit: of what was left out


def ranges(draw: Drawing, x: str, start: int, stop: int, axis: int) -> str:
    return draw.add("Slice", x, *(draw.constant([place], np.int64) for place in (start, stop, axis)))


def filled(draw: Drawing, shape: str, value: float) -> str:
    """float32 of this shape, everywhere the value."""
    tensor = helper.make_tensor("value", 1, [1], [value])
    return draw.add("ConstantOfShape", shape, value=tensor)


def rows_of(draw: Drawing, x: Value) -> str:
    """(B, C, T, 1) of the file's (T, 1, C) -> (B, T, C)."""
    return draw.add("Transpose", draw.reshape(x, 0, x.shape[2], -1), perm=[0, 2, 1])


def best(draw: Drawing, scores: str, boxes: str, count: int) -> tuple[str, str]:
    """The highest (B, count) of scores (B, N), and their boxes (B, count, 4) of (B, N, 4); of equal ones the first."""
    found, places = draw.several("TopK", 2, scores, draw.constant([count], np.int64), axis=1, largest=1, sorted=1)
    places = draw.add("Unsqueeze", places, draw.constant([2], np.int64))  # (B, count, 1)
    return found, draw.add("GatherND", boxes, places, batch_dims=1)


def decoded(draw: Drawing, offsets: str, places: np.ndarray, image: tuple[int, int]) -> str:
    """(B, N, 4) of offsets (B, N, 4) and anchors (N, 4), clipped to the image."""
    size = places[:, 2:] - places[:, :2]
    centre = places[:, :2] + np.float32(0.5) * size
    size_name, centre_name = draw.tensor("sizes", size), draw.tensor("centres", centre)
    scale = draw.add("Exp", draw.add("Min", ranges(draw, offsets, 2, 4, 2), draw.constant(LARGEST)))
    half = draw.add("Mul", draw.constant(0.5), draw.add("Mul", scale, size_name))
    middle = draw.add("Add", draw.add("Mul", ranges(draw, offsets, 0, 2, 2), size_name), centre_name)
    corners = draw.add("Concat", draw.add("Sub", middle, half), draw.add("Add", middle, half), axis=2)
    height, width = image
    most = draw.constant([width, height, width, height])
    return draw.add("Min", draw.add("Max", corners, draw.constant(0)), most)


def suppressed(draw: Drawing, node: Node, scores: str, boxes: str) -> str:
    """Scores (B, K) of boxes (B, K, 4), LOWEST of those that are small or overlap a better one."""
    sides = draw.add("Sub", ranges(draw, boxes, 2, 4, 2), ranges(draw, boxes, 0, 2, 2))
    shorter = draw.add("ReduceMin", sides, draw.constant([2], np.int64), keepdims=0)  # (B, K)
    large = draw.add("GreaterOrEqual", shorter, draw.constant(node["smallest"]))
    scores = draw.add("Where", large, scores, draw.constant(LOWEST))
    one = draw.constant([1], np.int64)
    limits = (draw.constant([node["most"]], np.int64), draw.constant([node["overlap"]]), draw.constant([LOWEST]))
    chosen = draw.add("NonMaxSuppression", boxes, draw.add("Unsqueeze", scores, one), *limits)  # (S, 3)
    places = draw.add("Gather", chosen, draw.constant([0, 2], np.int64), axis=1)  # (S, 2): image, box
    found = filled(draw, ranges(draw, draw.add("Shape", chosen), 0, 1, 0), 1)  # (S,)
    kept = draw.add("ScatterND", filled(draw, draw.add("Shape", scores), 0), places, found)  # (B, K)
    return draw.add("Where", draw.add("Greater", kept, draw.constant(0)), scores, draw.constant(LOWEST))


def proposals(draw: Drawing, node: Node, arrays: Arrays, logits: Value, offsets: Value) -> str:
    scores = draw.reshape(logits, 0, -1)  # (B, N)
    parts, first = [], 0
    places = anchors(node["grids"], arrays["anchors"])
    boxes = decoded(draw, rows_of(draw, offsets), np.concatenate(places), node["image"])  # (B, N, 4)
    for level in places:
        last = first + len(level)
        ours, theirs = ranges(draw, scores, first, last, 1), ranges(draw, boxes, first, last, 1)
        ours, theirs = best(draw, ours, theirs, min(node["candidates"], len(level)))
        parts.append((suppressed(draw, node, ours, theirs), theirs))
        first = last
    total = sum(min(node["candidates"], len(level)) for level in places)
    scores, boxes = (draw.add("Concat", *names, axis=1) for names in zip(*parts))
    count = min(node["most"], total)
    scores, boxes = best(draw, scores, boxes, count)
    there = draw.add("Greater", scores, draw.constant(LOWEST))
    there = draw.add("Unsqueeze", there, draw.constant([2], np.int64))  # (B, count, 1)
    boxes = draw.add("Where", there, boxes, draw.constant(0))
    if count < node["most"]:
        boxes = draw.add("Pad", boxes, draw.constant([0, 0, 0, 0, node["most"] - count, 0], np.int64))
    return draw.reshape(draw.add("Transpose", boxes, perm=[0, 2, 1]), 0, 4, -1, 1)  # (B, 4, most, 1)


def roi_align(draw: Drawing, node: Node, arrays: Arrays, boxes: Value, x: Value) -> str:
    rows = rows_of(draw, boxes)  # (B, R, 4)
    flat = draw.reshape(rows, -1, 4)
    counts = draw.add("Gather", draw.add("Shape", rows), draw.constant([0, 1], np.int64))
    image = draw.add("Gather", draw.add("NonZero", filled(draw, counts, 1)), draw.constant(0, np.int64))  # (B R,)
    size = node["size"]
    found = draw.add(
        "RoiAlign",
        x,
        flat,
        image,
        coordinate_transformation_mode="output_half_pixel",
        mode="avg",
        output_height=size,
        output_width=size,
        sampling_ratio=node["samples"],
        spatial_scale=float(np.float32(node["scale"])),
    )  # (B R, C, size, size)
    sides = draw.add("Sub", ranges(draw, flat, 2, 4, 1), ranges(draw, flat, 0, 2, 1))  # (B R, 2)
    area = draw.add("Mul", ranges(draw, sides, 0, 1, 1), ranges(draw, sides, 1, 2, 1))  # (B R, 1)
    side = draw.add("Sqrt", area)
    conditions = (
        draw.add("Greater", area, draw.constant(0)),
        draw.add("GreaterOrEqual", side, draw.constant(node["low"])),
        draw.add("Less", side, draw.constant(node["high"])),
    )
    inside = draw.add("And", draw.add("And", *conditions[:2]), conditions[2])
    found = draw.add("Where", draw.reshape(inside, -1, 1, 1, 1), found, draw.constant(0))
    cells = draw.add("Transpose", found, perm=[0, 2, 3, 1])  # (B R, size, size, C)
    sequence = draw.reshape(cells, -1, boxes.shape[0], size * size * x.shape[2])  # (B, R, size size C)
    return draw.reshape(draw.add("Transpose", sequence, perm=[0, 2, 1]), 0, size * size * x.shape[2], -1, 1)


REGIONS: dict[str, Callable[..., str]] = {"proposals": proposals, "roi_align": roi_align}
