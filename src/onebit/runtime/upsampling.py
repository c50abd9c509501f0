"""Maps enlarged by whole factors."""

from __future__ import annotations

import numpy as np

from onebit.errors import FormatError
from onebit.runtime.fields import boolean, word
from onebit.runtime.graph import Attribute, Node
from onebit.runtime.tensors import Arrays, Shape, Tensors, map_of
from onebit.runtime.windows import SIZES

UPSAMPLE = {
    "scale": Attribute(SIZES),
    "mode": Attribute(word("nearest", "bilinear")),
    "align_corners": Attribute(boolean, False),
}


def upsample_shape(node: Node, inputs: list[Shape], tensors: Tensors) -> Shape:
    height, width, channels = map_of(node, inputs[0])
    if node["mode"] == "nearest" and node["align_corners"]:
        raise FormatError(f"node {node.name!r} (upsample): align_corners is for the mode bilinear; leave it out")
    vertical, horizontal = node["scale"]
    return height * vertical, width * horizontal, channels


def upsample(node: Node, tensors: Arrays, x: np.ndarray) -> np.ndarray:
    """The nearest pixel, or of each axis the weighted mean of the two on both sides, in a row first."""
    vertical, horizontal = node["scale"]
    if node["mode"] == "nearest":
        return x.repeat(vertical, 1).repeat(horizontal, 2)
    top, bottom, down = _between(x.shape[1], vertical, node["align_corners"])
    left, right, across = _between(x.shape[2], horizontal, node["align_corners"])

    def row(rows: np.ndarray) -> np.ndarray:
        return _mixed(rows[:, :, left], rows[:, :, right], across[:, None])

    return _mixed(row(x[:, top]), row(x[:, bottom]), down[:, None, None])


def _mixed(x: np.ndarray, y: np.ndarray, part: np.ndarray) -> np.ndarray:
    return (np.float32(1) - part) * x + part * y


def _between(size: int, scale: int, align_corners: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each output position the two of the input beside it, and how far it lies from the first to the second.

    Positions are (out + 1/2) / scale - 1/2, not less than 0, or out·(size - 1) / (size·scale - 1) with align_corners: a
    quotient of integers n / d each. Its whole part is the first position, (n mod d) / d the rest.
    """
    out = np.arange(size * scale, dtype=np.int64)
    if align_corners:
        numerator, denominator = out * (size - 1), max(size * scale - 1, 1)
    else:
        numerator, denominator = np.maximum(2 * out + 1 - scale, 0), 2 * scale
    first = numerator // denominator
    rest = (numerator % denominator / denominator).astype(np.float32)  # from float64
    return first, np.minimum(first + 1, size - 1), rest
