"""IR-Net: Forward and Backward Information Retention (Qin et al., CVPR 2020, arXiv 1909.10788).

weights       w^ = (w - mean) / std per filter (unbiased std), w_b = 2^round(log2 mean |w^|) sign(w^)   (eq. 6-8)
activations   a_b = sign(a)
backward      EDE for both: k t (1 - tanh^2(t x)); t from 10^-3 to 10^1 as released (10^-1 in the paper)   (eq. 10-11)
"""

import torch
from torch import Tensor

from onebit.methods.method import Method, Structure, choose
from onebit.nn.binarizer import ActivationBinarizer, ActivationForm, Schedule, WeightBinarizer, WeightForm, filter_mean
from onebit.nn.sign import ede, sign, surrogate_sign

T_MIN = {"paper": 1e-1, "released": 1e-3}


class BalancedSign(WeightBinarizer):
    def __init__(self, shape: torch.Size, t_min: float):
        super().__init__(shape)
        self.schedule = Schedule(t_min, 10.0)

    def set_progress(self, fraction: float, weight: Tensor) -> None:
        self.schedule.set_progress(fraction)

    def standardize(self, weight: Tensor) -> Tensor:
        dims = tuple(range(1, weight.dim()))
        return (weight - filter_mean(weight)) / weight.std(dim=dims, keepdim=True)

    def scale(self, standardized: Tensor) -> Tensor:
        """A power of two, so that hardware can shift instead of multiply."""
        return torch.exp2(filter_mean(standardized.detach(), magnitude=True).log2().round())

    def forward(self, weight: Tensor) -> Tensor:
        standardized = self.standardize(weight)
        return self.scale(standardized) * surrogate_sign(standardized, ede, self.schedule.t, self.schedule.k)

    def freeze(self, weight: Tensor) -> WeightForm:
        standardized = self.standardize(weight)
        return WeightForm(sign(standardized), self.scale(standardized).flatten())


class EdeActivation(ActivationBinarizer):
    def __init__(self, channels: int, t_min: float):
        super().__init__(channels)
        self.schedule = Schedule(t_min, 10.0)

    def set_progress(self, fraction: float) -> None:
        self.schedule.set_progress(fraction)

    def forward(self, x: Tensor) -> Tensor:
        return surrogate_sign(x, ede, self.schedule.t, self.schedule.k)

    def freeze(self) -> ActivationForm:
        return ActivationForm()


def irnet(variant: str = "released") -> Method:
    choose("irnet", "variant", variant, tuple(T_MIN))
    t_min = T_MIN[variant]
    return Method(
        "irnet",
        lambda shape: BalancedSign(shape, t_min),
        lambda channels: EdeActivation(channels, t_min),
        Structure(block="plain"),
    )
