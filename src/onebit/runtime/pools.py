"""Pools: the largest value or the mean of a window, and the mean of a whole map."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from onebit.errors import FormatError
from onebit.runtime.fields import boolean
from onebit.runtime.graph import Attribute, Node
from onebit.runtime.tensors import Arrays, Shape, Tensors, map_of
from onebit.runtime.windows import PADDING, SIZES, Tap, pooled, taps

MAX_POOL = {
    "kernel": Attribute(SIZES),
    "stride": Attribute(SIZES),  # required: PyTorch's default is the kernel, the convolutions' is 1
    "padding": PADDING,
    "ceil_mode": Attribute(boolean, False),
}
AVG_POOL = {**MAX_POOL, "count_include_pad": Attribute(boolean, True)}


def pool_shape(node: Node, inputs: list[Shape], tensors: Tensors) -> Shape:
    shape = map_of(node, inputs[0])
    kernel, padding = node["kernel"], node["padding"]
    if any(2 * pad > size for pad, size in zip(padding, kernel)):
        raise FormatError(f"node {node.name!r}: padding {padding} must be at most half of the kernel {kernel}")
    return *pooled(node, shape), shape[2]


def _taps(node: Node, x: np.ndarray, fill: float) -> Iterator[Tap]:
    return taps(x, node["kernel"], node["stride"], node["padding"], (1, 1), pooled(node, x.shape[1:]), fill)


def max_pool(node: Node, tensors: Arrays, x: np.ndarray) -> np.ndarray:
    """Maximum over the pixels of the window that lie inside the image."""
    y: np.ndarray = np.full(1, -np.inf, np.float32)
    for _, _, pixel in _taps(node, x, -np.inf):
        y = np.maximum(y, pixel)
    return y


def avg_pool(node: Node, tensors: Arrays, x: np.ndarray) -> np.ndarray:
    """Sum over the window / number of its pixels: inside the image, or inside image and padding (count_include_pad)."""
    total = count = np.zeros(1, np.float32)
    counted = np.ones_like(x[:1, :, :, :1])
    padding = node["padding"]
    if node["count_include_pad"]:
        counted = np.pad(counted, ((0, 0), (padding[0],) * 2, (padding[1],) * 2, (0, 0)), constant_values=1)
        padding = (0, 0)
    counts = taps(counted, node["kernel"], node["stride"], padding, (1, 1), pooled(node, x.shape[1:]), 0)
    for (_, _, pixel), (_, _, one) in zip(_taps(node, x, 0), counts):
        total = total + pixel
        count = count + one
    return total / count


def global_avg_pool(node: Node, tensors: Arrays, x: np.ndarray) -> np.ndarray:
    """Mean over the pixels, in double, the first added to 0 (so that of −0 it is +0): (B, H, W, C) -> (B, C)."""
    flat = x.reshape(len(x), -1, x.shape[-1]).astype(np.float64)  # (B, H·W, C)
    return ((0.0 + np.cumsum(flat, axis=1)[:, -1]) / flat.shape[1]).astype(np.float32)
