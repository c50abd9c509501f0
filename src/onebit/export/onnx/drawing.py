"""A graph of ONNX as it is drawn: nodes of standard operators, constants, and the names of values."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

from onebit.runtime.tensors import Shape

QONNX = "qonnx.custom_op.general"  # the domain of BipolarQuant


class Value(NamedTuple):
    """A value by its name in the graph of ONNX, with its shape in the file: (H, W, C), which is (B, C, H, W) there; (C,), which
    is (B, C); or (T,) of tokens, which are (B, T)."""

    name: str
    shape: Shape

    @property
    def is_map(self) -> bool:
        return len(self.shape) == 3

    def beside(self, values: np.ndarray) -> np.ndarray:
        """(C) in the shape in which it stands beside this value: (C, 1, 1) beside maps, (C) beside vectors."""
        return values.reshape(-1, 1, 1) if self.is_map else values


class Drawing:
    """Collects nodes and constants.

    nodes         in topological order
    constants     the graph's initializers
    bipolar       whether signs are the operator BipolarQuant of QONNX, not comparisons
    where         name of the file's node that is being drawn: its tensors are called <where>.<what>. Values between nodes of the
                  file have numbers, since longer names would take a tenth of the bytes of a small network
    """

    def __init__(self, reserved: Iterable[str], bipolar: bool = False) -> None:
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []
        self.bipolar = bipolar
        self.where = ""
        self._names = set(reserved)
        self._shared: dict[Any, str] = {}

    def unique(self, name: str) -> str:
        """The name, or where another value has it, with as many underscores behind it as make it unique; reserved from now on."""
        while name in self._names:
            name += "_"
        self._names.add(name)
        return name

    def tensor(self, what: str, array: np.ndarray) -> str:
        """A tensor of the file's node: the name of the constant <where>.<what>."""
        name = self.unique(f"{self.where}.{what}")
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        """A small constant, which all nodes share that ask for the same."""
        array = np.asarray(value, dtype)
        return self.once((array.dtype.str, array.shape, array.tobytes()), lambda: self._constant(array))

    def once(self, key: Any, make: Callable[[], str]) -> str:
        """What `make` draws, drawn at the first call with this key."""
        if key not in self._shared:
            self._shared[key] = make()
        return self._shared[key]

    def add(self, op: str, *inputs: Value | str, domain: str | None = None, **attributes: Any) -> str:
        """One node with one output; the output's name. An empty name stands for an optional input that is left out."""
        (output,) = self.several(op, 1, *inputs, domain=domain, **attributes)
        return output

    def several(
        self, op: str, count: int, *inputs: Value | str, domain: str | None = None, **attributes: Any
    ) -> list[str]:
        """The same of a node with so many outputs."""
        names = [value.name if isinstance(value, Value) else value for value in inputs]
        outputs = [self.unique(str(len(self.nodes))) for _ in range(count)]
        self.nodes.append(helper.make_node(op, names, outputs, domain=domain, **attributes))
        return outputs

    def call(self, name: str, drawn: str, start: int) -> None:
        """Let `drawn`, the value of what was drawn from node `start` on, be called `name`, which is reserved for it."""
        if len(self.nodes) > start and self.nodes[-1].output[0] == drawn:
            self.nodes[-1].output[0] = name
        else:
            self.copy(name, drawn)

    def copy(self, name: str, source: str) -> None:
        """A second name, reserved for it."""
        self.nodes.append(helper.make_node("Identity", [source], [name]))

    def cast(self, x: Value | str, to: int = TensorProto.FLOAT) -> str:
        return self.add("Cast", x, to=to)

    def reshape(self, x: Value | str, *sizes: int) -> str:
        """A size of 0 is that of x; one of -1 is what is left."""
        return self.add("Reshape", x, self.constant(sizes, np.int64))

    def _constant(self, array: np.ndarray) -> str:
        name = self.unique(f"constant{len(self._shared)}")
        self.constants.append(numpy_helper.from_array(array, name))
        return name
