"""The weights of many methods: the sign of what they make of the weights, times a scale learned per filter."""

import torch
from torch import Tensor, nn

from onebit.nn.binarizer import WeightBinarizer, WeightForm, filter_mean
from onebit.nn.sign import sign
from onebit.nn.surrogates import Surrogate


class LearnedScaleSign(WeightBinarizer):
    """w_b = scale_o sign(x), x = real(w), scale learned per filter from mean |w_o| on: w (O, ...)."""

    def __init__(self, shape: torch.Size, surrogate: Surrogate):
        super().__init__(shape, surrogate)
        self.scale = nn.Parameter(self.per_channel(1.0))

    @torch.no_grad()
    def initialize(self, weight: Tensor) -> None:
        self.scale.copy_(filter_mean(weight, magnitude=True))

    def real(self, weight: Tensor) -> Tensor:
        """x, what is binarized, shaped like weight: the weight itself, where a method does nothing to it."""
        return weight

    def forward(self, weight: Tensor) -> Tensor:
        return self.scale * self.surrogate(self.real(weight))

    def freeze(self, weight: Tensor) -> tuple[WeightForm, ...]:
        return (WeightForm(sign(self.real(weight)), self.scale.detach().flatten()),)
