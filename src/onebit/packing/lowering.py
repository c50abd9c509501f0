"""The calls of a traced model as a list of the format's operators.

Each call becomes an `Operation` through a table: layers through MODULES at the end, functions and methods of tensors through
that of `packing/functions.py`. An `Operation` keeps its numbers in float64 until all folding is done. Adding a layer means
one row in a table.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn

from onebit.errors import UserError
from onebit.nn.binarizer import ActivationForm, WeightForm
from onebit.nn.layers import BinaryConv2d, BinaryLinear, OptionA
from onebit.nn.nonlinearities import Hardtanh, Maxout, RPReLU
from onebit.packing import fold
from onebit.packing.fold import BinaryProduct
from onebit.packing.signature import outputs
from onebit.runtime.inputs import Input, Tokens
from onebit.runtime.operators import OPERATORS

VECTORS = ("linear", "binary_linear", "global_avg_pool", "flatten")  # operators whose output is a vector
BATCH = (
    2  # images that a model is traced with: a number that a forward which is written for one image does not take for 1
)
OF_SEQUENCES = (
    "relu",
    "hardtanh",
    "prelu",
    "add",
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

    inputs     by the argument of the model's forward
    value      of an fx node: the name that holds it in the format
    order      (C, H, W) for vectors that were flattened from a map, whose elements the format keeps as (H, W, C)
    vectors    names of the format's vectors. PyTorch keeps a map of 1 x 1 pixels behind a global pooling, the format does not
    sequences  names of the maps (T, 1, C) that PyTorch keeps as (T, C); tokens: names of the inputs they are made from
    """

    def __init__(
        self, module: fx.GraphModule, functions: Mapping[Any, Callable[..., None]], inputs: Mapping[str, Input]
    ):
        self.module = module
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
                convert = converter(layer)
                if convert is None:
                    raise UserError(f"layer {node.target}: {type(layer).__name__} {NO_OPERATOR}")
                if getattr(layer, "inplace", False) and convert is not _same:
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
            raise UserError("the model returns something that does not depend on the image; return the logits")
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
        source = node.args[index] if index < len(node.args) else None
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


def _centre(lowering: Lowering, node: fx.Node, name: str, layer: nn.Conv2d) -> tuple[int, int]:
    """The one tap (kh, kw) of a convolution of 1 x 1 pixels that does not see padding."""
    attributes = _conv_attributes(layer, name)
    taps = [divmod(padding, dilation) for padding, dilation in zip(attributes["padding"], attributes["dilation"])]
    inside = all(not rest and tap < size for (tap, rest), size in zip(taps, layer.kernel_size))
    if not inside or lowering.shape(node)[1:] != (1, 1) or (layer.groups > 1 and isinstance(layer, BinaryConv2d)):
        raise UserError(
            f"layer {name}: such a convolution after a global average pooling has no operator in the format; "
            "pool with nn.AvgPool2d of the map's size instead"
        )
    return taps[0][0], taps[1][0]


def _conv(lowering: Lowering, node: fx.Node, name: str, layer: nn.Conv2d) -> None:
    tensors = {"weight": layer.weight.detach().double()}
    if lowering.input(node) in lowering.vectors:
        kh, kw = _centre(lowering, node, name, layer)
        parts = tensors["weight"][:, :, kh, kw].chunk(layer.groups)  # (O/g, I/g) each
        tensors["weight"] = torch.block_diag(*parts)  # (O, I)
    if layer.bias is not None:
        tensors["bias"] = layer.bias.detach().double()
    if tensors["weight"].dim() == 2:
        lowering.emit(node, "linear", name, tensors=tensors)
    else:
        lowering.emit(node, "conv", name, attributes=_conv_attributes(layer, name), tensors=tensors)


