"""What a model's forward takes and returns, by name."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from torch import Tensor, fx, nn

from onebit.errors import UserError
from onebit.runtime.fields import NAME, show
from onebit.runtime.graph import MAX_OUTPUTS, OUTPUT
from onebit.runtime.inputs import Input

POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def image_argument(forward: Any) -> str:
    """What a forward (bound) calls the image. Raises UserError where it takes none, or other things without a default."""
    parameters = list(inspect.signature(forward).parameters.values())
    positional = [p for p in parameters if p.kind in POSITIONAL]
    several = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    others = [*positional[1:], *(p for p in parameters if p.kind is p.KEYWORD_ONLY)]
    needed = [p.name for p in others if p.default is p.empty]
    if needed:
        raise UserError(
            f"the model takes more than one input ({', '.join(needed)} beside the image); name them all with "
            f"inputs={{{positional[0].name!r}: Image(...), {needed[0]!r}: ...}}"
            if positional
            else f"the model takes its inputs ({', '.join(needed)}) by name; give inputs={{{needed[0]!r}: Image(...)}}"
        )
    if not (positional or several) or getattr(forward, "__func__", None) is nn.Module.forward:
        raise UserError("the model's forward takes no image; give a module whose forward takes images (B, C, H, W)")
    return positional[0].name if positional else "x"


def arguments(forward: Any, inputs: Mapping[str, Input] | Input) -> dict[str, Input]:
    """The inputs by the argument of a forward (bound) that they are given as, in its order; a single input is the first.

    Raises UserError for a name that is no argument, and for arguments without a default that have no input.
    """
    if not isinstance(inputs, Mapping):
        return {image_argument(forward): inputs}
    if getattr(forward, "__func__", None) is nn.Module.forward:
        raise UserError("the model has no forward; give a module whose forward takes the inputs")
    parameters = inspect.signature(forward).parameters
    named = {name: p for name, p in parameters.items() if p.kind in (*POSITIONAL, p.KEYWORD_ONLY)}
    if unknown := [name for name in inputs if name not in named]:
        raise UserError(
            f"pack: inputs names {unknown[0]!r}, which is no argument of the model's forward ({', '.join(named) or 'none'})"
        )
    if missing := [name for name, p in named.items() if p.default is p.empty and name not in inputs]:
        raise UserError(
            f"the model takes more than inputs= names ({', '.join(missing)}); name every argument of its forward, or give those "
            "that the packed network is to do without a default"
        )
    return {name: inputs[name] for name in named if name in inputs}


def bound(forward: Any, values: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """The values by argument as a forward (bound) is called with them: in order as far as there is no gap, else by name."""
    rest: dict[str, Any] = dict(values)
    ordered: list[Any] = []
    for name, parameter in inspect.signature(forward).parameters.items():
        if parameter.kind is parameter.VAR_POSITIONAL and not ordered and len(rest) == 1:
            return list(rest.values()), {}
        if parameter.kind not in POSITIONAL or name not in rest:
            break
        ordered.append(rest.pop(name))
    return ordered, rest


def outputs(returned: Any) -> dict[str, Any]:
    """What a model returns, tensors or what stands for them in a trace, by the names of outputs: one is "output", those of a
    dict have its keys, those of a tuple or list its fields' names or "output0", "output1", ...

    Raises UserError for anything else, and for names that no file can hold.
    """
    if isinstance(returned, fx.Node) and hasattr(returned.target, "_fields"):  # a named tuple, made in the trace
        return dict(zip(returned.target._fields, returned.args))
    if isinstance(returned, Mapping):
        found = dict(returned)
    elif isinstance(returned, tuple | list):
        names = getattr(returned, "_fields", None) or [f"{OUTPUT}{i}" for i in range(len(returned))]
        found = dict(zip(names, returned))
    else:
        found = {OUTPUT: returned}
    for name, value in found.items():
        if not isinstance(value, Tensor | fx.Node):
            where = "" if len(found) == 1 and name == OUTPUT else f" as {show(name)}"
            raise UserError(
                f"the model returns a {type(value).__name__}{where}; a packed network gives tensors: return one, or a dict, "
                "tuple or list of them"
            )
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise UserError(
                f"the model returns a tensor named {show(name)}; names of outputs are 1 to 200 letters, digits or _ . / -"
            )
    if not 1 <= len(found) <= MAX_OUTPUTS:
        raise UserError(f"the model returns {len(found)} tensors; a packed network gives 1 to {MAX_OUTPUTS}")
    return found
