"""Elementwise operators, softmax and norms in ONNX. Where the file's formula is exact, the same operations stand in the same
order, one rounding each: ONNX's HardSigmoid and HardSwish multiply by a rounded 1/6 instead.
"""

from __future__ import annotations

from collections.abc import Callable
from math import pi, sqrt

import numpy as np

from onebit.export.onnx.drawing import Drawing, Value
from onebit.runtime.graph import Node
from onebit.runtime.normalization import SMALLEST_NORM
from onebit.runtime.tensors import Arrays


def clipped(draw: Drawing, x: Value | str, low: float, high: float) -> str:
    return draw.add("Clip", x, draw.constant(low), draw.constant(high))


def hardsigmoid(draw: Drawing, node: Node, arrays: Arrays, x: Value) -> str:
    """min(max(x + 3, 0), 6) / 6"""
    return draw.add("Div", clipped(draw, draw.add("Add", x, draw.constant(3)), 0, 6), draw.constant(6))


def hardswish(draw: Drawing, node: Node, arrays: Arrays, x: Value) -> str:
    return draw.add("Mul", x, hardsigmoid(draw, node, arrays, x))


def silu(draw: Drawing, node: Node, arrays: Arrays, x: Value) -> str:
    return draw.add("Mul", x, draw.add("Sigmoid", x))


def gelu(draw: Drawing, node: Node, arrays: Arrays, x: Value) -> str:
    """x·Φ(x) = x·(1 + erf(x/√2))/2"""
    erf = draw.add("Erf", draw.add("Div", x, draw.constant(sqrt(2))))
    twice = draw.add("Mul", x, draw.add("Add", erf, draw.constant(1)))
    return draw.add("Mul", twice, draw.constant(0.5))


def gelu_tanh(draw: Drawing, node: Node, arrays: Arrays, x: Value) -> str:
    """x·(1 + tanh(√(2/π)·(x + 0.044715·x³)))/2"""
    cube = draw.add("Mul", draw.add("Mul", x, x), x)
    inner = draw.add("Add", x, draw.add("Mul", cube, draw.constant(0.044715)))
    tanh = draw.add("Tanh", draw.add("Mul", inner, draw.constant(sqrt(2 / pi))))
    twice = draw.add("Mul", x, draw.add("Add", tanh, draw.constant(1)))
    return draw.add("Mul", twice, draw.constant(0.5))


def affine(draw: Drawing, node: Node, arrays: Arrays, x: Value) -> str:
    return scaled(draw, x, x, arrays["channels"])


def scaled(draw: Drawing, x: Value, y: Value | str, channels: np.ndarray) -> str:
    """scale·y + bias of (2, C), for y of x's shape."""
    scale, bias = (x.beside(row) for row in channels)
    return draw.add("Add", draw.add("Mul", y, draw.tensor("scale", scale)), draw.tensor("bias", bias))


def prelu(draw: Drawing, node: Node, arrays: Arrays, x: Value) -> str:
    return draw.add("PRelu", x, draw.tensor("slope", x.beside(arrays["slope"])))


def rprelu(draw: Drawing, node: Node, arrays: Arrays, x: Value) -> str:
    names = ("shift_in", "slope", "shift_out")
    shift_in, slope, shift_out = (draw.tensor(name, x.beside(row)) for name, row in zip(names, arrays["channels"]))
    return draw.add("Add", draw.add("PRelu", draw.add("Add", x, shift_in), slope), shift_out)


def maxout(draw: Drawing, node: Node, arrays: Arrays, x: Value) -> str:
    """(positive where x >= 0, else negative)·x"""
    positive, negative = (draw.tensor(n, x.beside(row)) for n, row in zip(("positive", "negative"), arrays["channels"]))
    slope = draw.add("Where", draw.add("GreaterOrEqual", x, draw.constant(0)), positive, negative)
    return draw.add("Mul", slope, x)


def layer_norm(draw: Drawing, node: Node, arrays: Arrays, x: Value) -> str:
    """Over the channels, which LayerNormalization has last."""
    scale, bias = (draw.tensor(name, row) for name, row in zip(("scale", "bias"), arrays["channels"]))
    last = draw.add("Transpose", x, perm=[0, 2, 3, 1]) if x.is_map else x  # (B, H, W, C)
    y = draw.add("LayerNormalization", last, scale, bias, axis=-1, epsilon=node["eps"])
    return draw.add("Transpose", y, perm=[0, 3, 1, 2]) if x.is_map else y


def l2_norm(draw: Drawing, node: Node, arrays: Arrays, x: Value) -> str:
    norm = draw.add("ReduceL2", x, draw.constant([1], np.int64), keepdims=1)
    unit = draw.add("Div", x, draw.add("Max", norm, draw.constant(SMALLEST_NORM)))
    return draw.add("Mul", unit, draw.tensor("scale", x.beside(arrays["channels"][0])))


def group_norm(draw: Drawing, node: Node, arrays: Arrays, x: Value) -> str:
    """Each group as one channel of an instance norm. (GroupNormalization of opset 18 has a scale per group, not per channel.)"""
    (height, width, channels), groups = x.shape, node["groups"]
    rows = draw.reshape(x, 0, groups, -1)  # (B, G, C/g·H·W)
    ones, zeros = draw.constant(np.ones(groups)), draw.constant(np.zeros(groups))
    normal = draw.add("InstanceNormalization", rows, ones, zeros, epsilon=node["eps"])
    return scaled(draw, x, draw.reshape(normal, 0, channels, height, width), arrays["channels"])


def multiply(draw: Drawing, node: Node, arrays: Arrays, x: Value, y: Value) -> str:
    """A vector beside a map counts as a map of one pixel."""
    if x.is_map and not y.is_map:
        return draw.add("Mul", x, draw.add("Unsqueeze", y, draw.constant([2, 3], np.int64)))  # (B, C, 1, 1)
    return draw.add("Mul", x, y)


def plain(op: str, **attributes: float) -> Callable[..., str]:
    """One node of ONNX, of all inputs."""
    return lambda draw, node, arrays, *inputs: draw.add(op, *inputs, **attributes)


ELEMENTWISE: dict[str, Callable[..., str]] = {
    "affine": affine,
    "add": plain("Add"),
    "multiply": multiply,
    "hardtanh": lambda draw, node, arrays, x: clipped(draw, x, -1, 1),
    "clip": lambda draw, node, arrays, x: clipped(draw, x, node["low"], node["high"]),
    "relu": plain("Relu"),
    "prelu": prelu,
    "rprelu": rprelu,
    "maxout": maxout,
    "hardsigmoid": hardsigmoid,
    "hardswish": hardswish,
    "sigmoid": plain("Sigmoid"),
    "tanh": plain("Tanh"),
    "silu": silu,
    "elu": lambda draw, node, arrays, x: draw.add("Elu", x, alpha=node["alpha"]),
    "gelu": gelu,
    "gelu_tanh": gelu_tanh,
    "softmax": plain("Softmax", axis=1),  # of the channels
    "l2_norm": l2_norm,
    "layer_norm": layer_norm,
    "group_norm": group_norm,
}
