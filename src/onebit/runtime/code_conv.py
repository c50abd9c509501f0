"""Convolutions and linear layers whose values and weights both have 8 bits.

A pixel x of C channels (of a linear layer: the vector) is quantized by its own largest magnitude, in float32 with one
rounding per operation,

    m = max(max_c |x[c]|, 2⁻¹⁰⁰),    s = m / 127,    q[c] = x[c]·(127 / m) rounded to an integer, of two the even one

so |q| ≤ 127, and no data are needed to choose a scale. With weights scale[o]·w[o]

    y[o] = scale[o]·a + bias[o],    a = Σ over the taps (kh, kw) inside the map of s·float32(Σ_c q[c]·w[o, c])

Sums of q·w are exact and rounded to float32; a starts at 0, and its sum as well as y are fused multiply-adds. The engine does
the same, so both give the same bits.
"""

from __future__ import annotations

import numpy as np

from onebit.errors import FormatError
from onebit.runtime.fields import word
from onebit.runtime.graph import Attribute, Node
from onebit.runtime.tensors import Arrays, Tensors

FLOAT, INT8 = "float", "int8"
ACTIVATIONS = {"activations": Attribute(word(FLOAT, INT8), FLOAT)}
MAX_CODES = 2**16  # channels: 2^16·127·128 is below 2^31
LEAST = np.float32(2.0**-100)
LEVELS = np.float32(127)


def check(node: Node, tensors: Tensors, channels: int, groups: int = 1) -> None:
    """Raises FormatError for activations in 8 bits where they cannot be."""
    if node["activations"] == FLOAT:
        return
    if not tensors.has(node, "weight_scale"):
        raise FormatError(f"node {node.name!r}: activations in int8 need a weight in I8; pack the model again")
    if groups != 1:
        raise FormatError(f"node {node.name!r}: activations in int8 need groups 1, got {groups}")
    if channels > MAX_CODES:
        raise FormatError(
            f"node {node.name!r}: activations in int8 are for at most {MAX_CODES} channels, got {channels}"
        )


def quantized(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """float32 (..., C) -> codes (..., C) and scales float32 (..., 1). Codes are float64, in which products are exact and fast."""
    most = np.maximum(np.abs(x).max(-1, keepdims=True), LEAST)  # (..., 1)
    return np.rint(x * (LEVELS / most)).astype(np.float64), most / LEVELS


def weights(tensors: Arrays) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Codes float64 (O, ...), scale and bias float32 (O)."""
    codes = tensors["weight"].astype(np.float64)
    return codes, tensors["weight_scale"], tensors.get("bias", np.zeros(len(codes), np.float32))
