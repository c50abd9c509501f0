"""The operators of the format: their attributes, their tensors and the shape of their output.

One function per operator checks the tensors and infers the shape. Shapes are (H, W, C) for maps and (C,) for vectors.
The table `OPERATORS` at the end is the only list of operators that the reader, the writer and both backends share.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from onebit.errors import FormatError
from onebit.runtime.bits import bytes_for
from onebit.runtime.graph import INPUT, MAX_SIZE, Attribute, Graph, Node, boolean, integer, number, pair, show

MAX_ELEMENTS = 2**28  # of one activation
MAX_CHANNELS = 2**24  # of a weight
MAX_PRODUCTS = 2**24  # ±1 products in one dot product: float32 counts exactly up to here
Shape = tuple[int, ...]
_DTYPES = {np.dtype("<f4"): "F32", np.dtype("u1"): "U8", np.dtype("i1"): "I8"}
SAMPLE_MEAN = "sample_mean"
CHANNEL = "channel"


class Tensors:
    """Dtype and shape of every tensor of a file, before any data is read. Remembers which were asked for."""

    def __init__(self, found: Mapping[str, tuple[str, Shape]]) -> None:
        self._found = found
        self.used: set[str] = set()

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray]) -> Tensors:
        return cls({name: (_DTYPES.get(array.dtype, str(array.dtype)), array.shape) for name, array in arrays.items()})

    def has(self, node: Node, what: str) -> bool:
        return f"{node.name}.{what}" in self._found

    def expect(self, node: Node, what: str, dtype: str, *shape: int | None) -> Shape:
        """Shape of the tensor <node>.<what>; None in `shape` stands for any size from 1 to MAX_CHANNELS."""
        name = f"{node.name}.{what}"
        self.used.add(name)
        if name not in self._found:
            raise FormatError(f"tensor {name} is missing; node {node.name!r} ({node.op}) needs it")
        found_dtype, found = self._found[name]
        if found_dtype != dtype:
            raise FormatError(f"tensor {name} must be {dtype}, got {found_dtype}")
        fits = len(found) == len(shape) and all(
            1 <= size <= MAX_CHANNELS if want is None else size == want for size, want in zip(found, shape)
        )
        if not fits:
            wanted = ", ".join("any" if want is None else str(want) for want in shape)
            raise FormatError(f"tensor {name} must have shape ({wanted}), got {show(found)}")
        return found

    def expect_weight(self, node: Node, *shape: int | None) -> Shape:
        """Shape of a float weight: F32, or I8 with one F32 scale per output."""
        if self._found.get(f"{node.name}.weight", ("", ()))[0] != "I8":
            return self.expect(node, "weight", "F32", *shape)
        found = self.expect(node, "weight", "I8", *shape)
        self.expect(node, "weight_scale", "F32", found[0])
        return found

    def check_all_used(self) -> None:
        if extra := sorted(self._found.keys() - self.used):
            raise FormatError(f"tensor {show(extra[0])} belongs to no node; remove it or name it <node>.<what>")


def tensors_of(node: Node, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The node's own tensors, by what they are: "<node>.<what>" as "<what>"."""
    return {
        name.removeprefix(f"{node.name}."): array
        for name, array in tensors.items()
        if name.rpartition(".")[0] == node.name
    }


