"""What a method is: two binarizers and the network structure its paper trains them in."""

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import nn

from onebit.errors import UserError
from onebit.nn.binarizer import ActivationBinarizer, WeightBinarizer
from onebit.nn.nonlinearities import Hardtanh, Maxout, RPReLU

NONLINEARITIES: dict[str, Callable[[int], nn.Module]] = {
    "hardtanh": lambda channels: Hardtanh(),
    "identity": lambda channels: nn.Identity(),
    "maxout": Maxout,
    "prelu": nn.PReLU,
    "relu": lambda channels: nn.ReLU(),
    "rprelu": RPReLU,
}

INITIALIZATIONS = ("kaiming_normal", "fan_in", "fan_out", "default")


@dataclass(frozen=True)
class Structure:
    """How a network is wired around its binary convolutions.

    block               "plain": shortcut around two convolutions; "bireal": around each one (Bi-Real Net)
    nonlinearity        a key of NONLINEARITIES, after each shortcut's addition
    shortcut            of 1x1 shortcuts: "float" or "binary"
    downsample          of 1x1 shortcuts with a stride: "stride" skips pixels, "average" pools 2x2 pixels first
    stem_nonlinearity   whether the nonlinearity follows the first (float) convolution too
    head_norm           batch norm between the pooled features and the last (float) linear layer
    norm_weight         initial weight of batch norms
    initialization      of convolutions, see models.blocks.initialize; None: the model's own
    """

    block: Literal["plain", "bireal"] = "bireal"
    nonlinearity: str = "hardtanh"
    shortcut: Literal["float", "binary"] = "float"
    downsample: Literal["stride", "average"] = "stride"
    stem_nonlinearity: bool = True
    head_norm: bool = True
    norm_weight: float = 1.0
    initialization: str | None = None

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ("block", self.block, ("plain", "bireal")),
            ("shortcut", self.shortcut, ("float", "binary")),
            ("downsample", self.downsample, ("stride", "average")),
            ("initialization", self.initialization, (None, *INITIALIZATIONS)),
            ("nonlinearity", self.nonlinearity, tuple(NONLINEARITIES)),
        ):
            if value not in allowed:
                raise UserError(
                    f"structure: {name} = {value!r} is unknown; choose one of {', '.join(filter(None, allowed))}"
                )
        for name in ("stem_nonlinearity", "head_norm"):
            if type(getattr(self, name)) is not bool:
                raise UserError(f"structure: {name} = {getattr(self, name)!r} must be true or false")
        positive_number("structure", "norm_weight", self.norm_weight)

    def activation(self, channels: int) -> nn.Module:
        """The nonlinearity for `channels` channels."""
        return NONLINEARITIES[self.nonlinearity](channels)


@dataclass(frozen=True)
class Method:
    """A row of the method table, with its options applied.

    weight and activation build the binarizers of one layer (None: that operand stays real); `structures` holds what
    differs from `structure` in particular models.
    """

    name: str
    weight: Callable[[torch.Size], WeightBinarizer] | None
    activation: Callable[[int], ActivationBinarizer] | None
    structure: Structure = field(default_factory=Structure)
    structures: Mapping[str, Mapping[str, object]] = field(default_factory=dict)

    def structure_of(self, model: str, **overrides: object) -> Structure:
        """The structure the method's paper uses in `model`, with the caller's overrides (None: no override)."""
        chosen = {k: v for k, v in overrides.items() if v is not None}
        merged = {**vars(self.structure), **self.structures.get(model, {}), **chosen}
        known = set(vars(self.structure))
        if unknown := sorted(set(merged) - known):
            raise UserError(f"structure: unknown key {unknown[0]!r}; the keys are {', '.join(sorted(known))}")
        return Structure(**merged)


def imagenet_resnets(**structure: object) -> dict[str, Mapping[str, object]]:
    """`structures` of a method whose paper wires the ImageNet ResNets differently."""
    return {name: structure for name in ("imagenet_resnet18", "imagenet_resnet34")}


def build(table: Mapping[str, Callable[..., Method]], name: str, options: Mapping[str, object]) -> Method:
    """The method `name` with its options; UserError for an unknown name, option or value."""
    if name not in table:
        raise UserError(f"method {name!r} is unknown; choose one of {', '.join(sorted(table))}")
    known = inspect.signature(table[name]).parameters
    if unknown := sorted(set(options) - set(known)):
        allowed = ", ".join(known) or "none"
        raise UserError(f"method {name!r} has no option {unknown[0]!r}; its options are: {allowed}")
    return table[name](**options)


def positive_number(owner: str, key: str, value: object) -> None:
    """Refuse a value that is not a finite number above 0."""
    if type(value) not in (int, float) or not 0 < value < math.inf:  # type: ignore[operator]
        raise UserError(f"{owner}: {key} = {value!r} must be a number above 0")


def choose(method: str, option: str, value: object, allowed: tuple[str, ...]) -> None:
    """Refuse a value that is not among the allowed ones."""
    if value not in allowed:
        raise UserError(f"method {method!r}: {option} = {value!r} is unknown; choose one of {', '.join(allowed)}")
