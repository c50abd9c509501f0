"""AdaBin: Improving Binary Neural Networks with Adaptive Binary Sets (Tu et al., ECCV 2022, arXiv 2208.08084).

weights, per filter of n elements: equalised to the set {beta - alpha, beta + alpha}

    beta = mean(w),  alpha = ||w - beta||_2 / sqrt(n),  w_b = alpha sign((w - beta) / alpha) + beta

activations, per layer with learned alpha (from 1) and beta (from 0), u = (x - beta) / alpha:

    paper      a_b = alpha sign(u) + beta       values beta -+ alpha
    released   a_b = alpha (sign(u) + beta)     values alpha (beta -+ 1); the authors' checkpoints need this form

backward: EDE k t (1 - tanh^2(t x)) for weights, t from 10^-3 to 10^1, the gradient flowing through alpha and beta too;
max(2 - 2|u|, 0) for activations, which with s = sign(u), g' = max(2 - 2|u|, 0) gives

    d a_b / d x     = g'                        d a_b / d alpha = s - u g'        (released: + beta)
    d a_b / d beta  = 1 - g'  (released: alpha - g')

The default is the released form, in which the authors' 88 % checkpoint is trained.
"""

import torch
from torch import Tensor, nn

from onebit.methods.method import Method, choose
from onebit.nn.binarizer import ActivationBinarizer, ActivationForm, WeightBinarizer, WeightForm, constant, filter_mean
from onebit.nn.sign import sign
from onebit.nn.structure import Structure
from onebit.nn.surrogates import Surrogate, approx_sign, ede, sharpening


class EqualizedSign(WeightBinarizer):
    """w_b = alpha sign((w - beta) / alpha) + beta, mean and deviation of each filter: w (O, ...)."""

    @staticmethod
    def set_of(weight: Tensor) -> tuple[Tensor, Tensor]:
        """(alpha, beta), each (O, 1, ...). Of a filter whose weights are all equal alpha is 0, and so are the gradients."""
        beta = filter_mean(weight)
        variance = filter_mean((weight - beta) ** 2)
        equal = constant(variance.detach().sqrt(), beta.detach())
        alpha = (
            variance.masked_fill(equal, 1.0).sqrt().masked_fill(equal, 0.0)
        )  # the slope of the root at 0 is infinite
        return alpha, torch.where(equal, beta.detach(), beta)

    @staticmethod
    def equalized(weight: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
        """(w - beta) / alpha, shaped like w; 0 where alpha is."""
        return (weight - beta) / alpha.masked_fill(alpha == 0, torch.inf)

    def forward(self, weight: Tensor) -> Tensor:
        alpha, beta = self.set_of(weight)
        u = self.equalized(weight, alpha, beta)
        return alpha * self.surrogate(u) + beta

    def freeze(self, weight: Tensor) -> tuple[WeightForm, ...]:
        alpha, beta = self.set_of(weight)
        return (WeightForm(sign(self.equalized(weight, alpha, beta)), alpha.flatten(), beta.flatten()),)


class AdaptiveSet(ActivationBinarizer):
    """a_b = alpha sign(u) + beta ("paper") or alpha (sign(u) + beta) ("released"), u = (x - beta) / alpha, alpha and beta
    learned per layer: x (B, C, ...)."""

    def __init__(self, channels: int, surrogate: Surrogate, variant: str):
        super().__init__(channels, surrogate)
        self.variant = variant
        self.alpha = nn.Parameter(torch.tensor(1.0))
        self.beta = nn.Parameter(torch.tensor(0.0))

    @torch.no_grad()
    def initialize(self, x: Tensor) -> None:
        """beta = mean(x), alpha = mean |x - beta|, the best scale of the two values about it."""
        self.beta.copy_(x.mean())
        alpha = (x - self.beta).abs().mean()
        self.alpha.copy_(torch.where(alpha > 0, alpha, self.alpha))

    def forward(self, x: Tensor) -> Tensor:
        s = self.surrogate((x - self.beta) / self.alpha)
        return self.alpha * s + self.beta if self.variant == "paper" else self.alpha * (s + self.beta)

    def freeze(self) -> tuple[ActivationForm, ...]:
        alpha, beta = self.alpha.detach(), self.beta.detach()
        centre = beta if self.variant == "paper" else alpha * beta
        threshold: Tensor | float = beta
        if alpha < 0:
            # The set is turned round: x = beta has the lower value, so A = +1 for x > beta, that is for x >= the next
            # number above beta. Above 0 this is the first normal number, since training flushes smaller ones to 0.
            tiny = torch.finfo(beta.dtype).tiny
            threshold = torch.nextafter(beta, torch.full_like(beta, torch.inf)) if beta.abs() >= tiny else tiny
        return (ActivationForm(float(threshold), abs(float(alpha)), float(centre)),)


def adabin(variant: str = "released") -> Method:
    """variant: the activations' form, "paper" or "released". Raises UserError for another."""
    choose("adabin", "variant", variant, ("paper", "released"))
    return Method(
        "adabin",
        lambda shape: EqualizedSign(shape, sharpening(ede, 1e-3, 10.0)),
        lambda channels: AdaptiveSet(channels, Surrogate(approx_sign), variant),
        Structure(nonlinearity="maxout"),
        {"residual_imagenet": {"downsample": "average"}},
    )
