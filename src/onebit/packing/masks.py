"""Masks of keys: comparisons of tokens that are 0 or 1 with numbers, looked at in other ways, until an attention reads them."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import fx

from onebit.packing.layouts import Axes
from onebit.packing.lowering import Lowering, Value

Function = Callable[[Lowering, fx.Node], None]


class Mask(NamedTuple):
    """Of tokens, True where they are 1 (`there`) or where they are 0."""

    source: Value
    there: bool

    def __str__(self) -> str:
        return "a mask of tokens"

    @property
    def axes(self) -> Axes:
        return self.source.axes

    def permuted(self, lowering: Lowering, node: fx.Node, order: list[int]) -> Mask:
        return self._replace(source=self.source._replace(axes=tuple(self.axes[axis] for axis in order)))


def keys(lowering: Lowering, node: fx.Node, given: Any, axes: Axes, there: bool) -> list[Value]:
    """The input of tokens that a mask, given to an attention, is of; nothing where none is given.

    axes    of the tensor that the mask must be, repetitions as axes of one element
    there   whether True must be a key that is there, or one that is left out

    Raises UserError for anything else.
    """
    if given is None:
        return []
    mask = lowering.values.get(given) if isinstance(given, fx.Node) else None
    if not isinstance(mask, Mask) or mask.there != there:
        what = "mask != 0" if there else "mask == 0"
        raise lowering.refuse(
            node,
            f"with such a mask has no operator in the format, which has {what} of an input onebit.Tokens(T, 2); give that alone",
        )
    found = tuple(() if axis and axis[0].axis == "1" else axis for axis in mask.axes)
    if found != axes:
        raise lowering.refuse(
            node,
            f"with a mask {lowering.shape(given)} has no operator in the format, which has one of keys: the same for all heads and "
            "queries",
        )
    return [mask.source]


def viewed(lowering: Lowering, node: fx.Node, kept: Any, axes: Axes) -> bool:
    """Whether the call looks at a mask, or at tokens, in another way, which it then has become."""
    if isinstance(kept, Mask):
        lowering.values[node] = kept._replace(source=kept.source._replace(axes=axes))
    elif isinstance(kept, Value) and kept.name in lowering.tokens:
        lowering.view(node, axes, kept)
    else:
        return False
    return True


def indexed(lowering: Lowering, node: fx.Node, kept: Any, items: Sequence[Any]) -> bool:
    """Whether the call is a mask or tokens with new axes: mask[:, None, None], in `items` with an element for each axis."""
    if not (isinstance(kept, Mask) or (isinstance(kept, Value) and kept.name in lowering.tokens)):
        return False
    if any(item is not None and item != slice(None) for item in items):
        raise lowering.refuse(
            node, "takes a part of tokens, which has no operator in the format; give the part as input"
        )
    axes = iter(kept.axes)
    return viewed(lowering, node, kept, tuple(() if item is None else next(axes) for item in items))


def _tokens(lowering: Lowering, node: fx.Node) -> Value:
    """The tokens that are compared."""
    value = lowering.any(node)
    if not isinstance(value, Value) or value.name not in lowering.tokens or lowering.tokens[value.name].count != 2:
        raise lowering.refuse(
            node, "of anything but tokens that are 0 or 1, onebit.Tokens(T, 2), has no operator in the format"
        )
    return value


def _compared(by: Callable[[Any, Any], bool]) -> Function:
    def lower(lowering: Lowering, node: fx.Node) -> None:
        value, other = _tokens(lowering, node), lowering.constant(lowering.argument(node, 1, "other"))
        if other is None or (isinstance(other, torch.Tensor) and other.numel() > 1):
            raise lowering.refuse(node, "with anything but a number has no operator in the format")
        zero, one = (bool(by(token, float(other))) for token in (0, 1))
        if zero == one:
            raise lowering.refuse(node, f"with {float(other):g} is the same of 0 and 1; compare with 0")
        lowering.values[node] = Mask(value, there=one)

    return lower


def _truth(lowering: Lowering, node: fx.Node) -> None:
    """bool(): whether tokens are 1."""
    if isinstance(lowering.any(node), Mask):
        lowering.skip(node)
    else:
        lowering.values[node] = Mask(_tokens(lowering, node), there=True)


def _turned(lowering: Lowering, node: fx.Node) -> None:
    kept = lowering.any(node)
    if not isinstance(kept, Mask):
        raise lowering.refuse(node, "of anything but a mask of tokens has no operator in the format")
    lowering.values[node] = kept._replace(there=not kept.there)


def converted(lowering: Lowering, node: fx.Node) -> None:
    """to(), type() and the like: of values nothing, of tokens a mask where the type is bool."""
    kept = lowering.any(node)
    if torch.bool in (*node.args[1:], *node.kwargs.values()):
        _truth(lowering, node)
    elif isinstance(kept, Mask):
        raise lowering.refuse(
            node, "makes numbers of a mask, which has no operator in the format; give the mask to the attention"
        )
    else:
        lowering.skip(node)


MASKS: dict[str, Function] = {
    **{name: _compared(getattr(operator, name)) for name in ("eq", "ne", "gt", "ge", "lt", "le")},
    "bool": _truth,
    **dict.fromkeys(("invert", "bitwise_not", "logical_not"), _turned),
    **dict.fromkeys(("to", "type", "type_as", "float", "double"), converted),
}
