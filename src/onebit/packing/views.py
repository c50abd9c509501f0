"""Calls that look at a tensor in another way, or at a part of it, or put tensors behind each other."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from onebit.packing import layouts
from onebit.packing.layouts import Axes, Part
from onebit.packing.lowering import Lowering, Value
from onebit.packing.masks import Mask, indexed, viewed
from onebit.packing.recording import called

AXES = {"C": "channels", "H": "height", "W": "width"}


def reshape(lowering: Lowering, node: fx.Node) -> None:
    """Any call that changes the shape of a tensor and not the order of its elements."""
    value, before, after = lowering.any(node), lowering.shape(lowering.argument(node)), lowering.shape(node)
    axes = layouts.regrouped(value.axes, after) if isinstance(value, Value | Mask) else None
    if axes is None or any(len(axis) > 1 and "B" in layouts.letters(axis) for axis in axes):
        batch = (
            "of the whole batch" if after[:1] != (lowering.batch,) else f"from {before[1:]} to {after[1:]} of an image"
        )
        raise lowering.refuse(node, f"{batch} has no operator in the format; use nn.Flatten() or flatten(1)")
    if not viewed(lowering, node, value, axes):
        seen(lowering, node, value, axes)


def seen(lowering: Lowering, node: fx.Node, value: Value, axes: Axes) -> None:
    """The value with other axes; one line of elements is a vector."""
    lines = [axis for axis in axes if axis and axis[0].axis != "B"]
    line = len(axes) == 2 or (len(lines) == 1 and layouts.letters(lines[0]) != "C" and len(axes) != 3)
    if not value.vector and line and len(lines) <= 1:
        size = (value.size[0] * value.size[1] * value.size[2],)
        axes = tuple(layouts.flattened(axis, value.size) if axis in lines else axis for axis in axes)
        lowering.emit(node, "flatten", value, like=Value("", size, axes))
    else:
        lowering.view(node, axes, value)


def permute(lowering: Lowering, node: fx.Node) -> None:
    dims = node.args[1:] or (node.kwargs["dims"],)
    order = dims[0] if isinstance(dims[0], tuple | list) else dims
    moved(lowering, node, [int(i) for i in order])  # type: ignore[arg-type]


def transpose(lowering: Lowering, node: fx.Node) -> None:
    rank = len(lowering.shape(node))
    one, two = (int(i) % rank for i in (*node.args[1:], *node.kwargs.values())[:2])  # type: ignore[arg-type]
    order = list(range(rank))
    order[one], order[two] = two, one
    moved(lowering, node, order)


def last_two(lowering: Lowering, node: fx.Node) -> None:
    order = list(range(len(lowering.shape(node))))
    moved(lowering, node, [*order[:-2], *order[-2:][::-1]])


def movedim(lowering: Lowering, node: fx.Node) -> None:
    source, target = lowering.argument(node, 1, "source"), lowering.argument(node, 2, "destination")
    rank = len(lowering.shape(node))
    moved(
        lowering, node, list(torch.empty(*range(rank), device="meta").movedim(source, target).shape)
    )  # sizes are places


def moved(lowering: Lowering, node: fx.Node, order: list[int]) -> None:
    value = lowering.any(node)
    if not isinstance(value, Value):
        lowering.values[node] = value.permuted(lowering, node, order)
        return
    lowering.view(node, tuple(value.axes[i] for i in order))


def expand(lowering: Lowering, node: fx.Node) -> None:
    """Repeated along axes of size 1, and new ones in front."""
    kept, after = lowering.any(node), lowering.shape(node)
    value = kept.source if isinstance(kept, Mask) else lowering.value(node)
    axes = [()] * (len(after) - len(value.axes)) + list(value.axes)
    before = [1] * (len(after) - len(value.axes)) + list(lowering.shape(lowering.argument(node)))
    for i, (old, new) in enumerate(zip(before, after)):
        if old != new:
            axes[i] = (Part("1", 0, new),)
    if not viewed(lowering, node, kept, tuple(axes)):
        lowering.view(node, tuple(axes), value)


# ---- parts


def cut(
    lowering: Lowering, node: fx.Node, name: str, value: Value, axis: int, start: int, stop: int, step: int
) -> Value:
    """Elements start, start + step, ... < stop along an axis of the tensor."""
    value = lowering.sequence(node, lowering.tidy(node, value))
    parts = value.axes[axis]
    size = layouts.count(parts)
    stop = min(stop, size)
    if (start, step) == (0, 1) and stop == size:
        return value
    letter = layouts.letters(parts)
    place = -1 if letter not in AXES else 0 if value.vector else "HWC".index(letter)
    single = len(parts) == 1 and place >= 0 and parts[0].stride * size == value.size[place]
    if not single or (step != 1 and parts[0].stride > 1):
        raise lowering.refuse(
            node,
            f"takes a part of {lowering.described(node, value)} along {axis}, which has no operator in the format; it has parts of "
            "channels, rows and columns",
        )
    stride = parts[0].stride
    count = len(range(start, stop, step))
    attributes = {"axis": AXES[letter], "start": start * stride, "stop": stop * stride, "step": step}
    operation = lowering.add("slice", name, [value.name], attributes=attributes)
    sizes = list(value.size)
    sizes[place] = count * stride
    axes = list(value.axes)
    axes[axis] = layouts.joined([Part(letter, stride, count)])
    return Value(operation.name, tuple(sizes), tuple(axes))


def without(value: Value, axis: int) -> Axes:
    return tuple(other for i, other in enumerate(value.axes) if i != axis)


def getitem(lowering: Lowering, node: fx.Node) -> None:
    index: Any = node.args[1]
    items = list(index) if isinstance(index, tuple) else [index]
    shape = lowering.shape(node.args[0])
    if any(not isinstance(item, int | slice | type(None) | type(Ellipsis)) or isinstance(item, bool) for item in items):
        raise lowering.refuse(
            node, "picks elements by a tensor or a list, which has no operator in the format; use slices"
        )
    if Ellipsis in items:
        place = items.index(Ellipsis)
        missing = len(shape) - sum(item is not None for item in items) + 1
        items[place : place + 1] = [slice(None)] * missing
    items += [slice(None)] * (len(shape) - sum(item is not None for item in items))
    if indexed(lowering, node, lowering.any(node), items):
        return
    value = lowering.value(node)
    axis = 0  # of the tensor
    shape_left: list[tuple[int, ...]] = []
    for item in items:
        if item is None:
            shape_left.append(())
            continue
        size = shape[axis]
        start, stop, step = (item % size, item % size + 1, 1) if isinstance(item, int) else item.indices(size)
        if step < 0:
            raise lowering.refuse(node, "a negative step has no operator in the format")
        value = cut(lowering, node, lowering.name(node), value, axis, start, stop, step)
        if not isinstance(item, int):
            shape_left.append((axis,))
        axis += 1
    axes = tuple(value.axes[place[0]] if place else () for place in shape_left)
    seen(lowering, node, value, axes)


def narrow(lowering: Lowering, node: fx.Node) -> None:
    axis, start, length = (
        int(lowering.argument(node, i, name)) for i, name in ((1, "dim"), (2, "start"), (3, "length"))
    )
    value = lowering.value(node)
    axis %= len(value.axes)
    value = cut(lowering, node, lowering.name(node), value, axis, start, start + length, 1)
    lowering.view(node, value.axes, value)


def select(lowering: Lowering, node: fx.Node) -> None:
    axis, index = int(lowering.argument(node, 1, "dim")), int(lowering.argument(node, 2, "index"))
    value, shape = lowering.value(node), lowering.shape(lowering.argument(node))
    axis, index = axis % len(shape), index % shape[axis]
    value = cut(lowering, node, lowering.name(node), value, axis, index, index + 1, 1)
    seen(lowering, node, value, without(value, axis))


def split(lowering: Lowering, node: fx.Node) -> None:
    """chunk, split, tensor_split, unbind: each part that is read becomes an operation of its own."""
    unbound = called(node.target) == "unbind"
    axis = lowering.argument(node, 1 if unbound else 2, "dim")
    value = lowering.value(node)
    lowering.values[node] = Parts(value, int(axis or 0) % len(value.axes), unbound)


class Parts:
    """A tensor in parts along an axis."""

    def __init__(self, value: Value, axis: int, unbound: bool):
        self.value, self.axis, self.unbound = value, axis, unbound

    def __str__(self) -> str:
        return "a tuple of parts"


def part(lowering: Lowering, node: fx.Node) -> None:
    """One of the tensors that a call returned."""
    source, index = node.args
    parts: Any = lowering.any(node, source)
    if not isinstance(parts, Parts):
        lowering.values[node] = parts[index]
        return
    siblings = {int(user.args[1]): user for user in source.users}  # type: ignore[union-attr, arg-type]
    axis = parts.axis
    sizes = [1 if parts.unbound else lowering.shape(siblings[i])[axis] for i in sorted(siblings)]
    start = sum(sizes[: int(index)])  # type: ignore[arg-type]
    value = cut(lowering, node, lowering.name(node), parts.value, axis, start, start + sizes[int(index)], 1)  # type: ignore[arg-type]
    if parts.unbound:
        seen(lowering, node, value, without(value, axis))
    else:
        lowering.view(node, value.axes, value)


# ---- several


def constant_value(lowering: Lowering, node: fx.Node, values: Tensor, size: layouts.Size, axes: Axes) -> Value:
    """A constant tensor, the same for every sample, with the size and axes of a value."""
    if values.dim() and values.shape[0] == lowering.batch and bool((values[:1] != values).any()):
        raise lowering.refuse(
            node, "a constant differs between the images of a batch, which has no operator in the format"
        )
    values = values[:1] if values.dim() and values.shape[0] == lowering.batch and axes[0] else values
    shape = [1 if layouts.letters(axis) == "B" else layouts.count(axis) for axis in axes]
    tensor = layouts.of_tensor(values.detach().double().expand(shape), axes, size)
    operation = lowering.add("constant", f"{lowering.name(node)}.constant", [], tensors={"value": tensor})
    return Value(operation.name, size, axes)


def cat(lowering: Lowering, node: fx.Node) -> None:
    """Of channels, rows or columns: of several values two, then each further one, from the end whose value is the smaller."""
    tensors: Any = lowering.argument(node, 0, "tensors")
    axis = lowering.argument(node, 1, "dim")
    axis = node.kwargs.get("axis", 0) if axis is None else axis
    rank = len(lowering.shape(node))
    axis = int(str(axis)) % rank
    given: list[Value | Tensor] = []
    for source in tensors:
        constant = lowering.constant(source)
        given.append(
            constant
            if isinstance(constant, Tensor)
            else lowering.sequence(node, lowering.tidy(node, lowering.value(node, source)))
        )
    first = next(value for value in given if isinstance(value, Value))
    letter = next((layouts.letters(v.axes[axis]) for v in given if isinstance(v, Value) and v.axes[axis]), "")
    letter = letter or {2: "BC", 3: "BHC", 4: "BCHW"}[rank][axis]
    place = 0 if first.vector else "HWC".find(letter)
    values: list[Value] = []
    for value in given:
        if isinstance(value, Tensor):
            size = list(first.size)
            size[place] = value.shape[axis]
            axes = tuple(layouts.whole(letter, value.shape[axis]) if i == axis else a for i, a in enumerate(first.axes))
            value = constant_value(lowering, node, value, tuple(size), axes)
        values.append(value)
    shapes = ", ".join(str(lowering.shape(source)[1:]) for source in tensors)
    for value in values:
        fits = letter in AXES and value.vector == first.vector and value.over(axis, letter, ordered=True)
        same = without(value, axis) == without(first, axis)
        rest = [size for i, size in enumerate(value.size) if i != place] == [
            s for i, s in enumerate(first.size) if i != place
        ]
        if not (fits and same and rest):
            raise lowering.refuse(
                node,
                f"of {shapes} along {axis}: the format puts channels, rows or columns of maps of one size, or of vectors, behind "
                "each other, and not those of a flattened map, whose order it changes; give dim=1 and maps or vectors alone",
            )
    whole = lowering.name(node)
    backwards = (
        values[-1].size[place] < values[0].size[place]
    )  # each joint copies what was joined before: the large ones last
    total, *others = reversed(values) if backwards else values
    for number, value in enumerate(others, start=2):
        pair = [value, total] if backwards else [total, value]
        size = list(total.size)
        size[place] += value.size[place]
        axes = tuple(layouts.whole(letter, size[place]) if i == axis else a for i, a in enumerate(total.axes))
        attributes = {} if letter == "C" else {"axis": AXES[letter]}
        name = whole if number == len(values) else f"{whole}.{number}"
        operation = lowering.add("concat", name, [one.name for one in pair], attributes=attributes)
        total = Value(operation.name, tuple(size), axes)
    lowering.values[node] = total