def products(node: Node, channels: int) -> int:
    """±1 products of one output of a binary node whose input has `channels` channels: the weights of one filter."""
    return math.prod(node["kernel"]) * (channels // node["groups"]) if node.op == "binary_conv" else channels


def float_weight(weight: np.ndarray, scale: np.ndarray | None) -> np.ndarray:
    """float32 (O, ...): the weight, or weight_scale[o]·weight[o] of one stored as I8."""
    if scale is None:
        return weight
    return scale.reshape(-1, *[1] * (weight.ndim - 1)) * weight.astype(np.float32)


@dataclass(frozen=True)
class Operator:
    """`infer(node, input shapes, tensors)` returns the output shape or raises FormatError."""

    inputs: int
    infer: Callable[[Node, list[Shape], Tensors], Shape]
    attributes: Mapping[str, Attribute]


def infer_shapes(graph: Graph, tensors: Tensors, height: int, width: int) -> dict[str, Shape]:
    """Shape of every value for an image of height × width, by name."""
    shapes: dict[str, Shape] = {INPUT: (height, width, graph.input_shape[0])}
    if math.prod(shapes[INPUT]) > MAX_ELEMENTS:
        raise FormatError(f"an image of {shapes[INPUT]} has more than {MAX_ELEMENTS} values")
    for node in graph.nodes:
        shape = OPERATORS[node.op].infer(node, [shapes[name] for name in node.inputs], tensors)
        if any(size < 1 for size in shape) or math.prod(shape) > MAX_ELEMENTS:
            raise FormatError(
                f"node {node.name!r} ({node.op}) would have the shape {shape}; the image is too small or big"
            )
        shapes[node.name] = shape
    return shapes


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


def _map(node: Node, shape: Shape) -> Shape:
    if len(shape) != 3:
        raise FormatError(
            f"node {node.name!r} ({node.op}) needs a map (H, W, C), got a vector of {shape[0]}; remove flatten"
        )
    return shape


def _vector(node: Node, shape: Shape) -> int:
    if len(shape) != 1:
        raise FormatError(
            f"node {node.name!r} ({node.op}) needs a vector, got a map {shape}; add flatten or global_avg_pool"
        )
    return shape[0]


def _convolved(node: Node, shape: Shape, kernel: tuple[int, ...], out: int) -> Shape:
    rows, columns = (
        window_size(shape[axis], kernel[axis], node["stride"][axis], node["padding"][axis], node["dilation"][axis])
        for axis in (0, 1)
    )
    return rows, columns, out


def _group_channels(node: Node, channels: int, out: int) -> int:
    groups = node["groups"]
    if channels % groups or out % groups:
        raise FormatError(f"node {node.name!r}: groups {groups} must divide {channels} inputs and {out} outputs")
    return channels // groups


def _conv(node: Node, inputs: list[Shape], tensors: Tensors) -> Shape:
    shape = _map(node, inputs[0])
    out, group_channels, *kernel = tensors.expect_weight(node, None, None, None, None)
    if max(kernel) > MAX_SIZE:
        raise FormatError(f"node {node.name!r}: the kernel {kernel} is larger than {MAX_SIZE}")
    if group_channels != _group_channels(node, shape[2], out):
        raise FormatError(f"node {node.name!r}: weight has {group_channels} input channels, the map has {shape[2]}")
    if tensors.has(node, "bias"):
        tensors.expect(node, "bias", "F32", out)
    return _convolved(node, shape, tuple(kernel), out)


def _linear(node: Node, inputs: list[Shape], tensors: Tensors) -> Shape:
    channels = _vector(node, inputs[0])
    if channels > MAX_CHANNELS:
        raise FormatError(f"node {node.name!r} has {channels} inputs, at most {MAX_CHANNELS} are supported")
    out, _ = tensors.expect_weight(node, None, channels)
    if tensors.has(node, "bias"):
        tensors.expect(node, "bias", "F32", out)
    return (out,)


def _binary_tensors(node: Node, products: int, channels: int, tensors: Tensors) -> int:
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


def _binary_conv(node: Node, inputs: list[Shape], tensors: Tensors) -> Shape:
    shape = _map(node, inputs[0])
    channels, kernel = node["in_channels"], node["kernel"]
    if channels != shape[2]:
        raise FormatError(f"node {node.name!r}: in_channels is {channels}, the map has {shape[2]}")
    products = kernel[0] * kernel[1] * _group_channels(node, channels, channels)
    out = _binary_tensors(node, products, channels, tensors)
    _group_channels(node, channels, out)
    return _convolved(node, shape, kernel, out)


def _binary_linear(node: Node, inputs: list[Shape], tensors: Tensors) -> Shape:
    channels = _vector(node, inputs[0])
    return (_binary_tensors(node, channels, channels, tensors),)


def _channelwise(what: str, rows: int | None) -> Callable[[Node, list[Shape], Tensors], Shape]:
    """An elementwise operator with one tensor <node>.<what> of shape (rows, C), or (C) if rows is None."""

    def infer(node: Node, inputs: list[Shape], tensors: Tensors) -> Shape:
        channels = inputs[0][-1]
        tensors.expect(node, what, "F32", *([channels] if rows is None else [rows, channels]))
        return inputs[0]

    return infer


def _unchanged(node: Node, inputs: list[Shape], tensors: Tensors) -> Shape:
    return inputs[0]


def _add(node: Node, inputs: list[Shape], tensors: Tensors) -> Shape:
    if inputs[0] != inputs[1]:
        raise FormatError(f"node {node.name!r} (add) needs two equal shapes, got {inputs[0]} and {inputs[1]}")
    return inputs[0]


def _pool(node: Node, inputs: list[Shape], tensors: Tensors) -> Shape:
    shape = _map(node, inputs[0])
    kernel, stride, padding = node["kernel"], node["stride"], node["padding"]
    if any(2 * pad > size for pad, size in zip(padding, kernel)):
        raise FormatError(f"node {node.name!r}: padding {padding} must be at most half of the kernel {kernel}")
    rows, columns = (
        pool_size(shape[axis], kernel[axis], stride[axis], padding[axis], node["ceil_mode"]) for axis in (0, 1)
    )
    return rows, columns, shape[2]


def _global_avg_pool(node: Node, inputs: list[Shape], tensors: Tensors) -> Shape:
    return (_map(node, inputs[0])[2],)


def _flatten(node: Node, inputs: list[Shape], tensors: Tensors) -> Shape:
    return (math.prod(_map(node, inputs[0])),)


def _option_a(node: Node, inputs: list[Shape], tensors: Tensors) -> Shape:
    height, width, channels = _map(node, inputs[0])
    stride, (before, after) = node["stride"], node["pad"]
    return -(-height // stride), -(-width // stride), before + channels + after


def _threshold(value: Any, where: str) -> float | str:
    if isinstance(value, str):
        if value not in (SAMPLE_MEAN, CHANNEL):
            raise FormatError(f'{where} must be a number, "{SAMPLE_MEAN}" or "{CHANNEL}", got {value[:40]!r}')
        return value
    return float(np.float32(number(value, where)))


_SIZES = pair(1, MAX_SIZE)
_STRIDE, _DILATION = Attribute(_SIZES, (1, 1)), Attribute(_SIZES, (1, 1))
_PADDING = Attribute(pair(0, MAX_SIZE), (0, 0))
_CONV = {
    "stride": _STRIDE,
    "padding": _PADDING,
    "dilation": _DILATION,
    "groups": Attribute(integer(1, MAX_SIZE), 1),
}
_BINARY = {"shift": Attribute(number, 0.0), "threshold": Attribute(_threshold, 0.0)}
_POOL = {
    "kernel": Attribute(_SIZES),
    "stride": Attribute(_SIZES),  # required: PyTorch's default is the kernel, the convolutions' is 1
    "padding": _PADDING,
    "ceil_mode": Attribute(boolean, False),
}

OPERATORS: dict[str, Operator] = {
    "conv": Operator(1, _conv, _CONV),
    "binary_conv": Operator(
        1,
        _binary_conv,
        {"kernel": Attribute(_SIZES), "in_channels": Attribute(integer(1, 2**24)), **_CONV, **_BINARY},
    ),
    "linear": Operator(1, _linear, {}),
    "binary_linear": Operator(1, _binary_linear, _BINARY),
    "affine": Operator(1, _channelwise("channels", 2), {}),
    "add": Operator(2, _add, {}),
    "hardtanh": Operator(1, _unchanged, {}),
    "relu": Operator(1, _unchanged, {}),
    "prelu": Operator(1, _channelwise("slope", None), {}),
    "rprelu": Operator(1, _channelwise("channels", 3), {}),
    "maxout": Operator(1, _channelwise("channels", 2), {}),
    "max_pool": Operator(1, _pool, _POOL),
    "avg_pool": Operator(1, _pool, {**_POOL, "count_include_pad": Attribute(boolean, True)}),
    "global_avg_pool": Operator(1, _global_avg_pool, {}),
    "flatten": Operator(1, _flatten, {}),
    "option_a": Operator(
        1,
        _option_a,
        {"stride": Attribute(integer(1, MAX_SIZE), 1), "pad": Attribute(pair(0, MAX_SIZE), (0, 0))},
    ),
}
