"""BiT: Robustly Binarized Multi-distilled Transformer (Liu et al., NeurIPS 2022, arXiv 2205.13016).

weights       w_b = mean|w| sign(w - mean w), both means of the whole matrix, dL/dw = dL/dw_b
activations   a_b = alpha sign(a + b_c), elastic: alpha learned for each layer from 2 mean|a| on, b learned per channel from 0

    da = da_b 1_{|a + b| <= alpha},  dalpha = 1/sqrt(n) sum da_b sign(a + b),  n elements of a

never negative ones (behind ReLU, and probabilities, which have no b): a_b = alpha where (a + b) / alpha rounds to 1 or more, else 0;
alpha from 4 mean|a| on; u = (a + b) / alpha

    da = da_b 1_{0 <= u <= 1},  dalpha = 1/sqrt(n) sum da_b (0 where u < 0, round(u) - u in between, 1 where u > 1)

attention     queries, keys and values elastic; the softmax is kept, its probabilities become {0, alpha}
binary        word embeddings (mean|w| of a row, mean w of the matrix), all linear layers of the encoder, the pooler
real          embeddings of positions and types, layer norms, biases, the classifier; ReLU in place of GELU

Formulas as in the authors' code, but for two limits. There alpha is at least 1e-5, and a layer whose alpha passes 0 is dead; here
alpha counts by its size |alpha|, of at least 1e-5. And where u = 1/2 is rounded to even there, it gives alpha here, by the sign of 0.
"""

import math

import torch
from torch import Tensor, nn

from onebit.methods.centred_sign import CentredSign
from onebit.methods.method import AttentionMethod, Method
from onebit.nn.binarizer import ActivationBinarizer, ActivationForm
from onebit.nn.sign import scaled_gradient
from onebit.nn.structure import Structure
from onebit.nn.surrogates import Surrogate, identity, ste

LEAST = 1e-5  # of alpha


def half_window(x: Tensor) -> Tensor:
    """2 where |x| <= 1/2, else 0: with x = u - 1/2, (sign(x) + 1) / 2 then has the slope of clamp(u, 0, 1)."""
    return 2 * ste(x, 0.5)


class Elastic(ActivationBinarizer):
    """What the two elastic binarizers share: alpha, and the shift b per channel, if any. x (B, C, ...)."""

    start: float  # alpha begins at so many times mean |x|

    def __init__(self, channels: int, surrogate: Surrogate, shifts: bool = True):
        super().__init__(channels, surrogate)
        self.alpha = nn.Parameter(torch.tensor(1.0))
        self.shift = nn.Parameter(torch.zeros(channels)) if shifts else None

    @torch.no_grad()
    def initialize(self, x: Tensor) -> None:
        self.alpha.copy_((self.start * x.abs().mean()).clamp(min=LEAST))

    def scale(self) -> Tensor:
        size = self.alpha.abs()
        return size.detach().clamp(min=LEAST) + (size - size.detach())  # with a gradient below the bound, too

    def threshold(self, level: Tensor, like: Tensor | None = None) -> Tensor:
        """level - b: a number, or (C,); with `like` (B, C, ...) in its type and (1, C, 1, ...)."""
        if like is not None:
            level = level.to(like.dtype)
        if self.shift is None:
            return level
        if like is None:
            return level - self.shift
        return level - self.shift.reshape(1, -1, *[1] * (like.dim() - 2)).to(like.dtype)


class ElasticSign(Elastic):
    """alpha sign(x + b)."""

    start = 2.0

    def __init__(self, channels: int):
        super().__init__(channels, Surrogate(ste))

    def forward(self, x: Tensor) -> Tensor:
        alpha = self.scale()
        u = (x - self.threshold(torch.zeros_like(alpha), x)) / alpha.detach().to(x.dtype)
        return scaled_gradient(alpha, 1 / math.sqrt(x.numel())).to(x.dtype) * self.surrogate(u)

    def freeze(self) -> tuple[ActivationForm, ...]:
        alpha = self.scale().detach()
        return (ActivationForm(self.threshold(torch.zeros_like(alpha)).detach(), float(alpha)),)


class ElasticStep(Elastic):
    """alpha where x + b >= alpha / 2, else 0, of what is never negative."""

    start = 4.0

    def __init__(self, channels: int, shifts: bool = True):
        super().__init__(channels, Surrogate(half_window), shifts)

    def forward(self, x: Tensor) -> Tensor:
        alpha = scaled_gradient(self.scale(), 1 / math.sqrt(x.numel()))
        v = (x - self.threshold(alpha / 2, x)) / alpha.to(x.dtype)  # u - 1/2
        return alpha.to(x.dtype) * ((self.surrogate(v) + 1) / 2)

    def freeze(self) -> tuple[ActivationForm, ...]:
        half = self.scale().detach() / 2
        threshold = self.threshold(half).detach()
        return (ActivationForm(threshold if self.shift is not None else float(threshold), float(half), float(half)),)


def bit() -> Method:
    """BiT; in networks of images, its binarizers with a shortcut around each convolution. It has no options."""
    return Method(
        "bit",
        lambda shape: CentredSign(shape, Surrogate(identity), "tensor", "tensor"),
        ElasticSign,
        Structure(),
        {"transformer": {"attention": "binary", "embedding": "binary", "pooler": "binary", "nonlinearity": "relu"}},
        attention=AttentionMethod(ElasticSign, lambda heads: ElasticStep(heads, shifts=False), softmax=True),
        embedding=lambda shape: CentredSign(shape, Surrogate(identity), "row", "tensor"),
        nonnegative=ElasticStep,
    )
