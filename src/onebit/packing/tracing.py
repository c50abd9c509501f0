"""A model's calls, recorded on random inputs, and checked to compute what the model computes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, fx, nn

from onebit.errors import UserError
from onebit.packing.recording import Recorder, frames, line_of, watched
from onebit.packing.signature import bound, outputs


class Traced:
    """A model and the calls that it makes, with what `Recorder` notes of them."""

    def __init__(self, model: nn.Module, graph: fx.Graph):
        self.model, self.graph = model, graph
        self.modules = dict(model.named_modules())


class Calls(fx.Interpreter):
    """Runs a traced model, call by call. `see(node, value)` may replace what a node gives."""

    def __init__(self, traced: Traced, see: Callable[[fx.Node, Any], Any]):
        super().__init__(traced.model, graph=traced.graph)
        self.modules = traced.modules
        self.see = see
        self.extra_traceback = False  # errors as they are

    def run_node(self, node: fx.Node) -> Any:
        if node.op == "get_attr":
            return node.meta["constant"].clone()
        return self.see(node, super().run_node(node))

    def call_module(self, target: Any, args: Any, kwargs: Any) -> Any:
        """Its forward: its hooks are calls of their own."""
        return self.modules[str(target)].forward(*args, **kwargs)


def trace(
    model: nn.Module, values: Mapping[str, Tensor], known: Callable[[nn.Module, str], bool], check: bool = True
) -> Traced:
    """The calls that a model in evaluation mode makes for values by argument of its forward.

    known   whether a layer, of a path, is one call

    Raises UserError for a model that does not run on such values, that cannot be traced, whose outputs are not tensors, or
    whose calls compute something else than itself.
    """
    recorder = Recorder(model, known)
    given = {name: value.clone() for name, value in values.items()}
    for name, value in given.items():
        recorder.input(name, value)
    ordered, named = bound(model.forward, given)
    try:
        with torch.no_grad(), _seeded(0), watched(recorder):
            returned = model(*ordered, **named)
    except UserError:
        raise
    except Exception as error:  # whatever the model's code raises, alone or where it is watched
        run(model, values)
        line = line_of(error.__traceback__)
        reason = (str(error).splitlines() or [type(error).__name__])[0][:160]
        raise UserError(
            f"the model cannot be traced{f' at {line}' if line else ''}: {reason}; its forward must make the same calls for every "
            "image, without if, int() or numpy() of tensors"
        ) from error
    found = outputs(returned)
    for name, value in found.items():
        if id(value) in recorder.changed:
            raise UserError(
                f"{recorder.changed[id(value)]} changes in place what the model returns as {name}; set inplace=False"
            )
    recorder.graph.output({name: recorder.node(value) for name, value in found.items()})
    traced = Traced(model, recorder.graph)
    if check:
        _check(traced, {name: value.flatten().flip(0).reshape(value.shape) for name, value in values.items()})
    return traced


def _check(traced: Traced, values: Mapping[str, Tensor]) -> None:
    """That the calls compute what the model does, on values that they were not recorded with."""
    expected = outputs(run(traced.model, values, seed=1))
    with torch.no_grad(), _seeded(1):
        found = Calls(traced, lambda node, value: value).run(*(value.clone() for value in values.values()))
    if _same(expected, found):
        return
    if not _same(expected, outputs(run(traced.model, values, seed=2))):
        raise UserError(
            "the model answers the same image differently each time, in evaluation mode too: its forward draws random "
            "numbers or changes its own state; take that out"
        )
    raise UserError(
        "the model computes something else than the calls of tensors that it makes: part of its forward is hidden from PyTorch "
        "(numpy, TorchScript, an extension), or differs from image to image"
    )


def _same(some: Mapping[str, Tensor], others: Mapping[str, Tensor]) -> bool:
    return some.keys() == others.keys() and all(
        value.shape == others[name].shape and torch.allclose(value, others[name], rtol=1e-3, atol=1e-5, equal_nan=True)
        for name, value in some.items()
    )


def run(model: nn.Module, values: Mapping[str, Tensor], seed: int = 0) -> Any:
    """What the model returns for values by argument. `seed` is that of numbers it draws. Raises UserError, with the layer that failed, where it does not take them."""
    try:
        return _returned(model, values, seed)
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
        selves = [id(frame.f_locals.get("self")) for frame, _ in frames(error.__traceback__)]
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


def _returned(model: nn.Module, values: Mapping[str, Tensor], seed: int = 0) -> Any:
    ordered, named = bound(model.forward, {name: value.clone() for name, value in values.items()})
    with torch.no_grad(), _seeded(seed):
        return model(*ordered, **named)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def _takes(model: nn.Module, values: Mapping[str, Tensor]) -> bool:
    try:
        _returned(model, values)
    except Exception:  # as above
        return False
    return True
