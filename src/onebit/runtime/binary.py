"""The binary convolution and its case of one pixel, binary_linear.

With A = sign(x − τ) and B the weight signs, both ±1, a padded tap contributes 0, so
  1. every sum below runs over the valid taps of the window, the ones that lie inside the image;
  2. conv(A, B + shift)  = A·B + shift·A·1, where shift is the activation's offset relative to its scale: for
     activations s·(A + shift), conv(s·(A + shift), B) = s·(A·B + shift·ΣB);
  3. a weight offset adds offset·conv(A + shift, 1) = offset·(A·1 + shift·N), N = number of valid products;
  4. together  y = scale·(A·B + shift·ΣB) + offset·(A·1 + shift·N) + bias,
     evaluated as (scale·u + offset·v) + bias with u, v rounded to float32.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from onebit.errors import FormatError
from onebit.runtime.bits import bytes_for, unpack, unpack_weight
from onebit.runtime.convolutions import group_channels
from onebit.runtime.fields import MAX_CHANNELS, integer, number
from onebit.runtime.graph import Attribute, Node
from onebit.runtime.tensors import Arrays, Shape, Tensors, map_of, vector_of
from onebit.runtime.windows import CONV, SIZES, conv_taps, convolved

MAX_PRODUCTS = 2**24  # ±1 products in one dot product: float32 counts exactly up to here
SAMPLE_MEAN = "sample_mean"
CHANNEL = "channel"
Sums = tuple[np.ndarray, np.ndarray]  # (int32 A·B, float32 y)


def _threshold(value: Any, where: str) -> float | str:
    if isinstance(value, str):
        if value not in (SAMPLE_MEAN, CHANNEL):
            raise FormatError(f'{where} must be a number, "{SAMPLE_MEAN}" or "{CHANNEL}", got {value[:40]!r}')
        return value
    return float(np.float32(number(value, where)))


LINEAR = {"shift": Attribute(number, 0.0), "threshold": Attribute(_threshold, 0.0)}
CONVOLUTION = {
    "kernel": Attribute(SIZES),
    "in_channels": Attribute(integer(1, MAX_CHANNELS)),
    **CONV,
    **LINEAR,
}


def products(node: Node, channels: int) -> int:
    """±1 products of one output of a binary node whose input has `channels` channels: the weights of one filter."""
    return math.prod(node["kernel"]) * (channels // node["groups"]) if node.op == "binary_conv" else channels


def _tensors(node: Node, products: int, channels: int, tensors: Tensors) -> int:
    """Checks what binary_conv and binary_linear share; returns the number of output channels."""
    if products > MAX_PRODUCTS:
        raise FormatError(f"node {node.name!r}: {products} products per output, at most {MAX_PRODUCTS} are supported")
    out, _ = tensors.expect(node, "bits", "U8", None, bytes_for(products))
    rows, _ = tensors.expect(node, "channels", "F32", None, out)
    if rows not in (2, 3):
        raise FormatError(f"tensor {node.name}.channels must have 2 rows (scale, bias) or 3 (+ offset), got {rows}")
    if node["threshold"] == CHANNEL:
        tensors.expect(node, "threshold", "F32", channels)
    return out


def conv_shape(node: Node, inputs: list[Shape], tensors: Tensors) -> Shape:
    shape = map_of(node, inputs[0])
    channels, kernel = node["in_channels"], node["kernel"]
    if channels != shape[2]:
        raise FormatError(f"node {node.name!r}: in_channels is {channels}, the map has {shape[2]}")
    count = kernel[0] * kernel[1] * group_channels(node, channels, channels)
    out = _tensors(node, count, channels, tensors)
    group_channels(node, channels, out)
    return *convolved(node, shape, kernel), out


def linear_shape(node: Node, inputs: list[Shape], tensors: Tensors) -> Shape:
    channels = vector_of(node, inputs[0])
    return (_tensors(node, channels, channels, tensors),)


def sample_mean(x: np.ndarray) -> np.ndarray:
    """Mean of each sample in double, rounded to float32: per channel over the pixels in order, then over channels."""
    flat = x.reshape(len(x), -1, x.shape[-1]).astype(np.float64)  # (B, H·W, C)
    per_channel = np.cumsum(flat, axis=1)[:, -1]  # (B, C); cumsum fixes the order of the additions
    mean = np.cumsum(per_channel, axis=1)[:, -1] / (flat.shape[1] * flat.shape[2])  # (B)
    return mean.astype(np.float32).reshape(-1, *[1] * (x.ndim - 1))


def _signs(node: Node, tensors: Arrays, x: np.ndarray) -> np.ndarray:
    """A = +1 where x >= threshold, else −1, as float64 (sums of it are exact)."""
    threshold = node["threshold"]
    if threshold == SAMPLE_MEAN:
        level = sample_mean(x)
    elif threshold == CHANNEL:
        level = tensors["threshold"]  # (C)
    else:
        level = np.array(threshold, np.float32)
    return np.where(x >= level, 1.0, -1.0)


def _output(node: Node, tensors: Arrays, ab: np.ndarray, a1: np.ndarray, sum_b: np.ndarray, n: np.ndarray) -> Sums:
    """Step 4 above: accumulators A·B (…, O), A·1 (…, O), ΣB (…, O) and N (…, 1) -> (int32 A·B, y)."""
    channels, shift = tensors["channels"], node["shift"]  # (2 or 3, O)
    u = ab.astype(np.float32) + (shift * sum_b).astype(np.float32)
    y = channels[0] * u
    if len(channels) == 3:
        y = y + channels[2] * (a1.astype(np.float32) + (shift * n).astype(np.float32))
    return ab.astype(np.int32), y + channels[1]


def conv(node: Node, tensors: Arrays, x: np.ndarray) -> Sums:
    """(B, H, W, I) -> int32 accumulators and float32 outputs, both (B, OH, OW, O)."""
    groups, kernel = node["groups"], node["kernel"]
    own = x.shape[-1] // groups
    signs = unpack_weight(tensors["bits"], own, kernel).astype(np.float64)  # (O, I/g, KH, KW)
    out = len(signs)
    signs = signs.reshape(groups, out // groups, own, *kernel)  # (G, O/g, I/g, KH, KW)
    ab = a1 = sum_b = n = np.zeros(1)
    activations = _signs(node, tensors, x)
    inside = conv_taps(node, np.ones_like(activations), kernel)  # 1 for a valid tap, 0 for a padded one
    for (kh, kw, a), (_, _, valid) in zip(conv_taps(node, activations, kernel), inside):
        a = a.reshape(*a.shape[:3], groups, own)  # (B, OH, OW, G, I/g)
        b = signs[:, :, :, kh, kw]  # (G, O/g, I/g)
        ab = ab + np.einsum("bhwgi,goi->bhwgo", a, b)
        a1 = a1 + a.sum(axis=-1, keepdims=True)  # (B, OH, OW, G, 1)
        sum_b = sum_b + valid[..., :1, None] * b.sum(axis=-1)  # (B, OH, OW, G, O/g)
        n = n + valid[..., :1] * own  # (B, OH, OW, 1)
    whole = ab.shape
    flat = (*whole[:3], out)
    a1 = np.broadcast_to(a1, whole)
    return _output(node, tensors, ab.reshape(flat), a1.reshape(flat), sum_b.reshape(flat), n)


def linear(node: Node, tensors: Arrays, x: np.ndarray) -> Sums:
    """(B, I) -> int32 accumulators and float32 outputs, both (B, O)."""
    signs = unpack(tensors["bits"], x.shape[1]).astype(np.float64)  # (O, I)
    a = _signs(node, tensors, x)
    n = np.full((1, 1), float(x.shape[1]))
    return _output(node, tensors, a @ signs.T, a.sum(axis=1, keepdims=True), signs.sum(axis=1), n)
