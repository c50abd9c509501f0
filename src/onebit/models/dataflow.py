"""What a network's graph says of its layers, by a symbolic trace (torch.fx) that runs nothing: which are its first and its
last, which are read rather than called, and which get inputs that cannot be negative.

A trace needs a forward pass without decisions about values. Where there are some, an example input tells most of it.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn

WEIGHTED = (nn.modules.conv._ConvNd, nn.Linear)


@dataclass
class Dataflow:
    """Of the network's convolutions and linear layers, by name.

    called         those whose forward pass is used
    read           those whose weight something else reads
    first, last    those that no other such layer comes before, or behind
    never_negative what makes the inputs of a layer at least 0, such as "ReLU6", by the layer's name
    """

    called: set[str] = field(default_factory=set)
    read: set[str] = field(default_factory=set)
    first: set[str] = field(default_factory=set)
    last: set[str] = field(default_factory=set)
    never_negative: dict[str, str] = field(default_factory=dict)


def dataflow(model: nn.Module, example: Any = None) -> Dataflow | None:
    """The facts of a trace; else of a run on an example (a tensor, or a tuple or dict of arguments); None without both."""
    if isinstance(model, WEIGHTED):
        return Dataflow({""})
    graph = traced(model)
    if graph is not None:
        return of_graph(model, graph)
    return None if example is None else of_run(model, example)


class _Tracer(fx.Tracer):
    """Layers are leaves, their subclasses too."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, WEIGHTED) or super().is_leaf_module(m, module_qualified_name)


def traced(model: nn.Module) -> fx.Graph | None:
    """The network's graph, None where it cannot be traced."""
    try:
        return _Tracer().trace(model)
    except Exception:  # a trace runs the user's code on symbols, which may raise anything
        return None


def of_graph(model: nn.Module, graph: fx.Graph) -> Dataflow:
    """The facts of a traced graph."""
    modules = dict(model.named_modules(remove_duplicate=False))
    names = {id(module): name for name, module in model.named_modules()}  # the first of several names
    found = Dataflow()
    before: dict[fx.Node, bool] = {}  # whether a layer comes before the node
    signs: dict[fx.Node, str] = {}  # what makes the node's value at least 0; "" where nothing does
    layers: dict[fx.Node, list[str]] = {}
    conditions: dict[str, list[str]] = {}  # of a layer's inputs, at each call
    for node in graph.nodes:
        sources = node.all_input_nodes
        behind = any(before[source] for source in sources)
        module = modules.get(str(node.target)) if node.op == "call_module" else None
        if isinstance(module, WEIGHTED):
            layers[node] = [names[id(module)]]
            if not behind:
                found.first.add(layers[node][0])
            conditions.setdefault(layers[node][0], []).append(signs[sources[0]] if sources else "")
        elif module is not None:  # such as nn.TransformerEncoderLayer, whose insides are not traced
            inside = [names[id(part)] for part in module.modules() if isinstance(part, WEIGHTED)]
            layers |= {node: inside} if inside else {}
            conditions |= {name: [""] for name in inside}
        if node.op == "get_attr":
            owner, _, attribute = str(node.target).rpartition(".")
            if attribute == "weight" and isinstance(modules.get(owner), WEIGHTED):
                found.read.add(names[id(modules[owner])])
        before[node] = behind or node in layers
        signs[node] = sign_of(node, module, signs)
    ahead: dict[fx.Node, bool] = {}  # whether a layer reads the node, at once or later
    for node in reversed(graph.nodes):
        ahead[node] = any(user in layers or ahead[user] for user in node.users)
    found.called = {name for owned in layers.values() for name in owned}
    inner = {name for node, owned in layers.items() if ahead[node] for name in owned}
    found.last = {owned[0] for owned in layers.values() if len(owned) == 1 and owned[0] not in inner}
    found.never_negative = {name: reasons[0] for name, reasons in conditions.items() if all(reasons)}
    return found


