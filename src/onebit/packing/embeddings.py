"""Rows of numbers for tokens, real and binary, and for places."""

from __future__ import annotations

import torch
from torch import Tensor, fx

from onebit.nn.embedding import BinaryEmbedding
from onebit.packing import layouts
from onebit.packing.lowering import Lowering, Value


def _read(lowering: Lowering, node: fx.Node, rows: int, width: int) -> tuple[Value, Value]:
    """(The tokens that are read; what the result is like.) Raises UserError for anything but tokens of so many rows."""
    value = lowering.any(node)
    source = lowering.tokens.get(getattr(value, "name", ""))
    if source is None:
        read = getattr(value, "name", value)
        raise lowering.refuse(node, f"nn.Embedding reads inputs that are onebit.Tokens, not {read}")
    if source.count != rows:
        raise lowering.refuse(
            node,
            f"it has a row for {rows} tokens, the input {source.name} has {source.count}; give "
            f"onebit.Tokens({source.length}, {rows})",
        )
    size = (source.length, 1, width)
    return value, Value("", size, layouts.of_sequence(size, lowering.batch))


def embedding(lowering: Lowering, node: fx.Node, weight: Tensor, max_norm: float | None) -> None:
    """A row of the weight (V, C) for each token."""
    if max_norm is not None:
        raise lowering.refuse(node, "nn.Embedding with max_norm changes its weights as it runs; leave max_norm out")
    value, like = _read(lowering, node, *weight.shape)
    lowering.emit(node, "embedding", value, like=like, tensors={"weight": weight.detach().double()})


def binary(lowering: Lowering, node: fx.Node, name: str, layer: BinaryEmbedding) -> None:
    """One operation; or, of N weight forms, N operations <name>.w<n> and their sum <name>."""
    if not layer.weight.isfinite().all():
        raise lowering.refuse(node, "a weight is not finite; the training has diverged")
    if layer.max_norm is not None:
        raise lowering.refuse(node, "max_norm changes its weights as it runs; leave max_norm out")
    value, like = _read(lowering, node, *layer.weight.shape)
    whole, total = lowering.name(node), None
    forms = layer.weight_binarizer.freeze(layer.weight.detach())
    for number, form in enumerate(forms, start=1):
        rows = [form.scale, *([] if form.offset is None else [form.offset])]
        tensors = {"signs": form.signs.detach(), "channels": torch.stack([row.detach().double() for row in rows])}
        part = whole if len(forms) == 1 else f"{whole}.w{number - 1}"
        attributes = {"width": layer.embedding_dim}
        product = lowering.emit(
            node, "binary_embedding", value, like=like, name=part, attributes=attributes, tensors=tensors
        )
        if total is not None:
            part = whole if number == len(forms) else f"{part}.sum"
            product = lowering.emit(node, "add", total, product, name=part)
        total = product


def positions(lowering: Lowering, node: fx.Node, value: Value, table: Tensor) -> bool:
    """Whether the call adds the first rows of the table (P, C) to a sequence (B, T, C), which then is one operation, for any T."""
    value = lowering.sequence(node, lowering.tidy(node, value))
    sequence = not value.vector and value.size[1] == 1 and value.axes == layouts.of_sequence(value.size, lowering.batch)
    if not sequence or lowering.shape(node)[1:] != (value.size[0], value.size[2]):
        return False
    lowering.emit(node, "positions", value, tensors={"weight": table.detach().double()})
    return True
