"""The oracle: runs a graph by the numpy arithmetic of its operators' rows, for reading, never for speed."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from onebit.errors import UserError
from onebit.runtime.byte_conv import byte_conv
from onebit.runtime.convolutions import conv_of_bytes
from onebit.runtime.graph import Graph, Node
from onebit.runtime.inputs import Image, Input, Tokens
from onebit.runtime.operators import OPERATORS, infer_shapes
from onebit.runtime.tensors import Arrays, Shape, Tensors, by_node


class Reference:
    """Runs a checked graph: the methods of `backend.Backend`."""

    isa = "reference"
    threads = 1

    def __init__(self, graph: Graph, tensors: Arrays) -> None:
        self._graph = graph
        self._inputs = {source.name: source for source in graph.inputs}
        self._shapes = Tensors.of(tensors)
        self._tensors = by_node(tensors)

    def check(self, sizes: Mapping[str, Shape]) -> None:
        infer_shapes(self._graph, self._shapes, sizes)

    def run(self, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        found = self.trace(values)
        return {output.name: found[output.node] for output in self._graph.outputs}

    def trace(self, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        maps = {name: _map(self._inputs[name], value) for name, value in values.items()}
        found: dict[str, np.ndarray] = {}
        batch = len(next(iter(values.values())))
        for node in self._graph.nodes:
            operands = [found[name] if name in found else maps[name] for name in node.inputs]
            value = self._of_bytes(node, values)
            computed = value if value is not None else OPERATORS[node.op].compute(node, self._own(node), *operands)
            if not node.inputs:
                computed = np.repeat(computed, batch, axis=0)
            if isinstance(computed, tuple):  # of a binary operator
                found[f"{node.name}:accumulator"], computed = computed
            found[node.name] = computed
        return found

    def _of_bytes(self, node: Node, values: Mapping[str, np.ndarray]) -> np.ndarray | None:
        """The value of a convolution that takes an image's bytes as they are."""
        read = node.inputs[0] if node.inputs else None
        source, pixels = self._inputs.get(read or ""), values.get(read or "")
        if not isinstance(source, Image) or pixels is None or pixels.dtype != np.uint8:
            return None
        form = byte_conv(node, self._own(node), source)
        return None if form is None else conv_of_bytes(node, form, pixels)

    def _own(self, node: Node) -> Arrays:
        return self._tensors.get(node.name, {})


def _map(source: Input, value: np.ndarray) -> np.ndarray:
    """What a caller gave as operators read it: (B, H, W, C), (B, C), or tokens int32 (B, T)."""
    if isinstance(source, Image) and value.dtype == np.uint8:
        return source.normalized(value)
    if isinstance(source, Tokens) or value.ndim == 2:
        return value
    x = np.ascontiguousarray(value.transpose(0, 2, 3, 1))  # (B, H, W, C)
    if not np.isfinite(x).all():
        raise UserError("images contain NaN or infinity; check how they were normalised")
    return x
