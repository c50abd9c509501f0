"""The binary convolution and its case of one pixel in ONNX.

A is Where(x >= threshold, 1, −1), never the operator Sign, whose sign(0) is 0. B stays one bit a weight in the file: a byte of
them picks its eight signs from a table of 256 × 8, by Gather. Then the formula of `onebit.runtime.binary`, with the same roundings:

    y = scale·(A·B + shift·ΣB) + offset·(A·1 + shift·N) + bias

Sums of ±1 are exact in float32, in any order, as long as they remain sums of ±1: runtimes fuse a multiplication behind a
convolution into its weights, after which a sum that is zero no longer is. Round, which leaves integers as they are, keeps the two
apart, and makes integers again of what a runtime computes in another way, such as Winograd's, or in fewer bits.

The sums over the taps inside the image, ΣB and N, are convolutions of a map of ones: constants, which runtimes compute at load.

For QONNX, A and B are BipolarQuant (+1 where x >= 0) of x − threshold and of float weights, ΣB and N stand in the file, and
nothing is rounded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from onnx import TensorProto

from onebit.export import borders
from onebit.export.onnx.drawing import QONNX, Drawing, Value
from onebit.export.onnx.layers import window
from onebit.runtime.binary import CHANNEL, SAMPLE_MEAN
from onebit.runtime.bits import unpack, unpack_weight
from onebit.runtime.graph import Node
from onebit.runtime.tensors import Arrays


def level(draw: Drawing, node: Node, arrays: Arrays, x: Value) -> str:
    """What x is compared with."""
    if node["threshold"] == CHANNEL:
        return draw.tensor("threshold", x.beside(arrays["threshold"]))
    if node["threshold"] == SAMPLE_MEAN:  # in double, rounded
        axes = draw.constant(range(1, 1 + len(x.shape)), np.int64)
        return draw.cast(draw.add("ReduceMean", draw.cast(x, TensorProto.DOUBLE), axes, keepdims=1))
    return draw.constant(node["threshold"])


def activation(draw: Drawing, node: Node, arrays: Arrays, x: Value) -> str:
    """A, of x's shape."""
    return signs_at(draw, x, level(draw, node, arrays, x))


def signs_at(draw: Drawing, x: Value, threshold: str) -> str:
    """+1 where x >= threshold, else −1. (x − threshold is 0 only where both are equal: float32 has subnormal numbers for that.)"""
    one = draw.constant(1)
    if not draw.bipolar:
        return draw.add("Where", draw.add("GreaterOrEqual", x, threshold), one, draw.constant(-1))
    zero = threshold == draw.constant(0)
    return draw.add("BipolarQuant", x if zero else draw.add("Sub", x, threshold), one, domain=QONNX)


def weight(draw: Drawing, bits: np.ndarray, own: int, kernel: tuple[int, int] | None) -> str:
    """B of bits (O, bytes): (O, I/g, KH, KW), or (O, I) where there is no kernel."""
    if draw.bipolar:
        found = unpack(bits, own) if kernel is None else unpack_weight(bits, own, kernel)
        return draw.add("BipolarQuant", draw.tensor("weight", found.astype(np.float32)), draw.constant(1), domain=QONNX)
    out, count = len(bits), own * int(np.prod(kernel or 1))
    signs = signs_of_bytes(draw, draw.tensor("bits", bits))  # (O, bytes, 8)
    if count % 8:
        flat = draw.reshape(signs, out, -1)  # (O, 8·bytes)
        limits = (draw.constant([number], np.int64) for number in (0, count, 1))  # start, end, axis
        signs = draw.add("Slice", flat, *limits)  # (O, count)
    if kernel is None:
        return draw.reshape(signs, out, own)
    if kernel == (1, 1):
        return draw.reshape(signs, out, own, 1, 1)
    return draw.add("Transpose", draw.reshape(signs, out, *kernel, own), perm=[0, 3, 1, 2])  # (O, I/g, KH, KW)


def signs_of_bytes(draw: Drawing, bits: str) -> str:
    """The eight signs of each byte: uint8 (...) -> float32 (..., 8)."""
    indices = draw.cast(bits, TensorProto.INT32)
    return draw.add("Gather", draw.once("signs", lambda: _table(draw)), indices)


def _table(draw: Drawing) -> str:
    """The eight signs of every byte, the lowest bit first: float32 (256, 8)."""
    signs = unpack(np.arange(256, dtype=np.uint8)[:, None], 8)  # int8 (256, 8)
    return draw.cast(draw.tensor("signs_of_bytes", signs))


def exact(draw: Drawing, sums: str) -> str:
    """Integers as they are, out of reach of fusions."""
    return sums if draw.bipolar else draw.add("Round", sums)


