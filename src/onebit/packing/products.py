"""Convolutions and linear layers, real and binary, from weights as layers or calls of functions have them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from onebit.errors import UserError
from onebit.nn.binarizer import ActivationForm, WeightForm
from onebit.nn.layers import BinaryConv2d, BinaryLinear
from onebit.packing import fold, layouts
from onebit.packing.lowering import Lowering, Value


def pair(value: int | tuple[int, ...] | list[int]) -> list[int]:
    found = list(value) if isinstance(value, tuple | list) else [value]
    return found * 2 if len(found) == 1 else found


def window(layer: Any, kernel: tuple[int, ...]) -> tuple[dict[str, Any], list[int], str]:
    """(The attributes of a convolution, with the padding that is the same on both sides and zeros; the pixels to pad before it,
    [top, bottom, left, right], and how.)"""
    padding, dilation = layer.padding, pair(layer.dilation)
    sides = [0, 0, 0, 0]
    if padding == "same":  # what is odd comes behind
        for axis, (size, step) in enumerate(zip(kernel, dilation)):
            total = step * (size - 1)
            sides[2 * axis : 2 * axis + 2] = [total // 2, total - total // 2]
    elif padding != "valid":
        sides = [side for size in pair(padding) for side in (size, size)]
    mode = layer.padding_mode
    attributes = {"stride": pair(layer.stride), "padding": [0, 0], "dilation": dilation, "groups": layer.groups}
    if mode == "zeros" and sides[::2] == sides[1::2]:
        attributes["padding"], sides = sides[::2], [0, 0, 0, 0]
    return attributes, sides, mode


def padded(lowering: Lowering, node: fx.Node, value: Value, sides: list[int], mode: str) -> Value:
    """The map with pixels around it."""
    if not any(sides):
        return value
    height, width, channels = value.size
    size = (height + sides[0] + sides[1], width + sides[2] + sides[3], channels)
    attributes = {"pixels": sides, "mode": mode}
    operation = lowering.add("pad", f"{lowering.name(node)}.pad", [value.name], attributes=attributes)
    return Value(operation.name, size, layouts.of_map(size, lowering.batch))


def centre(lowering: Lowering, node: fx.Node, layer: Any, kernel: tuple[int, ...]) -> tuple[int, int]:
    """The one tap (kh, kw) of a convolution of 1 x 1 pixels that does not see padding."""
    attributes, sides, _ = window(layer, kernel)
    taps = [divmod(padding, dilation) for padding, dilation in zip(attributes["padding"], attributes["dilation"])]
    inside = all(not rest and tap < size for (tap, rest), size in zip(taps, kernel)) and not any(sides)
    if not inside or lowering.shape(node)[2:] != (1, 1) or (layer.groups > 1 and isinstance(layer, BinaryConv2d)):
        raise UserError(
            f"{lowering.call(node)}: such a convolution after a global average pooling has no operator in the format; "
            "pool with nn.AvgPool2d of the map's size instead"
        )
    return taps[0][0], taps[1][0]


def conv(lowering: Lowering, node: fx.Node, layer: Any, weight: Tensor, bias: Tensor | None) -> None:
    """A convolution with what `layer` has of nn.Conv2d's geometry."""
    tensors = {"weight": weight.detach().double()}  # (O, I/g, KH, KW)
    if bias is not None:
        tensors["bias"] = bias.detach().double()
    kernel = tuple(weight.shape[2:])
    if lowering.value(node).vector:
        kh, kw = centre(lowering, node, layer, kernel)
        parts = tensors["weight"][:, :, kh, kw].chunk(layer.groups)  # (O/g, I/g) each
        tensors["weight"] = torch.block_diag(*parts)  # (O, I)
        linear_of(lowering, node, lowering.value(node), 1, tensors)
        return
    attributes, sides, mode = window(layer, kernel)
    value = padded(lowering, node, lowering.map(node), sides, mode)
    lowering.emit_map(node, "conv", value, attributes=attributes, tensors=tensors)


def transposed_conv(lowering: Lowering, node: fx.Node, layer: Any, weight: Tensor, bias: Tensor | None) -> None:
    """A transposed convolution as the ordinary one that the format keeps: PyTorch's weight (I, O/g, KH, KW) with inputs and
    outputs of each group exchanged, and its taps in the other order."""
    groups = layer.groups
    weight = weight.detach().double()
    taps = weight.reshape(groups, -1, *weight.shape[1:]).transpose(1, 2).flip(3, 4)  # (g, O/g, I/g, KH, KW)
    tensors = {"weight": taps.reshape(-1, *taps.shape[2:])}  # (O, I/g, KH, KW)
    if bias is not None:
        tensors["bias"] = bias.detach().double()
    names = ("stride", "padding", "output_padding", "dilation")
    attributes = {name: pair(getattr(layer, name)) for name in names} | {"groups": groups}
    lowering.emit_map(node, "transposed_conv", lowering.map(node), attributes=attributes, tensors=tensors)


