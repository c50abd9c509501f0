"""Functions and methods of tensors, as a user's forward calls them, that the format has an operator for.

A function whose arguments change what it computes is compared with the operator; what differs is refused with the layer or
the arguments to use instead.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx

from onebit.errors import UserError
from onebit.packing.layers import flatten, global_pool, pair, pool
from onebit.packing.lowering import Lowering


def _arguments(node: fx.Node, **defaults: Any) -> list[Any]:
    """The arguments after the tensor that a call gives by position or by name, else the defaults."""
    given = dict(zip(defaults, node.args[1:], strict=False)) | dict(node.kwargs)
    return [given.get(name, value) for name, value in defaults.items()]


def _plain(op: str) -> Callable[..., None]:
    return lambda lowering, node: lowering.emit(node, op, node.name)


def _same(lowering: Lowering, node: fx.Node) -> None:
    lowering.skip(node)


def _flatten(lowering: Lowering, node: fx.Node) -> None:
    flatten(lowering, node, node.name)


def _clamp(lowering: Lowering, node: fx.Node, **defaults: Any) -> None:
    """clamp(x, -1, 1) is hardtanh, clamp(x, 0) is relu."""
    low, high = _arguments(node, **(defaults or {"min": None, "max": None}))
    if (low, high) == (-1, 1):
        lowering.emit(node, "hardtanh", node.name)
    elif (low, high) == (0, None):
        lowering.emit(node, "relu", node.name)
    else:
        raise UserError(
            f"{lowering.call(node)} from {low} to {high} has no operator in the format; clamp to -1 and 1 (hardtanh), "
            "or use nn.ReLU"
        )


def _hardtanh(lowering: Lowering, node: fx.Node) -> None:
    _clamp(lowering, node, min_val=-1.0, max_val=1.0)


def _whole(lowering: Lowering, node: fx.Node) -> None:
    """Tokens are whole numbers already."""
    if lowering.input(node) not in lowering.tokens:
        raise UserError(f"{lowering.call(node)} of anything but tokens has no operator in the format")
    lowering.skip(node)


def _dropout(lowering: Lowering, node: fx.Node) -> None:
    if _arguments(node, p=0.5, training=True)[1]:
        raise UserError(
            f"{lowering.call(node)} stays random in evaluation; use nn.Dropout, or give training=self.training"
        )
    lowering.skip(node)


def _max_pool(lowering: Lowering, node: fx.Node) -> None:
    names = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
    _window(lowering, node, "max_pool", dict(zip(names, (None, None, 0, 1, False))))


def _avg_pool(lowering: Lowering, node: fx.Node) -> None:
    names = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override")
    _window(lowering, node, "avg_pool", dict(zip(names, (None, None, 0, False, True, None))))


def _window(lowering: Lowering, node: fx.Node, op: str, defaults: dict[str, Any]) -> None:
    values = SimpleNamespace(**dict(zip(defaults, _arguments(node, **defaults), strict=True)))
    values.stride = values.kernel_size if values.stride is None or values.stride == () else values.stride
    pool(lowering, node, node.name, op, values)


def _adaptive(lowering: Lowering, node: fx.Node) -> None:
    (size,) = _arguments(node, output_size=None)
    if pair(size) != [1, 1]:
        raise UserError(f"{lowering.call(node)} to {size} has no operator in the format; pool to 1, or use avg_pool2d")
    global_pool(lowering, node, node.name)


def _mean(lowering: Lowering, node: fx.Node) -> None:
    """Over height and width, where keepdim changes nothing in the format; or over the tokens of a sequence."""
    dims, keep, kind = _arguments(node, dim=None, keepdim=False, dtype=None)
    before = lowering.shape(node.args[0])
    axes = {
        axis % (len(before) + 1) for axis in (dims if isinstance(dims, tuple | list) else [dims]) if axis is not None
    }
    if lowering.input(node) in lowering.sequences:
        if axes != {1} or keep or kind is not None:
            raise UserError(
                f"{lowering.call(node)} over {dims} of a sequence (B, T, C) has no operator in the format; use mean(1)"
            )
        global_pool(lowering, node, node.name, sequence=True)
        return
    if len(before) != 3 or axes != {2, 3} or kind is not None:
        raise UserError(
            f"{lowering.call(node)} over {dims} has no operator in the format; use nn.AdaptiveAvgPool2d(1) or mean((2, 3))"
        )
    global_pool(lowering, node, node.name)


def _add(lowering: Lowering, node: fx.Node) -> None:
    if node.kwargs.get("alpha", 1) != 1:
        raise UserError(f"{lowering.call(node)} with alpha = {node.kwargs['alpha']} has no operator in the format")
    inputs = [lowering.input(node, 0), lowering.input(node, 1)]
    shapes = [lowering.shape(term) for term in node.args[:2]]
    forms = {(name in lowering.vectors, name in lowering.sequences) for name in inputs}
    if shapes[0] != shapes[1] or len(forms) > 1:
        raise UserError(
            f"{lowering.call(node)} of {shapes[0]} and {shapes[1]}: the format adds maps of one size, or two vectors; "
            "give both the same shape"
        )
    if lowering.order.get(inputs[0]) != lowering.order.get(inputs[1]):
        raise UserError(
            f"{lowering.call(node)}: a flattened map and a vector differ in order in the format; they cannot be added"
        )
    lowering.emit(node, "add", node.name, inputs)


def _concat(lowering: Lowering, node: fx.Node) -> None:
    """Of channels: for several values, those of the first two, then those of each further one."""
    given: dict[str, Any] = dict(zip(("tensors", "dim"), node.args, strict=False)) | dict(node.kwargs)
    values, axis = given["tensors"], given.get("dim", given.get("axis", 0))
    names = [lowering.named(node, value) for value in values]
    shapes = [lowering.shape(value) for value in values]
    sequence = names[0] in lowering.sequences
    kinds = {(name in lowering.vectors, name in lowering.sequences) for name in names}
    channels = len(shapes[0]) if sequence else 1
    if axis % (len(shapes[0]) + 1) != channels or len(kinds) > 1:
        raise UserError(
            f"{lowering.call(node)} of {', '.join(map(str, shapes))} along {axis}: the format puts channels of maps of one size, "
            f"or of vectors, behind each other; give dim={channels} and maps or vectors alone"
        )
    if any(lowering.order.get(name) for name in names):
        raise UserError(
            f"{lowering.call(node)} of a flattened map, whose order the format changes, has no operator; put maps behind each "
            "other before they are flattened"
        )
    if len(names) == 1:
        lowering.value[node] = names[0]
    total = names[0]
    for number, name in enumerate(names[1:], start=2):
        part = node.name if number == len(names) else f"{node.name}.{number}"
        total = lowering.emit(node, "concat", part, [total, name]).name


def _pad(lowering: Lowering, node: fx.Node) -> None:
    """Channels of zeros before and after those of a map."""
    pad, mode, value = _arguments(node, pad=(), mode="constant", value=None)
    widths = [*pad, *[0] * (8 - len(pad))]  # of the last axis first
    before, after = widths[4], widths[5]
    zeros = mode == "constant" and not value
    if len(lowering.shape(node)) != 3 or not zeros or any(widths[:4] + widths[6:]) or min(before, after) < 0:
        raise UserError(
            f"{lowering.call(node)} by {pad} has no operator in the format, which pads channels of maps with zeros; pad pixels "
            "in the layer that follows"
        )
    lowering.emit(node, "option_a", node.name, attributes={"stride": 1, "pad": [before, after]})


FUNCTIONS: dict[Any, Callable[..., None]] = {
    **dict.fromkeys((operator.add, operator.iadd, torch.add, "add", "add_"), _add),
    **dict.fromkeys((torch.cat, torch.concat, torch.concatenate), _concat),
    F.pad: _pad,
    **dict.fromkeys((torch.relu, torch.relu_, F.relu, F.relu_, "relu", "relu_"), _plain("relu")),
    **dict.fromkeys((F.hardtanh, F.hardtanh_), _hardtanh),
    **dict.fromkeys((torch.clamp, torch.clamp_, torch.clip, torch.clip_), _clamp),
    **dict.fromkeys(("clamp", "clamp_", "clip", "clip_"), _clamp),
    **dict.fromkeys((torch.flatten, torch.reshape, torch.squeeze), _flatten),
    **dict.fromkeys(("flatten", "reshape", "view", "squeeze"), _flatten),
    **dict.fromkeys((F.max_pool2d, torch.max_pool2d), _max_pool),
    F.avg_pool2d: _avg_pool,
    F.adaptive_avg_pool2d: _adaptive,
    **dict.fromkeys((torch.mean, "mean"), _mean),
    **dict.fromkeys((F.dropout, F.dropout2d), _dropout),
    **dict.fromkeys(("contiguous", "detach", "clone", "float"), _same),
    **dict.fromkeys(("long", "int"), _whole),
}
