"""Rows of numbers for tokens and places: `embedding`, `binary_embedding` and `positions`.

embedding          y[t] = weight[v]                         v the token t
binary_embedding   y[t] = scale[v]·B[v] (+ offset[v])       B the signs ±1 of v's bits; rounded after the product and the sum
positions          y[h, w] = x[h, w] + weight[h]
"""

from __future__ import annotations

import numpy as np

from onebit.errors import FormatError
from onebit.runtime.bits import bytes_for, unpack
from onebit.runtime.fields import MAX_CHANNELS, MAX_SIZE, integer
from onebit.runtime.graph import Attribute, Node
from onebit.runtime.tensors import Arrays, Shape, Tensors, float_weight, map_of

BINARY_EMBEDDING = {"width": Attribute(integer(1, MAX_CHANNELS))}


def embedding_shape(node: Node, inputs: list[Shape], tensors: Tensors) -> Shape:
    length, count = inputs[0]
    _, channels = tensors.expect_weight(node, count, None)
    return length, 1, channels


def embedding(node: Node, tensors: Arrays, tokens: np.ndarray) -> np.ndarray:
    """The row of each token: int32 (B, T) -> (B, T, 1, C)."""
    scale = tensors.get("weight_scale")
    rows = float_weight(tensors["weight"][tokens.ravel()], None if scale is None else scale[tokens.ravel()])
    return rows.reshape(*tokens.shape, 1, -1)


def binary_embedding_shape(node: Node, inputs: list[Shape], tensors: Tensors) -> Shape:
    (length, count), width = inputs[0], node["width"]
    tensors.expect(node, "bits", "U8", count, bytes_for(width))
    rows, _ = tensors.expect(node, "channels", "F32", None, count)
    if rows > 2:
        raise FormatError(f"tensor {node.name}.channels must have 1 row (scale) or 2 (+ offset), got {rows}")
    return length, 1, width


def binary_embedding(node: Node, tensors: Arrays, tokens: np.ndarray) -> np.ndarray:
    """The row of each token: int32 (B, T) -> (B, T, 1, C)."""
    signs = unpack(tensors["bits"][tokens], node["width"]).astype(np.float32)  # (B, T, C)
    scale, *offset = (row[tokens][..., None] for row in tensors["channels"])  # (B, T, 1)
    rows = scale * signs
    return (rows + offset[0] if offset else rows)[:, :, None]  # (B, T, 1, C)


def positions_shape(node: Node, inputs: list[Shape], tensors: Tensors) -> Shape:
    height, _, channels = shape = map_of(node, inputs[0])
    most, _ = tensors.expect_weight(node, None, channels)
    if most > MAX_SIZE:
        raise FormatError(f"tensor {node.name}.weight has {most} positions, at most {MAX_SIZE} are supported")
    if height > most:
        raise FormatError(f"node {node.name!r} (positions) has {most} positions, got {height}; give less")
    return shape


def positions(node: Node, tensors: Arrays, x: np.ndarray) -> np.ndarray:
    """(B, H, W, C) -> the same."""
    weight = float_weight(tensors["weight"], tensors.get("weight_scale"))  # (P, C)
    return x + weight[: x.shape[1], None]
