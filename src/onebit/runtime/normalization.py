"""Normalisations by values of the sample itself, and products with what was made of it.

    y = scale·float32((x − mean)/√(variance + eps)) + bias        layer_norm, group_norm
    y = scale·float32(x/max(√Σx², 1e-12))                         l2_norm

The mean, the variance, the norm and the quotient are float64, and sums begin at 0; then every operation is rounded to float32.
"""

from __future__ import annotations

import numpy as np

from onebit.errors import FormatError
from onebit.runtime.fields import MAX_SIZE, integer, positive
from onebit.runtime.graph import Attribute, Node
from onebit.runtime.tensors import Arrays, Shape, Tensors, map_of

LAYER_NORM = {"eps": Attribute(positive)}
SMALLEST_NORM = 1e-12  # as torch.nn.functional.normalize
GROUP_NORM = {"groups": Attribute(integer(1, MAX_SIZE)), **LAYER_NORM}


def layer_norm_shape(node: Node, inputs: list[Shape], tensors: Tensors) -> Shape:
    tensors.expect(node, "channels", "F32", 2, inputs[0][-1])
    return inputs[0]


def group_norm_shape(node: Node, inputs: list[Shape], tensors: Tensors) -> Shape:
    channels, groups = map_of(node, inputs[0])[2], node["groups"]
    if channels % groups:
        raise FormatError(f"node {node.name!r}: groups {groups} must divide {channels} channels")
    return layer_norm_shape(node, inputs, tensors)


def _normalized(x: np.ndarray, eps: float) -> np.ndarray:
    """float32 of (x − mean)/√(variance + eps), over the last axis."""
    wide = x.astype(np.float64)
    from_mean = wide - _mean(wide)
    y: np.ndarray = (from_mean / np.sqrt(_mean(from_mean * from_mean) + eps)).astype(np.float32)
    return y


def _mean(x: np.ndarray) -> np.ndarray:
    """Over the last axis, whose elements are added in order, the first to 0: of −0 the sum is +0."""
    total: np.ndarray = 0.0 + np.cumsum(x, axis=-1)[..., -1:]
    return total / x.shape[-1]


def layer_norm(node: Node, tensors: Arrays, x: np.ndarray) -> np.ndarray:
    """Over the channels of each pixel, or of the vector."""
    scale, bias = tensors["channels"]
    return scale * _normalized(x, node["eps"]) + bias


def group_norm(node: Node, tensors: Arrays, x: np.ndarray) -> np.ndarray:
    """Over the pixels and the C/G channels of each group: row by row, in each pixel over its channels."""
    scale, bias = tensors["channels"]
    batch, height, width, channels = x.shape
    each = channels // node["groups"]
    by_group = x.reshape(batch, height * width, -1, each).swapaxes(1, 2)  # (B, G, H·W, C/G)
    flat = _normalized(by_group.reshape(batch, -1, height * width * each), node["eps"])  # (B, G, H·W·C/G)
    y = flat.reshape(batch, -1, height * width, each).swapaxes(1, 2)  # (B, H·W, G, C/G)
    return scale * y.reshape(x.shape) + bias


def l2_norm_shape(node: Node, inputs: list[Shape], tensors: Tensors) -> Shape:
    tensors.expect(node, "channels", "F32", 1, inputs[0][-1])
    return inputs[0]


def l2_norm(node: Node, tensors: Arrays, x: np.ndarray) -> np.ndarray:
    """Over the channels of each pixel, or of the vector."""
    (scale,) = tensors["channels"]
    wide = x.astype(np.float64)
    norm = np.sqrt(np.cumsum(wide * wide, axis=-1)[..., -1:])
    y: np.ndarray = scale * (wide / np.maximum(norm, SMALLEST_NORM)).astype(np.float32)
    return y


def multiply_shape(node: Node, inputs: list[Shape], tensors: Tensors) -> Shape:
    first, second = inputs
    sizes = second if len(first) == len(second) else (1, 1, *second)
    if len(second) > len(first) or any(own not in (1, size) for own, size in zip(sizes, first)):
        raise FormatError(
            f"node {node.name!r} (multiply) needs a second input whose sizes are the first's or 1, got {first} and {second}"
        )
    return first


def multiply(node: Node, tensors: Arrays, x: np.ndarray, z: np.ndarray) -> np.ndarray:
    """x·z; the one row, column or channel of a smaller z counts for all. A vector z is (B, 1, 1, C) then."""
    return x * (z if x.ndim == z.ndim else z.reshape(len(z), 1, 1, -1))
