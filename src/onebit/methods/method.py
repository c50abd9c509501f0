"""What a method is: two binarizers and the network structure its paper trains them in."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch

from onebit.errors import UserError
from onebit.nn.binarizer import ActivationBinarizer, WeightBinarizer
from onebit.nn.structure import Structure


@dataclass(frozen=True)
class Method:
    """A row of the method table, with its options applied.

    weight       builds the weight binarizer of a layer from its weight's shape (O, ...); None: weights stay real
    activation   builds the activation binarizer of a layer from its input channels; None: activations stay real
    structure    how the method's paper wires its networks
    structures   what differs from `structure` in a family of networks: {family: {field of Structure: value}}. A family
                 is that of `models.architecture.Architecture`, such as "residual_imagenet"
    """

    name: str
    weight: Callable[[torch.Size], WeightBinarizer] | None
    activation: Callable[[int], ActivationBinarizer] | None
    structure: Structure = field(default_factory=Structure)
    structures: Mapping[str, Mapping[str, object]] = field(default_factory=dict)

    def structure_of(self, family: str, **overrides: object) -> Structure:
        """The structure the method's paper uses in `family`, with the caller's overrides (None: no override).

        Raises UserError for an override that is no field of Structure, or whose value the field does not take.
        """
        chosen = {k: v for k, v in overrides.items() if v is not None}
        merged = {**vars(self.structure), **self.structures.get(family, {}), **chosen}
        known = set(vars(self.structure))
        if unknown := sorted(set(merged) - known):
            raise UserError(f"structure: unknown key {unknown[0]!r}; the keys are {', '.join(sorted(known))}")
        return Structure(**merged)


def build(name: str, row: Callable[..., Method], options: Mapping[str, object]) -> Method:
    """The method `name` of a row of the table with its options; UserError for an unknown option or value."""
    known = inspect.signature(row).parameters
    if unknown := sorted(set(options) - set(known)):
        allowed = ", ".join(known) or "none"
        raise UserError(f"method {name!r} has no option {unknown[0]!r}; its options are: {allowed}")
    return row(**options)


def choose(method: str, option: str, value: object, allowed: tuple[str, ...]) -> None:
    """Refuse a value that is not among the allowed ones."""
    if value not in allowed:
        raise UserError(f"method {method!r}: {option} = {value!r} is unknown; choose one of {', '.join(allowed)}")
