"""Where the elements of a PyTorch tensor lie in a value of the format.

The format keeps maps (H, W, C) and vectors (C,), whatever PyTorch's code makes of them: views, transposes and splits of axes
change no number. So a tensor is a value of the format and, for each axis of the tensor, the *parts* of the value's axes that it
runs over, slowest first. A part of `size` elements, `stride` elements of its axis of the value apart, is

    index along the value's axis = Σ over its parts of stride · index along the part

    (B, C, H, W)                        B | C | H | W
    .flatten(2).transpose(1, 2)         B | H W | C                tokens, of the same map
    (B, T, 3 · heads · d) as a view     B | H | C3 | Cheads | Cd   of C: strides heads · d, d and 1

with B, the batch, and 1, which is repeated (expand), as axes of their own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Part(NamedTuple):
    """Of the axis "B", "H", "W" or "C" of a value; "1": of none, a repetition."""

    axis: str
    stride: int
    size: int


Axis = tuple[Part, ...]
Axes = tuple[Axis, ...]  # of a tensor, the batch's among them
Size = tuple[int, ...]  # of a value: (H, W, C) or (C,)

NAMES = {1: "C", 3: "HWC"}


def whole(axis: str, size: int) -> Axis:
    """All elements of one axis of a value, in order."""
    return (Part(axis, 1, size),) if size > 1 else ()


def of_map(size: Size, batch: int) -> Axes:
    """(B, C, H, W)."""
    height, width, channels = size
    return whole("B", batch), whole("C", channels), whole("H", height), whole("W", width)


def of_vector(size: Size, batch: int, rank: int = 2) -> Axes:
    """(B, C), or (B, C, 1, 1) for another rank."""
    return (whole("B", batch), whole("C", size[-1]), *[()] * (rank - 2))


def of_sequence(size: Size, batch: int) -> Axes:
    """(B, T, C), of a map (T, 1, C)."""
    return whole("B", batch), whole("H", size[0]), whole("C", size[2])


def regrouped(axes: Axes, shape: Sequence[int]) -> Axes | None:
    """The axes after a reshape; None where an axis of the new shape begins or ends inside no whole number of elements."""
    parts = [part for axis in axes for part in axis]
    found: list[Axis] = []
    for size in shape:
        axis: list[Part] = []
        while size > 1:
            if not parts:
                return None
            part = parts.pop(0)
            if part.size > size:  # the slower part of it, and what is left
                rest, odd = divmod(part.size, size)
                if odd:
                    return None
                parts.insert(0, Part(part.axis, part.stride, rest))
                part = Part(part.axis, part.stride * rest, size)
            size, odd = divmod(size, part.size)
            if odd:
                return None
            axis.append(part)
        found.append(joined(axis))
    return None if parts else tuple(found)


def joined(parts: Sequence[Part]) -> Axis:
    """The same with parts that continue each other as one."""
    found: list[Part] = []
    for part in parts:
        if part.size == 1:
            continue
        last = found[-1] if found else None
        if last and last.axis == part.axis and (last.stride == part.stride * part.size or part.axis == "1"):
            found[-1] = Part(part.axis, part.stride, last.size * part.size)
        else:
            found.append(part)
    return tuple(found)


def count(axis: Axis) -> int:
    """How many elements it has."""
    return math.prod(part.size for part in axis)


def letters(axis: Axis) -> str:
    """The axes of the value that an axis of the tensor runs over, each once."""
    return "".join(dict.fromkeys(part.axis for part in axis))


def flattened(axis: Axis, size: Size) -> Axis:
    """The same elements of the value after its map (H, W, C) has become a vector (H·W·C)."""
    _, width, channels = size
    steps = {"H": width * channels, "W": channels, "C": 1}
    return joined([Part("C", part.stride * steps[part.axis], part.size) for part in axis])


def parts_in_sequence(axes: Axes, size: Size) -> int:
    """In how many parts of its channels each pixel of the map (H, W, C) counts along one of the axes, which makes a sequence of
    it: 1 where an axis is (H, W) and no other of them, C / K where of three axes (B, T, K) the second is (H, W, C / K) and the third
    the K channels of a part, in order. 0 where the tensor is no sequence, or the map is one already."""
    height, width, channels = size
    if len(axes) == 3:
        each = count(axes[2])
        parts, odd = divmod(channels, each)
        pixels = (Part("H", 1, height), Part("W", 1, width), Part("C", each, parts))
        if not odd and axes[1:] == (joined(pixels), whole("C", each)):
            return parts if parts > 1 or width > 1 else 0
    return int(width > 1 and any(letters(axis) == "HW" for axis in axes))


def in_sequence(axes: Axes, size: Size, parts: int) -> Axes:
    """The same elements after the map (H, W, C) has become a map (H·W·parts, 1, C / parts)."""
    each = size[2] // parts
    steps = {"H": size[1] * parts, "W": parts}

    def moved(part: Part) -> Part:
        if part.axis in steps:
            return Part("H", part.stride * steps[part.axis], part.size)
        return Part("H", part.stride // each, part.size) if part.axis == "C" and part.stride >= each else part

    return tuple(joined([moved(part) for part in axis]) for axis in axes)


def places(axis: Axis) -> Tensor:
    """The index along the value's axis of each element of the tensor's axis, which runs over no other axis."""
    index = torch.zeros(1, dtype=torch.long)
    for part in axis:
        index = (index[:, None] + part.stride * torch.arange(part.size)).flatten()
    return index


def of_tensor(values: Tensor, axes: Axes, size: Size) -> Tensor:
    """A tensor of one sample, whose axes are those of a value (its batch axis of size 1), as the value (H, W, C) or (C,)."""
    parts = [part for axis in axes for part in axis if part.axis != "B"]
    names = NAMES[len(size)]
    order = sorted(range(len(parts)), key=lambda i: (names.index(parts[i].axis), -parts[i].stride))
    return values.reshape([part.size for part in parts]).permute(order).reshape(size)


def to_tensor(value: Tensor, axes: Axes, shape: Sequence[int]) -> Tensor:
    """A value (B, H, W, C) or (B, C) as the tensor of these axes and this shape."""
    names = "B" + NAMES[value.dim() - 1]
    parts = [part for axis in axes for part in axis]
    kept = [part for part in parts if part.axis != "1"]
    order = sorted(kept, key=lambda part: (names.index(part.axis), -part.stride))
    assert math.prod(part.size for part in order) == value.numel(), "parts of a value's axes are all of it"
    value = value.reshape([part.size for part in order])
    value = value.permute([order.index(part) for part in kept])
    for place, part in enumerate(parts):
        if part.axis == "1":
            value = value.unsqueeze(place)
    return value.expand([part.size for part in parts]).reshape(tuple(shape))
