"""The convolution of an image of bytes by weights in 8 bits, straight from the bytes.

With weights s[o]·q[o] and pixels (byte / 255 − mean[c]) / std[c], where a padded tap contributes 0,

    y[o] = Σ_c a[c, o]·Σ q[o, c]·byte + (bias[o] − Σ_c b[c, o]·Σ q[o, c]),    a = s / (255·std),  b = s·mean / std

over the valid taps of the window. Sums of integers are exact; the bracket is taken in float64, rounded to float32, and
a, also float32, is applied by fused multiply-adds in the order of the channels. So the result differs from that of the
float convolution of the normalised image by rounding only, and not between instruction sets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from onebit.runtime.code_conv import FLOAT
from onebit.runtime.graph import Node
from onebit.runtime.inputs import Image

MAX_CHANNELS = 8
MAX_PADDING = 64
MAX_TAPS = (2**24 - 1) // (128 * 255)  # of one channel: sums below 2^24 are exact as float32


@dataclass(frozen=True)
class ByteConv:
    """weight int8 (O, I, KH, KW), a float32 (I, O), b float64 (I, O), bias float64 (O)."""

    weight: np.ndarray
    a: np.ndarray
    b: np.ndarray
    bias: np.ndarray


def byte_conv(node: Node, tensors: Mapping[str, np.ndarray], image: Image) -> ByteConv | None:
    """The form in which a convolution takes the bytes of an image; None if it must take floats. `tensors` are the node's, by
    their own names."""
    if (
        node.op != "conv"
        or node.inputs != (image.name,)
        or "weight_scale" not in tensors
        or node["activations"] != FLOAT
    ):
        return None
    weight = tensors["weight"]  # (O, I, KH, KW)
    _, channels, height, width = weight.shape
    words = height * -(-width // 4)  # rows are padded to whole words of 4 taps
    if node["groups"] != 1 or node["dilation"][1] != 1 or max(node["padding"]) > MAX_PADDING:
        return None
    if channels > MAX_CHANNELS or 4 * words > MAX_TAPS:
        return None
    scale = tensors["weight_scale"].astype(np.float64)  # (O)
    # As float32, which is what pixels are normalised with.
    mean, std = (
        np.array(values, np.float32).astype(np.float64)[:, None] for values in (image.mean, image.std)
    )  # (I, 1)
    with np.errstate(over="ignore"):  # checked below
        a, b = (scale / (255 * std)).astype(np.float32), scale * mean / std  # (I, O)
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return None
    bias = tensors.get("bias", np.zeros(len(weight), np.float32)).astype(np.float64)
    return ByteConv(*(np.ascontiguousarray(x) for x in (weight, a, b, bias)))
