"""The tensors of a file: their dtypes and shapes before any data is read, and what belongs to a node."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from onebit.errors import FormatError
from onebit.runtime.fields import MAX_CHANNELS, show
from onebit.runtime.graph import Node

MAX_ELEMENTS = 2**28  # of one activation

Shape = tuple[int, ...]
Arrays = dict[str, np.ndarray]
DTYPES: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "U8": np.dtype("u1"), "I8": np.dtype("i1")}
_CODES = {dtype: code for code, dtype in DTYPES.items()}


def vocabulary_of(source: str) -> str:
    """The name of the tensor that holds an input's word pieces."""
    return f"{source}.vocabulary"


class Tensors:
    """Dtype and shape of every tensor of a file, before any data is read. Remembers which were asked for."""

    def __init__(self, found: Mapping[str, tuple[str, Shape]]) -> None:
        self._found = found
        self.used: set[str] = set()

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray]) -> Tensors:
        return cls({name: (_CODES.get(array.dtype, str(array.dtype)), array.shape) for name, array in arrays.items()})

    def has(self, node: Node, what: str) -> bool:
        return f"{node.name}.{what}" in self._found

    def axes(self, node: Node, what: str) -> int:
        """The number of axes of the tensor <node>.<what>; 0 if there is none."""
        return len(self._found.get(f"{node.name}.{what}", ("", ()))[1])

    def expect(self, node: Node, what: str, dtype: str, *shape: int | None) -> Shape:
        """Shape of the tensor <node>.<what>; None in `shape` stands for any size from 1 to MAX_CHANNELS."""
        return self._expect(f"{node.name}.{what}", f"node {node.name!r} ({node.op})", dtype, shape)

    def expect_vocabulary(self, source: str) -> None:
        """The word pieces of an input."""
        self._expect(vocabulary_of(source), f"input {source!r}", "U8", (None,))

    def _expect(self, name: str, owner: str, dtype: str, shape: tuple[int | None, ...]) -> Shape:
        self.used.add(name)
        if name not in self._found:
            raise FormatError(f"tensor {name} is missing; {owner} needs it")
        found_dtype, found = self._found[name]
        if found_dtype != dtype:
            raise FormatError(f"tensor {name} must be {dtype}, got {found_dtype}")
        fits = len(found) == len(shape) and all(
            1 <= size <= MAX_CHANNELS if want is None else size == want for size, want in zip(found, shape)
        )
        if not fits:
            wanted = ", ".join("any" if want is None else str(want) for want in shape)
            raise FormatError(f"tensor {name} must have shape ({wanted}), got {show(found)}")
        return found

    def expect_weight(self, node: Node, *shape: int | None) -> Shape:
        """Shape of a float weight: F32, or I8 with one F32 scale per row."""
        if self._found.get(f"{node.name}.weight", ("", ()))[0] != "I8":
            return self.expect(node, "weight", "F32", *shape)
        found = self.expect(node, "weight", "I8", *shape)
        self.expect(node, "weight_scale", "F32", found[0])
        return found

    def check_all_used(self) -> None:
        if extra := sorted(self._found.keys() - self.used):
            raise FormatError(f"tensor {show(extra[0])} belongs to no node; remove it or name it <node>.<what>")


def by_node(tensors: Mapping[str, np.ndarray]) -> dict[str, Arrays]:
    """{node: {what: array}} of {"<node>.<what>": array}."""
    found: dict[str, Arrays] = {}
    for name, array in tensors.items():
        node, _, what = name.rpartition(".")
        found.setdefault(node, {})[what] = array
    return found


def float_weight(weight: np.ndarray, scale: np.ndarray | None) -> np.ndarray:
    """float32 (O, ...): the weight, or weight_scale[o]·weight[o] of one stored as I8."""
    if scale is None:
        return weight
    return scale.reshape(-1, *[1] * (weight.ndim - 1)) * weight.astype(np.float32)


def map_of(node: Node, shape: Shape) -> Shape:
    """The shape, which must be a map's. Raises FormatError for a vector."""
    if len(shape) != 3:
        raise FormatError(
            f"node {node.name!r} ({node.op}) needs a map (H, W, C), got a vector of {shape[0]}; remove flatten"
        )
    return shape


def vector_of(node: Node, shape: Shape) -> int:
    """The length of the vector. Raises FormatError for a map."""
    if len(shape) != 1:
        raise FormatError(
            f"node {node.name!r} ({node.op}) needs a vector, got a map {shape}; add flatten or global_avg_pool"
        )
    return shape[0]
