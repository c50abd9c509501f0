"""DSQ: Differentiable Soft Quantization (Gong et al., ICCV 2019, arXiv 1908.05033), for one bit.

weights and activations alike, with learned bounds l < u and a learned alpha in (0, 1/2) of each layer:

    m = (l + u) / 2,  h = (u - l) / 2,  z = clip((x - m) / h, -1, 1)
    phi(z) = tanh(kappa z) / tanh(kappa),  tanh(kappa) = 1 - alpha      (the paper's s = 1 / (1 - alpha), k = kappa / h)
    Q = m + h sgn(phi(z)): l below m, u from m on

The forward pass takes the sign of phi, the backward pass passes it unchanged, so that x, l, u and alpha learn through the soft
function: alpha -> 0 makes it the step.

Different here: alpha = sigmoid(sharpness) / 2, which starts at 0.2 and stays in its interval; the bounds of weights are learned as
multiples of the layer's deviation about its mean, from 2 on, so that they follow the weights, those of activations as numbers,
from -1 and 1 on; neither is averaged over steps. As described in the paper; no authors' code is public. The gradient is that of
no sign's surrogate: the options `surrogate` and `weight_surrogate` are refused.
"""

import math

import torch
from torch import Tensor, nn

from onebit.methods.method import Method
from onebit.nn.binarizer import ActivationBinarizer, ActivationForm, WeightBinarizer, WeightForm
from onebit.nn.structure import Structure

ALPHA, REACH = 0.2, 2.0
LEAST = 1e-6  # of h, for bounds that meet


class SoftStep(nn.Module):
    """Q of the module's docstring, with its alpha: x and bounds () -> shaped like x, in {m - h, m + h}."""

    def __init__(self) -> None:
        super().__init__()
        self.sharpness = nn.Parameter(torch.tensor(math.log(2 * ALPHA / (1 - 2 * ALPHA))))

    @staticmethod
    def set_of(lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        """(m, h), each (); h > 0."""
        return (lower + upper) / 2, ((upper - lower) / 2).clamp(min=LEAST)

    @staticmethod
    def signs(x: Tensor, middle: Tensor) -> Tensor:
        """-1 where x < m, else +1: what the binary form does, bit for bit."""
        return (x < middle).to(x.dtype).mul_(-2).add_(1)

    def forward(self, x: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
        middle, half = self.set_of(lower, upper)
        kappa = torch.atanh(1 - self.sharpness.sigmoid() / 2)
        phi = torch.tanh(kappa * ((x - middle) / half).clamp(-1, 1)) / torch.tanh(kappa)
        return middle + half * (self.signs(x.detach(), middle.detach()) + (phi - phi.detach()))


class SoftWeight(WeightBinarizer):
    """Q(w) of the layer, l = mean - |below| std, u = mean + |above| std, below and above learned: w (O, ...)."""

    def __init__(self, shape: torch.Size):
        super().__init__(shape)
        self.step = SoftStep()
        self.below = nn.Parameter(torch.tensor(REACH))
        self.above = nn.Parameter(torch.tensor(REACH))

    def bounds(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """(l, u), each (); mean and std are constants in the backward pass."""
        mean, std = weight.detach().mean(), weight.detach().std(correction=0)
        return mean - self.below.abs() * std, mean + self.above.abs() * std

    def forward(self, weight: Tensor) -> Tensor:
        return self.step(weight, *self.bounds(weight))

    @torch.no_grad()
    def freeze(self, weight: Tensor) -> tuple[WeightForm, ...]:
        middle, half = self.step.set_of(*self.bounds(weight))
        return (WeightForm(self.step.signs(weight, middle), half.expand(len(weight)), middle.expand(len(weight))),)


class SoftActivation(ActivationBinarizer):
    """Q(x) of the layer, l and u learned, the lower one first: x (B, C, ...)."""

    def __init__(self, channels: int):
        super().__init__(channels)
        self.step = SoftStep()
        self.lower = nn.Parameter(torch.tensor(-1.0))
        self.upper = nn.Parameter(torch.tensor(1.0))

    @torch.no_grad()
    def initialize(self, x: Tensor) -> None:
        """l and u = mean(x) -+ mean |x - mean(x)|."""
        middle = x.mean()
        half = (x - middle).abs().mean()
        self.lower.copy_(middle - half)
        self.upper.copy_(middle + half)

    def bounds(self) -> tuple[Tensor, Tensor]:
        """(l, u), each ()."""
        return torch.minimum(self.lower, self.upper), torch.maximum(self.lower, self.upper)

    def forward(self, x: Tensor) -> Tensor:
        return self.step(x, *self.bounds())

    @torch.no_grad()
    def freeze(self) -> tuple[ActivationForm, ...]:
        middle, half = self.step.set_of(*self.bounds())
        return (ActivationForm(middle.item(), half.item(), middle.item()),)


def dsq() -> Method:
    """DSQ, in networks with a shortcut around two convolutions. It has no options."""
    return Method("dsq", SoftWeight, SoftActivation, Structure(block="plain"))
