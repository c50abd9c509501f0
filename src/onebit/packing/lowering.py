"""The calls of a traced model as a list of the format's operators.

Each call becomes an `Operation` through a table: layers through that of `packing/layers.py`, functions and methods of tensors
through that of `packing/functions.py`. An `Operation` keeps its numbers in float64 until all folding is done.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, fx, nn

from onebit.errors import UserError
from onebit.packing.fold import BinaryProduct
from onebit.packing.signature import outputs
from onebit.runtime.inputs import Input, Tokens
from onebit.runtime.operators import OPERATORS

NO_OPERATOR = f"has no operator in the format, which has: {', '.join(OPERATORS)}"
LAYERS_INSTEAD = {  # of functions that take parameters
    "conv2d": "an nn.Conv2d layer",
    "embedding": "an nn.Embedding layer",
    "linear": "an nn.Linear layer",
    "matmul": "an nn.Linear layer",
    "batch_norm": "an nn.BatchNorm2d layer",
    "prelu": "an nn.PReLU layer",
    "adaptive_max_pool2d": "nn.MaxPool2d of the map's size",
}
VECTORS = ("linear", "binary_linear", "global_avg_pool", "flatten")  # operators whose output is a vector
BATCH = (
    2  # images that a model is traced with: a number that a forward which is written for one image does not take for 1
)
OF_SEQUENCES = (
    "relu",
    "hardtanh",
    "prelu",
    "add",
    "concat",
    "flatten",
)  # which are the same there, or refused by what lowers them
OF_MAPS = ("conv", "binary_conv", "max_pool", "avg_pool", "option_a")  # operators that take nothing else


@dataclass
class Operation:
    """One node of the format. `product` is set on binary nodes, `tensors` on others; both are still unfolded.

    split   an `add` of the products that one layer is the sum of
    """

    op: str
    name: str
    inputs: list[str]
    attributes: dict[str, Any] = field(default_factory=dict)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    product: BinaryProduct | None = None
    split: bool = False


class Lowering:
    """Walks a traced graph, whose nodes have the shape of their value as meta["shape"], batch included, None for what is no
    tensor, and where the model's code calls them as meta["line"].

    layers     gives what lowers a layer, or None
    functions  by function, or name of a method: what lowers its calls
    inputs     by the argument of the model's forward
    value      of an fx node: the name that holds it in the format
    order      (C, H, W) for vectors that were flattened from a map, whose elements the format keeps as (H, W, C)
    vectors    names of the format's vectors. PyTorch keeps a map of 1 x 1 pixels behind a global pooling, the format does not
    sequences  names of the maps (T, 1, C) that PyTorch keeps as (T, C); tokens: names of the inputs they are made from
    """

    def __init__(
        self,
        module: fx.GraphModule,
        layers: Callable[[nn.Module], Callable[..., None] | None],
        functions: Mapping[Any, Callable[..., None]],
        inputs: Mapping[str, Input],
    ):
        self.module = module
        self.layers = layers
        self.functions = functions
        self.inputs = inputs
        self.value: dict[fx.Node, str] = {}
        self.order: dict[str, tuple[int, int, int] | None] = {}
        self.vectors = {source.name for source in inputs.values() if len(source.map) == 1}
        self.tokens = {source.name: source for source in inputs.values() if isinstance(source, Tokens)}
        self.sequences: set[str] = set()
        self.operations: list[Operation] = []
        self.memory: dict[str, str] = {}  # the value of which a flattened one is a view

    def run(self) -> tuple[list[Operation], dict[str, str]]:
        """The operations in order, and by the outputs' names the operations whose values they are. Raises UserError for what
        the format does not have."""
        modules = dict(self.module.named_modules())
        for node in self.module.graph.nodes:
            if node.op == "placeholder":
                self.value[node] = self.inputs[str(node.target)].name
            elif node.op == "output":
                return self.operations, {name: self.output(value) for name, value in outputs(node.args[0]).items()}
            elif node.op == "call_module":
                layer = modules[str(node.target)]
                convert = self.layers(layer)
                if convert is None:
                    raise UserError(f"layer {node.target}: {type(layer).__name__} {NO_OPERATOR}")
                if getattr(layer, "inplace", False) and convert is not same:
                    self.check_in_place(node)
                convert(self, node, str(node.target), layer)
            elif node.op != "get_attr" and node.meta["shape"] is not None:  # sizes are known by now
                convert = self.functions.get(node.target)
                if convert is None:
                    raise UserError(f"{self.call(node)} {self.remedy(node)}")
                if called(node).endswith("_") or node.kwargs.get("inplace", False):
                    self.check_in_place(node)
                convert(self, node)
        raise AssertionError("fx graphs end in an output node")

    def output(self, node: Any) -> str:
        if node not in self.value:
            raise UserError(
                "the model returns something that does not depend on what it is given; return what it computes"
            )
        output = self.value[node]
        if output in {source.name for source in self.inputs.values()}:
            raise UserError("the model returns its input as it is; leave it out of what the model returns")
        if self.order.get(output) is not None:
            raise UserError("the model ends in a flattened map, whose order the format changes; leave flatten out")
        return output

    def call(self, node: fx.Node) -> str:
        """The node's function or method, and where the model's code calls it, for messages."""
        line = node.meta.get("line")
        return called(node) + (f" ({line})" if line else f" ({node.name})")

    def remedy(self, node: fx.Node) -> str:
        """What to do about a function that the format has no operator for."""
        layer = LAYERS_INSTEAD.get(called(node).rstrip("_"))
        return f"is packed as a layer only; use {layer} instead" if layer else NO_OPERATOR

    def check_in_place(self, node: fx.Node) -> None:
        """Refuse a layer that overwrites a value which is read again: the format's values never change."""
        changed = self.origin(self.input(node))
        nodes = list(self.module.graph.nodes)
        later = set(nodes[nodes.index(node) + 1 :])
        for other, name in self.value.items():
            if self.origin(name) == changed and (readers := later & set(other.users)):
                reader = min(readers, key=nodes.index)
                raise UserError(
                    f"{node.name} changes its input in place, which {reader.name} reads afterwards; set inplace=False"
                )

    def origin(self, name: str) -> str:
        """The value whose memory the value `name` shares."""
        return self.memory.get(name, name)

    def shape(self, node: Any) -> tuple[int, ...]:
        """Of the node's value, without the batch: (C, H, W) or (C,)."""
        return tuple(node.meta["shape"][1:])

    def input(self, node: fx.Node, index: int = 0) -> str:
        """The name of the node's argument `index`. Raises UserError for one that is no value of the graph."""
        return self.named(node, node.args[index] if index < len(node.args) else None)

    def named(self, node: fx.Node, source: Any) -> str:
        """The name of a value that the node is given. Raises UserError for what is no value of the graph."""
        if not isinstance(source, fx.Node) or source not in self.value:
            what = f"the parameter or constant {source.target}" if isinstance(source, fx.Node) else "a constant"
            raise UserError(f"{self.call(node)} of {what}, or of a keyword argument, has no operator in the format")
        return self.value[source]

    def unique(self, node: fx.Node, name: str) -> str:
        """The name of the node's operation: that of its layer, but for a layer that is called again, and for letters that
        names in the format do not have."""
        taken = {*(source.name for source in self.inputs.values()), *(o.name for o in self.operations)}
        name = re.sub(r"^[^A-Za-z0-9_]|[^A-Za-z0-9_./\-]", "_", name)
        name = node.name if name in taken else name
        name = name if len(name) <= 200 else name[:180]
        found, number = name, 1
        while found in taken:
            found, number = f"{name}.{number}", number + 1
        return found

    def emit(
        self, node: fx.Node, op: str, name: str, inputs: list[str] | None = None, sequence: bool = False, **content: Any
    ) -> Operation:
        """Append the operation that gives the node's value; inputs default to the node's first.

        sequence    the operator does to a map (T, 1, C) what the call does to a sequence (T, C)
        """
        unique = self.unique(node, name)
        inputs = [self.input(node)] if inputs is None else inputs
        if (inputs[0] in self.tokens) != (op == "embedding"):
            raise UserError(
                f"layer {name}: {op} of tokens has no operator in the format; only nn.Embedding reads them"
                if inputs[0] in self.tokens
                else f"layer {name}: nn.Embedding reads inputs that are onebit.Tokens, not {inputs[0]}"
            )
        if inputs[0] in self.sequences and not (sequence or op in OF_SEQUENCES):
            raise UserError(
                f"layer {name}: {op} of a sequence (B, T, C) has no operator in the format; sequences take nn.Linear, ReLU, "
                "Hardtanh, PReLU of one parameter, sums, flatten and the mean over T"
            )
        if op in OF_MAPS and inputs[0] in self.vectors:
            raise UserError(
                f"layer {name}: {op} after a global average pooling has no operator in the format; "
                "pool with nn.AvgPool2d of the map's size instead"
            )
        if op in VECTORS or inputs[0] in self.vectors:
            self.vectors.add(unique)
        operation = Operation(op, unique, inputs, **content)
        if op == "embedding" or (inputs[0] in self.sequences and op not in VECTORS):
            self.sequences.add(unique)
        self.operations.append(operation)
        self.value[node] = unique
        self.order[unique] = self.order.get(inputs[0])
        return operation

    def skip(self, node: fx.Node) -> None:
        """The node's value is its input's."""
        self.value[node] = self.input(node)

    def reorder(self, source: str, values: Tensor) -> Tensor:
        """Values whose last axis runs over the elements of `source`, in the format's order."""
        order = self.order.get(source)
        if order is None:
            return values
        leading = values.shape[:-1]
        return values.reshape(*leading, *order).movedim(-3, -1).reshape(*leading, -1)  # (..., C, H, W) -> (..., H W C)


def same(lowering: Lowering, node: fx.Node, name: str, layer: nn.Module) -> None:
    """A layer that does nothing."""
    lowering.skip(node)


def called(node: fx.Node) -> str:
    """The name of the function or method that the node calls."""
    return str(getattr(node.target, "__name__", node.target))
