"""Embeddings, positions and attention in ONNX. Sequences (T, 1, C) are (B, C, T, 1) there, tokens (B, T).

Of words with one bit the file keeps the bits; a row of them is unpacked for each token, as in `binary`. Signs of queries, keys and
values, and probabilities that are 0 or 1, are float32 there, their sums whole numbers in any order, kept apart from what follows
by Round; a softmax whose result is compared is computed in float64 and rounded, as the format has it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from onnx import TensorProto

from onebit.export.onnx.binary import exact, signs_at, signs_of_bytes
from onebit.export.onnx.drawing import QONNX, Drawing, Value
from onebit.export.onnx.layers import float_weight
from onebit.runtime.bits import unpack
from onebit.runtime.graph import Node
from onebit.runtime.tensors import Arrays

LOWEST = float(np.finfo(np.float32).min)


def sequence(draw: Drawing, rows: str) -> str:
    """(B, T, C) -> (B, C, T, 1)"""
    columns = draw.add("Transpose", rows, perm=[0, 2, 1])  # (B, C, T)
    return draw.add("Unsqueeze", columns, draw.constant([3], np.int64))


def embedding(draw: Drawing, node: Node, arrays: Arrays, tokens: Value) -> str:
    """The row of each token; of weights in 8 bits the rows are multiplied, not the table."""
    rows = draw.add("Gather", draw.tensor("weight", arrays["weight"]), tokens)  # (B, T, C)
    if "weight_scale" in arrays:
        scale = draw.add("Gather", draw.tensor("weight_scale", arrays["weight_scale"][:, None]), tokens)  # (B, T, 1)
        rows = draw.add("Mul", draw.cast(rows), scale)
    return sequence(draw, rows)


def binary_embedding(draw: Drawing, node: Node, arrays: Arrays, tokens: Value) -> str:
    """scale[v]·B[v] (+ offset[v]) of each token v."""
    width = node["width"]
    if draw.bipolar:
        weight = draw.tensor("weight", unpack(arrays["bits"], width).astype(np.float32))  # (V, C)
        signs = draw.add("Gather", draw.add("BipolarQuant", weight, draw.constant(1), domain=QONNX), tokens)
    else:
        bits = draw.add("Gather", draw.tensor("bits", arrays["bits"]), tokens)  # (B, T, bytes)
        signs = signs_of_bytes(draw, bits)  # (B, T, bytes, 8)
        signs = draw.reshape(signs, 0, 0, -1)  # (B, T, 8·bytes)
        if width % 8:
            limits = (draw.constant([number], np.int64) for number in (0, width, 2))  # start, end, axis
            signs = draw.add("Slice", signs, *limits)  # (B, T, C)
    scale, *offset = (
        draw.add("Gather", draw.tensor(what, row[:, None]), tokens)  # (B, T, 1)
        for what, row in zip(("scale", "offset"), arrays["channels"])
    )
    rows = draw.add("Mul", signs, scale)
    return sequence(draw, draw.add("Add", rows, offset[0]) if offset else rows)


def positions(draw: Drawing, node: Node, arrays: Arrays, x: Value) -> str:
    """x[h, w] + weight[h], of as many rows as x has."""
    height = x.shape[0]
    scale = arrays["weight_scale"][None, :height] if "weight_scale" in arrays else None  # (1, H)
    rows = float_weight(draw, arrays["weight"][:height].T, scale)  # (C, H)
    return draw.add("Add", x, draw.add("Unsqueeze", rows, draw.constant([2], np.int64)))  # (C, H, 1)


def split(draw: Drawing, node: Node, x: Value | str, shape: tuple[int, ...]) -> str:
    """(B, C, T, 1) -> (B, heads, C / heads, T): one head's channels lie side by side."""
    return draw.reshape(x, 0, node["heads"], shape[2] // node["heads"], shape[0])


def there(draw: Drawing, mask: Value) -> str:
    """Which keys are there, (B, 1, 1, Tk), of tokens (B, Tk)."""

    def make() -> str:
        found = draw.add("Cast", mask, to=TensorProto.BOOL)
        return draw.add("Unsqueeze", found, draw.constant([1, 2], np.int64))

    return draw.once(("there", mask.name), make)


def softmax(draw: Drawing, scores: str, mask: tuple[Value, ...], wide: bool = False) -> str:
    """Over the keys that are there, 0 of the others. LOWEST gives them 0 beside any other; where none is there, it does not.

    wide: in float64, rounded
    """
    if mask:
        scores = draw.add("Where", there(draw, mask[0]), scores, draw.constant(LOWEST))
    if wide:
        parts = draw.cast(draw.add("Softmax", draw.cast(scores, TensorProto.DOUBLE), axis=-1))
    else:
        parts = draw.add("Softmax", scores, axis=-1)
    return draw.add("Where", there(draw, mask[0]), parts, draw.constant(0)) if mask else parts


def attention(draw: Drawing, node: Node, arrays: Arrays, q: Value, k: Value, v: Value, *mask: Value) -> str:
    """softmax(scale·q·kᵀ)·v for each head."""
    q_, k_, v_ = (split(draw, node, x, x.shape) for x in (q, k, v))  # (B, h, C/h, T)
    products = draw.add("MatMul", draw.add("Transpose", q_, perm=[0, 1, 3, 2]), k_)  # (B, h, Tq, Tk)
    weights = softmax(draw, draw.add("Mul", products, draw.constant(node["scale"])), mask)
    y = draw.add("MatMul", v_, draw.add("Transpose", weights, perm=[0, 1, 3, 2]))  # (B, h, Cv/h, Tq)
    return draw.reshape(y, 0, v.shape[2], q.shape[0], 1)  # (B, Cv, Tq, 1)


def binary_attention(draw: Drawing, node: Node, arrays: Arrays, q: Value, k: Value, v: Value, *mask: Value) -> str:
    """factor·P·A_v, P = 1 where p ≥ level, p = softmax(s) or s, s = scale·A_q·A_kᵀ, for each head."""
    one = draw.constant(1)
    signs = [
        split(draw, node, signs_at(draw, x, draw.tensor(what, x.beside(arrays[what]))), x.shape)
        for x, what in ((q, "query"), (k, "key"), (v, "value"))
    ]  # (B, h, C/h, T)
    counts = exact(draw, draw.add("MatMul", draw.add("Transpose", signs[0], perm=[0, 1, 3, 2]), signs[1]))
    scores = draw.add("Mul", counts, draw.constant(node["scale"]))  # (B, h, Tq, Tk)
    parts = softmax(draw, scores, mask, wide=True) if node["softmax"] else scores
    chosen = draw.add("GreaterOrEqual", parts, draw.constant(node["level"]))
    if mask:
        chosen = draw.add("And", chosen, there(draw, mask[0]))
    picked = draw.add("Where", chosen, one, draw.constant(0))
    sums = exact(
        draw, draw.add("MatMul", signs[2], draw.add("Transpose", picked, perm=[0, 1, 3, 2]))
    )  # (B, h, Cv/h, Tq)
    y = draw.add("Mul", sums, draw.constant(node["factor"]))
    return draw.reshape(y, 0, v.shape[2], q.shape[0], 1)  # (B, Cv, Tq, 1)


SEQUENCES: dict[str, Callable[..., str]] = {
    "embedding": embedding,
    "binary_embedding": binary_embedding,
    "positions": positions,
    "attention": attention,
    "binary_attention": binary_attention,
}
