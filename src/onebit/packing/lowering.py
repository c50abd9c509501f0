"""The calls of a traced model as a list of the format's operators.

Each call becomes an `Operation`, or none where it only looks at a value in another way, through a table: layers through that of
`packing/layers.py`, functions and methods of tensors through that of `packing/functions.py`. An `Operation` keeps its numbers in
float64 until all folding is done.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn

from onebit.errors import UserError
from onebit.packing import layouts
from onebit.packing.fold import BinaryProduct
from onebit.packing.layouts import Axes, Axis, Size
from onebit.packing.recording import called
from onebit.packing.signature import outputs
from onebit.packing.tracing import Traced
from onebit.runtime.inputs import Input, Tokens

BATCH = (
    2  # images that a model is traced with: a number that a forward which is written for one image does not take for 1
)
REMEDIES = {  # of functions that networks often end in
    **{
        name: "has no operator in the format; leave it out of what the model returns, and give answer= instead: a file's answers are "
        "probabilities already"
        for name in ("log_softmax", "logsigmoid")
    },
    **{
        name: "has no operator in the format; return the scores, of which a file's answers are sorted"
        for name in ("argmax", "topk", "sort", "max")
    },
}


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


class Value(NamedTuple):
    """A tensor of the model: a value of the format, of a size (H, W, C) or (C,), and where the tensor's elements lie in it."""

    name: str
    size: Size
    axes: Axes

    @property
    def vector(self) -> bool:
        return len(self.size) == 1

    def over(self, axis: int, letter: str, ordered: bool = False) -> bool:
        """Whether an axis of the tensor runs over one of the value's, and over all of it."""
        size = self.size["HWC".index(letter)] if not self.vector else (self.size[0] if letter == "C" else 1)
        found = self.axes[axis]
        if ordered:
            return found == layouts.whole(letter, size)
        return bool(found) and layouts.letters(found) == letter and len(layouts.places(found)) == size

    def is_map(self) -> bool:
        """Whether the tensor is (B, C, H, W), each in order."""
        return len(self.axes) == 4 and not self.vector and self.axes[1:] == layouts.of_map(self.size, 1)[1:]


