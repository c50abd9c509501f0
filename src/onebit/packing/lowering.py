"""A PyTorch model as a list of the format's operators.

The model is traced with torch.fx; each call becomes an `Operation` through the tables at the end, and each `Operation`
keeps its numbers in float64 until all folding is done. Adding a layer means one row in a table.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from onebit.errors import UserError
from onebit.nn.binarizer import ActivationForm, WeightForm
from onebit.nn.layers import BinaryConv2d, BinaryLinear, OptionA
from onebit.nn.nonlinearities import Hardtanh, Maxout, RPReLU
from onebit.packing import fold
from onebit.packing.fold import BinaryProduct
from onebit.runtime.graph import INPUT


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


class Tracer(fx.Tracer):
    """Stops at the layers that the tables below know."""

    def is_leaf_module(self, module: nn.Module, qualified_name: str) -> bool:
        return type(module) in MODULES or super().is_leaf_module(module, qualified_name)


def trace(model: nn.Module, input_shape: tuple[int, int, int]) -> tuple[list[Operation], str]:
    """(operations in order, name of the output) of a model in evaluation mode; input_shape (C, H, W).

    Raises UserError for control flow that depends on values, and for a layer the format has no operator for.
    """
    try:
        graph = Tracer().trace(model)
        module = fx.GraphModule(model, graph)
        with torch.no_grad():
            image = torch.randn(1, *input_shape, generator=torch.Generator().manual_seed(0))
            traced = ShapeProp(module).propagate(image.clone())  # turns what a layer raises into RuntimeError
            expected = model(image.clone())
    except (fx.proxy.TraceError, RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"the model cannot be traced for images of {input_shape}: {reason}") from error
    operations, output = Lowering(module).run()
    if isinstance(expected, Tensor) and not torch.allclose(expected, traced, rtol=1e-3, atol=1e-5, equal_nan=True):
        raise UserError(  # torch.fx takes x += y for x = x + y
            "the model computes something else than its trace: a value that is changed in place (x += y) is read afterwards"
        )
    return operations, output


class Lowering:
    """Walks the traced graph. `value` maps an fx node to the name that holds its value in the format;
    `order` holds (C, H, W) for vectors that were flattened from a map, whose elements the format keeps as (H, W, C)."""

    def __init__(self, module: fx.GraphModule):
        self.module = module
        self.value: dict[fx.Node, str] = {}
        self.order: dict[str, tuple[int, int, int] | None] = {}
        self.operations: list[Operation] = []
        self.memory: dict[str, str] = {}  # the value of which a flattened one is a view

    def run(self) -> tuple[list[Operation], str]:
        """The operations in order, and the name of the output. Raises UserError for what the format does not have."""
        modules = dict(self.module.named_modules())
        for node in self.module.graph.nodes:
            if node.op == "placeholder":
                if self.value:
                    raise UserError("the model takes more than one input; onebit packs models of one image tensor")
                self.value[node] = INPUT
            elif node.op == "output":
                if not isinstance(node.args[0], fx.Node):
                    raise UserError("the model returns more than one tensor; onebit packs models that return logits")
                output = self.value[node.args[0]]
                if self.order.get(output) is not None:
                    raise UserError(
                        "the model ends in a flattened map, whose order the format changes; leave flatten out"
                    )
                return self.operations, output
            elif node.op == "call_module":
                layer = modules[str(node.target)]
                convert = MODULES.get(type(layer))
                if convert is None:
                    raise UserError(f"layer {node.target}: {type(layer).__name__} has no operator in the format")
                if getattr(layer, "inplace", False) and convert is not _same:
                    self.check_in_place(node)
                convert(self, node, str(node.target), layer)
            else:
                convert = FUNCTIONS.get(node.target)
                if convert is None:
                    raise UserError(f"{node.name}: {node.op} {node.target} has no operator in the format")
                if node.kwargs.get("inplace", False):
                    self.check_in_place(node)
                convert(self, node)
        raise AssertionError("fx graphs end in an output node")

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
        return tuple(node.meta["tensor_meta"].shape[1:])

    def input(self, node: fx.Node, index: int = 0) -> str:
        """The name of the node's argument `index`. Raises UserError for one that is no value of the graph."""
        source = node.args[index] if index < len(node.args) else None
        if not isinstance(source, fx.Node):
            raise UserError(f"{node.name}: {node.target} of a constant or a keyword argument cannot be packed")
        return self.value[source]

    def unique(self, node: fx.Node, name: str) -> str:
        """The name of the node's operation: that of its layer, but for a layer that is called again."""
        taken = {INPUT, *(o.name for o in self.operations)}
        return name if name not in taken else node.name

    def emit(self, node: fx.Node, op: str, name: str, inputs: list[str] | None = None, **content: Any) -> Operation:
        """Append the operation that gives the node's value; inputs default to the node's first."""
        unique = self.unique(node, name)
        inputs = [self.input(node)] if inputs is None else inputs
        operation = Operation(op, unique, inputs, **content)
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


