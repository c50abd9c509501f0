"""Layers of a model that the format has operators for, each with what lowers it: a row of MODULES."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn

from onebit.errors import UserError
from onebit.nn.binarizer import ActivationForm, WeightForm
from onebit.nn.layers import BinaryConv2d, BinaryLinear, OptionA
from onebit.nn.nonlinearities import Hardtanh, Maxout, RPReLU
from onebit.packing import fold
from onebit.packing.lowering import BATCH, Lowering, Operation, same


def _conv_attributes(layer: nn.Conv2d, name: str) -> dict[str, Any]:
    if layer.padding_mode != "zeros" or isinstance(layer.padding, str):
        raise UserError(
            f"layer {name}: padding {layer.padding!r} ({layer.padding_mode}) is unknown; pad with numbers and zeros"
        )
    return {
        "stride": list(layer.stride),
        "padding": list(layer.padding),
        "dilation": list(layer.dilation),
        "groups": layer.groups,
    }


def _centre(lowering: Lowering, node: fx.Node, name: str, layer: nn.Conv2d) -> tuple[int, int]:
    """The one tap (kh, kw) of a convolution of 1 x 1 pixels that does not see padding."""
    attributes = _conv_attributes(layer, name)
    taps = [divmod(padding, dilation) for padding, dilation in zip(attributes["padding"], attributes["dilation"])]
    inside = all(not rest and tap < size for (tap, rest), size in zip(taps, layer.kernel_size))
    if not inside or lowering.shape(node)[1:] != (1, 1) or (layer.groups > 1 and isinstance(layer, BinaryConv2d)):
        raise UserError(
            f"layer {name}: such a convolution after a global average pooling has no operator in the format; "
            "pool with nn.AvgPool2d of the map's size instead"
        )
    return taps[0][0], taps[1][0]


def _conv(lowering: Lowering, node: fx.Node, name: str, layer: nn.Conv2d) -> None:
    tensors = {"weight": layer.weight.detach().double()}
    if lowering.input(node) in lowering.vectors:
        kh, kw = _centre(lowering, node, name, layer)
        parts = tensors["weight"][:, :, kh, kw].chunk(layer.groups)  # (O/g, I/g) each
        tensors["weight"] = torch.block_diag(*parts)  # (O, I)
    if layer.bias is not None:
        tensors["bias"] = layer.bias.detach().double()
    if tensors["weight"].dim() == 2:
        lowering.emit(node, "linear", name, tensors=tensors)
    else:
        lowering.emit(node, "conv", name, attributes=_conv_attributes(layer, name), tensors=tensors)


def _linear(lowering: Lowering, node: fx.Node, name: str, layer: nn.Linear) -> None:
    weight = lowering.reorder(lowering.input(node), layer.weight.detach().double())  # (O, I)
    tensors = {"weight": weight} | ({} if layer.bias is None else {"bias": layer.bias.detach().double()})
    if lowering.input(node) in lowering.sequences:  # of every token: a convolution of 1 x 1
        tensors["weight"] = weight[:, :, None, None]
        lowering.emit(node, "conv", name, sequence=True, tensors=tensors)
        return
    operation = lowering.emit(node, "linear", name, tensors=tensors)
    lowering.order[operation.name] = None


def _embedding(lowering: Lowering, node: fx.Node, name: str, layer: nn.Embedding) -> None:
    if layer.max_norm is not None:
        raise UserError(f"layer {name}: nn.Embedding with max_norm changes its weights as it runs; leave max_norm out")
    source = lowering.tokens.get(lowering.input(node))
    if source is not None and source.count != layer.num_embeddings:
        raise UserError(
            f"layer {name}: it has a row for {layer.num_embeddings} tokens, the input {source.name} has {source.count}; give "
            f"onebit.Tokens({source.length}, {layer.num_embeddings})"
        )
    lowering.emit(node, "embedding", name, tensors={"weight": layer.weight.detach().double()})


def _binary(lowering: Lowering, node: fx.Node, name: str, layer: BinaryConv2d | BinaryLinear) -> None:
    """One operation; or, of N activation forms and M weight forms, N x M operations <name>.a<n>w<m> and their sum <name>."""
    if layer.weight_binarizer is None or layer.activation_binarizer is None:
        raise UserError(
            f"layer {name}: its weights or activations are still real; pack the model of the last training step"
        )
    if not layer.weight.isfinite().all():
        raise UserError(f"layer {name}: a weight is not finite; the training has diverged")
    weights, activations = layer.weight_binarizer.freeze(layer.weight.detach()), layer.activation_binarizer.freeze()
    pairs = [(f"a{j}w{i}", w, a) for j, a in enumerate(activations) for i, w in enumerate(weights)]
    whole, total = lowering.unique(node, name), ""
    for number, (pair, weight, activation) in enumerate(pairs, start=1):
        part = whole if len(pairs) == 1 else f"{whole}.{pair}"
        product = _binary_product(lowering, node, part, layer, weight, activation, None if total else layer.bias)
        if total:
            part = whole if number == len(pairs) else f"{part}.sum"
            product = lowering.emit(node, "add", part, [total, product.name], split=True)
            lowering.order[product.name] = None
        total = product.name


def _binary_product(
    lowering: Lowering,
    node: fx.Node,
    name: str,
    layer: BinaryConv2d | BinaryLinear,
    weights: WeightForm,
    activations: ActivationForm,
    bias: Tensor | None,
) -> Operation:
    """The operation of one weight form and one activation form."""
    source = lowering.input(node)
    product = fold.binary_product(weights, activations, bias, name)
    threshold: Any = activations.threshold
    tensors = {}
    if isinstance(threshold, Tensor):
        tensors["threshold"] = lowering.reorder(source, threshold.detach().flatten())
        threshold = "channel"
    attributes: dict[str, Any] = {"shift": product.shift, "threshold": threshold}
    if isinstance(layer, BinaryConv2d) and source not in lowering.vectors:
        attributes |= _conv_attributes(layer, name)
        attributes |= {"kernel": list(layer.kernel_size), "in_channels": layer.in_channels}
        operation = lowering.emit(node, "binary_conv", name, attributes=attributes, tensors=tensors, product=product)
    else:
        if isinstance(layer, BinaryConv2d):
            kh, kw = _centre(lowering, node, name, layer)
            product.signs = product.signs[:, :, kh, kw]
        product.signs = lowering.reorder(source, product.signs)
        operation = lowering.emit(node, "binary_linear", name, attributes=attributes, tensors=tensors, product=product)
    lowering.order[operation.name] = None
    return operation


def _batch_norm(lowering: Lowering, node: fx.Node, name: str, layer: nn.BatchNorm2d) -> None:
    affine = fold.batch_norm(layer)
    channels = lowering.reorder(lowering.input(node), torch.stack([affine.scale, affine.bias]))
    lowering.emit(node, "affine", name, tensors={"channels": channels})


def _hardtanh(lowering: Lowering, node: fx.Node, name: str, layer: nn.Hardtanh) -> None:
    if (layer.min_val, layer.max_val) != (-1.0, 1.0):
        raise UserError(f"layer {name}: hardtanh from {layer.min_val} to {layer.max_val} is unknown; use -1 to 1")
    lowering.emit(node, "hardtanh", name)


def _per_channel(op: str, tensor: str, *parameters: str) -> Callable[..., None]:
    """An elementwise layer whose parameters (C,) become the rows of one tensor, or a tensor (C,) if there is only one."""

    def convert(lowering: Lowering, node: fx.Node, name: str, layer: nn.Module) -> None:
        channels, sequence = lowering.shape(node)[0], lowering.input(node) in lowering.sequences
        if sequence and all(getattr(layer, p).numel() == 1 for p in parameters):
            channels = lowering.shape(node)[-1]
        elif sequence:
            raise UserError(
                f"layer {name}: {op} of a sequence (B, T, C) has parameters for each of T, which has no operator in the format; "
                "give it one parameter"
            )
        rows = [getattr(layer, p).detach().double().expand(channels) for p in parameters]
        values = torch.stack(rows) if len(rows) > 1 else rows[0]
        lowering.emit(node, op, name, tensors={tensor: lowering.reorder(lowering.input(node), values)})

    return convert


def _plain(op: str) -> Callable[..., None]:
    return lambda lowering, node, name, layer: lowering.emit(node, op, name)


def pair(value: int | tuple[int, ...]) -> list[int]:
    return list(value) if isinstance(value, tuple | list) else [value, value]


def pool(lowering: Lowering, node: fx.Node, name: str, op: str, layer: Any) -> None:
    """A max_pool or avg_pool with the attributes of the layer, or of what has them like it."""
    if getattr(layer, "dilation", 1) not in (1, (1, 1)) or getattr(layer, "divisor_override", None):
        raise UserError(f"layer {name}: pooling with dilation or divisor_override has no operator in the format")
    attributes = {
        "kernel": pair(layer.kernel_size),
        "stride": pair(layer.stride),
        "padding": pair(layer.padding),
        "ceil_mode": layer.ceil_mode,
    }
    if op == "avg_pool":
        attributes["count_include_pad"] = layer.count_include_pad
    lowering.emit(node, op, name, attributes=attributes)


def _pool(op: str) -> Callable[..., None]:
    return lambda lowering, node, name, layer: pool(lowering, node, name, op, layer)


def global_pool(lowering: Lowering, node: fx.Node, name: str, sequence: bool = False) -> None:
    """The mean over all pixels, or over the tokens of a sequence. That of one pixel is what it was."""
    if lowering.input(node) in lowering.vectors:
        lowering.skip(node)
    else:
        lowering.emit(node, "global_avg_pool", name, sequence=sequence)


def _global_pool(lowering: Lowering, node: fx.Node, name: str, layer: Any) -> None:
    if pair(layer.output_size) != [1, 1]:
        raise UserError(f"layer {name}: AdaptiveAvgPool2d to {layer.output_size} has no operator in the format; use 1")
    global_pool(lowering, node, name)


def _option_a(lowering: Lowering, node: fx.Node, name: str, layer: OptionA) -> None:
    lowering.emit(node, "option_a", name, attributes={"stride": layer.stride, "pad": [layer.before, layer.after]})


def flatten(lowering: Lowering, node: fx.Node, name: str, layer: nn.Module | None = None) -> None:
    """Any call that changes the shape of a value and not the order of its elements: flatten, view, reshape, squeeze."""
    source, before, after = lowering.input(node), lowering.shape(node.args[0]), lowering.shape(node)
    line = sum(size > 1 for size in after) <= 1  # of elements
    whole = math.prod(before) == math.prod(after)
    if before == after or (whole and line and source in lowering.vectors):
        lowering.skip(node)
    elif whole and line and (len(after) == 1 or math.prod(before[1:]) == 1):
        operation = lowering.emit(node, "flatten", name)
        lowering.memory[operation.name] = lowering.origin(source)
        ordered = source in lowering.sequences or math.prod(before[1:]) == 1
        lowering.order[operation.name] = None if ordered else (before[0], before[1], before[2])
    else:
        shapes = f"from {before} to {after} of an image" if node.meta["shape"][0] == BATCH else "of the whole batch"
        raise UserError(f"{lowering.call(node)} {shapes} has no operator in the format; use nn.Flatten() or flatten(1)")


MODULES: dict[type[nn.Module], Callable[..., None]] = {
    BinaryConv2d: _binary,
    BinaryLinear: _binary,
    Maxout: _per_channel("maxout", "channels", "positive", "negative"),
    OptionA: _option_a,
    RPReLU: _per_channel("rprelu", "channels", "shift_in", "slope", "shift_out"),
    nn.AdaptiveAvgPool2d: _global_pool,
    nn.AvgPool2d: _pool("avg_pool"),
    nn.BatchNorm1d: _batch_norm,
    nn.BatchNorm2d: _batch_norm,
    nn.Conv2d: _conv,
    nn.Dropout: same,
    nn.Dropout1d: same,
    nn.Dropout2d: same,
    nn.Embedding: _embedding,
    nn.Flatten: flatten,
    nn.Hardtanh: _hardtanh,
    Hardtanh: lambda lowering, node, name, layer: lowering.emit(node, "hardtanh", name),
    nn.Identity: same,
    nn.Linear: _linear,
    nn.MaxPool2d: _pool("max_pool"),
    nn.PReLU: _per_channel("prelu", "slope", "weight"),
    nn.ReLU: _plain("relu"),
    nn.SyncBatchNorm: _batch_norm,
}


def converter(layer: nn.Module) -> Callable[..., None] | None:
    """What lowers the layer: the row of its class, or of the class whose forward it has taken over unchanged."""
    for base in type(layer).__mro__:
        if base in MODULES and getattr(type(layer), "forward", None) is base.forward:
            return MODULES[base]
    return None
