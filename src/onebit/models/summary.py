"""`onebit.summary`: what each layer of a network computes and weighs, seen in one forward pass. The rules of counting are those
of `onebit.runtime.layers`."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from onebit.errors import UserError
from onebit.models.dataflow import call
from onebit.nn.layers import BinaryConv2d, BinaryLinear
from onebit.runtime.layers import Layer, Summary

PRODUCTS = (nn.modules.conv._ConvNd, nn.Linear)


def summary(model: nn.Module, input_shape: Sequence[int] | None = None, *, example_input: Any = None) -> Summary:
    """The table of a model's layers for one input; print it.

    input_shape    (C, H, W) of an image; models of `onebit.models.create` know theirs
    example_input  in its place: a batch of one, or a tuple or dict of arguments

    A layer that is called several times counts so often, its parameters once. The model stays as it is. Raises UserError
    where there is no shape, or the model does not take it.
    """
    if not isinstance(model, nn.Module):
        raise UserError(
            f"summary takes an nn.Module, got {type(model).__name__}; a file is described by onebit info --layers"
        )
    example = example_input if example_input is not None else zeros(model, input_shape)
    seen: dict[str, list[tuple[tuple[int, ...], int]]] = {}
    hooks = [
        module.register_forward_hook(lambda module, inputs, output, name=name: note(seen, name, module, inputs, output))
        for name, module in model.named_modules()
    ]
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            call(model, example)
    except (RuntimeError, ValueError, IndexError, TypeError, AssertionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"summary: the model does not take the input ({reason}); give another input_shape") from error
    finally:
        for hook in hooks:
            hook.remove()
        for module, mode in modes:
            module.training = mode
    counted: set[int] = set()
    rows = [row(name, module, seen.get(name, []), counted) for name, module in own_parts(model)]
    return Summary(tuple(layer for layer in rows if layer.float32_bytes or layer.packed_bytes or layer.ops))


def zeros(model: nn.Module, shape: Sequence[int] | None) -> Tensor:
    """A batch of one input of this shape, by default the one that the model was made for."""
    config: Any = getattr(model, "config", {})
    if shape is None and {"in_channels", "image_size"} <= set(config):
        shape = (config["in_channels"], config["image_size"], config["image_size"])
    if shape is None:
        raise UserError("summary: say what goes in, input_shape=(3, 224, 224)")
    if (
        isinstance(shape, str)
        or not isinstance(shape, Sequence)
        or not all(type(size) is int and size > 0 for size in shape)
    ):
        raise UserError(f"summary: input_shape = {shape!r} must be whole numbers from 1, such as (3, 224, 224)")
    first = next(model.parameters(), torch.zeros(()))
    return torch.zeros(1, *shape, device=first.device, dtype=first.dtype)


def note(seen: dict[str, list[Any]], name: str, module: nn.Module, inputs: Any, output: Any) -> None:
    """Remember the shape of what a module gave, without the batch, and how many products that took."""
    if isinstance(output, Tensor):
        seen.setdefault(name, []).append((tuple(output.shape[1:]), products(module, inputs, output)))


def products(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> int:
    """Of a convolution or linear layer, for one input: outputs times the weights of a filter. A transposed convolution
    multiplies each input with the whole kernel instead."""
    if not isinstance(module, PRODUCTS):
        return 0
    weight: Any = module.weight  # (O, ...), transposed (I, ...)
    transposed = isinstance(module, nn.modules.conv._ConvTransposeNd)
    return (inputs[0] if transposed else output)[0].numel() * weight[0].numel()


def own_parts(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """The modules with parameters or buffers of their own, but for what is inside of binary layers."""
    inside = {
        id(part)
        for layer in model.modules()
        if isinstance(layer, BinaryConv2d | BinaryLinear)
        for part in layer.modules()
        if part is not layer
    }
    return [
        (name or type(module).__name__, module)
        for name, module in model.named_modules()
        if id(module) not in inside and (module._parameters or module._buffers)
    ]


def row(name: str, module: nn.Module, calls: list[tuple[tuple[int, ...], int]], counted: set[int]) -> Layer:
    """The layer's row; `counted` holds the tensors that others have already."""
    tensors = [t for t in (*module._parameters.values(), *module._buffers.values()) if t is not None]
    floats = sum(t.numel() for t in tensors if t.is_floating_point() and id(t) not in counted)
    new = not any(id(t) in counted for t in tensors)
    counted.update(map(id, tensors))
    shape = calls[0][0] if calls else ()
    count = sum(number for _, number in calls)
    if not isinstance(module, BinaryConv2d | BinaryLinear):
        bits = "32/32" if count else ""
        return Layer(name, type(module).__name__, shape, bits, 0, count, 4 * floats, 4 * floats)
    weights, activations = module.weight_binarizer, module.activation_binarizer
    forms = weights.freeze(module.weight.detach()) if weights is not None else ()
    steps = activations.freeze() if activations is not None else ()
    pairs = len(forms) * len(steps)
    packed = 4 * floats
    if forms and new:
        packed = 4 * (floats - module.weight.numel()) + sum(-(-form.signs.numel() // 8) for form in forms)
        packed += 4 * sum(len(form.scale) + (0 if form.offset is None else len(form.offset)) for form in forms)
    if new:
        packed += 4 * sum(2 + (s.threshold.numel() if isinstance(s.threshold, Tensor) else 1) for s in steps)
    bits = f"{len(forms) or 32}/{len(steps) or 32}"
    return Layer(name, type(module).__name__, shape, bits, count * pairs, 0 if pairs else count, 4 * floats, packed)