def _conv_attributes(layer: nn.Conv2d, name: str) -> dict[str, Any]:
    if layer.padding_mode != "zeros" or isinstance(layer.padding, str):
        raise UserError(
            f"layer {name}: padding {layer.padding!r} ({layer.padding_mode}) is unknown; pad with numbers and zeros"
        )
    return {
        "stride": list(layer.stride),
        "padding": list(layer.padding),
        "dilation": list(layer.dilation),
        "groups": layer.groups,
    }


def _conv(lowering: Lowering, node: fx.Node, name: str, layer: nn.Conv2d) -> None:
    tensors = {"weight": layer.weight.detach().double()}
    if layer.bias is not None:
        tensors["bias"] = layer.bias.detach().double()
    lowering.emit(node, "conv", name, attributes=_conv_attributes(layer, name), tensors=tensors)


def _linear(lowering: Lowering, node: fx.Node, name: str, layer: nn.Linear) -> None:
    weight = lowering.reorder(lowering.input(node), layer.weight.detach().double())  # (O, I)
    tensors = {"weight": weight} | ({} if layer.bias is None else {"bias": layer.bias.detach().double()})
    operation = lowering.emit(node, "linear", name, tensors=tensors)
    lowering.order[operation.name] = None


def _binary(lowering: Lowering, node: fx.Node, name: str, layer: BinaryConv2d | BinaryLinear) -> None:
    """One operation; or, of N activation forms and M weight forms, N x M operations <name>.a<n>w<m> and their sum <name>."""
    if layer.weight_binarizer is None or layer.activation_binarizer is None:
        raise UserError(
            f"layer {name}: its weights or activations are still real; pack the model of the last training step"
        )
    if not layer.weight.isfinite().all():
        raise UserError(f"layer {name}: a weight is not finite; the training has diverged")
    weights, activations = layer.weight_binarizer.freeze(layer.weight.detach()), layer.activation_binarizer.freeze()
    pairs = [(f"a{j}w{i}", w, a) for j, a in enumerate(activations) for i, w in enumerate(weights)]
    whole, total = lowering.unique(node, name), ""
    for number, (pair, weight, activation) in enumerate(pairs, start=1):
        part = whole if len(pairs) == 1 else f"{whole}.{pair}"
        product = _binary_product(lowering, node, part, layer, weight, activation, None if total else layer.bias)
        if total:
            part = whole if number == len(pairs) else f"{part}.sum"
            product = lowering.emit(node, "add", part, [total, product.name], split=True)
            lowering.order[product.name] = None
        total = product.name


def _binary_product(
    lowering: Lowering,
    node: fx.Node,
    name: str,
    layer: BinaryConv2d | BinaryLinear,
    weights: WeightForm,
    activations: ActivationForm,
    bias: Tensor | None,
) -> Operation:
    """The operation of one weight form and one activation form."""
    source = lowering.input(node)
    product = fold.binary_product(weights, activations, bias, name)
    threshold: Any = activations.threshold
    tensors = {}
    if isinstance(threshold, Tensor):
        tensors["threshold"] = lowering.reorder(source, threshold.detach().flatten())
        threshold = "channel"
    attributes: dict[str, Any] = {"shift": product.shift, "threshold": threshold}
    if isinstance(layer, BinaryConv2d):
        attributes |= _conv_attributes(layer, name)
        attributes |= {"kernel": list(layer.kernel_size), "in_channels": layer.in_channels}
        operation = lowering.emit(node, "binary_conv", name, attributes=attributes, tensors=tensors, product=product)
    else:
        product.signs = lowering.reorder(source, product.signs)
        operation = lowering.emit(node, "binary_linear", name, attributes=attributes, tensors=tensors, product=product)
    lowering.order[operation.name] = None
    return operation


def _batch_norm(lowering: Lowering, node: fx.Node, name: str, layer: nn.BatchNorm2d) -> None:
    affine = fold.batch_norm(layer)
    channels = lowering.reorder(lowering.input(node), torch.stack([affine.scale, affine.bias]))
    lowering.emit(node, "affine", name, tensors={"channels": channels})


def _hardtanh(lowering: Lowering, node: fx.Node, name: str = "", layer: nn.Hardtanh | None = None) -> None:
    name = name or node.name
    low, high = (layer.min_val, layer.max_val) if layer is not None else _arguments(node, min_val=-1.0, max_val=1.0)
    if (low, high) != (-1.0, 1.0):
        raise UserError(f"layer {name}: hardtanh from {low} to {high} is unknown; use -1 to 1")
    lowering.emit(node, "hardtanh", name)


def _arguments(node: fx.Node, **defaults: Any) -> list[Any]:
    """The arguments after the tensor that a call gives by position or by name, else the defaults."""
    given = dict(zip(defaults, node.args[1:], strict=False)) | dict(node.kwargs)
    return [given.get(name, value) for name, value in defaults.items()]


