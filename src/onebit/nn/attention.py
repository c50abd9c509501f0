"""The arithmetic of attention, real or binary: queries, keys and values of all heads side by side (B, T, C) -> (B, T, C).

    scores = q k^T / sqrt(d) of each head of d = C / heads channels
    real      softmax(scores) v
    binary    p(softmax(scores)) b(v)  or  p(scores) b(v),  scores of b(q) and b(k)

b are a method's binarizers of queries, keys and values, p one that makes two values of probabilities or scores. Keys that fill up
a shorter text have the least score there is, so that p is 0 there as well as the softmax.
"""

import math

import torch
from torch import Tensor, nn

from onebit.nn.binarizer import ActivationBinarizer, ActivationForm


class Attention(nn.Module):
    """Of real operands. heads: their number; dropout: share of the probabilities that training leaves out."""

    def __init__(self, heads: int, dropout: float = 0.0):
        super().__init__()
        self.heads = heads
        self.dropout = nn.Dropout(dropout)

    def split(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, heads, T, d)."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def joined(self, x: Tensor) -> Tensor:
        """(B, heads, T, d) -> (B, T, C)."""
        return x.transpose(1, 2).flatten(2)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, hidden: Tensor | None = None) -> Tensor:
        """hidden: bool (B, T), the keys that nothing attends to."""
        q, k, v = self.split(q), self.split(k), self.split(v)
        scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])  # (B, heads, T, T)
        probabilities = self.dropout(masked(scores, hidden).softmax(-1))
        return self.joined(probabilities @ v)


class BinaryAttention(Attention):
    """Of binary operands.

    Args:
        heads, dropout: as of Attention
        operand: the binarizers of queries, keys and values (B, C, T)
        probability: the binarizer of probabilities, or of scores where there is no softmax (B, heads, T, T)
        softmax: whether scores become probabilities first
    """

    def __init__(
        self,
        heads: int,
        dropout: float,
        operands: tuple[ActivationBinarizer, ActivationBinarizer, ActivationBinarizer],
        probability: ActivationBinarizer,
        softmax: bool,
    ):
        super().__init__(heads, dropout)
        self.query_binarizer, self.key_binarizer, self.value_binarizer = operands
        self.probability_binarizer = probability
        self.softmax = softmax

    def forward(self, q: Tensor, k: Tensor, v: Tensor, hidden: Tensor | None = None) -> Tensor:
        exact = not self.training and not torch.is_grad_enabled()
        q, of_q = operand(self.query_binarizer, q.movedim(-1, 1), exact)  # (B, C, T)
        k, of_k = operand(self.key_binarizer, k.movedim(-1, 1), exact)
        v, of_v = operand(self.value_binarizer, v.movedim(-1, 1), exact)
        q, k, v = (self.split(x.movedim(1, -1)) for x in (q, k, v))
        scores = q @ k.transpose(-1, -2) * (of_q * of_k / math.sqrt(q.shape[-1]))  # (B, heads, T, T)
        scores = masked(scores, hidden)
        scores = self.dropout(scores.softmax(-1) if self.softmax else scores)
        probabilities, of_p = operand(self.probability_binarizer, scores, exact)
        return self.joined(probabilities @ v * (of_p * of_v))


def masked(scores: Tensor, hidden: Tensor | None) -> Tensor:
    """Scores (B, heads, T, T) with the least number of their type for hidden keys."""
    return scores if hidden is None else scores.masked_fill(hidden[:, None, None], torch.finfo(scores.dtype).min)


def operand(binarizer: ActivationBinarizer, x: Tensor, exact: bool) -> tuple[Tensor, float]:
    """(u, factor): u factor is what the binarizer makes of x. In evaluation u are whole numbers, -1 and 1 or 0 and 1, so that sums of
    their products are exact, as the engine's are; factors come afterwards."""
    if not exact:
        return binarizer(x), 1.0
    forms = binarizer.freeze()
    if len(forms) > 1:
        return torch.stack([form.activation(x) for form in forms]).sum(0), 1.0
    return whole(forms[0], x)


def whole(form: ActivationForm, x: Tensor) -> tuple[Tensor, float]:
    signs = form.signs(x)
    if form.offset == 0:
        return signs, form.scale
    if form.offset == form.scale:
        return (signs + 1) / 2, 2 * form.scale
    return form.scale * signs + form.offset, 1.0
