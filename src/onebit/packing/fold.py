"""From binary forms to the numbers of the file.

For one output channel, with N weights under a window of which `valid` lie inside the image (zero padding contributes 0):

1.  weights w = s_w B + o_w, activations a = s_a A + o_a, with A, B in {-1, +1} and s_a > 0       (nn/binarizer.py)
2.  y = sum_valid a w + b
      = s_a s_w sum A B + s_a o_w sum A + o_a s_w sum B + o_a o_w N_valid + b
3.  with shift = o_a / s_a, scale = s_a s_w, offset = s_a o_w:
      y = scale (sum A B + shift sum B) + offset (sum A + shift N_valid) + b
4.  batch norm, or any affine map g y + h, multiplies scale, offset and b by g and adds h to b
5.  a negative scale is moved into the bits: (scale, B) -> (-scale, -B) leaves step 3 unchanged, because both sums that
    scale multiplies are linear in B

Several forms, w = sum_i w_i and a = sum_j a_j, give y = sum_ij y_ij + b with y_ij as above without b, and step 4 multiplies
each y_ij by g and adds h once.

So one number a layer (shift) and two or three a channel (scale, b, and offset where it is not 0) say all. The sums over the
valid taps are integers, which the runtime computes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from onebit.errors import UserError
from onebit.nn.binarizer import ActivationForm, WeightForm


@dataclass
class Affine:
    """y = scale x + bias per channel, float64 (C,)."""

    scale: Tensor
    bias: Tensor


@dataclass
class BinaryProduct:
    """The folded binary convolution or product of step 3: signs (O, ...), the rest float64 (O,)."""

    signs: Tensor
    scale: Tensor
    bias: Tensor
    offset: Tensor
    shift: float

    def then(self, affine: Affine) -> BinaryProduct:
        """Step 4."""
        return BinaryProduct(
            self.signs,
            self.scale * affine.scale,
            self.bias * affine.scale + affine.bias,
            self.offset * affine.scale,
            self.shift,
        )

    def canonical(self) -> BinaryProduct:
        """Step 5: scale >= 0."""
        turn = torch.where(self.scale < 0, -1.0, 1.0).double()  # (O,)
        signs = self.signs * turn.reshape(-1, *[1] * (self.signs.dim() - 1)).to(self.signs.dtype)
        return BinaryProduct(signs, self.scale * turn, self.bias, self.offset, self.shift)

    def channels(self) -> Tensor:
        """The rows scale, bias and, unless it is 0 everywhere, offset: float32 (2 or 3, O)."""
        rows = [self.scale, self.bias] + ([self.offset] if bool((self.offset != 0).any()) else [])
        return torch.stack(rows).float()


def binary_product(weights: WeightForm, activations: ActivationForm, bias: Tensor | None, name: str) -> BinaryProduct:
    """Steps 1 to 3. Raises UserError for values that are not finite and for a layer whose two activation values agree."""
    if not activations.scale > 0:
        raise UserError(
            f"layer {name}: its two activation values are equal (scale {activations.scale}); train it longer"
        )
    signs = weights.signs.detach()
    scale = weights.scale.detach().double()
    offset = torch.zeros_like(scale) if weights.offset is None else weights.offset.detach().double()
    for what, values in (("weight scale", scale), ("weight offset", offset)):
        if not values.isfinite().all():
            raise UserError(f"layer {name}: a {what} is not finite; the training has diverged")
    return BinaryProduct(
        signs,
        activations.scale * scale,
        torch.zeros_like(scale) if bias is None else bias.detach().double(),
        activations.scale * offset,
        activations.offset / activations.scale,
    )


def batch_norm(norm: nn.BatchNorm1d | nn.BatchNorm2d) -> Affine:
    """gamma (x - mean) / sqrt(var + eps) + beta as scale x + bias."""
    return normalization(norm.running_mean, norm.running_var, norm.weight, norm.bias, norm.eps)


def normalization(
    mean: Tensor | None, variance: Tensor | None, weight: Tensor | None, bias: Tensor | None, eps: float
) -> Affine:
    """The same of statistics, gamma and beta of their own."""
    if mean is None or variance is None:
        raise UserError(
            "a batch norm without running statistics cannot be packed; build it with track_running_stats=True"
        )
    mean, variance = mean.double(), variance.double()
    gamma = torch.ones_like(mean) if weight is None else weight.detach().double()
    beta = torch.zeros_like(mean) if bias is None else bias.detach().double()
    scale = gamma / torch.sqrt(variance + eps)
    return Affine(scale, beta - mean * scale)