SIZE = "a size"  # no tensor
# Values at least 0, whatever goes in.
RECTIFIERS = (nn.ReLU, nn.ReLU6, nn.Sigmoid, nn.Hardsigmoid, nn.Softmax, nn.Softmax2d, nn.Softplus)
RECTIFYING = {
    *("relu", "relu_", "relu6", "sigmoid", "sigmoid_", "hardsigmoid", "softmax", "softplus", "abs", "abs_"),
    *("square", "exp", "norm"),
}
# Values at least 0, where all that goes in is.
KEEPING = (
    *(nn.Identity, nn.Flatten, nn.Unflatten, nn.Upsample, nn.PixelShuffle, nn.ChannelShuffle, nn.ZeroPad2d),
    *(nn.ReflectionPad2d, nn.ReplicationPad2d, nn.modules.dropout._DropoutNd, nn.modules.pooling._MaxPoolNd),
    *(nn.modules.pooling._AvgPoolNd, nn.modules.pooling._AdaptiveAvgPoolNd, nn.modules.pooling._AdaptiveMaxPoolNd),
)
KEEPS = {
    *("max_pool2d", "boolean_dispatch", "avg_pool2d", "adaptive_avg_pool2d", "adaptive_max_pool2d", "dropout"),
    *("flatten", "view", "reshape", "permute", "transpose", "contiguous", "unsqueeze", "squeeze", "expand", "movedim"),
    *("cat", "concat", "stack", "chunk", "split", "unbind", "getitem", "narrow", "select", "roll", "unflatten"),
    *(
        "add",
        "iadd",
        "add_",
        "mul",
        "imul",
        "mul_",
        "truediv",
        "div",
        "mean",
        "sum",
        "amax",
        "max",
        "maximum",
        "minimum",
    ),
    *("interpolate", "upsample", "channel_shuffle", "pixel_shuffle", "clone", "detach", "to", "float", "sqrt"),
}


def sign_of(node: fx.Node, module: nn.Module | None, signs: Mapping[fx.Node, str]) -> str:
    """What makes the value of a node at least 0; "" where nothing is known to."""
    if module is not None:
        if isinstance(module, RECTIFIERS):
            return type(module).__name__
        if isinstance(module, nn.Hardtanh):
            return "Hardtanh" if module.min_val >= 0 else ""
        return inherited(node, signs) if isinstance(module, KEEPING) else ""
    if node.op not in ("call_function", "call_method"):
        return ""
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    sources = node.all_input_nodes
    if name == "size" or name == "getattr" or (sources and all(signs[source] == SIZE for source in sources)):
        return SIZE
    if name in RECTIFYING:
        return str(name)
    if name in ("clamp", "clamp_", "clip", "hardtanh"):
        low = node.kwargs.get("min", node.kwargs.get("min_val", node.args[1] if len(node.args) > 1 else None))
        return str(name) if isinstance(low, int | float) and low >= 0 else ""
    if name == "pad":
        filled = node.kwargs.get("value", node.args[3] if len(node.args) > 3 else 0)
        return inherited(node, signs) if filled is None or (isinstance(filled, int | float) and filled >= 0) else ""
    return inherited(node, signs) if name in KEEPS else ""


def inherited(node: fx.Node, signs: Mapping[fx.Node, str]) -> str:
    """What makes all operands of a node at least 0. Numbers among them (sizes, axes) count where they are arithmetic."""
    sources = [source for source in node.all_input_nodes if signs.get(source) != SIZE]
    arithmetic = getattr(node.target, "__name__", node.target) in ("add", "iadd", "mul", "imul", "truediv", "div")
    numbers = [value for value in node.args if isinstance(value, int | float)] if arithmetic else []
    if any(number < 0 for number in numbers) or not sources or not all(signs[source] for source in sources):
        return ""
    return signs[sources[0]]


@torch.no_grad()
def of_run(model: nn.Module, example: Any) -> Dataflow:
    """What a run on an example shows of a network that cannot be traced: of a copy, so that nothing of it changes."""
    twin = copy.deepcopy(model).eval()
    found, order, lowest = Dataflow(), list[str](), dict[str, float]()
    for name, module in twin.named_modules():
        if isinstance(module, WEIGHTED):

            def seen(module: nn.Module, inputs: tuple[Any, ...], name: str = name) -> None:
                order.append(name)
                if inputs and isinstance(inputs[0], Tensor):
                    lowest[name] = min(lowest.get(name, 0.0), float(inputs[0].min()))

            module.register_forward_pre_hook(seen)
    call(twin, example)
    found.called = set(order)
    if order:
        found.first, found.last = {order[0]}, {order[-1]}
    found.never_negative = {name: "the layers before it" for name, value in lowest.items() if value >= 0}
    return found


def call(model: nn.Module, example: Any) -> Any:
    """The network's answer to an example: a tensor, or a tuple or dict of arguments."""
    if isinstance(example, Mapping):
        return model(**example)
    return model(*example) if isinstance(example, tuple | list) else model(example)
