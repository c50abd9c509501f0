"""Windows that move over a map, of convolutions and pools: how many fit, and what each of their taps sees."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from onebit.runtime.fields import MAX_SIZE, integer, pair
from onebit.runtime.graph import Attribute, Node
from onebit.runtime.tensors import Shape

Pair = tuple[int, int]
Tap = tuple[int, int, np.ndarray]
SIZES = pair(1, MAX_SIZE)
PADDING = Attribute(pair(0, MAX_SIZE), (0, 0))
CONV = {  # attributes of a convolution
    "stride": Attribute(SIZES, (1, 1)),
    "padding": PADDING,
    "dilation": Attribute(SIZES, (1, 1)),
    "groups": Attribute(integer(1, MAX_SIZE), 1),
}


def window_size(size: int, kernel: int, stride: int, padding: int, dilation: int = 1) -> int:
    """Output size of a convolution along one axis; 0 or less if the kernel does not fit."""
    return (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1


def pool_size(size: int, kernel: int, stride: int, padding: int, ceil_mode: bool) -> int:
    """Output size of a pooling along one axis, as PyTorch: with ceil_mode the last window must start inside."""
    span = size + 2 * padding - kernel
    if span < 0:
        return 0
    out = (span + stride - 1 if ceil_mode else span) // stride + 1
    return out - 1 if ceil_mode and (out - 1) * stride >= size + padding else out


def convolved(node: Node, shape: Shape, kernel: tuple[int, ...]) -> Pair:
    """(OH, OW) of a convolution of a map (H, W, C)."""
    settings: Any = zip(shape[:2], kernel, node["stride"], node["padding"], node["dilation"])
    rows, columns = (window_size(*of_axis) for of_axis in settings)
    return rows, columns


def pooled(node: Node, shape: Shape) -> Pair:
    """(OH, OW) of a pooling of a map (H, W, C)."""
    settings: Any = zip(shape[:2], node["kernel"], node["stride"], node["padding"], (node["ceil_mode"],) * 2)
    rows, columns = (pool_size(*of_axis) for of_axis in settings)
    return rows, columns


def taps(
    x: np.ndarray, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair, out: Pair, fill: float
) -> Iterator[Tap]:
    """For each tap (kh, kw) the pixel it sees at every output position: (B, OH, OW, C)."""
    (ph, pw), (sh, sw) = padding, stride
    # Windows of a pooling in ceil mode may reach past the padding, by less than a stride.
    padded = np.pad(x, ((0, 0), (ph, ph + sh), (pw, pw + sw), (0, 0)), constant_values=fill)
    for kh in range(kernel[0]):
        for kw in range(kernel[1]):
            top, left = kh * dilation[0], kw * dilation[1]
            yield kh, kw, padded[:, top : top + sh * out[0] : sh, left : left + sw * out[1] : sw][:, : out[0], : out[1]]


def conv_taps(node: Node, x: np.ndarray, kernel: Pair) -> Iterator[Tap]:
    """The taps of a convolution; padded ones see 0."""
    out = convolved(node, x.shape[1:], kernel)
    return taps(x, kernel, node["stride"], node["padding"], node["dilation"], out, 0)
