"""A model's calls, recorded with torch.fx on random inputs, and checked to compute what the model computes."""

from __future__ import annotations

import linecache
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import torch
from torch import Tensor, fx, nn

from onebit.errors import UserError
from onebit.packing.layers import converter
from onebit.packing.signature import bound, outputs

LIBRARIES = (str(Path(torch.__file__).parent), str(Path(__file__).parent))


class Tracer(fx.Tracer):
    """Stops at the layers that the tables know, and remembers where the model's code calls what. `names` are the arguments that
    are inputs."""

    def __init__(self, names: Sequence[str]):
        super().__init__()
        self.names = names

    def is_leaf_module(self, module: nn.Module, qualified_name: str) -> bool:
        return converter(module) is not None or super().is_leaf_module(module, qualified_name)

    def create_args_for_root(self, root_fn: Any, is_module: bool, concrete_args: Any = None) -> tuple[Any, list[Any]]:
        """The inputs are traced; every other argument has its default."""
        forward = vars(self.root).get("forward") or root_fn.__get__(
            self.root
        )  # replaced on the instance, or the class's
        proxies = {name: self.create_proxy("placeholder", name, (), {}) for name in self.names}
        ordered, named = bound(forward, proxies)
        return lambda *given: forward(*given, **named), ordered

    def create_proxy(self, kind: Any, *arguments: Any, **keywords: Any) -> Any:
        proxy = super().create_proxy(kind, *arguments, **keywords)
        if kind in ("call_function", "call_method"):
            proxy.node.meta["line"] = _line(sys._getframe(1))
        return proxy


class Calls(fx.Interpreter):
    """Runs a traced model, layer by layer with their hooks. `see(node, value)` may replace what a node gives."""

    def __init__(self, module: fx.GraphModule, see: Callable[[fx.Node, Any], Any]):
        super().__init__(module)
        self.see = see
        self.extra_traceback = False  # errors as they are

    def run_node(self, node: fx.Node) -> Any:
        return self.see(node, super().run_node(node))


def trace(model: nn.Module, values: Mapping[str, Tensor]) -> fx.GraphModule:
    """The calls that a model in evaluation mode makes for values by argument of its forward, of batches that are not 1; each
    node's meta has "shape" and "line" as `Lowering` reads them.

    Raises UserError for a model that does not run on such values, that cannot be traced, whose outputs are not tensors, or
    whose trace computes something else than itself.
    """
    expected = outputs(run(model, values))
    try:
        module = fx.GraphModule(model, Tracer(list(values)).trace(model))
        with torch.no_grad():
            traced = outputs(Calls(module, _note).run(*(value.clone() for value in values.values())))
    except UserError:
        raise
    except Exception as error:  # whatever the model's code raises where it meets torch.fx's stand-ins
        if "forward" in vars(model):
            raise UserError(
                "the model's forward was replaced on the instance, by a function that torch.fx cannot follow in a copy; write it "
                "into the model's class"
            ) from error
        reason = (str(error).splitlines() or [type(error).__name__])[0][:160]
        line = _line(error.__traceback__)
        raise UserError(
            f"the model cannot be traced{f' at {line}' if line else ''}: {reason}; its forward must make the same calls "
            "for every image, without if, int() or len() of tensors"
        ) from error
    if not _same(expected, traced):
        if not _same(expected, outputs(run(model, values))):
            raise UserError(
                "the model answers the same image differently each time, in evaluation mode too: its forward draws random "
                "numbers or changes its own state; take that out"
            )
        raise UserError(  # torch.fx takes x += y for x = x + y, and runs no hooks of the model itself
            "the model computes something else than its trace: a value that is changed in place (x += y) is read afterwards, "
            "or the model itself has forward hooks"
        )
    return module


def _same(some: Mapping[str, Tensor], others: Mapping[str, Tensor]) -> bool:
    return some.keys() == others.keys() and all(
        value.shape == others[name].shape and torch.allclose(value, others[name], rtol=1e-3, atol=1e-5, equal_nan=True)
        for name, value in some.items()
    )


def run(model: nn.Module, values: Mapping[str, Tensor]) -> Any:
    """What the model returns for values by argument. Raises UserError, with the layer that failed, where it does not take them."""
    try:
        return _returned(model, values)
    except Exception as error:
        (argument, first), *others = values.items()
        image = not others and first.dim() == 4
        if image and first.shape[3] in (1, 3, 4) and _takes(model, {argument: first.permute(0, 3, 1, 2)}):
            channels, height, width = first.shape[1:]
            raise UserError(
                f"input_shape = {(channels, height, width)} is (height, width, channels); give (channels, height, width): "
                f"{(width, channels, height)}"
            ) from error
        if len(first) > 1 and _takes(model, {name: value[:1] for name, value in values.items()}):
            raise UserError(
                "the model takes one image and no batch of several: its forward has the batch's size as a number, as in "
                "view(1, -1); use flatten(1)"
            ) from error
        names = {id(module): name for name, module in model.named_modules() if name}
        selves = [id(frame.f_locals.get("self")) for frame, _ in _frames(error.__traceback__)]
        layer = next((names[found] for found in reversed(selves) if found in names), "")
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        given = (
            f"images of (C, H, W) = {tuple(first.shape[1:])}"
            if image
            else ", ".join(f"{name} {tuple(value.shape[1:])}" for name, value in values.items())
        )
        raise UserError(
            f"the model does not run on {given}{f', layer {layer}' if layer else ''}: {reason}; is "
            f"{'input_shape=' if image else 'inputs='} right? (Packing runs the model in float32 on the CPU.)"
        ) from error


def _returned(model: nn.Module, values: Mapping[str, Tensor]) -> Any:
    ordered, named = bound(model.forward, {name: value.clone() for name, value in values.items()})
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        return model(*ordered, **named)


def _takes(model: nn.Module, values: Mapping[str, Tensor]) -> bool:
    try:
        _returned(model, values)
    except Exception:  # as above
        return False
    return True


def _note(node: fx.Node, value: Any) -> Any:
    node.meta["shape"] = tuple(value.shape) if isinstance(value, Tensor) else None
    return value


def _frames(traceback: TracebackType | None) -> list[tuple[FrameType, int]]:
    found = []
    while traceback is not None:
        found.append((traceback.tb_frame, traceback.tb_lineno))
        traceback = traceback.tb_next
    return found


def _line(where: FrameType | TracebackType | None) -> str:
    """The innermost line of the model's own code, "net.py line 12: x = x.mean(1)": of a stack, or of an error."""
    frames = []
    if isinstance(where, FrameType):
        frame: FrameType | None = where
        while frame is not None:
            frames.append((frame, frame.f_lineno))
            frame = frame.f_back
    else:
        frames = _frames(where)[::-1]
    for frame, number in frames:
        file = frame.f_code.co_filename
        if not file.startswith((*LIBRARIES, "<frozen")):
            code = linecache.getline(file, number).strip()[:100]
            return f"{Path(file).name} line {number}" + (f": {code}" if code else "")
    return ""
