"""Convolutions and linear layers of float weights: they start at the bias and take their products in the order
(kh, kw, channel) by fused multiply-add in float32, one rounding each. The engine does the same, so both give the same bits.
"""

from __future__ import annotations

import numpy as np

from onebit.errors import FormatError
from onebit.runtime import code_conv
from onebit.runtime.byte_conv import ByteConv
from onebit.runtime.fields import MAX_CHANNELS, MAX_SIZE
from onebit.runtime.graph import Node
from onebit.runtime.tensors import Arrays, Shape, Tensors, float_weight, map_of, vector_of
from onebit.runtime.windows import conv_taps, convolved


def group_channels(node: Node, channels: int, out: int) -> int:
    """Channels of a group's input. Raises FormatError where groups do not divide inputs and outputs."""
    groups = node["groups"]
    if channels % groups or out % groups:
        raise FormatError(f"node {node.name!r}: groups {groups} must divide {channels} inputs and {out} outputs")
    return channels // groups


def conv_weight_shape(node: Node, shape: Shape, tensors: Tensors) -> tuple[int, tuple[int, int]]:
    """(O, (KH, KW)) of a convolution's weight, which must fit the map; takes the weight and the bias, if there is one."""
    shape = map_of(node, shape)
    out, own, height, width = tensors.expect_weight(node, None, None, None, None)
    if max(height, width) > MAX_SIZE:
        raise FormatError(f"node {node.name!r}: the kernel {[height, width]} is larger than {MAX_SIZE}")
    if own != group_channels(node, shape[2], out):
        raise FormatError(f"node {node.name!r}: weight has {own} input channels, the map has {shape[2]}")
    if tensors.has(node, "bias"):
        tensors.expect(node, "bias", "F32", out)
    return out, (height, width)


def conv_shape(node: Node, inputs: list[Shape], tensors: Tensors) -> Shape:
    out, kernel = conv_weight_shape(node, inputs[0], tensors)
    code_conv.check(node, tensors, inputs[0][-1], node["groups"])
    return *convolved(node, inputs[0], kernel), out


def linear_shape(node: Node, inputs: list[Shape], tensors: Tensors) -> Shape:
    channels = vector_of(node, inputs[0])
    if channels > MAX_CHANNELS:
        raise FormatError(f"node {node.name!r} has {channels} inputs, at most {MAX_CHANNELS} are supported")
    out, _ = tensors.expect_weight(node, None, channels)
    code_conv.check(node, tensors, channels)
    if tensors.has(node, "bias"):
        tensors.expect(node, "bias", "F32", out)
    return (out,)


def fma(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """a·b + c in float32, rounded once.

    A product of two float32 is exact in float64, but its sum with c may be rounded to float64 and then to float32, which
    differs where the first rounding ends half-way between two float32. Rounding the float64 sum to odd avoids that
    (Boldo and Melquiond 2008): where it is inexact and its last bit is 0, it takes the neighbour on the error's side.
    """
    product, addend = np.multiply(a, b, dtype=np.float64), c.astype(np.float64)
    total = product + addend
    back = total - product
    error = (product - (total - back)) + (addend - back)  # exact (Knuth's TwoSum)
    even = (total.view(np.int64) & 1) == 0
    odd = np.nextafter(total, np.where(error > 0, np.inf, -np.inf))
    return np.where((error != 0) & even, odd, total).astype(np.float32)


def conv(node: Node, tensors: Arrays, x: np.ndarray) -> np.ndarray:
    """y[o] = Σ_{kh, kw, c} x·w[o] (+ bias[o]) with zero padding; (B, H, W, I) -> (B, OH, OW, O)."""
    if node["activations"] == code_conv.INT8:
        return conv_of_codes(node, tensors, x)
    weight = float_weight(tensors["weight"], tensors.get("weight_scale"))  # (O, I/g, KH, KW)
    out, own, *kernel = weight.shape
    groups = node["groups"]
    weight = weight.reshape(groups, out // groups, own, *kernel)  # (G, O/g, I/g, KH, KW)
    y: np.ndarray = tensors.get("bias", np.zeros(out, np.float32)).reshape(groups, -1)  # (G, O/g)
    for kh, kw, pixel in conv_taps(node, x, (kernel[0], kernel[1])):
        pixel = pixel.reshape(*pixel.shape[:3], groups, own)  # (B, OH, OW, G, I/g)
        for c in range(own):
            y = fma(pixel[..., c, None], weight[:, :, c, kh, kw], y)  # (B, OH, OW, G, O/g)
    return y.reshape(*y.shape[:3], out)  # (B, OH, OW, O)


def conv_of_bytes(node: Node, form: ByteConv, x: np.ndarray) -> np.ndarray:
    """The formula of `byte_conv`; uint8 (B, H, W, I) -> float32 (B, OH, OW, O)."""
    out, channels, height, width = form.weight.shape
    kernel = (height, width)
    sums: np.ndarray = np.zeros((channels, out), np.int64)
    inside: np.ndarray = sums
    taps = conv_taps(node, x.astype(np.int64), kernel)
    valid = conv_taps(node, np.ones(x[:1].shape, np.int64), kernel)
    for (kh, kw, pixel), (_, _, one) in zip(taps, valid):
        weight = form.weight[:, :, kh, kw].T.astype(np.int64)  # (I, O)
        sums = sums + pixel[..., None] * weight  # (B, OH, OW, I, O)
        inside = inside + one[..., None] * weight  # (1, OH, OW, I, O)
    base = form.bias
    for c in range(channels):
        base = base - form.b[c] * inside[..., c, :].astype(np.float64)  # (1, OH, OW, O)
    y: np.ndarray = base.astype(np.float32)
    for c in range(channels):
        y = fma(form.a[c], sums[..., c, :].astype(np.float32), y)  # (B, OH, OW, O)
    return y


def conv_of_codes(node: Node, tensors: Arrays, x: np.ndarray) -> np.ndarray:
    """The formula of `code_conv`; (B, H, W, I) -> (B, OH, OW, O)."""
    weight, scale, bias = code_conv.weights(tensors)  # (O, I, KH, KW)
    kernel = (weight.shape[2], weight.shape[3])
    codes, scales = code_conv.quantized(x)
    taps = zip(conv_taps(node, codes, kernel), conv_taps(node, scales, kernel))
    total: np.ndarray = np.zeros(1, np.float32)
    for (kh, kw, pixel), (_, _, own) in taps:  # padded ones see 0
        sums = (pixel @ weight[:, :, kh, kw].T).astype(np.float32)  # (B, OH, OW, O)
        total = fma(own, sums, total)
    return fma(scale, total, bias)


def linear(node: Node, tensors: Arrays, x: np.ndarray) -> np.ndarray:
    """y[o] = Σ_i x[i]·w[o, i] (+ bias[o]); (B, I) -> (B, O)."""
    if node["activations"] == code_conv.INT8:
        codes, scale, bias = code_conv.weights(tensors)  # (O, I)
        values, own = code_conv.quantized(x)  # (B, I), (B, 1)
        sums = (values @ codes.T).astype(np.float32)  # (B, O)
        return fma(scale, fma(own, sums, np.zeros(1, np.float32)), bias)
    weight = float_weight(tensors["weight"], tensors.get("weight_scale"))  # (O, I)
    y: np.ndarray = tensors.get("bias", np.zeros(len(weight), np.float32))
    for i in range(weight.shape[1]):
        y = fma(x[:, i, None], weight[:, i], y)  # (B, O)
    return y
