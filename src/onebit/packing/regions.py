"""Layers of detectors in two stages: boxes to look at, and what maps hold inside them."""

from __future__ import annotations

import math
from typing import Any

from torch import fx

from onebit.nn.proposals import OVERLAP, SMALLEST, Proposals
from onebit.nn.roi_align import RoIAlign
from onebit.packing import layouts
from onebit.packing.lowering import Lowering, Value


def proposals(lowering: Lowering, node: fx.Node, name: str, layer: Proposals) -> None:
    """Logits (B, N, 1) and offsets (B, N, 4) -> boxes (B, most, 4)."""
    logits = _sequence(lowering, node, lowering.argument(node, 0, "logits"), 1)
    offsets = _sequence(lowering, node, lowering.argument(node, 1, "offsets"), 4)
    attributes = {
        "grids": [[grid, grid, step] for grid, step in zip(layer.grids, layer.steps)],
        "image": [layer.image_size, layer.image_size],
        "candidates": layer.candidates,
        "most": layer.most,
        "overlap": OVERLAP,
        "smallest": SMALLEST,
    }
    tensors = {"anchors": layer.cells.detach().double()}  # (levels, shapes, 4)
    _emit(lowering, node, "proposals", (logits, offsets), (layer.most, 1, 4), attributes=attributes, tensors=tensors)


def roi_align(lowering: Lowering, node: fx.Node, name: str, layer: RoIAlign) -> None:
    """Boxes (B, R, 4) and a map (B, C, H, W) -> (B, R, size size C)."""
    boxes = _sequence(lowering, node, lowering.argument(node, 0, "boxes"), 4)
    values = lowering.map(node, lowering.argument(node, 1, "values"))
    attributes: dict[str, Any] = {"scale": layer.scale, "size": layer.size, "samples": layer.samples}
    if layer.low > 0:
        attributes["low"] = layer.low
    if layer.high < math.inf:
        attributes["high"] = layer.high
    size = (boxes.size[0], 1, layer.size**2 * values.size[2])
    _emit(lowering, node, "roi_align", (boxes, values), size, attributes=attributes)


def _sequence(lowering: Lowering, node: fx.Node, source: Any, channels: int) -> Value:
    """A value that is (B, T, channels), as a map (T, 1, channels)."""
    value = lowering.sequence(node, lowering.value(node, source))
    if value.vector or value.size[1:] != (1, channels) or value.axes != layouts.of_sequence(value.size, lowering.batch):
        raise lowering.refuse(
            node, f"takes sequences (B, N, {channels}), not {lowering.described(node, value, source)}"
        )
    return value


def _emit(
    lowering: Lowering, node: fx.Node, op: str, inputs: tuple[Value, Value], size: tuple[int, int, int], **content: Any
) -> None:
    like = Value("", size, layouts.of_sequence(size, lowering.batch))
    lowering.emit(node, op, *inputs, like=like, **content)
