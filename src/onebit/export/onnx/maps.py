"""Pools and operators that move values, in ONNX: maps are (B, C, H, W) there, vectors (B, C)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from onebit.export.onnx.drawing import Drawing, Value
from onebit.runtime.graph import Node
from onebit.runtime.tensors import Arrays
from onebit.runtime.windows import pooled

AXES = {"channels": 1, "height": 2, "width": 3}
MODES = {"zeros": "constant", "reflect": "reflect", "replicate": "edge"}  # of Pad


def pool(draw: Drawing, op: str, node: Node, x: Value | str, size: Value, padding: Any, **more: Any) -> str:
    """A pool of an x that has the size of `size` without `padding`.

    ONNX's own ceil_mode has let windows start in the padding, so the padding behind is given such that the windows are those
    of the file: of each axis, what the last one needs.
    """
    pads = list(zip(pooled(node, size.shape), node["kernel"], node["stride"], node["padding"], size.shape))
    needed = [(out - 1) * stride + kernel - (length + pad) for out, kernel, stride, pad, length in pads]
    after = [max(pad, last) for pad, last in zip(node["padding"], needed)] if node["ceil_mode"] else node["padding"]
    whole = [*padding, *(end - (pad - own) for end, pad, own in zip(after, node["padding"], padding))]
    return draw.add(
        op, x, kernel_shape=list(node["kernel"]), strides=list(node["stride"]), pads=whole, ceil_mode=0, **more
    )


def max_pool(draw: Drawing, node: Node, arrays: Arrays, x: Value) -> str:
    return pool(draw, "MaxPool", node, x, x, node["padding"])


def avg_pool(draw: Drawing, node: Node, arrays: Arrays, x: Value) -> str:
    """With count_include_pad the padding becomes part of the image: what windows of ceil_mode reach behind it still does not
    count."""
    if not node["count_include_pad"] or node["padding"] == (0, 0):
        return pool(draw, "AveragePool", node, x, x, node["padding"], count_include_pad=0)
    return pool(draw, "AveragePool", node, padded(draw, x, [*node["padding"] * 2]), x, (0, 0), count_include_pad=0)


def global_avg_pool(draw: Drawing, node: Node, arrays: Arrays, x: Value) -> str:
    return draw.add("Flatten", draw.add("GlobalAveragePool", x), axis=1)  # (B, C, 1, 1) -> (B, C)


def flatten(draw: Drawing, node: Node, arrays: Arrays, x: Value) -> str:
    """Channel fastest: (B, C, H, W) -> (B, H·W·C)."""
    rows = draw.add("Transpose", x, perm=[0, 2, 3, 1]) if x.shape[:2] != (1, 1) else x  # (B, H, W, C)
    return draw.add("Flatten", rows, axis=1)


def padded(draw: Drawing, x: Value | str, pixels: list[int], mode: str = "constant") -> str:
    """[top, left, bottom, right] around a map."""
    top, left, bottom, right = pixels
    pads = draw.constant([0, 0, top, left, 0, 0, bottom, right], np.int64)
    return draw.add("Pad", x, pads, *([draw.constant(0)] if mode == "constant" else []), mode=mode)


def part(draw: Drawing, x: Value | str, axis: int, start: int, stop: int, step: int = 1) -> str:
    return draw.add("Slice", x, *(draw.constant([number], np.int64) for number in (start, stop, axis, step)))


def pad(draw: Drawing, node: Node, arrays: Arrays, x: Value) -> str:
    """Pad has no circular mode before opset 19: what comes in at one side is cut from the other."""
    top, bottom, left, right = node["pixels"]
    if node["mode"] != "circular":
        return padded(draw, x, [top, left, bottom, right], MODES[node["mode"]])
    y: Value | str = x
    for axis, size, before, after in ((2, x.shape[0], top, bottom), (3, x.shape[1], left, right)):
        parts = [part(draw, y, axis, size - before, size)] if before else []
        parts += [y.name if isinstance(y, Value) else y]
        parts += [part(draw, y, axis, 0, after)] if after else []
        y = draw.add("Concat", *parts, axis=axis) if len(parts) > 1 else y
    return y.name if isinstance(y, Value) else y


def option_a(draw: Drawing, node: Node, arrays: Arrays, x: Value) -> str:
    """Every stride-th pixel, with zero channels before and after."""
    (height, width, _), stride, (before, after) = x.shape, node["stride"], node["pad"]
    y: Value | str = x
    if stride > 1:
        settings = ([0, 0], [height, width], [2, 3], [stride, stride])  # starts, ends, axes, steps
        y = draw.add("Slice", x, *(draw.constant(numbers, np.int64) for numbers in settings))
    pads = draw.constant([0, before, 0, 0, 0, after, 0, 0], np.int64)
    return draw.add("Pad", y, pads, draw.constant(0), mode="constant")


def concat(draw: Drawing, node: Node, arrays: Arrays, *inputs: Value) -> str:
    return draw.add("Concat", *inputs, axis=AXES[node["axis"]])


def slice_(draw: Drawing, node: Node, arrays: Arrays, x: Value) -> str:
    return part(draw, x, AXES[node["axis"]], node["start"], node["stop"], node["step"])


def channel_shuffle(draw: Drawing, node: Node, arrays: Arrays, x: Value) -> str:
    """y[j·G + g] = x[g·(C/G) + j]"""
    order = np.arange(x.shape[-1]).reshape(node["groups"], -1).T.ravel()  # (G, C/G) -> (C/G, G) -> (C)
    return draw.add("Gather", x, draw.constant(order, np.int64), axis=1)


def to_sequence(draw: Drawing, node: Node, arrays: Arrays, x: Value) -> str:
    """(B, C, H, W) -> (B, C / parts, H·W·parts, 1), row by row, of each pixel its parts."""
    if (parts := node["parts"]) == 1:
        return draw.reshape(x, 0, 0, -1, 1)
    split = draw.reshape(x, 0, parts, x.shape[-1] // parts, -1)  # (B, parts, K, H·W)
    return draw.reshape(draw.add("Transpose", split, perm=[0, 2, 3, 1]), 0, 0, -1, 1)  # of (B, K, H·W, parts)


def upsample(draw: Drawing, node: Node, arrays: Arrays, x: Value) -> str:
    scales = draw.constant([1, 1, *node["scale"]])
    if node["mode"] == "nearest":
        settings = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        return draw.add("Resize", x, "", scales, mode="nearest", **settings)
    corners = "align_corners" if node["align_corners"] else "half_pixel"
    return draw.add("Resize", x, "", scales, mode="linear", coordinate_transformation_mode=corners)


MAPS: dict[str, Callable[..., str]] = {
    "concat": concat,
    "slice": slice_,
    "channel_shuffle": channel_shuffle,
    "to_sequence": to_sequence,
    "pad": pad,
    "upsample": upsample,
    "max_pool": max_pool,
    "avg_pool": avg_pool,
    "global_avg_pool": global_avg_pool,
    "flatten": flatten,
    "option_a": option_a,
}
