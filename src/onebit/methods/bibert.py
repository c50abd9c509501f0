"""BiBERT: Accurate Fully Binarized BERT (Qin et al., ICLR 2022, arXiv 2203.06390).

weights       w_b = mean|w_o| sign(w_o - mean w_o) of each row, dL/dw_b 1_{|w - mean w| <= 1}, as the authors' code has it
activations   a_b = sign(a), dL/da = dL/da_b 1_{|a| <= 1}; no scale
attention     queries, keys and values binarized likewise; no softmax: the probability is bool(s), 1 where the score
              s = sign(q) sign(k)^T / sqrt(d) is above 0, else 0 (Bi-Attention), ds = d bool 1_{|s| <= 1}
binary        word embeddings (rows as weights), all linear layers of the encoder, the pooler
real          embeddings of positions and types, layer norms, biases, the classifier; GELU stays

Its distillation is `distillation_similarity` of a recipe.
"""

import torch
from torch import Tensor

from onebit.methods.centred_sign import CentredSign
from onebit.methods.method import AttentionMethod, Method
from onebit.methods.plain_sign import PlainSign
from onebit.nn.binarizer import ActivationBinarizer, ActivationForm
from onebit.nn.structure import Structure
from onebit.nn.surrogates import Surrogate, ste


def twice_ste(x: Tensor) -> Tensor:
    """2 where |x| <= 1, else 0: the slope of bool as (sign + 1) / 2 then is 1."""
    return 2 * ste(x)


class Boolean(ActivationBinarizer):
    """1 where x > 0, else 0: x (B, heads, T, T), scores."""

    least = torch.finfo(torch.float32).tiny  # above 0: what is smaller training flushes to 0

    def __init__(self, channels: int):
        super().__init__(channels, Surrogate(twice_ste))

    def forward(self, x: Tensor) -> Tensor:
        return (self.surrogate(x - self.least) + 1) / 2

    def freeze(self) -> tuple[ActivationForm, ...]:
        return (ActivationForm(self.least, 0.5, 0.5),)


def weight(shape: torch.Size) -> CentredSign:
    return CentredSign(shape, Surrogate(ste), "row", "row")


def operand(channels: int) -> PlainSign:
    return PlainSign(channels, Surrogate(ste))


def bibert() -> Method:
    """BiBERT; in networks of images, its binarizers with a shortcut around each convolution. It has no options."""
    return Method(
        "bibert",
        weight,
        operand,
        Structure(),
        {"transformer": {"attention": "binary", "embedding": "binary", "pooler": "binary"}},
        attention=AttentionMethod(operand, Boolean, softmax=False),
        embedding=weight,
    )
