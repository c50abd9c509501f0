"""The transposed convolution, as the convolution of a map with zeros put between its pixels."""

from __future__ import annotations

from typing import Any

import numpy as np

from onebit.errors import FormatError
from onebit.runtime.convolutions import conv_weight_shape, fma
from onebit.runtime.fields import MAX_SIZE, pair
from onebit.runtime.graph import Attribute, Node
from onebit.runtime.tensors import Arrays, Shape, Tensors, float_weight
from onebit.runtime.windows import CONV

TRANSPOSED_CONV = {**CONV, "output_padding": Attribute(pair(0, MAX_SIZE), (0, 0))}


def transposed_conv_shape(node: Node, inputs: list[Shape], tensors: Tensors) -> Shape:
    out, kernel = conv_weight_shape(node, inputs[0], tensors)
    extra, stride, dilation = node["output_padding"], node["stride"], node["dilation"]
    if any(more >= max(step, apart) for more, step, apart in zip(extra, stride, dilation)):
        raise FormatError(
            f"node {node.name!r}: output_padding {extra} must be less than stride {stride} or dilation {dilation}"
        )
    height, width = sizes(node, inputs[0], kernel)
    return height, width, out


def sizes(node: Node, shape: Shape, kernel: tuple[int, ...]) -> tuple[int, int]:
    """(OH, OW), as PyTorch's ConvTranspose2d."""
    axes: Any = zip(shape[:2], kernel, *(node[key] for key in ("stride", "padding", "dilation", "output_padding")))
    height, width = (
        (size - 1) * stride - 2 * padding + dilation * (taps - 1) + extra + 1
        for size, taps, stride, padding, dilation, extra in axes
    )
    return height, width


def transposed_conv(node: Node, tensors: Arrays, x: np.ndarray) -> np.ndarray:
    """Σ over the taps that meet a pixel, or lie outside the map and see 0; (B, H, W, I) -> (B, OH, OW, O).

    With stride - 1 zeros between its pixels and dilation·(K - 1) - padding of them before it, the map is convolved with
    stride 1: the tap k of output y is at y + k·dilation - (dilation·(K - 1) - padding), which is a pixel if it is a
    multiple of the stride, that many strides from the first.
    """
    weight = float_weight(tensors["weight"], tensors.get("weight_scale"))  # (O, I/g, KH, KW)
    out, own, *kernel = weight.shape
    groups = node["groups"]
    weight = weight.reshape(groups, out // groups, own, *kernel)  # (G, O/g, I/g, KH, KW)
    batch, height, width = x.shape[:3]
    x = x.reshape(batch, height, width, groups, own)  # (B, H, W, G, I/g)
    x = np.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0), (0, 0)))  # what lies outside
    bias = tensors.get("bias", np.zeros(out, np.float32)).reshape(groups, -1)  # (G, O/g)
    rows, columns = sizes(node, (height, width), (kernel[0], kernel[1]))
    y = np.broadcast_to(bias, (batch, rows, columns, *bias.shape)).copy()  # (B, OH, OW, G, O/g)
    for kh in range(kernel[0]):
        down, of_rows = _met(node, 0, kh, kernel[0], height, rows)
        for kw in range(kernel[1]):
            across, of_columns = _met(node, 1, kw, kernel[1], width, columns)
            pixel = x[:, of_rows][:, :, of_columns]  # (B, OH / stride, OW / stride, G, I/g)
            for c in range(own):
                sums = y[:, down, across]
                y[:, down, across] = fma(pixel[..., c, None], weight[:, :, c, kh, kw], sums)
    return y.reshape(batch, rows, columns, out)  # (B, OH, OW, O)


def _met(node: Node, axis: int, tap: int, taps: int, size: int, out: int) -> tuple[slice, np.ndarray]:
    """The outputs whose tap meets a pixel or lies outside, and which pixel: `size` if outside."""
    stride, padding, dilation = (node[key][axis] for key in ("stride", "padding", "dilation"))
    shift = tap * dilation - (dilation * (taps - 1) - padding)
    met = slice(-shift % stride, None, stride)
    pixel = (np.arange(out)[met] + shift) // stride
    return met, np.where((pixel >= 0) & (pixel < size), pixel, size)
