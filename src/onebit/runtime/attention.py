"""Attention of several heads, of sequences (T, 1, C)."""

from __future__ import annotations

import numpy as np

from onebit.errors import FormatError
from onebit.runtime.convolutions import fma
from onebit.runtime.exponentials import softmax
from onebit.runtime.fields import MAX_SIZE, integer, number
from onebit.runtime.graph import Attribute, Node
from onebit.runtime.tensors import Arrays, Shape, Tensors, map_of

ATTENTION = {"heads": Attribute(integer(1, MAX_SIZE)), "scale": Attribute(number)}


def attention_shape(node: Node, inputs: list[Shape], tensors: Tensors) -> Shape:
    q, k, v = (map_of(node, shape) for shape in inputs)
    if {q[1], k[1], v[1]} != {1} or q[2] != k[2] or k[0] != v[0]:
        raise FormatError(
            f"node {node.name!r} (attention) needs sequences (Tq, 1, C), (Tk, 1, C) and (Tk, 1, Cv), got {q}, {k} and {v}"
        )
    if q[2] % node["heads"] or v[2] % node["heads"]:
        raise FormatError(
            f"node {node.name!r} (attention): heads {node['heads']} must divide {q[2]} and {v[2]} channels"
        )
    return q[0], 1, v[2]


def attention(node: Node, tensors: Arrays, q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
    """softmax(scale·q·kᵀ)·v of each head; (B, Tq, 1, C), (B, Tk, 1, C), (B, Tk, 1, Cv) -> (B, Tq, 1, Cv)."""
    heads = node["heads"]
    q, k, v = (x.reshape(*x.shape[:2], heads, -1).swapaxes(1, 2) for x in (q, k, v))  # (B, heads, T, C / heads)
    scores: np.ndarray = np.zeros((*q.shape[:3], k.shape[2]), np.float32)  # (B, heads, Tq, Tk)
    for c in range(q.shape[3]):
        scores = fma(q[..., c, None], k[:, :, None, :, c], scores)
    parts = softmax(scores * np.float32(node["scale"]))
    y: np.ndarray = np.zeros((*q.shape[:3], v.shape[3]), np.float32)  # (B, heads, Tq, Cv / heads)
    for u in range(v.shape[2]):
        y = fma(parts[..., u, None], v[:, :, None, u], y)
    return y.swapaxes(1, 2).reshape(len(y), q.shape[2], 1, -1)  # (B, Tq, 1, Cv)