def _linear(lowering: Lowering, node: fx.Node, name: str, layer: nn.Linear) -> None:
    weight = lowering.reorder(lowering.input(node), layer.weight.detach().double())  # (O, I)
    tensors = {"weight": weight} | ({} if layer.bias is None else {"bias": layer.bias.detach().double()})
    if lowering.input(node) in lowering.sequences:  # of every token: a convolution of 1 x 1
        tensors["weight"] = weight[:, :, None, None]
        lowering.emit(node, "conv", name, sequence=True, tensors=tensors)
        return
    operation = lowering.emit(node, "linear", name, tensors=tensors)
    lowering.order[operation.name] = None


def _embedding(lowering: Lowering, node: fx.Node, name: str, layer: nn.Embedding) -> None:
    if layer.max_norm is not None:
        raise UserError(f"layer {name}: nn.Embedding with max_norm changes its weights as it runs; leave max_norm out")
    source = lowering.tokens.get(lowering.input(node))
    if source is not None and source.count != layer.num_embeddings:
        raise UserError(
            f"layer {name}: it has a row for {layer.num_embeddings} tokens, the input {source.name} has {source.count}; give "
            f"onebit.Tokens({source.length}, {layer.num_embeddings})"
        )
    lowering.emit(node, "embedding", name, tensors={"weight": layer.weight.detach().double()})


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
    if isinstance(layer, BinaryConv2d) and source not in lowering.vectors:
        attributes |= _conv_attributes(layer, name)
        attributes |= {"kernel": list(layer.kernel_size), "in_channels": layer.in_channels}
        operation = lowering.emit(node, "binary_conv", name, attributes=attributes, tensors=tensors, product=product)
    else:
        if isinstance(layer, BinaryConv2d):
            kh, kw = _centre(lowering, node, name, layer)
            product.signs = product.signs[:, :, kh, kw]
        product.signs = lowering.reorder(source, product.signs)
        operation = lowering.emit(node, "binary_linear", name, attributes=attributes, tensors=tensors, product=product)
    lowering.order[operation.name] = None
    return operation


def _batch_norm(lowering: Lowering, node: fx.Node, name: str, layer: nn.BatchNorm2d) -> None:
    affine = fold.batch_norm(layer)
    channels = lowering.reorder(lowering.input(node), torch.stack([affine.scale, affine.bias]))
    lowering.emit(node, "affine", name, tensors={"channels": channels})


def _hardtanh(lowering: Lowering, node: fx.Node, name: str, layer: nn.Hardtanh) -> None:
    if (layer.min_val, layer.max_val) != (-1.0, 1.0):
        raise UserError(f"layer {name}: hardtanh from {layer.min_val} to {layer.max_val} is unknown; use -1 to 1")
    lowering.emit(node, "hardtanh", name)


def _per_channel(op: str, tensor: str, *parameters: str) -> Callable[..., None]:
    """An elementwise layer whose parameters (C,) become the rows of one tensor, or a tensor (C,) if there is only one."""

    def convert(lowering: Lowering, node: fx.Node, name: str, layer: nn.Module) -> None:
        channels, sequence = lowering.shape(node)[0], lowering.input(node) in lowering.sequences
        if sequence and all(getattr(layer, p).numel() == 1 for p in parameters):
            channels = lowering.shape(node)[-1]
        elif sequence:
            raise UserError(
                f"layer {name}: {op} of a sequence (B, T, C) has parameters for each of T, which has no operator in the format; "
                "give it one parameter"
            )
        rows = [getattr(layer, p).detach().double().expand(channels) for p in parameters]
        values = torch.stack(rows) if len(rows) > 1 else rows[0]
        lowering.emit(node, op, name, tensors={tensor: lowering.reorder(lowering.input(node), values)})

    return convert


def _plain(op: str) -> Callable[..., None]:
    return lambda lowering, node, name, layer: lowering.emit(node, op, name)


def _same(lowering: Lowering, node: fx.Node, name: str, layer: nn.Module) -> None:
    lowering.skip(node)


def pair(value: int | tuple[int, ...]) -> list[int]:
    return list(value) if isinstance(value, tuple | list) else [value, value]


