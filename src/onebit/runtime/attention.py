"""Attention of several heads, of sequences (T, 1, C), with a mask of keys or without: real, and of bits.

    attention          y = p v,  p = softmax(scale·q·kᵀ)
    binary_attention   y = factor·(P A_v),  P = 1 where p ≥ level, else 0,  p = softmax(s) or s,  s = scale·(A_q·A_kᵀ)

A are signs ±1 of q, k and v: +1 where x ≥ the channel's threshold. Sums of products of P and A are whole numbers; scale, factor and level
are float32, and so is each product with them. Keys that the mask leaves out count nothing: p and P are 0 there.
"""

from __future__ import annotations

import numpy as np

from onebit.errors import FormatError
from onebit.runtime.convolutions import fma
from onebit.runtime.exponentials import softmax
from onebit.runtime.fields import MAX_SIZE, boolean, integer, number
from onebit.runtime.graph import Attribute, Node
from onebit.runtime.tensors import Arrays, Shape, Tensors, map_of

ATTENTION = {"heads": Attribute(integer(1, MAX_SIZE)), "scale": Attribute(number)}
BINARY_ATTENTION = {
    **ATTENTION,
    "level": Attribute(number),
    "factor": Attribute(number),
    "softmax": Attribute(boolean, True),
}


def attention_shape(node: Node, inputs: list[Shape], tensors: Tensors) -> Shape:
    q, k, v = (map_of(node, shape) for shape in inputs[:3])
    if {q[1], k[1], v[1]} != {1} or q[2] != k[2] or k[0] != v[0]:
        raise FormatError(
            f"node {node.name!r} ({node.op}) needs sequences (Tq, 1, C), (Tk, 1, C) and (Tk, 1, Cv), got {q}, {k} and {v}"
        )
    if q[2] % node["heads"] or v[2] % node["heads"]:
        raise FormatError(
            f"node {node.name!r} ({node.op}): heads {node['heads']} must divide {q[2]} and {v[2]} channels"
        )
    for length, count in inputs[3:]:
        if (length, count) != (k[0], 2):
            raise FormatError(
                f"node {node.name!r} ({node.op}) needs a mask of {k[0]} tokens from 0 to 1, got {length} from 0 to {count - 1}"
            )
    return q[0], 1, v[2]


def binary_attention_shape(node: Node, inputs: list[Shape], tensors: Tensors) -> Shape:
    shape = attention_shape(node, inputs, tensors)
    for what, channels in zip(("query", "key", "value"), (inputs[0][2], inputs[1][2], inputs[2][2]), strict=True):
        tensors.expect(node, what, "F32", channels)
    return shape


def attention(
    node: Node, tensors: Arrays, q: np.ndarray, k: np.ndarray, v: np.ndarray, mask: np.ndarray | None = None
) -> np.ndarray:
    """(B, Tq, 1, C), (B, Tk, 1, C), (B, Tk, 1, Cv), mask int32 (B, Tk) -> (B, Tq, 1, Cv)."""
    q, k, v = (_split(node, x) for x in (q, k, v))  # (B, heads, T, C / heads)
    scores: np.ndarray = np.zeros((*q.shape[:3], k.shape[2]), np.float32)  # (B, heads, Tq, Tk)
    for c in range(q.shape[3]):
        scores = fma(q[..., c, None], k[:, :, None, :, c], scores)
    parts = softmax(scores * np.float32(node["scale"]), _there(mask))
    y: np.ndarray = np.zeros((*q.shape[:3], v.shape[3]), np.float32)  # (B, heads, Tq, Cv / heads)
    for u in range(v.shape[2]):
        y = fma(parts[..., u, None], v[:, :, None, u], y)
    return _joined(y)


def binary_attention(
    node: Node, tensors: Arrays, q: np.ndarray, k: np.ndarray, v: np.ndarray, mask: np.ndarray | None = None
) -> np.ndarray:
    """As `attention`."""
    q, k, v = (
        _split(node, np.where(x >= tensors[what], 1.0, -1.0))  # float64 counts exactly
        for x, what in ((q, "query"), (k, "key"), (v, "value"))
    )
    counts = q @ k.swapaxes(-1, -2)  # (B, heads, Tq, Tk)
    scores = np.float32(node["scale"]) * counts.astype(np.float32)
    there = _there(mask)
    parts = softmax(scores, there) if node["softmax"] else scores
    chosen = parts >= np.float32(node["level"])
    if there is not None:
        chosen &= there
    y = np.float32(node["factor"]) * (chosen.astype(np.float64) @ v).astype(np.float32)  # (B, heads, Tq, Cv / heads)
    return _joined(y)


def _split(node: Node, x: np.ndarray) -> np.ndarray:
    """(B, T, 1, C) -> (B, heads, T, C / heads)."""
    return x.reshape(*x.shape[:2], node["heads"], -1).swapaxes(1, 2)


def _joined(y: np.ndarray) -> np.ndarray:
    """(B, heads, T, C / heads) -> (B, T, 1, C)."""
    return y.swapaxes(1, 2).reshape(len(y), y.shape[2], 1, -1)


def _there(mask: np.ndarray | None) -> np.ndarray | None:
    """Tokens (B, Tk) -> whether a key is there, (B, 1, 1, Tk)."""
    return None if mask is None else (mask != 0)[:, None, None]
