"""ReActNet (Liu et al., ECCV 2020, arXiv 2003.03488).

weights       as Bi-Real Net: mean |w| sign(w), clipped-identity gradient
activations   RSign: a_b = sign(a - tau_c) with tau_c = -shift_c learned per channel; gradient max(2 - 2|a + shift|, 0)
structure     RPReLU after each shortcut's addition; the authors' `move0` is `shift`, `move1`/`move2` are RPReLU's shifts
"""

import torch
from torch import Tensor, nn

from onebit.methods.bireal import MagnitudeAwareSign
from onebit.methods.method import Method
from onebit.nn.binarizer import ActivationBinarizer, ActivationForm
from onebit.nn.structure import Structure
from onebit.nn.surrogates import Surrogate, approx_sign, ste


class RSign(ActivationBinarizer):
    """sign(x + shift_c), shift learned per channel: x (B, C, ...)."""

    def __init__(self, channels: int, surrogate: Surrogate):
        super().__init__(channels, surrogate)
        self.shift = nn.Parameter(torch.zeros(channels))

    @torch.no_grad()
    def initialize(self, x: Tensor) -> None:
        """shift_c = -mean(x_c)."""
        self.shift.copy_(-x.mean((0, *range(2, x.dim()))))

    def forward(self, x: Tensor) -> Tensor:
        shift = self.shift.reshape(1, -1, *[1] * (x.dim() - 2)).to(x.dtype)  # (1, C, ...)
        return self.surrogate(x + shift)

    def freeze(self) -> tuple[ActivationForm, ...]:
        return (ActivationForm(threshold=-self.shift.detach()),)


def reactnet() -> Method:
    """ReActNet: a shortcut around each convolution, then RPReLU. It has no options."""
    return Method(
        "reactnet",
        lambda shape: MagnitudeAwareSign(shape, Surrogate(ste)),
        lambda channels: RSign(channels, Surrogate(approx_sign)),
        Structure(nonlinearity="rprelu", stem_nonlinearity=False, head_norm=False),
        {"residual_imagenet": {"downsample": "average"}},
    )
