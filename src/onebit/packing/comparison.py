"""What is about to be written, compared with the model: every node of the file against the layers it stands for.

The file is run on random inputs first (by the engine, where it is built). Then the model's calls are run one by one in PyTorch,
each on what the *file* gave before it. So an activation next to its threshold has the same sign on both sides, rounding does
not add up over the layers, and the first call that differs is the one that was packed wrongly.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, fx, nn

from onebit.errors import UserError
from onebit.nn.attention import BinaryAttention
from onebit.nn.layers import BinaryConv2d, BinaryLinear
from onebit.packing import layouts
from onebit.packing.attention import close
from onebit.packing.lowering import Lowering, Value
from onebit.packing.tracing import Calls
from onebit.runtime import format, native
from onebit.runtime.backend import Backend
from onebit.runtime.inputs import Floats, Input, Tokens
from onebit.runtime.model import channels_first
from onebit.runtime.reference import Reference

RELATIVE = (
    1e-3  # of the largest value of a node: sums of some thousand float32 in another order differ by a tenth of it
)
CANCELLED = 1e-5  # of the largest value before a batch norm, times the norm's scale
HUGE = 1e30  # a network whose values come near the end of float32, or are not finite, is compared up to there
ROUNDED = 1e-6  # of what a binary layer's sum could be at most
MARGIN = 2e-6  # of the root mean square of an input: closer to a mean that PyTorch sums in float32, a sign says nothing


def probes(source: Input, count: int) -> Tensor:
    """Values for an input. Of an image, pictures as the runtime normalises them, (count, C, H, W): of single pixels, and of
    patches of 8 x 8 pixels; int64 tokens (count, T), the last one among them; normal floats (count, C, H, W) or (count, C)."""
    random = np.random.default_rng(0)
    if isinstance(source, Tokens):
        tokens = random.integers(0, source.count, (count, source.length))
        tokens[:, 0] = source.count - 1
        return torch.from_numpy(tokens)
    if isinstance(source, Floats):
        return torch.from_numpy(random.standard_normal((count, *source.shape), np.float32))
    height, width, channels = source.map
    pixels = random.integers(0, 256, (count, height, width, channels), dtype=np.uint8)
    pixels[1::2] = pixels[1::2, np.arange(height) // 8 * 8][:, :, np.arange(width) // 8 * 8]
    return torch.from_numpy(channels_first(source.normalized(pixels)))


def compare(
    lowering: Lowering,
    places: Mapping[str, str | None],
    graph: Mapping[str, object],
    tensors: Mapping[str, np.ndarray],
    values: Mapping[str, Tensor],
) -> None:
    """Raises UserError, which names the layer, where the graph of a file and its tensors compute something else than the
    traced model for values by argument of its forward.

    places   for each operation before batch norms were merged: the node that has its value now, None where none has
    """
    checked, arrays = format.validate(graph, tensors), dict(tensors)
    backend: Backend = Reference(checked, arrays)
    if native.available():
        backend = native.Engine(format.encode(checked, arrays), None, None)
    comparison = _Comparison(lowering, places, backend, values)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        comparison.run(*(value.clone() for value in values.values()))


def terms(layer: nn.Module | None) -> float:
    """The most that an output of a binary layer could be: products of its largest activations and weights; 0 of other layers."""
    if not isinstance(layer, BinaryConv2d | BinaryLinear):
        return 0.0
    if layer.activation_binarizer is None or layer.weight_binarizer is None:
        return 0.0
    activation = sum(form.scale + abs(form.offset) for form in layer.activation_binarizer.freeze())
    forms = layer.weight_binarizer.freeze(layer.weight.detach())
    weights = [form.scale.abs() + (0 if form.offset is None else form.offset.abs()) for form in forms]
    return activation * float(torch.stack(weights).sum(0).amax()) * layer.weight[0].numel()


class _Comparison(Calls):
    """The images of a trace, or as many of each input."""

    def __init__(
        self, lowering: Lowering, places: Mapping[str, str | None], backend: Backend, values: Mapping[str, Tensor]
    ):
        super().__init__(lowering.traced, self.compare)
        self.lowering, self.places = lowering, places
        given = {}
        for argument, value in values.items():
            source = lowering.inputs[argument]
            given[source.name] = source.checked(value.numpy())
        self.unsure: set[fx.Node] = set()
        self.overflowed = False
        self.found = {name: torch.from_numpy(np.array(value)) for name, value in backend.trace(given).items()}

    def value(self, node: fx.Node) -> Value | None:
        found = self.lowering.values.get(node)
        return found if isinstance(found, Value) else None

    def compare(self, node: fx.Node, expected: object) -> object:
        """What the file has for the node's value, in PyTorch's shape and order; where it has none, the value itself."""
        value = self.value(node)
        place = None if value is None else self.places.get(value.name)
        if self.vague(node) or any(before in self.unsure for before in self.absorbed(node)):
            self.unsure.add(node)
        if value is None or place is None or not isinstance(expected, Tensor):
            return expected
        found = self.found[place]
        if math.prod(found.shape[1:]) != math.prod(value.size):
            raise self.error(node, f"{tuple(found.shape[1:])} instead of {value.size}")
        found = torch.empty_like(expected).copy_(layouts.to_tensor(found, value.axes, expected.shape))
        largest = float(expected.abs().amax())
        self.overflowed = self.overflowed or not largest < HUGE
        if node in self.unsure or self.overflowed:
            return found
        if callable(agrees := getattr(self.layer(node), "agrees", None)):
            if not agrees(found, expected):
                raise self.error(node, "other boxes are chosen")
            return found
        error = (found.double() - expected.double()).abs()
        if isinstance(layer := self.layer(node), BinaryAttention):
            operands, named = self.fetch_args_kwargs_from_env(node)
            error = error.masked_fill(close(layer, *operands, **named)[..., None], 0)
        allowed = RELATIVE * largest
        if not float(error.amax()) <= allowed + self.cancelled(node) + 1e-30:
            raise self.error(node, f"values differ by up to {float(error.amax()):.3g}, allowed are {allowed:.3g}")
        return found

    def absorbed(self, node: fx.Node) -> list[fx.Node]:
        """The nodes whose values the file has not, since it computes them together with this node's, from the first on."""
        found: list[fx.Node] = []
        for before in node.all_input_nodes:
            value = self.value(before)
            if value is not None and value.name in self.places and self.places[value.name] is None:
                found += [*self.absorbed(before), before]
        return found

    def layer(self, node: fx.Node) -> nn.Module | None:
        return self.modules[str(node.target)] if node.op == "call_module" else None

    def input(self, node: fx.Node) -> Tensor:
        return self.env[node.args[0]]  # type: ignore[index]

    def cancelled(self, node: fx.Node) -> float:
        """What rounding may leave where a batch norm takes away most of what comes in, or the terms of a binary layer each other."""
        scale = self.lowering.norms.get(node)
        if scale is None:
            return ROUNDED * terms(self.layer(node))
        x = self.input(node)
        return CANCELLED * float((x.double().abs() * scale.abs().reshape(1, -1, *[1] * (x.dim() - 2))).amax())

    def vague(self, node: fx.Node) -> bool:
        """Whether the layer compares with the mean of its input, and an input is so close to it that its sign is chance."""
        layer = self.layer(node)
        if not isinstance(layer, BinaryConv2d | BinaryLinear) or layer.activation_binarizer is None:
            return False
        if not any(isinstance(form.threshold, str) for form in layer.activation_binarizer.freeze()):
            return False
        x = self.input(node).double().flatten(1)  # (B, ...), each with a mean of its own
        distance = (x - x.mean(1, keepdim=True)).abs().amin(1)
        return bool((distance <= MARGIN * x.square().mean(1).sqrt()).any())

    def error(self, node: fx.Node, how: str) -> UserError:
        what, cause = self.lowering.call(node), "report it, with the model"
        for part in [*self.absorbed(node), node]:
            layer = self.layer(part)
            if layer is not None and not type(layer).__module__.startswith(("torch.nn", "onebit.")):
                what = self.lowering.call(part)
                cause = f"its class {type(layer).__name__} changes what its base computes; use the base, or a layer that packs"
                break
        return UserError(f"{what}: the file would not compute what the model does ({how}): {cause}")