def linear(lowering: Lowering, node: fx.Node, weight: Tensor, bias: Tensor | None) -> None:
    """x Wᵀ + b over the last axis of x: of a vector, or of each pixel of a map."""
    value = lowering.tidy(node, lowering.value(node))
    tensors = {"weight": weight.detach().double()}  # (O, I)
    if bias is not None:
        tensors["bias"] = bias.detach().double()
    linear_of(lowering, node, value, len(value.axes) - 1, tensors)


def linear_of(lowering: Lowering, node: fx.Node, value: Value, axis: int, tensors: dict[str, Tensor]) -> None:
    over(lowering, node, value, axis)
    tensors["weight"] = lowering.reorder(value.axes[axis], tensors["weight"])
    outputs = len(tensors["weight"])
    if not value.vector:
        tensors["weight"] = tensors["weight"][:, :, None, None]
    lowering.emit(
        node, "linear" if value.vector else "conv", value, like=replaced(value, axis, outputs), tensors=tensors
    )


def over(lowering: Lowering, node: fx.Node, value: Value, axis: int) -> None:
    """Raises UserError if an axis of the tensor does not run over the value's channels."""
    if not value.over(axis, "C") and value.size[-1] > 1:
        raise lowering.refuse(
            node,
            f"takes the last axis of {lowering.described(node, value)}, which has no operator in the format but for channels; "
            "permute them to the end, or flatten(1) first",
        )


def replaced(value: Value, axis: int, channels: int) -> Value:
    """Like the value, with so many channels in order along one axis of the tensor."""
    axes = tuple(layouts.whole("C", channels) if i == axis else other for i, other in enumerate(value.axes))
    return Value("", (*value.size[:-1], channels), axes)


def binary(lowering: Lowering, node: fx.Node, name: str, layer: BinaryConv2d | BinaryLinear) -> None:
    """One operation; or, of N activation forms and M weight forms, N x M operations <name>.a<n>w<m> and their sum <name>."""
    if layer.weight_binarizer is None or layer.activation_binarizer is None:
        raise UserError(
            f"layer {name}: its weights or activations are still real; pack the model of the last training step"
        )
    if not layer.weight.isfinite().all():
        raise UserError(f"layer {name}: a weight is not finite; the training has diverged")
    weights, activations = layer.weight_binarizer.freeze(layer.weight.detach()), layer.activation_binarizer.freeze()
    pairs = [(f"a{j}w{i}", w, a) for j, a in enumerate(activations) for i, w in enumerate(weights)]
    whole, total = lowering.name(node), None
    for number, (pair, weight, activation) in enumerate(pairs, start=1):
        part = whole if len(pairs) == 1 else f"{whole}.{pair}"
        product = _binary_product(lowering, node, part, layer, weight, activation, None if total else layer.bias)
        if total:
            part = whole if number == len(pairs) else f"{part}.sum"
            product = lowering.emit(node, "add", total, product, name=part, split=True)
        total = product


def _binary_product(
    lowering: Lowering,
    node: fx.Node,
    part: str,
    layer: BinaryConv2d | BinaryLinear,
    weights: WeightForm,
    activations: ActivationForm,
    bias: Tensor | None,
) -> Value:
    """The operation of one weight form and one activation form."""
    product = fold.binary_product(weights, activations, bias, str(node.target))
    value = lowering.value(node)
    threshold: Any = activations.threshold
    attributes: dict[str, Any] = {"shift": product.shift}
    outputs = len(product.signs)
    if isinstance(layer, BinaryConv2d) and not value.vector:
        value = lowering.map(node)
        axis = 1
        geometry, sides, _ = window(layer, layer.kernel_size)
        if any(sides):
            raise lowering.refuse(
                node, f"padding {layer.padding!r} ({layer.padding_mode}) is unknown; pad with numbers and zeros"
            )
    else:
        value = lowering.tidy(node, value)
        axis = 1 if isinstance(layer, BinaryConv2d) else len(value.axes) - 1
        geometry = {"stride": [1, 1], "padding": [0, 0], "dilation": [1, 1], "groups": 1}
        if isinstance(layer, BinaryConv2d):
            kh, kw = centre(lowering, node, layer, layer.kernel_size)
            product.signs = product.signs[:, :, kh, kw]
        over(lowering, node, value, axis)
        product.signs = lowering.reorder(value.axes[axis], product.signs)
        if not value.vector:  # each pixel, a token
            product.signs = product.signs[:, :, None, None]
    tensors = {}
    if isinstance(threshold, Tensor):
        tensors["threshold"] = lowering.reorder(value.axes[axis], threshold.detach().flatten())
        threshold = "channel"
    attributes["threshold"] = threshold
    content: dict[str, Any] = {"name": part, "attributes": attributes, "tensors": tensors, "product": product}
    if value.vector:
        return lowering.emit(node, "binary_linear", value, like=replaced(value, axis, outputs), **content)
    attributes |= geometry | {"kernel": list(product.signs.shape[2:]), "in_channels": value.size[2]}
    if isinstance(layer, BinaryConv2d):
        return lowering.emit_map(node, "binary_conv", value, **content)
    return lowering.emit(node, "binary_conv", value, like=replaced(value, axis, outputs), **content)
