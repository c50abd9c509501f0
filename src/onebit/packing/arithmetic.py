"""Sums, products and their like: of two values, and of a value and a constant."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, fx

from onebit.packing import layouts
from onebit.packing.embeddings import positions
from onebit.packing.lowering import Lowering, Value
from onebit.packing.views import constant_value
from onebit.runtime.fields import MAX_NUMBER


def scaled(lowering: Lowering, node: fx.Node, value: Value, axis: int, scale: Tensor, bias: Tensor) -> Value:
    """scale·x + bias along the axis of the tensor that runs over the channels."""
    channels = torch.stack([scale, bias]).double()  # (2, C)
    return lowering.emit(node, "affine", value, tensors={"channels": lowering.reorder(value.axes[axis], channels)})


def by(lowering: Lowering, node: fx.Node, value: Value, scale: float, bias: float) -> Value:
    """scale·x + bias with two numbers."""
    rows = torch.tensor([[scale], [bias]], dtype=torch.float64).expand(2, value.size[-1])
    return lowering.emit(node, "affine", value, tensors={"channels": rows.clone()})


def _operands(lowering: Lowering, node: fx.Node) -> tuple[object, object]:
    return lowering.argument(node, 0), lowering.argument(node, 1, "other")


def add(lowering: Lowering, node: fx.Node) -> None:
    _sum(lowering, node, 1, 1)


def sub(lowering: Lowering, node: fx.Node) -> None:
    _sum(lowering, node, 1, -1)


def rsub(lowering: Lowering, node: fx.Node) -> None:
    _sum(lowering, node, -1, 1)


def _sum(lowering: Lowering, node: fx.Node, first: float, second: float) -> None:
    """first·x + second·alpha·y."""
    one, two = _operands(lowering, node)
    second *= float(node.kwargs.get("alpha", 1))  # type: ignore[arg-type]
    for source, other, scale, factor in ((one, two, first, second), (two, one, second, first)):
        constant = lowering.constant(other)
        if constant is not None:
            value = lowering.value(node, source)
            if scale != 1:
                value = by(lowering, node, value, scale, 0)
            table = lowering.table(other) if factor == 1 else None
            if table is not None and positions(lowering, node, value, table):
                return
            _with(lowering, node, value, factor * constant, add=True)
            return
    values = [lowering.value(node, one), lowering.value(node, two)]
    for i, factor in enumerate((first, second)):
        if factor != 1:
            values[i] = by(lowering, node, values[i], factor, 0)
    shapes = [lowering.shape(source) for source in (one, two)]
    if shapes[0] != shapes[1]:
        raise lowering.refuse(
            node,
            f"of {shapes[0][1:]} and {shapes[1][1:]}: the format adds maps of one size, or two vectors; give both the same shape",
        )
    values = _alike(lowering, node, values)
    if (values[0].size, values[0].axes) != (values[1].size, values[1].axes):
        raise lowering.refuse(
            node,
            f"of {lowering.described(node, values[0], one)} and {lowering.described(node, values[1], two)}: a flattened map and a "
            "vector, or maps with other axes, differ in order in the format; they cannot be added",
        )
    lowering.emit(node, "add", *values)


def _alike(lowering: Lowering, node: fx.Node, values: list[Value]) -> list[Value]:
    """Two values, their channels and tokens in order where they differ."""
    if values[0].axes == values[1].axes and values[0].size == values[1].size:
        return values
    values = [lowering.tidy(node, value) for value in values]
    if values[0].size != values[1].size:
        values = [lowering.sequence(node, value) for value in values]
    return values


def mul(lowering: Lowering, node: fx.Node) -> None:
    one, two = _operands(lowering, node)
    for source, other in ((one, two), (two, one)):
        constant = lowering.constant(other)
        if constant is not None:
            _times(lowering, node, source, constant)
            return
    product(lowering, node, one, two)


def _times(lowering: Lowering, node: fx.Node, source: object, constant: Tensor | float) -> None:
    kept = lowering.any(node, source)
    if not isinstance(kept, Value) and (not isinstance(constant, Tensor) or constant.numel() == 1):
        lowering.values[node] = kept.times(float(constant))
        return
    _with(lowering, node, lowering.value(node, source), constant, add=False)


def div(lowering: Lowering, node: fx.Node) -> None:
    one, two = _operands(lowering, node)
    constant = lowering.constant(two)
    if constant is None or node.kwargs.get("rounding_mode") is not None:
        raise lowering.refuse(node, "by what depends on an input has no operator in the format; divide by constants")
    if not isinstance(constant, Tensor) and constant == 0:
        raise lowering.refuse(node, "by 0 is no number")
    _times(lowering, node, one, 1 / constant)


def neg(lowering: Lowering, node: fx.Node) -> None:
    by(lowering, node, lowering.value(node), -1, 0)


def square(lowering: Lowering, node: fx.Node) -> None:
    product(lowering, node, lowering.argument(node), lowering.argument(node))


def power(lowering: Lowering, node: fx.Node) -> None:
    exponent = lowering.argument(node, 1, "exponent")
    if exponent != 2:
        raise lowering.refuse(node, f"with exponent {exponent} has no operator in the format; it has products")
    square(lowering, node)


def product(lowering: Lowering, node: fx.Node, one: object, two: object) -> None:
    """Of two values of one shape, or of one whose sizes are each the other's or 1."""
    values = [lowering.value(node, one), lowering.value(node, two)]
    shapes = [lowering.shape(one), lowering.shape(two)]
    if shapes[1] == lowering.shape(node) != shapes[0]:
        values, shapes = values[::-1], shapes[::-1]
    if shapes[0] == lowering.shape(node):
        large, small = values = _alike(lowering, node, values)
        rank = len(large.axes)
        axes = [()] * (rank - len(small.axes)) + [axis if axis and axis[0].axis != "1" else () for axis in small.axes]
        fits = all(not axis or axis == other for axis, other in zip(axes, large.axes))
        sizes = [((1, 1, *value.size)[-3:]) for value in values]
        fits &= all(b in (1, a) for a, b in zip(*sizes)) and not (large.vector and not small.vector)
        used = {part.axis: part.size for axis in axes for part in axis}
        fits &= all((used.get(letter, 1) > 1) == (size > 1) for letter, size in zip("HWC", sizes[1]))
        if fits:
            lowering.emit(node, "multiply", large, small)
            return
    raise lowering.refuse(
        node,
        f"of {shapes[0][1:]} and {shapes[1][1:]}: the format multiplies values of one size, and a map by a value for each of its "
        "channels, rows or columns",
    )