class Lowering:
    """Walks a traced graph.

    layers     gives what lowers a layer, or None
    functions  by the plain name of a function or method: what lowers its calls
    inputs     by the argument of the model's forward
    batch      images that it was traced with
    values     of an fx node: the value, or what the tables keep there for their own
    norms      of batch norms: what they multiply each channel with
    """

    def __init__(
        self,
        traced: Traced,
        layers: Callable[[nn.Module], Callable[..., None] | None],
        functions: Mapping[str, Callable[..., None]],
        inputs: Mapping[str, Input],
        batch: int = BATCH,
    ):
        self.batch = batch
        self.traced = traced
        self.layers = layers
        self.functions = functions
        self.inputs = inputs
        self.values: dict[fx.Node, Any] = {}
        self.tokens = {source.name: source for source in inputs.values() if isinstance(source, Tokens)}
        self.operations: list[Operation] = []
        self.norms: dict[fx.Node, Tensor] = {}

    def run(self) -> tuple[list[Operation], dict[str, str]]:
        """The operations in order, and by the outputs' names the operations whose values they are. Raises UserError for what
        the format does not have."""
        for node in self.traced.graph.nodes:
            if node.op == "placeholder":
                self.values[node] = self.given(node)
            elif node.op == "output":
                return self.operations, {name: self.output(value) for name, value in outputs(node.args[0]).items()}
            elif node.op == "call_module":
                layer = self.traced.modules[str(node.target)]
                convert = self.layers(layer)
                assert convert is not None, "a layer that is one call is in the table"
                convert(self, node, str(node.target), layer)
            elif node.op != "get_attr":
                convert = self.functions.get(called(node.target))
                if convert is None:
                    if (remedy := REMEDIES.get(called(node.target))) is not None:
                        raise self.refuse(node, remedy)
                    raise UserError(
                        f"{self.call(node)} has no operator in the format; replace it by what has one (docs/format.md lists the "
                        "operators), or let the packed network end before it"
                    )
                convert(self, node)
        raise AssertionError("fx graphs end in an output node")

    def given(self, node: fx.Node) -> Value:
        source = self.inputs[str(node.target)]
        if isinstance(source, Tokens):
            return Value(
                source.name, (source.length, 1, 1), (layouts.whole("B", self.batch), layouts.whole("H", source.length))
            )
        size = source.map
        return Value(source.name, size, (layouts.of_map if len(size) == 3 else layouts.of_vector)(size, self.batch))

    def output(self, node: Any) -> str:
        if node not in self.values:
            raise UserError(
                "the model returns something that does not depend on what it is given; return what it computes"
            )
        value = self.values[node]
        if not isinstance(value, Value):
            raise UserError(f"the model returns {value}, which has no operator in the format of its own")
        if value.name in {source.name for source in self.inputs.values()}:
            raise UserError("the model returns its input as it is; leave it out of what the model returns")
        value = self.sequence(node, self.tidy(node, value)) if len(value.axes) == 3 else self.tidy(node, value)
        rest = [axis for axis in value.axes if axis and axis[0].axis != "B"]  # (C, H, W), or (T, C) of a sequence
        fits = rest == [axis for axis in layouts.of_map((1, 1, *value.size)[-3:], 1) if axis]
        if value.vector and not fits:
            raise UserError("the model ends in a flattened map, whose order the format changes; leave flatten out")
        sequence = (
            not value.vector and value.size[1] == 1 and rest == [a for a in layouts.of_sequence(value.size, 1) if a]
        )
        if not (fits or sequence):
            raise UserError(
                f"the model returns {tuple(node.meta['shape'][1:])} with its axes in an order that files do not return, which "
                "give (C, H, W); permute it back"
            )
        return value.name

    # ---- what converters ask for

    def call(self, node: fx.Node) -> str:
        """The node's layer, or its function or method and where the model's code calls it, for messages."""
        if node.op == "call_module":
            return f"layer {node.target}"
        if node.meta.get("layer"):
            return f"layer {node.meta['layer']}: {called(node.target)}"
        line, inside = node.meta.get("line") or node.name, node.meta.get("inside")
        return f"{called(node.target)} ({line}{f', in {inside}' if inside else ''})"

    def shape(self, node: Any) -> tuple[int, ...]:
        """Of the node's value in PyTorch, with the batch."""
        return tuple(node.meta["shape"])

    def refuse(self, node: fx.Node, why: str) -> UserError:
        return UserError(f"{self.call(node)}: {why}")

    def argument(self, node: fx.Node, index: int = 0, name: str = "input") -> Any:
        """What the call is given, by position or by name: an fx node of a tensor, or a number."""
        return node.args[index] if index < len(node.args) else node.kwargs.get(name)

    def any(self, node: fx.Node, source: Any = None) -> Any:
        """What there is of an argument, the first by default: a value, or what a table keeps of it."""
        source = self.argument(node) if source is None else source
        if not isinstance(source, fx.Node) or source not in self.values:
            raise self.refuse(
                node, "reads a constant where a value of the network is needed, which has no operator in the format"
            )
        return self.values[source]

    def value(self, node: fx.Node, source: Any = None) -> Value:
        """A value that the node is given, the first by default. Raises UserError for tokens, and for what is no value."""
        value = self.any(node, source)
        if not isinstance(value, Value):
            raise self.refuse(node, f"reads {value}, which has no operator in the format of its own")
        if value.name in self.tokens:
            raise self.refuse(node, "tokens have no operator in the format but nn.Embedding")
        return value

    def constant(self, source: Any) -> Tensor | float | None:
        """A number, or a tensor that no input changes; else None."""
        if isinstance(source, fx.Node):
            return source.meta.get("constant")
        return float(source) if isinstance(source, Real) else None  # numpy's numbers, too

    def table(self, source: Any) -> Tensor | None:
        """The table (P, C) whose first rows a constant is, as the recorder has seen."""
        return source.meta.get("table") if isinstance(source, fx.Node) else None

    def map(self, node: fx.Node, source: Any = None) -> Value:
        """A value that is (B, C, H, W). Raises UserError for others."""
        value = self.tidy(node, self.value(node, source))
        if value.vector and len(value.axes) == 4:
            raise self.refuse(
                node,
                "reads the 1 x 1 map of a global average pooling, which is a vector in the format; pool with nn.AvgPool2d of the "
                "map's size instead",
            )
        if not value.is_map():
            raise self.refuse(node, f"reads {self.described(node, value, source)}; it takes maps (B, C, H, W)")
        return value

    def described(self, node: fx.Node, value: Value, source: Any = None) -> str:
        source = self.argument(node) if source is None else source
        order = ", ".join("x".join(part.axis for part in axis) or "1" for axis in value.axes)
        shape = source.meta["shape"] if isinstance(source, fx.Node) else None
        return f"({order})" if shape is None else f"{shape} = ({order})"

    def view(self, node: fx.Node, axes: Axes, value: Value | None = None) -> None:
        """The node's value is its input's, looked at in another way."""
        value = self.value(node) if value is None else value
        self.values[node] = value._replace(axes=axes)

    def skip(self, node: fx.Node) -> None:
        """The node's value is its input's."""
        self.values[node] = self.any(node)

    def tidy(self, node: fx.Node, value: Value) -> Value:
        """The value with its channels in order, where an axis runs over them in two steps: channels that were shuffled."""
        for axis in value.axes:
            if layouts.letters(axis) == "C" and len(axis) == 2 and not value.vector and axis[0].stride == 1:
                operation = self.add(
                    "channel_shuffle", f"{node.name}.shuffle", [value.name], attributes={"groups": axis[1].size}
                )
                assert axis[0].size * axis[1].size == value.size[2] and axis[1].stride == axis[0].size
                axes = tuple(layouts.whole("C", value.size[2]) if other is axis else other for other in value.axes)
                return Value(operation.name, value.size, axes)
        return value

    def sequence(self, node: fx.Node, value: Value) -> Value:
        """The value as a map (T, 1, C), if one axis of the tensor runs over its pixels; or over pixels and parts of their
        channels, as it does after permute(0, 2, 3, 1).reshape(B, -1, 4)."""
        if not value.vector and (parts := layouts.parts_in_sequence(value.axes, value.size)):
            attributes = {} if parts == 1 else {"parts": parts}
            operation = self.add("to_sequence", f"{node.name}.sequence", [value.name], attributes=attributes)
            height, width, channels = value.size
            size = (height * width * parts, 1, channels // parts)
            return Value(operation.name, size, layouts.in_sequence(value.axes, value.size, parts))
        return value

    def reorder(self, axis: Axis, values: Tensor) -> Tensor:
        """Values whose last axis runs over the channels as `axis` does, in the format's order."""
        place = layouts.places(axis)
        found = torch.empty_like(values)
        found[..., place] = values
        return found

    # ---- what they make

    def unique(self, name: str) -> str:
        """A name that no other value has, of letters that names in the format have."""
        taken = {*(source.name for source in self.inputs.values()), *(o.name for o in self.operations)}
        name = re.sub(r"^[^A-Za-z0-9_]|[^A-Za-z0-9_./\-]", "_", name)
        name = name if len(name) <= 200 else name[:180]
        found, number = name, 1
        while found in taken:
            found, number = f"{name}.{number}", number + 1
        return found

    def name(self, node: fx.Node) -> str:
        """That of the node's layer, but for one that is called again."""
        name = str(node.target) if node.op == "call_module" else str(node.meta.get("layer") or node.name)
        return self.unique(
            node.name if self.unique(name) != name and name in {o.name for o in self.operations} else name
        )

    def add(self, op: str, name: str, inputs: list[str], **content: Any) -> Operation:
        operation = Operation(op, self.unique(name), inputs, **content)
        self.operations.append(operation)
        return operation

    def emit(
        self, node: fx.Node, op: str, *inputs: Value, like: Value | None = None, name: str = "", **content: Any
    ) -> Value:
        """Append the operation that gives the node's value.

        inputs   the node's first by default
        like     a value of the size and axes of the result: the first input by default; its name does not matter
        """
        inputs = inputs or (self.value(node),)
        like = inputs[0] if like is None else like
        operation = self.add(op, name or self.name(node), [value.name for value in inputs], **content)
        self.values[node] = Value(operation.name, like.size, like.axes)
        return self.values[node]

    def emit_map(self, node: fx.Node, op: str, *inputs: Value, **content: Any) -> Value:
        """The same for a result (B, C, H, W) of another size."""
        _, channels, height, width = self.shape(node)
        size = (height, width, channels)
        return self.emit(node, op, *inputs, like=Value("", size, layouts.of_map(size, self.batch)), **content)

    def emit_vector(self, node: fx.Node, op: str, *inputs: Value, **content: Any) -> Value:
        """The same for a vector, which PyTorch may have as (B, C, 1, 1)."""
        shape = self.shape(node)
        axes = tuple(layouts.whole("B" if i == 0 else "C", size) for i, size in enumerate(shape))
        size = (max(1, *(s for s in shape[1:])),)
        return self.emit(node, op, *inputs, like=Value("", size, axes), **content)


def same(lowering: Lowering, node: fx.Node, name: str, layer: nn.Module) -> None:
    """A layer that does nothing."""
    lowering.skip(node)
