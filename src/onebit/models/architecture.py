"""What a row of the model table is: a function that builds a network, and what the rest must know of it."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from onebit.errors import UserError
from onebit.methods.method import Method
from onebit.nn.structure import Structure


@dataclass(frozen=True)
class Architecture:
    """A network for any method.

    build      build(method, structure, *, classes=10, in_channels=3, image_size=32) -> nn.Module; what it takes by keyword
               is its own: a network for words has other arguments. One without a default must be given
    family     which of a method's structures it has: "residual_cifar", "residual_cifar_wide", "residual_imagenet",
               "plain" (no shortcuts), "mobile" (ReActNet-A), "dense" (MeliusNet), "transformer" (BERT), or one that no method has a structure of
               its own for
    task       what its outputs mean
    structure  fields of Structure that the network's own paper decides, whatever the method, unless a method's structure of
               the family, or the caller, says otherwise
    """

    build: Callable[..., nn.Module]
    family: str
    task: str = "classification"
    structure: Mapping[str, object] = field(default_factory=dict)

    def wiring(self, method: Method, structure: Mapping[str, object]) -> Structure:
        """What the method's structure is here, with the caller's own fields. Raises UserError for unknown ones."""
        return method.structure_of(self.family, self.structure, **structure)

    def __call__(self, method: Method, structure: Structure, **arguments: Any) -> nn.Module:
        return self.build(method, structure, **arguments)

    def resolve(self, name: str, arguments: Mapping[str, object]) -> dict[str, Any]:
        """All arguments that `build` takes by keyword, in its order: those given, and the defaults of the others.

        Raises UserError, which calls the network `name`, for one that is unknown and for one that must be given.
        """
        parameters = inspect.signature(self.build).parameters
        known = {key: p.default for key, p in parameters.items() if p.kind is p.KEYWORD_ONLY}
        if unknown := sorted(set(arguments) - set(known)):
            allowed = ", ".join(known) or "none"
            raise UserError(f"model {name!r} has no argument {unknown[0]!r}; its arguments are: {allowed}")
        values = {**known, **arguments}
        if missing := [key for key, value in values.items() if value is inspect.Parameter.empty]:
            raise UserError(f"model {name!r} needs the argument {missing[0]!r}")
        return values


def architecture(
    family: str, task: str = "classification", structure: Mapping[str, object] | None = None
) -> Callable[[Callable[..., nn.Module]], Architecture]:
    """Makes an Architecture of the function that it decorates."""
    return lambda build: Architecture(build, family, task, structure or {})