def _with(lowering: Lowering, node: fx.Node, value: Value, constant: Tensor | float, add: bool) -> None:
    """The sum or product of a value and a constant."""
    if not isinstance(constant, Tensor) or constant.numel() == 1:
        by(lowering, node, value, *((1, float(constant)) if add else (float(constant), 0)))
        return
    shape, rank = lowering.shape(node), len(value.axes)
    if len(shape) != rank or any(layouts.count(axis) != size for axis, size in zip(value.axes, shape)):
        raise lowering.refuse(
            node,
            f"a constant of {tuple(constant.shape)} makes {shape[1:]} of what it meets, which has no operator in the format",
        )
    constant = constant.reshape([1] * (rank - constant.dim()) + list(constant.shape))
    for axis in range(rank):
        if bool((constant.narrow(axis, 0, 1) == constant).all()):  # it does not vary: so it is, of any size
            constant = constant.narrow(axis, 0, 1)
    if constant.numel() == 1:
        _with(lowering, node, value, constant, add)
        return
    varies = [i for i, size in enumerate(constant.shape) if size > 1 and layouts.letters(value.axes[i]) != "B"]
    if len(varies) == 1 and value.over(varies[0], "C") and constant.shape[0] == 1:
        rows = constant.detach().double().flatten()  # (C)
        neutral = torch.ones_like(rows) if add else torch.zeros_like(rows)
        scaled(lowering, node, value, varies[0], *((neutral, rows) if add else (rows, neutral)))
        return
    value = lowering.sequence(node, lowering.tidy(node, value))
    other = constant_value(lowering, node, constant, value.size, value.axes)
    lowering.emit(node, "add" if add else "multiply", value, other)


def clip(lowering: Lowering, node: fx.Node, low: object, high: object) -> None:
    """min(max(x, low), high), of which None bounds nothing: clip(x, -1, 1) is hardtanh, clip(x, 0) is relu."""
    bounds = [None if bound is None else lowering.constant(bound) for bound in (low, high)]
    for given, bound in zip((low, high), bounds):
        if given is not None and (bound is None or (isinstance(bound, Tensor) and bound.numel() > 1)):
            raise lowering.refuse(node, "clips at more than one number, which has no operator in the format")
    least, most = (None if bound is None or math.isinf(bound) else float(bound) for bound in bounds)
    if (least, most) == (-1, 1):
        lowering.emit(node, "hardtanh")
    elif (least, most) == (0, None):
        lowering.emit(node, "relu")
    else:
        attributes = {"low": -MAX_NUMBER if least is None else least, "high": MAX_NUMBER if most is None else most}
        lowering.emit(node, "clip", attributes=attributes)


ARITHMETIC: dict[str, Callable[[Lowering, fx.Node], None]] = {
    "add": add,
    "sub": sub,
    "rsub": rsub,
    "mul": mul,
    "div": div,
    "neg": neg,
    "square": square,
    "pow": power,
}