def pool(lowering: Lowering, node: fx.Node, name: str, op: str, layer: Any) -> None:
    """A max_pool or avg_pool with the attributes of the layer, or of what has them like it."""
    if getattr(layer, "dilation", 1) not in (1, (1, 1)) or getattr(layer, "divisor_override", None):
        raise UserError(f"layer {name}: pooling with dilation or divisor_override has no operator in the format")
    attributes = {
        "kernel": pair(layer.kernel_size),
        "stride": pair(layer.stride),
        "padding": pair(layer.padding),
        "ceil_mode": layer.ceil_mode,
    }
    if op == "avg_pool":
        attributes["count_include_pad"] = layer.count_include_pad
    lowering.emit(node, op, name, attributes=attributes)


def _pool(op: str) -> Callable[..., None]:
    return lambda lowering, node, name, layer: pool(lowering, node, name, op, layer)


def global_pool(lowering: Lowering, node: fx.Node, name: str, sequence: bool = False) -> None:
    """The mean over all pixels, or over the tokens of a sequence. That of one pixel is what it was."""
    if lowering.input(node) in lowering.vectors:
        lowering.skip(node)
    else:
        lowering.emit(node, "global_avg_pool", name, sequence=sequence)


def _global_pool(lowering: Lowering, node: fx.Node, name: str, layer: Any) -> None:
    if pair(layer.output_size) != [1, 1]:
        raise UserError(f"layer {name}: AdaptiveAvgPool2d to {layer.output_size} has no operator in the format; use 1")
    global_pool(lowering, node, name)


def _option_a(lowering: Lowering, node: fx.Node, name: str, layer: OptionA) -> None:
    lowering.emit(node, "option_a", name, attributes={"stride": layer.stride, "pad": [layer.before, layer.after]})


def flatten(lowering: Lowering, node: fx.Node, name: str, layer: nn.Module | None = None) -> None:
    """Any call that changes the shape of a value and not the order of its elements: flatten, view, reshape, squeeze."""
    source, before, after = lowering.input(node), lowering.shape(node.args[0]), lowering.shape(node)
    line = sum(size > 1 for size in after) <= 1  # of elements
    whole = math.prod(before) == math.prod(after)
    if before == after or (whole and line and source in lowering.vectors):
        lowering.skip(node)
    elif whole and line and (len(after) == 1 or math.prod(before[1:]) == 1):
        operation = lowering.emit(node, "flatten", name)
        lowering.memory[operation.name] = lowering.origin(source)
        ordered = source in lowering.sequences or math.prod(before[1:]) == 1
        lowering.order[operation.name] = None if ordered else (before[0], before[1], before[2])
    else:
        shapes = f"from {before} to {after} of an image" if node.meta["shape"][0] == BATCH else "of the whole batch"
        raise UserError(f"{lowering.call(node)} {shapes} has no operator in the format; use nn.Flatten() or flatten(1)")


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
    nn.Dropout1d: _same,
    nn.Dropout2d: _same,
    nn.Embedding: _embedding,
    nn.Flatten: flatten,
    nn.Hardtanh: _hardtanh,
    Hardtanh: lambda lowering, node, name, layer: lowering.emit(node, "hardtanh", name),
    nn.Identity: _same,
    nn.Linear: _linear,
    nn.MaxPool2d: _pool("max_pool"),
    nn.PReLU: _per_channel("prelu", "slope", "weight"),
    nn.ReLU: _plain("relu"),
    nn.SyncBatchNorm: _batch_norm,
}
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


def converter(layer: nn.Module) -> Callable[..., None] | None:
    """What lowers the layer: the row of its class, or of the class whose forward it has taken over unchanged."""
    for base in type(layer).__mro__:
        if base in MODULES and getattr(type(layer), "forward", None) is base.forward:
            return MODULES[base]
    return None


def called(node: fx.Node) -> str:
    """The name of the function or method that the node calls."""
    return str(getattr(node.target, "__name__", node.target))