def shifted(draw: Drawing, node: Node, sums: str, inside: Callable[[], str | np.ndarray]) -> str:
    """sums + shift·inside. The product is rounded once, from float64 if the shift is no float32."""
    shift = node["shift"]
    if not shift:
        return sums
    factor = inside()
    if isinstance(factor, np.ndarray):
        product = draw.tensor("shift", (shift * factor.astype(np.float64)).astype(np.float32))
    elif float(np.float32(shift)) == shift:
        product = draw.add("Mul", factor, draw.constant(shift))
    else:
        wide = draw.cast(factor, TensorProto.DOUBLE)
        product = draw.cast(draw.add("Mul", wide, draw.constant(shift, np.float64)))
    return draw.add("Add", sums, product)


def output(draw: Drawing, channels: list[np.ndarray], u: str, v: Callable[[], str]) -> str:
    """(scale·u + offset·v) + bias, of the rows scale, bias and, if there is a third, offset."""
    y = draw.add("Mul", u, draw.tensor("scale", channels[0]))
    if len(channels) == 3:
        y = draw.add("Add", y, draw.add("Mul", v(), draw.tensor("offset", channels[2])))
    return draw.add("Add", y, draw.tensor("bias", channels[1]))


def binary_conv(draw: Drawing, node: Node, arrays: Arrays, x: Value) -> str:
    (height, width, inputs), kernel, groups = x.shape, node["kernel"], node["groups"]
    out, own = len(arrays["bits"]), inputs // groups
    a, b = activation(draw, node, arrays, x), weight(draw, arrays["bits"], own, kernel)
    settings = window(node, kernel)
    single: dict[str, Any] = {**settings, "group": 1}

    def ones(*shape: int) -> str:
        def make() -> str:
            return draw.add("Expand", draw.constant(np.ones([1] * len(shape))), draw.constant(shape, np.int64))

        return draw.once(("ones", shape), make)

    def inside(taps: str) -> str:
        """Σ of the taps (O, 1, KH, KW) inside the image: (1, O, OH, OW)."""
        return exact(draw, draw.add("Conv", ones(1, 1, height, width), taps, **single))

    def sum_b() -> str | np.ndarray:
        if draw.bipolar:
            return borders.sums(node, (height, width), unpack_weight(arrays["bits"], own, kernel))
        return inside(draw.add("ReduceSum", b, draw.constant([1], np.int64), keepdims=1))

    def sum_a() -> str:
        """A·1 + shift·N: (B, O, OH, OW), or of one channel if there is one group."""
        if groups == 1:
            maps = draw.add("ReduceSum", a, draw.constant([1], np.int64), keepdims=1)  # (B, 1, H, W)
        else:
            rows = draw.reshape(a, 0, groups, own, height * width)  # (B, G, I/g, H·W)
            totals = draw.add("ReduceSum", rows, draw.constant([2], np.int64), keepdims=0)  # (B, G, H·W)
            maps = draw.reshape(totals, 0, groups, height, width)  # (B, G, H, W)
        sums = exact(draw, draw.add("Conv", maps, ones(groups, 1, *kernel), **settings))  # (B, G, OH, OW)
        if 1 < groups < out:
            order = np.repeat(np.arange(groups), out // groups)  # (O)
            sums = draw.add("Gather", sums, draw.constant(order, np.int64), axis=1)  # (B, O, OH, OW)

        def count() -> str | np.ndarray:
            if draw.bipolar:
                return borders.sums(node, (height, width), np.ones((1, own, *kernel)))
            return draw.add("Mul", inside(ones(1, 1, *kernel)), draw.constant(own))  # (1, 1, OH, OW)

        return shifted(draw, node, sums, count)

    u = shifted(draw, node, exact(draw, draw.add("Conv", a, b, **settings)), sum_b)
    return output(draw, [row.reshape(-1, 1, 1) for row in arrays["channels"]], u, sum_a)


def binary_linear(draw: Drawing, node: Node, arrays: Arrays, x: Value) -> str:
    inputs = x.shape[0]
    a, b = activation(draw, node, arrays, x), weight(draw, arrays["bits"], inputs, None)  # (B, I), (O, I)
    along = draw.constant([1], np.int64)

    def sum_b() -> str | np.ndarray:
        if draw.bipolar:
            return unpack(arrays["bits"], inputs).sum(1)
        return draw.add("ReduceSum", b, along, keepdims=0)  # (O)

    def sum_a() -> str:
        sums = draw.add("ReduceSum", a, along, keepdims=1)  # (B, 1)
        return shifted(draw, node, sums, lambda: draw.constant([inputs]))

    u = shifted(draw, node, exact(draw, draw.add("Gemm", a, b, transB=1)), sum_b)  # (B, O)
    return output(draw, list(arrays["channels"]), u, sum_a)


BINARY: dict[str, Callable[..., str]] = {"binary_conv": binary_conv, "binary_linear": binary_linear}
