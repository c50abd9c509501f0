"""Pools, and changes of a map's size."""

from __future__ import annotations

from typing import Any

from torch import fx

from onebit.packing.channels import mean
from onebit.packing.lowering import Lowering
from onebit.packing.products import pair


def pool(lowering: Lowering, node: fx.Node, op: str, layer: Any) -> None:
    """A max_pool or avg_pool with the attributes of the layer, or of what has them like it."""
    if pair(getattr(layer, "dilation", 1)) != [1, 1] or getattr(layer, "divisor_override", None):
        raise lowering.refuse(node, "pooling with dilation or divisor_override has no operator in the format")
    attributes = {
        "kernel": pair(layer.kernel_size),
        "stride": pair(layer.stride if layer.stride not in (None, (), []) else layer.kernel_size),
        "padding": pair(layer.padding),
        "ceil_mode": bool(layer.ceil_mode),
    }
    if op == "avg_pool":
        attributes["count_include_pad"] = bool(layer.count_include_pad)
    lowering.emit_map(node, op, lowering.map(node), attributes=attributes)


def adaptive(lowering: Lowering, node: fx.Node, op: str) -> None:
    """A pool to a size that divides the map's: windows side by side; to a multiple of it, each pixel several times. To 1 x 1, the
    mean is one of all pixels at any size."""
    after = lowering.shape(node)[2:]
    if after == (1, 1) and op == "avg_pool":
        mean(lowering, node, [2, 3], keep=True)
        return
    before = lowering.map(node).size[:2]
    if all(parts % size == 0 for size, parts in zip(before, after)):
        interpolate(lowering, node, "nearest", None)
        return
    if any(size % parts for size, parts in zip(before, after)):
        raise lowering.refuse(
            node, f"pools {before} to {after}, which has no operator in the format but where the one divides the other"
        )
    kernel = [size // parts for size, parts in zip(before, after)]
    lowering.emit_map(node, op, lowering.map(node), attributes={"kernel": kernel, "stride": kernel})


def largest(lowering: Lowering, node: fx.Node, axes: list[int], keep: bool) -> None:
    """The largest of all pixels, as a map of 1 x 1."""
    value = lowering.map(node)
    if {axis % 4 for axis in axes} != {2, 3}:
        raise lowering.refuse(node, f"over {axes} has no operator in the format, which takes all pixels")
    size = list(value.size[:2])
    operation = lowering.add(
        "max_pool", f"{lowering.name(node)}.pool", [value.name], attributes={"kernel": size, "stride": size}
    )
    pooled = value._replace(name=operation.name, size=(1, 1, value.size[2]), axes=(*value.axes[:2], (), ()))
    if keep:
        lowering.view(node, pooled.axes, pooled)
    else:
        lowering.emit_vector(node, "flatten", pooled)


def interpolate(lowering: Lowering, node: fx.Node, mode: str, corners: bool | None) -> None:
    value = lowering.map(node)
    before, after = value.size[:2], lowering.shape(node)[2:]
    names = {"nearest": "nearest", "nearest-exact": "nearest", "bilinear": "bilinear"}
    if mode not in names or any(new % old for old, new in zip(before, after)):
        raise lowering.refuse(
            node,
            f"{mode} from {before} to {after} has no operator in the format, which has nearest and bilinear to a whole number of "
            "times the size",
        )
    scale = [new // old for old, new in zip(before, after)]
    if scale == [1, 1]:
        lowering.skip(node)
        return
    attributes: dict[str, Any] = {"scale": scale, "mode": names[mode]}
    if mode == "bilinear":
        attributes["align_corners"] = bool(corners)
    lowering.emit_map(node, "upsample", value, attributes=attributes)
