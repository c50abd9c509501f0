"""Attention, as one operator: of a call that computes it, and of products and a softmax that are written out.

scores = scale · q kᵀ of each head,  y = softmax(scores) v        (T, C) each, heads side by side in C
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn

from onebit.nn.attention import Attention, BinaryAttention, masked, operand
from onebit.packing import layouts
from onebit.packing.layouts import Part
from onebit.packing.lowering import Lowering, Value
from onebit.packing.masks import keys
from onebit.packing.products import linear, replaced

WHAT = ("query", "key", "value")
NEAR = 1e-5  # of a level: closer to it, a softmax of float32 says nothing


class Scores(NamedTuple):
    """Products of queries and keys that wait for the values: (B, heads, Tq, Tk)."""

    q: Value
    k: Value
    scale: float
    soft: bool = False

    def __str__(self) -> str:
        return "the attention of tokens to each other"

    def times(self, factor: float) -> Scores:
        return self._replace(scale=self.scale * factor)

    def softmax(self, lowering: Lowering, node: fx.Node, axis: int | None) -> Scores:
        if self.soft or axis not in (-1, 3):
            raise lowering.refuse(
                node, f"of attention along {axis} has no operator in the format, which sums over keys"
            )
        return self._replace(soft=True)

    def permuted(self, lowering: Lowering, node: fx.Node, order: list[int]) -> Scores:
        raise lowering.refuse(
            node, "of attention before its values has no operator in the format; leave the order as it is"
        )


def heads(lowering: Lowering, node: fx.Node, value: Value) -> tuple[Value, int]:
    """A value that is (B, heads, T, d) as a sequence, and the number of heads: 1 of what is (B, T, C)."""
    value = lowering.sequence(node, value)
    tokens = () if value.vector else layouts.whole("H", value.size[0])
    channels = value.size[-1]
    count = layouts.count(value.axes[1]) if len(value.axes) == 4 else 1
    one = [layouts.joined([Part("C", channels // count, count)])] if len(value.axes) == 4 else []
    expected = [*one, tokens, layouts.joined([Part("C", 1, channels // count)])]
    if value.vector or value.size[1] != 1 or list(value.axes[1:]) != expected:
        raise lowering.refuse(
            node,
            f"of {lowering.described(node, value)} has no operator in the format, which has attention of queries, keys and values "
            "(B, heads, T, channels), the heads side by side",
        )
    return value, count


def attend(
    lowering: Lowering, node: fx.Node, q: Value, k: Value, v: Value, scale: float, mask: fx.Node | None = None
) -> None:
    """mask: of bool, True for keys that are there: (B, 1, 1, Tk), or of values (B, T, C) (B, 1, Tk)."""
    (q, count), (k, others), (v, more) = (heads(lowering, node, value) for value in (q, k, v))
    if not count == others == more:
        raise lowering.refuse(
            node, f"{count}, {others} and {more} heads have no operator in the format, which has equal ones"
        )
    channels = v.size[2]
    size = (q.size[0], 1, channels)
    one = [layouts.joined([Part("C", channels // count, count)])] if len(q.axes) == 4 else []
    last = layouts.joined([Part("C", 1, channels // count)])
    axes = (q.axes[0], *one, layouts.whole("H", size[0]), last)
    seen = (q.axes[0], *[()] * (len(q.axes) - 2), layouts.whole("H", k.size[0]))
    there = keys(lowering, node, mask, seen, there=True)
    attributes = {"heads": count, "scale": scale}
    lowering.emit(node, "attention", q, k, v, *there, like=Value("", size, axes), attributes=attributes)


def _attention(lowering: Lowering, node: fx.Node) -> None:
    names = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")
    given: dict[str, Any] = dict(zip(names, node.args)) | dict(node.kwargs)
    if given.get("is_causal") or given.get("enable_gqa"):
        raise lowering.refuse(
            node, "with a mask of queries (is_causal) or enable_gqa has no operator in the format; leave them out"
        )
    if given.get("dropout_p"):
        raise lowering.refuse(node, "stays random in evaluation; give dropout_p only in training")
    q, k, v = (lowering.value(node, given[name]) for name in names[:3])
    scale = given.get("scale") or 1 / math.sqrt(lowering.shape(given["query"])[-1])
    attend(lowering, node, q, k, v, float(scale), given.get("attn_mask"))


def _operands(lowering: Lowering, node: fx.Node) -> tuple[list[Value], Value, list[Value]]:
    """Of a layer of attention: queries, keys and values (B, T, C), what the result is like, and the mask."""
    names = ("q", "k", "v", "hidden")
    given: dict[str, Any] = dict(zip(names, node.args)) | dict(node.kwargs)
    found = []
    for name in names[:3]:
        value = lowering.sequence(node, lowering.tidy(node, lowering.value(node, given[name])))
        if value.vector or value.axes != layouts.of_sequence(value.size, lowering.batch):
            raise lowering.refuse(
                node, f"takes sequences (B, T, C), not {lowering.described(node, value, given[name])}"
            )
        found.append(value)
    q, k, v = found
    size = (q.size[0], 1, v.size[2])
    seen = (q.axes[0], layouts.whole("H", k.size[0]))
    mask = keys(lowering, node, given.get("hidden"), seen, there=False)
    return found, Value("", size, layouts.of_sequence(size, lowering.batch)), mask


def real_attention(lowering: Lowering, node: fx.Node, name: str, layer: Attention) -> None:
    operands, like, mask = _operands(lowering, node)
    attributes = {"heads": layer.heads, "scale": 1 / math.sqrt(operands[0].size[2] // layer.heads)}
    lowering.emit(node, "attention", *operands, *mask, like=like, attributes=attributes)


def binary_attention(lowering: Lowering, node: fx.Node, name: str, layer: BinaryAttention) -> None:
    """One operation, of binarizers with one form each: two opposite values of queries, keys and values, 0 and one more of
    probabilities."""
    operands, like, mask = _operands(lowering, node)
    forms = {what: getattr(layer, f"{what}_binarizer").freeze() for what in ("query", "key", "value", "probability")}
    for what, found in forms.items():
        (form, *others), wanted = found, 0 if what != "probability" else found[0].scale
        per_channel = isinstance(form.threshold, torch.Tensor) and form.threshold.numel() > 1
        if others or form.offset != wanted or isinstance(form.threshold, str) or (what not in WHAT and per_channel):
            raise lowering.refuse(
                node,
                f"its binarizer of {what} ({type(getattr(layer, f'{what}_binarizer')).__name__}) has no operator in the format, which "
                "has -a and a of queries, keys and values, and 0 and a of probabilities",
            )
        if not form.scale > 0:
            raise lowering.refuse(node, f"its two values of {what} are equal (scale {form.scale}); train it longer")
    q, k, v, p = (found[0] for found in forms.values())
    tensors = {
        what: torch.as_tensor(form.threshold, dtype=torch.float64).detach().flatten().expand(value.size[2]).clone()
        for what, form, value in zip(WHAT, (q, k, v), operands)
    }
    attributes = {
        "heads": layer.heads,
        "scale": q.scale * k.scale / math.sqrt(operands[0].size[2] // layer.heads),
        "level": float(p.threshold),
        "factor": 2 * p.scale * v.scale,
        **({} if layer.softmax else {"softmax": False}),
    }
    lowering.emit(node, "binary_attention", *operands, *mask, like=like, attributes=attributes, tensors=tensors)


def close(layer: BinaryAttention, q: Tensor, k: Tensor, v: Tensor, hidden: Tensor | None = None) -> Tensor:
    """Of which queries (B, T, C) a probability is so near to where it turns from 0 to 1 that rounding decides: bool (B, T)."""
    if not layer.softmax:  # products with whole numbers, which all round alike
        return q.new_zeros(q.shape[:2], dtype=torch.bool)
    parts = ((layer.query_binarizer, q), (layer.key_binarizer, k))
    (q, of_q), (k, of_k) = (operand(binarizer, x.movedim(-1, 1), exact=True) for binarizer, x in parts)
    q, k = (layer.split(x.movedim(1, -1)).double() for x in (q, k))  # (B, heads, T, d)
    scores = q @ k.transpose(-1, -2) * (of_q * of_k / math.sqrt(q.shape[-1]))  # (B, heads, T, T)
    level = float(layer.probability_binarizer.freeze()[0].threshold)
    distance = (masked(scores, hidden).softmax(-1) / level - 1).abs()
    return (distance < NEAR).any(-1).any(1)


def _matmul(lowering: Lowering, node: fx.Node) -> None:
    one, two = lowering.argument(node), lowering.argument(node, 1, "other")
    kept = lowering.any(node, one)
    weight = lowering.constant(two)
    if isinstance(weight, torch.Tensor) and weight.dim() == 2:
        linear(lowering, node, weight.T, None)
    elif isinstance(kept, Scores):
        if not kept.soft:
            raise lowering.refuse(node, "of attention without a softmax has no operator in the format")
        attend(lowering, node, kept.q, kept.k, lowering.value(node, two), kept.scale)
    else:
        q, k = lowering.value(node, one), lowering.value(node, two)
        lowering.values[node] = Scores(q, k._replace(axes=(*k.axes[:-2], k.axes[-1], k.axes[-2])), 1.0)


ATTENTION: dict[str, Callable[[Lowering, fx.Node], None]] = {
    "scaled_dot_product_attention": _attention,
    **dict.fromkeys(("matmul", "bmm"), _matmul),
}


class Weights:
    """Of attention, which no operator gives."""

    def __str__(self) -> str:
        return "the weights of attention (need_weights=True)"


def multihead(lowering: Lowering, node: fx.Node, name: str, layer: nn.MultiheadAttention) -> None:
    """nn.MultiheadAttention of whole sequences: three linear layers, attention, one linear layer."""
    names = (
        "query",
        "key",
        "value",
        "key_padding_mask",
        "need_weights",
        "attn_mask",
        "average_attn_weights",
        "is_causal",
    )
    given: dict[str, Any] = dict(zip(names, node.args)) | dict(node.kwargs)
    if any(given.get(mask) is not None for mask in ("key_padding_mask", "attn_mask")) or given.get("is_causal"):
        raise lowering.refuse(node, "attention with a mask has no operator in the format; leave masks out")
    if layer.bias_k is not None or layer.add_zero_attn:
        raise lowering.refuse(
            node, "attention with add_bias_kv or add_zero_attn has no operator in the format; leave them out"
        )
    several = layer.in_proj_weight is None
    weights = (
        [layer.q_proj_weight, layer.k_proj_weight, layer.v_proj_weight] if several else layer.in_proj_weight.chunk(3)
    )
    biases = (None, None, None) if layer.in_proj_bias is None else layer.in_proj_bias.chunk(3)
    whole = lowering.name(node)
    inner = []
    for what, weight, bias in zip(names, weights, biases):
        value = lowering.sequence(node, lowering.tidy(node, lowering.value(node, given[what])))
        inner.append(_projected(lowering, node, value, f"{whole}.{what}", weight, bias))
    q, k, v = inner
    scale = 1 / math.sqrt(layer.head_dim)
    attributes = {"heads": layer.num_heads, "scale": scale}
    operation = lowering.add("attention", f"{whole}.attention", [q.name, k.name, v.name], attributes=attributes)
    answer = Value(operation.name, (q.size[0], 1, v.size[2]), replaced(q, len(q.axes) - 1, v.size[2]).axes)
    out = layer.out_proj
    lowering.values[node] = (_projected(lowering, node, answer, whole, out.weight, out.bias), Weights())


def _projected(
    lowering: Lowering, node: fx.Node, value: Value, name: str, weight: torch.Tensor, bias: torch.Tensor | None
) -> Value:
    """A linear layer of the tokens of a sequence."""
    last = len(value.axes) - 1
    if value.vector or value.size[1] != 1 or not value.over(last, "C"):
        raise lowering.refuse(node, f"takes sequences (B, T, C), not {lowering.described(node, value)}")
    tensors = {"weight": lowering.reorder(value.axes[last], weight.detach().double())[:, :, None, None]}
    if bias is not None:
        tensors["bias"] = bias.detach().double()
    operation = lowering.add("conv", name, [value.name], tensors=tensors)
    return replaced(value, last, len(weight))._replace(name=operation.name)
