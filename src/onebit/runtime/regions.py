"""Operators of detectors in two stages: which boxes to look at, `proposals`, and what a map holds inside them, `roi_align`."""

from __future__ import annotations

from typing import Any

import numpy as np

from onebit.errors import FormatError
from onebit.runtime import boxes
from onebit.runtime.fields import MAX_NUMBER, MAX_SIZE, integer, not_negative, number, pair, positive, share, show
from onebit.runtime.graph import Attribute, Node
from onebit.runtime.tensors import Arrays, Shape, Tensors, map_of

MAX_GRIDS = 100
MAX_CELLS = 64  # of a box, in a column or row; samples of a cell likewise
F32 = np.float32


def grids(value: Any, where: str) -> tuple[tuple[int, ...], ...]:
    """[[rows, columns, step], ...]."""
    one = integer(1, MAX_SIZE)
    if not isinstance(value, list | tuple) or not 1 <= len(value) <= MAX_GRIDS:
        raise FormatError(f"{where} must be a list of 1 to {MAX_GRIDS} lists, got {show(value)}")
    for entry in value:
        if not isinstance(entry, list | tuple) or len(entry) != 3:
            raise FormatError(f"{where} must be lists of 3 integers, got {show(entry)}")
    return tuple(tuple(one(item, where) for item in entry) for entry in value)


PROPOSALS = {
    "grids": Attribute(grids),
    "image": Attribute(pair(1, MAX_SIZE)),
    "candidates": Attribute(integer(1, MAX_SIZE)),
    "most": Attribute(integer(1, MAX_SIZE)),
    "overlap": Attribute(share),
    "smallest": Attribute(not_negative, 0.0),
}
ROI_ALIGN = {
    "scale": Attribute(positive),
    "low": Attribute(number, 0.0),
    "high": Attribute(number, MAX_NUMBER),
    "size": Attribute(integer(1, MAX_CELLS), 7),
    "samples": Attribute(integer(1, MAX_CELLS), 2),
}


def proposals_shape(node: Node, inputs: list[Shape], tensors: Tensors) -> Shape:
    logits, offsets = (map_of(node, shape) for shape in inputs)
    _, shapes, _ = tensors.expect(node, "anchors", "F32", len(node["grids"]), None, 4)
    count = shapes * sum(rows * columns for rows, columns, _ in node["grids"])
    if logits != (count, 1, 1) or offsets != (count, 1, 4):
        raise FormatError(
            f"node {node.name!r} (proposals) needs ({count}, 1, 1) and ({count}, 1, 4) for its anchors, got {logits} and {offsets}"
        )
    return node["most"], 1, 4