def _per_channel(op: str, tensor: str, *parameters: str) -> Callable[..., None]:
    """An elementwise layer whose parameters (C,) become the rows of one tensor, or a tensor (C,) if there is only one."""

    def convert(lowering: Lowering, node: fx.Node, name: str, layer: nn.Module) -> None:
        channels = lowering.shape(node)[0]
        rows = [getattr(layer, p).detach().double().expand(channels) for p in parameters]
        values = torch.stack(rows) if len(rows) > 1 else rows[0]
        lowering.emit(node, op, name, tensors={tensor: lowering.reorder(lowering.input(node), values)})

    return convert


def _plain(op: str) -> Callable[..., None]:
    def convert(lowering: Lowering, node: fx.Node, name: str = "", layer: nn.Module | None = None) -> None:
        lowering.emit(node, op, name or node.name)

    return convert


def _same(lowering: Lowering, node: fx.Node, name: str = "", layer: nn.Module | None = None) -> None:
    lowering.skip(node)


def _pair(value: int | tuple[int, ...]) -> list[int]:
    return list(value) if isinstance(value, tuple | list) else [value, value]


def _pool(op: str) -> Callable[..., None]:
    def convert(lowering: Lowering, node: fx.Node, name: str, layer: Any) -> None:
        if getattr(layer, "dilation", 1) not in (1, (1, 1)) or getattr(layer, "divisor_override", None):
            raise UserError(f"layer {name}: pooling with dilation or divisor_override has no operator in the format")
        attributes = {
            "kernel": _pair(layer.kernel_size),
            "stride": _pair(layer.stride),
            "padding": _pair(layer.padding),
            "ceil_mode": layer.ceil_mode,
        }
        if op == "avg_pool":
            attributes["count_include_pad"] = layer.count_include_pad
        lowering.emit(node, op, name, attributes=attributes)

    return convert


def _global_pool(lowering: Lowering, node: fx.Node, name: str, layer: Any) -> None:
    if _pair(layer.output_size) != [1, 1]:
        raise UserError(f"layer {name}: AdaptiveAvgPool2d to {layer.output_size} has no operator in the format; use 1")
    lowering.emit(node, "global_avg_pool", name)


def _option_a(lowering: Lowering, node: fx.Node, name: str, layer: OptionA) -> None:
    lowering.emit(node, "option_a", name, attributes={"stride": layer.stride, "pad": [layer.before, layer.after]})


def _flatten(lowering: Lowering, node: fx.Node, name: str = "", layer: nn.Module | None = None) -> None:
    ends = [layer.start_dim, layer.end_dim] if layer is not None else _arguments(node, start_dim=0, end_dim=-1)
    source = lowering.input(node)
    shape = lowering.shape(node.args[0])
    if ends[0] != 1 or ends[1] not in (-1, len(shape)):
        raise UserError(f"{node.name}: flatten of dimensions {ends[0]} to {ends[1]} has no operator; use flatten(1)")
    pooled = any(o.name == source and o.op == "global_avg_pool" for o in lowering.operations)
    if len(shape) == 1 or pooled:
        lowering.skip(node)
        return
    operation = lowering.emit(node, "flatten", name or node.name)
    lowering.memory[operation.name] = lowering.origin(source)
    lowering.order[operation.name] = (shape[0], shape[1], shape[2]) if math.prod(shape[1:]) > 1 else None


def _add(lowering: Lowering, node: fx.Node) -> None:
    if node.kwargs.get("alpha", 1) != 1:
        raise UserError(f"{node.name}: add with alpha = {node.kwargs['alpha']} has no operator in the format")
    inputs = [lowering.input(node, 0), lowering.input(node, 1)]
    if lowering.order.get(inputs[0]) != lowering.order.get(inputs[1]):
        raise UserError(
            f"{node.name}: a flattened map and a vector differ in order in the format; they cannot be added"
        )
    lowering.emit(node, "add", node.name, inputs)


MODULES: dict[type[nn.Module], Callable[..., None]] = {
    BinaryConv2d: _binary,
    BinaryLinear: _binary,
    Maxout: _per_channel("maxout", "channels", "positive", "negative"),
    OptionA: _option_a,
    RPReLU: _per_channel("rprelu", "channels", "shift_in", "slope", "shift_out"),
    nn.AdaptiveAvgPool2d: _global_pool,
    nn.AvgPool2d: _pool("avg_pool"),
    nn.BatchNorm1d: _batch_norm,
    nn.BatchNorm2d: _batch_norm,
    nn.Conv2d: _conv,
    nn.Dropout: _same,
    nn.Flatten: _flatten,
    nn.Hardtanh: _hardtanh,
    Hardtanh: lambda lowering, node, name, layer: lowering.emit(node, "hardtanh", name),
    nn.Identity: _same,
    nn.Linear: _linear,
    nn.MaxPool2d: _pool("max_pool"),
    nn.PReLU: _per_channel("prelu", "slope", "weight"),
    nn.ReLU: _plain("relu"),
}

FUNCTIONS: dict[Any, Callable[..., None]] = {
    "flatten": _flatten,
    "relu": _plain("relu"),
    F.hardtanh: _hardtanh,
    F.relu: _plain("relu"),
    operator.add: _add,
    operator.iadd: _add,
    torch.add: _add,
    torch.flatten: _flatten,
    torch.relu: _plain("relu"),
}
