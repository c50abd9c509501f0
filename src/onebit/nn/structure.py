"""How a network is wired around its binary layers: what methods choose and models build."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import nn

from onebit.errors import UserError
from onebit.nn.nonlinearities import ClippedGELU, Hardtanh, Maxout, RPReLU

NONLINEARITIES: dict[str, Callable[[int], nn.Module]] = {
    "gelu": lambda channels: ClippedGELU(),
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
    """How a network is wired around its binary convolutions and linear layers.

    block               "plain": shortcut around two convolutions; "bireal": around each one (Bi-Real Net)
    nonlinearity        a key of NONLINEARITIES, after each shortcut's addition
    shortcut            of 1x1 shortcuts: "float" or "binary"
    downsample          of 1x1 shortcuts with a stride: "stride" skips pixels, "average" pools 2x2 pixels first
    stem_nonlinearity   whether the nonlinearity follows the first (float) convolution too
    head_norm           batch norm between the pooled features and the last (float) linear layer
    norm_weight         initial weight of batch norms
    initialization      of convolutions, see models.blocks.initialize; None: the model's own
    attention           of transformers: whether queries, keys, values and probabilities are "binary", as the method has them
    embedding           of transformers: whether the rows of words are
    pooler              of transformers: whether the linear layer before the last one is
    """

    block: Literal["plain", "bireal"] = "bireal"
    nonlinearity: str = "hardtanh"
    shortcut: Literal["float", "binary"] = "float"
    downsample: Literal["stride", "average"] = "stride"
    stem_nonlinearity: bool = True
    head_norm: bool = True
    norm_weight: float = 1.0
    initialization: str | None = None
    attention: Literal["float", "binary"] = "float"
    embedding: Literal["float", "binary"] = "float"
    pooler: Literal["float", "binary"] = "float"

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ("block", self.block, ("plain", "bireal")),
            ("shortcut", self.shortcut, ("float", "binary")),
            ("attention", self.attention, ("float", "binary")),
            ("embedding", self.embedding, ("float", "binary")),
            ("pooler", self.pooler, ("float", "binary")),
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


def positive_number(owner: str, key: str, value: object) -> None:
    """Refuse a value that is not a finite number above 0."""
    if type(value) not in (int, float) or not 0 < value < math.inf:  # type: ignore[operator]
        raise UserError(f"{owner}: {key} = {value!r} must be a number above 0")