def proposals(node: Node, tensors: Arrays, logits: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """(B, N, 1, 1), (B, N, 1, 4) -> (B, most, 1, 4)."""
    found = np.zeros((len(logits), node["most"], 1, 4), np.float32)
    for b in range(len(logits)):
        best = proposals_of(node, tensors["anchors"], logits[b, :, 0, 0], offsets[b, :, 0])
        found[b, : len(best), 0] = best
    return found


def anchors(given: tuple[tuple[int, ...], ...], cells: np.ndarray) -> list[np.ndarray]:
    """Of each grid float32 (rows·columns·shapes, 4): row by row, column by column, the shapes around (x·step, y·step)."""
    found = []
    for (rows, columns, step), shapes in zip(given, cells):
        y, x = np.divmod(np.arange(rows * columns), columns)
        shift = (np.stack([x, y, x, y], 1) * step).astype(np.float32)  # (rows·columns, 4)
        found.append((shift[:, None] + shapes).reshape(-1, 4))
    return found


def proposals_of(node: Node, cells: np.ndarray, logits: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Of one image: (N,), (N, 4) -> (n, 4), n <= most, the best first."""
    kept, scores, first = [], [], 0
    for centred in anchors(node["grids"], cells):
        level = slice(first, first + len(centred))
        first += len(centred)
        (places,) = np.nonzero(~np.isnan(logits[level]))
        places = places[np.argsort(-logits[level][places], kind="stable")[: node["candidates"]]]
        given = boxes.decoded(offsets[level][places], centred[places], (1.0, 1.0, 1.0, 1.0))
        given = boxes.clipped(given, node["image"])
        with np.errstate(invalid="ignore"):
            large = (given[:, 2:] - given[:, :2] >= F32(node["smallest"])).all(1)  # and no NaN
        given, best = given[large], logits[level][places[large]]
        chosen = boxes.suppressed(given, node["overlap"], node["most"])
        kept.append(given[chosen])
        scores.append(best[chosen])
    order = np.argsort(-np.concatenate(scores), kind="stable")[: node["most"]]
    return np.concatenate(kept)[order]


def roi_align_shape(node: Node, inputs: list[Shape], tensors: Tensors) -> Shape:
    given, (_, _, channels) = (map_of(node, shape) for shape in inputs)
    if given[1:] != (1, 4):
        raise FormatError(f"node {node.name!r} (roi_align) needs boxes (R, 1, 4) and a map, got {given} first")
    if node["low"] > node["high"]:
        raise FormatError(f"node {node.name!r} (roi_align) needs low <= high, got {node['low']} and {node['high']}")
    return given[0], 1, node["size"] ** 2 * channels


def roi_align(node: Node, tensors: Arrays, given: np.ndarray, x: np.ndarray) -> np.ndarray:
    """(B, R, 1, 4), (B, H, W, C) -> (B, R, 1, size·size·C)."""
    batch, count, channels = *given.shape[:2], x.shape[3]
    y = np.zeros((batch, count, 1, node["size"] ** 2 * channels), np.float32)
    with np.errstate(all="ignore"):  # boxes may be anything
        for b in range(batch):
            corners = given[b, :, 0]
            area = (corners[:, 2] - corners[:, 0]) * (corners[:, 3] - corners[:, 1])
            side = np.sqrt(area)  # NaN of a negative one
            for r in np.flatnonzero((area > 0) & (side >= F32(node["low"])) & (side < F32(node["high"]))):
                y[b, r, 0] = _cells(node, corners[r], x[b]).ravel()
    return y


def _cells(node: Node, box: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Of one box and a map (H, W, C): (size, size, C)."""
    across, down = (_taps(node, box[axis], box[axis + 2], x.shape[1 - axis]) for axis in (0, 1))
    total = np.zeros((node["size"], node["size"], x.shape[2]), np.float32)
    for iy in range(node["samples"]):
        top, bottom, ly, inside_y = (part[:, iy, None] for part in down)  # (size, 1)
        hy = F32(1) - ly
        for ix in range(node["samples"]):
            left, right, lx, inside_x = (part[None, :, ix] for part in across)  # (1, size)
            hx = F32(1) - lx
            value = (hy * hx)[..., None] * x[top, left]
            value = value + (hy * lx)[..., None] * x[top, right]
            value = value + (ly * hx)[..., None] * x[bottom, left]
            value = value + (ly * lx)[..., None] * x[bottom, right]
            total = np.where((inside_y & inside_x)[..., None], total + value, total)
    return total / F32(node["samples"] ** 2)


def _taps(node: Node, low: np.float32, high: np.float32, size: int) -> tuple[np.ndarray, ...]:
    """Along one axis of a map, for each cell and sample (size, samples): the place before, the one after, the weight of the
    latter, and whether the sample is in the map."""
    cells, samples = node["size"], node["samples"]
    start = low * F32(node["scale"])
    length = np.maximum(high * F32(node["scale"]) - start, F32(1))  # NaN stays
    cell = length / F32(cells)
    places = start + np.arange(cells, dtype=np.float32)[:, None] * cell  # (cells, 1)
    places = places + (np.arange(samples, dtype=np.float32) + F32(0.5)) * cell / F32(samples)  # (cells, samples)
    inside = (places >= -1) & (places <= F32(size))
    places = np.where(inside & (places >= 0), places, F32(0))
    before = np.minimum(places.astype(np.int64), size - 1)
    after = np.minimum(before + 1, size - 1)
    weight = np.where(before == size - 1, F32(0), places - before.astype(np.float32))
    return before, after, weight, inside
