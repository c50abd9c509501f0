"""A model's calls, recorded with torch.fx on pictures, and checked to compute what the model computes."""

from __future__ import annotations

import inspect
import linecache
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import torch
from torch import Tensor, fx, nn

from onebit.errors import UserError
from onebit.packing.lowering import converter

LIBRARIES = (str(Path(torch.__file__).parent), str(Path(__file__).parent))


class Tracer(fx.Tracer):
    """Stops at the layers that the tables know, and remembers where the model's code calls what."""

    def is_leaf_module(self, module: nn.Module, qualified_name: str) -> bool:
        return converter(module) is not None or super().is_leaf_module(module, qualified_name)

    def create_args_for_root(self, root_fn: Any, is_module: bool, concrete_args: Any = None) -> tuple[Any, list[Any]]:
        """The image is traced; every other argument has its default."""
        forward = vars(self.root).get("forward")  # replaced on the instance
        name = image_argument(forward or root_fn.__get__(self.root))
        image = self.create_proxy("placeholder", name, (), {})
        return forward or root_fn, [image] if forward else [self.root, image]

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


def image_argument(forward: Any) -> str:
    """What a forward (bound) calls the image. Raises UserError where it takes none, or other things without a default."""
    parameters = list(inspect.signature(forward).parameters.values())
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    several = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    others = [*positional[1:], *(p for p in parameters if p.kind is p.KEYWORD_ONLY)]
    needed = [p.name for p in others if p.default is p.empty]
    if needed:
        raise UserError(
            f"the model takes more than one input ({', '.join(needed)} beside the image); wrap it in a module whose forward "
            "takes the image alone and gives the others"
        )
    if not (positional or several) or getattr(forward, "__func__", None) is nn.Module.forward:
        raise UserError("the model's forward takes no image; give a module whose forward takes images (B, C, H, W)")
    return positional[0].name if positional else "x"


def trace(model: nn.Module, images: Tensor) -> fx.GraphModule:
    """The calls that a model in evaluation mode makes for images (B, C, H, W), B not 1; each node's meta has "shape" and
    "line" as `Lowering` reads them.

    Raises UserError for a model that does not run on such images, that cannot be traced, whose output is not one tensor,
    or whose trace computes something else than itself.
    """
    image_argument(model.forward)
    expected = run(model, images)
    if not isinstance(expected, Tensor):
        raise UserError(
            f"the model returns more than one tensor (a {type(expected).__name__}); wrap it in a module that returns the "
            "logits alone"
        )
    try:
        module = fx.GraphModule(model, Tracer().trace(model))
        with torch.no_grad():
            traced = Calls(module, _note).run(images.clone())
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
    if not torch.allclose(expected, traced, rtol=1e-3, atol=1e-5, equal_nan=True):
        again = run(model, images)
        if not torch.allclose(expected, again, rtol=1e-3, atol=1e-5, equal_nan=True):
            raise UserError(
                "the model answers the same image differently each time, in evaluation mode too: its forward draws random "
                "numbers or changes its own state; take that out"
            )
        raise UserError(  # torch.fx takes x += y for x = x + y, and runs no hooks of the model itself
            "the model computes something else than its trace: a value that is changed in place (x += y) is read afterwards, "
            "or the model itself has forward hooks"
        )
    return module


def run(model: nn.Module, images: Tensor) -> Any:
    """The model's outputs. Raises UserError, with the layer that failed, for images (B, C, H, W) that it does not take."""
    channels, height, width = images.shape[1:]
    try:
        return _outputs(model, images)
    except Exception as error:
        if width in (1, 3, 4) and _takes(model, images.permute(0, 3, 1, 2)):
            raise UserError(
                f"input_shape = {(channels, height, width)} is (height, width, channels); give (channels, height, width): "
                f"{(width, channels, height)}"
            ) from error
        if len(images) > 1 and _takes(model, images[:1]):
            raise UserError(
                "the model takes one image and no batch of several: its forward has the batch's size as a number, as in "
                "view(1, -1); use flatten(1)"
            ) from error
        names = {id(module): name for name, module in model.named_modules() if name}
        selves = [id(frame.f_locals.get("self")) for frame, _ in _frames(error.__traceback__)]
        layer = next((names[found] for found in reversed(selves) if found in names), "")
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise UserError(
            f"the model does not run on images of (C, H, W) = {(channels, height, width)}"
            f"{f', layer {layer}' if layer else ''}: {reason}; is input_shape= right? (Packing runs the model in float32 on "
            "the CPU.)"
        ) from error


def _outputs(model: nn.Module, images: Tensor) -> Any:
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        return model(images.clone())


def _takes(model: nn.Module, images: Tensor) -> bool:
    try:
        _outputs(model, images)
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
