"""What a method is: two binarizers and the network structure its paper trains them in."""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from onebit.errors import UserError
from onebit.nn import surrogates
from onebit.nn.binarizer import ActivationBinarizer, WeightBinarizer
from onebit.nn.embedding import RowBinarizer
from onebit.nn.structure import Structure


@dataclass(frozen=True)
class AttentionMethod:
    """What a method makes of attention.

    operand       builds the binarizer of queries, of keys or of values from their channels
    probability   builds the binarizer of probabilities, or of scores, (B, heads, T, T) from the number of heads
    softmax       whether scores become probabilities before they are binarized
    """

    operand: Callable[[int], ActivationBinarizer]
    probability: Callable[[int], ActivationBinarizer]
    softmax: bool


@dataclass(frozen=True)
class Method:
    """A row of the method table, with its options applied.

    weight       builds the weight binarizer of a layer from its weight's shape (O, ...); None: weights stay real
    activation   builds the activation binarizer of a layer from its input channels; None: activations stay real
    structure    how the method's paper wires its networks
    structures   what differs from `structure` in a family of networks: {family: {field of Structure: value}}. A family
                 is that of `models.architecture.Architecture`, such as "residual_imagenet"
    attention    of transformers whose structure has binary attention; None: there is none
    embedding    builds the binarizer of the rows of words from their shape (O, C), where the structure has it; None likewise
    nonnegative  as `activation`, of inputs that are never negative, such as those behind ReLU; None: `activation` does
    """

    name: str
    weight: Callable[[torch.Size], WeightBinarizer] | None
    activation: Callable[[int], ActivationBinarizer] | None
    structure: Structure = field(default_factory=Structure)
    structures: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    attention: AttentionMethod | None = None
    embedding: Callable[[torch.Size], RowBinarizer] | None = None
    nonnegative: Callable[[int], ActivationBinarizer] | None = None

    def structure_of(
        self, family: str, network: Mapping[str, object] | None = None, /, **overrides: object
    ) -> Structure:
        """The structure the method's paper uses in `family`, with the caller's overrides (None: no override). `network`:
        what the network's paper decides, which goes before `structure` and behind the family's.

        Raises UserError for an override that is no field of Structure, or whose value the field does not take.
        """
        chosen = {k: v for k, v in overrides.items() if v is not None}
        merged = {**vars(self.structure), **(network or {}), **self.structures.get(family, {}), **chosen}
        known = set(vars(self.structure))
        if unknown := sorted(set(merged) - known):
            raise UserError(f"structure: unknown key {unknown[0]!r}; the keys are {', '.join(sorted(known))}")
        return Structure(**merged)


SURROGATE_OPTIONS = ("surrogate", "weight_surrogate")  # of every method: see nn.surrogates


def build(name: str, row: Callable[..., Method], options: Mapping[str, object]) -> Method:
    """The method `name` of a row of the table with its options; UserError for an unknown option or value.

    Every method takes `surrogate` and `weight_surrogate` too: the surrogate gradient of its activations and of its
    weights, in place of the paper's.
    """
    known = [*inspect.signature(row).parameters, *SURROGATE_OPTIONS]
    if unknown := sorted(set(options) - set(known)):
        raise UserError(f"method {name!r} has no option {unknown[0]!r}; its options are: {', '.join(known)}")
    method = row(**{key: value for key, value in options.items() if key not in SURROGATE_OPTIONS})
    for option, part in zip(SURROGATE_OPTIONS, ("activation", "weight"), strict=True):
        if option in options:
            factory = with_surrogate(f"method {name!r}: {option}", getattr(method, part), options[option])
            method = dataclasses.replace(method, **{part: factory})  # type: ignore[arg-type]
    return method


def with_surrogate(owner: str, factory: Callable[[Any], Any] | None, value: object) -> Callable[[Any], Any]:
    """A factory of the same binarizers with the surrogate that `value` names in place of their own."""
    surrogates.create(owner, value)  # refuses now, not when the first layer is built
    trained = False
    if factory is not None:
        with torch.random.fork_rng(devices=[]):  # the layers' own random numbers stay as they are
            trained = factory(torch.Size((2, 2)) if owner.endswith("weight_surrogate") else 2).surrogate is not None
    if not trained:
        raise UserError(f"{owner} = {value!r}, but no surrogate gradient trains this operand; leave the option out")

    def build(argument: Any) -> Any:
        binarizer = factory(argument)  # type: ignore[misc]  # None was refused
        binarizer.surrogate = surrogates.create(owner, value)
        return binarizer

    return build


def choose(method: str, option: str, value: object, allowed: tuple[str, ...]) -> None:
    """Refuse a value that is not among the allowed ones."""
    if value not in allowed:
        raise UserError(f"method {method!r}: {option} = {value!r} is unknown; choose one of {', '.join(allowed)}")
