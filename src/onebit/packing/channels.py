"""Layers and calls with a parameter for each channel, or a sum over channels or pixels."""

from __future__ import annotations

import torch
from torch import Tensor, fx

from onebit.packing import fold, layouts
from onebit.packing.arithmetic import scaled
from onebit.packing.lowering import Lowering, Value


def _one(size: int) -> Tensor:
    return torch.ones(size, dtype=torch.float64)


def batch_norm(lowering: Lowering, node: fx.Node, affine: fold.Affine) -> None:
    """scale·x + bias along the tensor's second axis."""
    value = lowering.value(node)
    if not value.over(1, "C") and value.size[-1] > 1:
        raise lowering.refuse(
            node,
            f"takes the second axis of {lowering.described(node, value)}, which has no operator in the format but for channels",
        )
    scaled(lowering, node, value, 1, affine.scale, affine.bias)
    lowering.norms[node] = affine.scale


def per_channel(lowering: Lowering, node: fx.Node, op: str, tensor: str, parameters: list[Tensor]) -> None:
    """An elementwise operator whose parameters (C,), or of one number, become the rows of one tensor, or a tensor (C,) if there
    is only one."""
    value = lowering.value(node)
    single = all(parameter.numel() == 1 for parameter in parameters)
    if not (single or value.over(1, "C")):
        raise lowering.refuse(
            node,
            f"{op} has parameters for the second axis of {lowering.described(node, value)}, which has no operator in the format "
            "but for channels; give it one parameter",
        )
    channels = value.size[-1]
    rows = [parameter.detach().double().flatten().expand(channels) for parameter in parameters]
    values = torch.stack(rows) if len(rows) > 1 else rows[0].clone()
    lowering.emit(node, op, value, tensors={tensor: values if single else lowering.reorder(value.axes[1], values)})


def layer_norm(
    lowering: Lowering, node: fx.Node, shape: tuple[int, ...], weight: Tensor | None, bias: Tensor | None, eps: float
) -> None:
    value = lowering.tidy(node, lowering.value(node))
    channels = value.size[-1]
    if len(shape) > 1 and value.is_map() and shape == lowering.shape(node)[1:] and weight is None and bias is None:
        tensors = {"channels": torch.stack([_one(channels), 0 * _one(channels)])}
        lowering.emit(node, "group_norm", value, attributes={"groups": 1, "eps": float(eps)}, tensors=tensors)
        return
    last = len(value.axes) - 1
    if len(shape) != 1 or not value.over(last, "C"):
        raise lowering.refuse(
            node,
            f"a layer norm over {shape} of {lowering.described(node, value)} has no operator in the format, which norms the "
            "channels of each pixel",
        )
    tensors = {"channels": _rows(lowering, value, last, weight, bias)}
    lowering.emit(node, "layer_norm", value, attributes={"eps": float(eps)}, tensors=tensors)


def group_norm(
    lowering: Lowering, node: fx.Node, groups: int, weight: Tensor | None, bias: Tensor | None, eps: float
) -> None:
    value = lowering.map(node)
    tensors = {"channels": _rows(lowering, value, 1, weight, bias)}
    lowering.emit(node, "group_norm", value, attributes={"groups": groups, "eps": float(eps)}, tensors=tensors)


def l2_norm(lowering: Lowering, node: fx.Node, weight: Tensor) -> None:
    value = lowering.map(node)
    lowering.emit(node, "l2_norm", value, tensors={"channels": weight.detach().double()[None]})


def _rows(lowering: Lowering, value: Value, axis: int, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    channels = value.size[-1]
    rows = [
        _one(channels) if weight is None else weight.detach().double(),
        0 * _one(channels) if bias is None else bias.detach().double(),
    ]
    return lowering.reorder(value.axes[axis], torch.stack(rows))


def softmax(lowering: Lowering, node: fx.Node, axis: int | None) -> None:
    kept = lowering.any(node)
    rank = len(lowering.shape(node))
    if not isinstance(kept, Value):
        lowering.values[node] = kept.softmax(lowering, node, axis)
        return
    value = lowering.tidy(node, lowering.value(node))
    if axis is None or not value.over(axis % rank, "C", ordered=True):
        raise lowering.refuse(
            node,
            f"along {axis} of {lowering.described(node, value)} has no operator in the format, which takes channels",
        )
    lowering.emit(node, "softmax", value)


def mean(lowering: Lowering, node: fx.Node, axes: list[int], keep: bool) -> None:
    """Over all pixels, or all tokens of a sequence. That of one pixel is what it was."""
    value = lowering.tidy(node, lowering.value(node))
    rank = len(value.axes)
    over = {axis % rank for axis in axes}
    rest = [() if i in over else axis for i, axis in enumerate(value.axes)]
    parts = [part for i in over for part in value.axes[i]]
    pixels = 1 if value.vector else value.size[0] * value.size[1]
    whole = all(part.axis in "HW" for part in parts) and layouts.count(tuple(parts)) == pixels
    if not whole or any(axis and axis[0].axis in "HW" for axis in rest):
        raise lowering.refuse(
            node,
            f"over {axes} of {lowering.described(node, value)} has no operator in the format; use nn.AdaptiveAvgPool2d(1), "
            "mean((2, 3)), or mean(1) of a sequence (B, T, C)",
        )
    found = tuple(axis for i, axis in enumerate(rest) if keep or i not in over)
    if value.vector:
        lowering.view(node, found, value)
    else:
        lowering.emit(node, "global_avg_pool", value, like=Value("", value.size[2:], found))


def constant(lowering: Lowering, node: fx.Node, source: object) -> Tensor | None:
    """A weight that a call is given, or None. Raises UserError for one that depends on an input."""
    if source is None:
        return None
    found = lowering.constant(source)
    if not isinstance(found, Tensor):
        raise lowering.refuse(node, "takes a weight that depends on an input, which has no operator in the format")
    return found
