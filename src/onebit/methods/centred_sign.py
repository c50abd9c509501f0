"""The weights of one-bit transformers: signs about a mean, and a scale without gradient.

    w_b = s sign(w - m),  s = mean |w|,  dL/dw = dL/dw_b times the surrogate's slope at w - m

s and m are of each row or of the whole tensor. The slope is not multiplied by s, unlike that of most methods: it is that of an
estimator of w_b itself. Gradients flow through a row's mean, not through that of the tensor.
"""

from typing import Literal

import torch
from torch import Tensor

from onebit.nn.binarizer import WeightForm, filter_mean
from onebit.nn.embedding import RowBinarizer
from onebit.nn.sign import sign, with_gradient_of
from onebit.nn.surrogates import Surrogate

Of = Literal["row", "tensor"]


class CentredSign(RowBinarizer):
    """w (O, ...) -> w_b. scale, centre: what s and m are of."""

    def __init__(self, shape: torch.Size, surrogate: Surrogate, scale: Of, centre: Of):
        super().__init__(shape, surrogate)
        self.scale, self.centre = scale, centre

    def parts(self, rows: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """(w - m, shaped like rows (N, ...); s (N, 1, ...)) of some rows of weight (O, ...)."""
        centre = filter_mean(rows) if self.centre == "row" else weight.detach().mean()
        if self.scale == "row":
            return rows - centre, filter_mean(rows.detach(), magnitude=True)
        return rows - centre, weight.detach().abs().mean().expand(len(rows), *[1] * (rows.dim() - 1))

    def rows(self, rows: Tensor, weight: Tensor) -> Tensor:
        centred, scale = self.parts(rows, weight)
        signs = self.surrogate(centred)
        return with_gradient_of(scale * signs.detach(), signs)

    def freeze(self, weight: Tensor) -> tuple[WeightForm, ...]:
        centred, scale = self.parts(weight, weight)
        return (WeightForm(sign(centred.detach()), scale.flatten()),)
