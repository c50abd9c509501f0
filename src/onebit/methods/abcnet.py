"""ABC-Net: Towards Accurate Binary Convolutional Neural Network (Lin et al., NeurIPS 2017, arXiv 1711.11294).

weights       w ~ sum_i alpha_i B_i over M bases, with the mean and the deviation (population) of the layer's weights,

    B_i   = sign(w - mean + u_i std),  u_i = -1 + 2 i / (M - 1),  i = 0 .. M - 1;  u = 0 for M = 1
    alpha = argmin ||w - sum_i alpha_i B_i||^2 over the layer
    dL/dw = sum_i alpha_i dL/dw_b: the straight-through estimator for each B_i, alpha held constant

activations   a = sum_j beta_j H_j over N bases, H_j = sign(x - t_j): the paper's H_v = 2 1[clip(x + v, 0, 1) >= 1/2] - 1 with
              t = 1/2 - v; dH/dx = 1 where 0 <= x + v <= 1, that is |x - t| <= 1/2; beta and t learned

A layer is the sum of M N binary products. The least squares are solved anew at each step through the Gram matrix (M, M) of the
bases, by its pseudoinverse, for bases that coincide (of weights that are all equal).

Different here: |beta_j| stands for beta_j, since a form's scale is positive; t starts evenly spaced in [-1/2, 1/2] and beta at
1 / N; the block is that of the other methods, with the clipping of H as its nonlinearity: own choices. As described in the
paper; no authors' code is public.
"""

import torch
from torch import Tensor, nn

from onebit.errors import UserError
from onebit.methods.method import Method
from onebit.nn.binarizer import ActivationBinarizer, ActivationForm, WeightBinarizer, WeightForm
from onebit.nn.sign import sign
from onebit.nn.structure import Structure
from onebit.nn.surrogates import Surrogate, constant, identity, ste


class WeightBases(WeightBinarizer):
    """sum_i alpha_i sign(w - mean + u_i std) over `bases` of the layer, alpha by least squares: w (O, ...)."""

    def __init__(self, shape: torch.Size, surrogate: Surrogate, bases: int):
        super().__init__(shape, surrogate)
        self.spread = tuple(-1 + 2 * i / (bases - 1) for i in range(bases)) if bases > 1 else (0.0,)

    def shifted(self, weight: Tensor) -> list[Tensor]:
        """w - mean + u_i std of each base; mean and std are constants in the backward pass."""
        mean = weight.detach().mean()
        std = weight.detach().std(correction=0)
        return [weight - (mean - u * std) for u in self.spread]

    @staticmethod
    def coefficients(weight: Tensor, bases: list[Tensor]) -> Tensor:
        """alpha (M,) = G^+ b, with G_ij = sum B_i B_j and b_i = sum B_i w over the layer, a constant in the backward pass."""
        wide = torch.promote_types(weight.dtype, torch.float32)  # half precision has no inverse, and overflows
        bases, real = [base.to(wide) for base in bases], weight.to(wide)
        gram = torch.stack([torch.stack([(p * q).sum() for q in bases]) for p in bases])  # (M, M)
        right = torch.stack([(p * real).sum() for p in bases])  # (M,)
        inverse = torch.linalg.pinv(gram, hermitian=True)
        return (inverse * right).sum(1).to(weight.dtype)  # no matmul: autocast would round it

    def forward(self, weight: Tensor) -> Tensor:
        bases = [self.surrogate(shifted) for shifted in self.shifted(weight)]
        with torch.no_grad():
            alpha = self.coefficients(weight, bases)
        return sum((alpha[i] * base for i, base in enumerate(bases[1:], 1)), alpha[0] * bases[0])

    @torch.no_grad()
    def freeze(self, weight: Tensor) -> tuple[WeightForm, ...]:
        bases = [sign(shifted) for shifted in self.shifted(weight)]
        alpha = self.coefficients(weight, bases)
        return tuple(WeightForm(base, alpha[i].expand(len(weight))) for i, base in enumerate(bases))


class ActivationBases(ActivationBinarizer):
    """sum_j |beta_j| sign(x - t_j), beta and t learned per layer: x (B, C, ...)."""

    def __init__(self, channels: int, surrogate: Surrogate, bases: int):
        super().__init__(channels, surrogate)
        self.threshold = nn.Parameter(torch.linspace(-0.5, 0.5, bases) if bases > 1 else torch.zeros(1))
        self.beta = nn.Parameter(torch.full((bases,), 1 / bases))

    @torch.no_grad()
    def initialize(self, x: Tensor) -> None:
        """The thresholds move to the mean of x, as far apart as before."""
        self.threshold.add_(x.mean() - self.threshold.mean())

    def forward(self, x: Tensor) -> Tensor:
        first, *rest = (
            size * self.surrogate(x - t)
            for size, t in zip(self.beta.abs().unbind(), self.threshold.unbind(), strict=True)
        )
        return sum(rest, first)

    def freeze(self) -> tuple[ActivationForm, ...]:
        pairs = zip(self.threshold.tolist(), self.beta.abs().tolist(), strict=True)
        return tuple(ActivationForm(threshold, scale) for threshold, scale in pairs)


def abcnet(weight_bases: int = 1, activation_bases: int = 1) -> Method:
    """weight_bases M and activation_bases N, from 1 to 8. Raises UserError for others. A shortcut around two convolutions."""
    for name, value in (("weight_bases", weight_bases), ("activation_bases", activation_bases)):
        if type(value) is not int or not 1 <= value <= 8:
            raise UserError(f"method 'abcnet': {name} = {value!r} must be a whole number from 1 to 8")
    return Method(
        "abcnet",
        lambda shape: WeightBases(shape, Surrogate(identity), weight_bases),
        lambda channels: ActivationBases(channels, Surrogate(ste, clip=constant(0.5)), activation_bases),
        Structure(block="plain", nonlinearity="identity"),
    )
