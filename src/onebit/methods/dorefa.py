"""DoReFa-Net: Low Bitwidth Networks with Low Bitwidth Gradients (Zhou et al. 2016, arXiv 1606.06160).

weights       w_b = E sign(w), E = mean |w| over the whole layer, a constant in the backward pass; dL/dw = dL/dw_b
activations   of k bits: a = round((2^k - 1) c) / (2^k - 1), c = min(max(x, 0), 1); dL/dx = dL/da where 0 <= x <= 1

With n = 2^k - 1 the activation is a sum of n binary forms, since c passes n thresholds, which lie halfway between levels:

    a = sum_i (1 + sign(x - t_i)) / (2 n),  t_i = (i + 1/2) / n,  i = 0 .. n - 1

so a layer of 2 bits is three binary products. The bits of the level, of which there would be two, are no signs of x - t.

Different here: gradients are real numbers (the paper quantizes them, in training alone), and a value halfway between two levels
goes up, where TensorFlow's and PyTorch's round goes to the even one. Comparisons by others (BiBench) call a plain sign in
{-1, +1} with scales per filter DoReFa; this is the paper's form, as in tensorpack's example of it.
"""

from torch import Tensor

from onebit.errors import UserError
from onebit.methods.bireal import MagnitudeAwareSign
from onebit.methods.method import Method
from onebit.nn.binarizer import ActivationBinarizer, ActivationForm
from onebit.nn.structure import Structure
from onebit.nn.surrogates import Surrogate, identity, ste


def for_each_filter(scale: Tensor, weight: Tensor) -> Tensor:
    """One number of a layer, for each filter of its weight (O, ...): () -> (O, 1, ...)."""
    return scale.expand(weight.shape[0], *[1] * (weight.dim() - 1))


class LayerScaledSign(MagnitudeAwareSign):
    """w_b = mean |w| sign(w), the mean over the layer; dL/dw = dL/dw_b times the surrogate's slope at w: w (O, ...)."""

    def scale(self, weight: Tensor) -> Tensor:
        return for_each_filter(weight.abs().mean(), weight)


class Levels(ActivationBinarizer):
    """round(n min(max(x, 0), 1)) / n, n = 2^bits - 1, as n forms: x (B, C, ...). The surrogate is taken at 2 x - 1, whose sign
    is that of x - 1/2; its slope, where |2 x - 1| <= 1, is the paper's."""

    def __init__(self, channels: int, surrogate: Surrogate, bits: int):
        super().__init__(channels, surrogate)
        n = 2**bits - 1
        self.forms = tuple(ActivationForm((i + 0.5) / n, 0.5 / n, 0.5 / n) for i in range(n))

    def forward(self, x: Tensor) -> Tensor:
        levels = sum(form.scale * form.signs(x.detach()) + form.offset for form in self.forms)
        smooth = self.surrogate(2 * x - 1) / 2
        return levels + (smooth - smooth.detach())  # the value is that of `levels` exactly

    def freeze(self) -> tuple[ActivationForm, ...]:
        return self.forms


def dorefa(activation_bits: int = 1) -> Method:
    """activation_bits: 1 or 2. Raises UserError for another. Networks with a shortcut around two convolutions; the activations'
    own clipping is the nonlinearity."""
    if type(activation_bits) is not int or activation_bits not in (1, 2):
        raise UserError(f"method 'dorefa': activation_bits = {activation_bits!r} must be 1 or 2")
    return Method(
        "dorefa",
        lambda shape: LayerScaledSign(shape, Surrogate(identity)),
        lambda channels: Levels(channels, Surrogate(ste), activation_bits),
        Structure(block="plain", nonlinearity="identity"),
    )
