"""Operators that move values and compute nothing: put together, cut out, padded, in another order, and constants."""

from __future__ import annotations

from typing import Any

import numpy as np

from onebit.errors import FormatError
from onebit.runtime.fields import MAX_SIZE, integer, integers, word
from onebit.runtime.graph import Attribute, Node
from onebit.runtime.tensors import MAX_ELEMENTS, Arrays, Shape, Tensors, map_of

AXES = ("channels", "height", "width")
CONCAT = {"axis": Attribute(word(*AXES), "channels")}
SLICE = {
    "axis": Attribute(word(*AXES)),
    "start": Attribute(integer(0, MAX_ELEMENTS)),
    "stop": Attribute(integer(1, MAX_ELEMENTS)),
    "step": Attribute(integer(1, MAX_ELEMENTS), 1),
}
SHUFFLE = {"groups": Attribute(integer(1, MAX_SIZE))}
SEQUENCE = {"parts": Attribute(integer(1, MAX_SIZE), 1)}
# What each mode of padding is to numpy.
PAD_MODES: dict[str, Any] = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}
PAD = {"pixels": Attribute(integers(4, 0, MAX_SIZE)), "mode": Attribute(word(*PAD_MODES), "zeros")}


def axis_of(node: Node, shape: Shape) -> int:
    """Where in (H, W, C), or in (C), the node's axis stands, from the end. A vector has channels alone."""
    if node["axis"] == "channels":
        return -1
    map_of(node, shape)
    return -3 if node["axis"] == "height" else -2


def constant_shape(node: Node, inputs: list[Shape], tensors: Tensors) -> Shape:
    return tensors.expect(node, "value", "F32", *([None] if tensors.axes(node, "value") == 1 else [None] * 3))


def constant(node: Node, tensors: Arrays) -> np.ndarray:
    """(1, H, W, C) or (1, C): of one sample."""
    return tensors["value"][None]


def concat_shape(node: Node, inputs: list[Shape], tensors: Tensors) -> Shape:
    first, second = inputs
    axis = axis_of(node, first)
    others = [shape[:axis] + shape[axis:][1:] for shape in inputs]
    if len(first) != len(second) or others[0] != others[1]:
        wanted = {
            "channels": "maps of one height and width, or two vectors",
            "height": "maps of one width and as many channels",
            "width": "maps of one height and as many channels",
        }[node["axis"]]
        raise FormatError(f"node {node.name!r} (concat) needs two {wanted}, got {first} and {second}")
    return *first[:axis], first[axis] + second[axis], *first[axis:][1:]


def concat(node: Node, tensors: Arrays, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.concatenate([x, y], axis_of(node, x.shape[1:]))


def slice_shape(node: Node, inputs: list[Shape], tensors: Tensors) -> Shape:
    (shape,) = inputs
    axis, start, stop = axis_of(node, shape), node["start"], node["stop"]
    if stop <= start:
        raise FormatError(f"node {node.name!r} (slice): stop {stop} must be more than start {start}")
    if stop > shape[axis]:
        raise FormatError(f"node {node.name!r} (slice): stop {stop} is beyond the size {shape[axis]} of its input")
    return *shape[:axis], -((start - stop) // node["step"]), *shape[axis:][1:]  # rounded up


def sliced(node: Node, tensors: Arrays, x: np.ndarray) -> np.ndarray:
    """Elements start, start + step, ... below stop."""
    part = slice(node["start"], node["stop"], node["step"])
    place: tuple[Any, ...] = (..., part, *[slice(None)] * (-1 - axis_of(node, x.shape[1:])))
    return x[place]


def shuffle_shape(node: Node, inputs: list[Shape], tensors: Tensors) -> Shape:
    channels, groups = inputs[0][-1], node["groups"]
    if channels % groups:
        raise FormatError(f"node {node.name!r} (channel_shuffle): groups {groups} must divide {channels} channels")
    return inputs[0]


def shuffle(node: Node, tensors: Arrays, x: np.ndarray) -> np.ndarray:
    """y[j·groups + g] = x[g·(C/groups) + j]"""
    grouped = x.reshape(*x.shape[:-1], node["groups"], -1)  # (..., G, C/G)
    return grouped.swapaxes(-1, -2).reshape(x.shape)


def sequence_shape(node: Node, inputs: list[Shape], tensors: Tensors) -> Shape:
    (height, width, channels), parts = map_of(node, inputs[0]), node["parts"]
    if channels % parts:
        raise FormatError(f"node {node.name!r} (to_sequence): parts {parts} must divide {channels} channels")
    return height * width * parts, 1, channels // parts


def sequence(node: Node, tensors: Arrays, x: np.ndarray) -> np.ndarray:
    """Row by row, and of each pixel its channels in so many parts."""
    return x.reshape(len(x), -1, 1, x.shape[-1] // node["parts"])  # (B, H·W·parts, 1, C / parts)


def pad_shape(node: Node, inputs: list[Shape], tensors: Tensors) -> Shape:
    height, width, channels = map_of(node, inputs[0])
    top, bottom, left, right = node["pixels"]
    mode = node["mode"]
    for pads, size in (((top, bottom), height), ((left, right), width)):
        most = {"reflect": size - 1, "circular": size}.get(mode)
        if most is not None and max(pads) > most:
            raise FormatError(f"node {node.name!r} (pad): mode {mode} pads {size} pixels by {most} at most, got {pads}")
    return height + top + bottom, width + left + right, channels


def pad(node: Node, tensors: Arrays, x: np.ndarray) -> np.ndarray:
    top, bottom, left, right = node["pixels"]
    return np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)), PAD_MODES[node["mode"]])
