"""How far a network of words is from its teacher on the way to its outputs (`States`), of texts without what fills them up.

    hidden       sum_l mean (x_l - t_l)^2 of the embeddings and each layer, the mean over the tokens and channels (BiT)
    similarity   sum_l d(x_l, t_l) + sum_l sum_{q, k, v} d(P_l, Q_l)                                             (BiBERT)

    d(x, t) = || x / ||x|| - t / ||t|| ||,  norms over the whole batch;  P = q q^T / sqrt(d) of each head, of queries before they are
    binarized, Q the teacher's; and likewise of keys and values

As the authors' codes, but that theirs count what fills up a text, too. A teacher of m times as many layers is compared at every m-th.
"""

import math

import torch
from torch import Tensor

from onebit.errors import UserError
from onebit.nn.states import States


def hidden_distance(student: States, teacher: States) -> Tensor:
    """The number `hidden`, float32."""
    there = student.there[..., None]  # (B, T, 1)
    count = there.sum() * student.hidden[0].shape[-1]
    pairs = zip(student.hidden, hidden_of(student, teacher), strict=True)
    return torch.stack([((x.float() - t.float()) ** 2 * there).sum() for x, t in pairs]).sum() / count


def similarity_distance(student: States, teacher: States) -> Tensor:
    """The number `similarity`, float32."""
    there = student.there[..., None]  # (B, T, 1)
    pairs = zip(student.hidden, hidden_of(student, teacher), strict=True)
    found = [apart(x.float() * there, t.float() * there) for x, t in pairs]
    step = len(teacher.products) // len(student.products)
    for ours, theirs in zip(student.products, teacher.products[step - 1 :: step], strict=True):
        for x, t in zip(ours, theirs, strict=True):
            found.append(
                apart(similarities(x.float() * there, student.heads), similarities(t.float() * there, teacher.heads))
            )
    return torch.stack(found).sum()


def hidden_of(student: States, teacher: States) -> list[Tensor]:
    """The teacher's states that the student's are compared with."""
    return teacher.hidden[:: (len(teacher.hidden) - 1) // (len(student.hidden) - 1)]


def similarities(x: Tensor, heads: int) -> Tensor:
    """x x^T / sqrt(d) of each head: (B, T, C) -> (B, heads, T, T)."""
    x = x.unflatten(-1, (heads, -1)).transpose(1, 2)  # (B, heads, T, d)
    return x @ x.transpose(-1, -2) / math.sqrt(x.shape[-1])


def apart(x: Tensor, t: Tensor) -> Tensor:
    """|| x / ||x|| - t / ||t|| ||."""
    x, t = (part / part.norm().clamp(min=torch.finfo(part.dtype).tiny) for part in (x, t))
    return (x - t).norm()


def check(student: States, teacher: States, similarity: bool, where: str) -> None:
    """Refuse a teacher whose states are of other sizes. Raises UserError, which starts with `where`."""
    ours, theirs = len(student.products), len(teacher.products)
    if theirs % ours:
        raise UserError(f"{where} has {theirs} layers, no multiple of the student's {ours}; compare the outputs alone")
    widths = [states.hidden[0].shape[-1] for states in (student, teacher)]
    if widths[0] != widths[1]:
        raise UserError(f"{where} is {widths[1]} channels wide, the student {widths[0]}; compare the outputs alone")
    if similarity and student.heads != teacher.heads:
        raise UserError(
            f"{where} has {teacher.heads} heads, the student {student.heads}; leave distillation_similarity out"
        )
