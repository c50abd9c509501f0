"""Layers of real weights in ONNX: convolutions and linear layers. Weights in 8 bits stay so in the file;
the graph multiplies them by their scales, exactly, which runtimes do once, when they load it. Where the file's layer rounds what
it reads to 8 bits, so does the graph, and multiplies the rounded numbers in float32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from onebit.export.onnx.drawing import Drawing, Value
from onebit.runtime.code_conv import FLOAT, LEAST, LEVELS
from onebit.runtime.graph import Node
from onebit.runtime.tensors import Arrays


def window(node: Node, kernel: tuple[int, ...]) -> dict[str, Any]:
    """The attributes of a convolution of ONNX, none left to its default."""
    return {
        "kernel_shape": list(kernel),
        "strides": list(node["stride"]),
        "pads": [*node["padding"], *node["padding"]],  # top, left, bottom, right
        "dilations": list(node["dilation"]),
        "group": node["groups"],
    }


def float_weight(draw: Drawing, weight: np.ndarray, scale: np.ndarray | None) -> str:
    """The weight, or scale·weight of one in 8 bits, with a scale for each row, or one that stands beside the weight."""
    stored = draw.tensor("weight", weight)
    if scale is None:
        return stored
    if scale.ndim == 1:
        scale = scale.reshape(-1, *[1] * (weight.ndim - 1))  # (O, 1, ...)
    return draw.add("Mul", draw.cast(stored), draw.tensor("weight_scale", scale))


def bias_of(draw: Drawing, arrays: Arrays) -> list[str]:
    return [draw.tensor("bias", arrays["bias"])] if "bias" in arrays else []


def read(draw: Drawing, node: Node, x: Value) -> str:
    """What the layer multiplies: x (B, C, ...), or each of its pixels in 8 bits, as float32 (onebit.runtime.code_conv)."""
    if node["activations"] == FLOAT:
        return x.name
    most = draw.add("ReduceMax", draw.add("Abs", x), draw.constant([1], np.int64), keepdims=1)  # (B, 1, ...)
    most = draw.add("Max", most, draw.constant(LEAST))
    levels = draw.constant(LEVELS)
    codes = draw.add("Round", draw.add("Mul", x, draw.add("Div", levels, most)))  # half to even
    return draw.add("Mul", codes, draw.add("Div", most, levels))


def conv(draw: Drawing, node: Node, arrays: Arrays, x: Value) -> str:
    weight = float_weight(draw, arrays["weight"], arrays.get("weight_scale"))  # (O, I/g, KH, KW)
    return draw.add(
        "Conv", read(draw, node, x), weight, *bias_of(draw, arrays), **window(node, arrays["weight"].shape[2:])
    )


def transposed_conv(draw: Drawing, node: Node, arrays: Arrays, x: Value) -> str:
    """ConvTranspose takes weights (I, O/g, KH, KW): those of the file's ordinary convolution with the group's in and out
    swapped and both axes of the kernel flipped."""
    stored, groups = arrays["weight"], node["groups"]
    out, own, *kernel = stored.shape
    grouped = stored.reshape(groups, out // groups, own, *kernel)  # (G, O/g, I/g, KH, KW)
    weight = grouped.swapaxes(1, 2)[..., ::-1, ::-1].reshape(groups * own, out // groups, *kernel)  # (I, O/g, KH, KW)
    scale = arrays.get("weight_scale")
    if scale is not None:
        scale = np.repeat(scale.reshape(groups, -1), own, axis=0)[..., None, None]  # (I, O/g, 1, 1)
    settings = {**window(node, (kernel[0], kernel[1])), "output_padding": list(node["output_padding"])}
    return draw.add("ConvTranspose", x, float_weight(draw, weight, scale), *bias_of(draw, arrays), **settings)


def linear(draw: Drawing, node: Node, arrays: Arrays, x: Value) -> str:
    weight = float_weight(draw, arrays["weight"], arrays.get("weight_scale"))  # (O, I)
    return draw.add("Gemm", read(draw, node, x), weight, *bias_of(draw, arrays), transB=1)


def batch_of(draw: Drawing, source: str) -> str:
    """The number of samples of an input, int64 (1)."""
    return draw.once("batch", lambda: draw.add("Shape", source, start=0, end=1))


def constant(draw: Drawing, node: Node, arrays: Arrays, source: Value) -> str:
    """The value for every sample; `source` is an input of the network, which says how many there are."""
    value = arrays["value"]
    stored = draw.tensor(
        "value", (value.transpose(2, 0, 1) if value.ndim == 3 else value)[None]
    )  # (1, C, H, W), (1, C)
    ones = draw.constant([1] * value.ndim, np.int64)
    shape = draw.add("Concat", batch_of(draw, source.name), ones, axis=0)
    return draw.add("Expand", stored, shape)


LAYERS: dict[str, Callable[..., str]] = {
    "conv": conv,
    "transposed_conv": transposed_conv,
    "linear": linear,
    "constant": constant,
}
