"""What a network of words computes on the way to its outputs, for teachers that compare more than those."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class States:
    """outputs   (B, labels)
    hidden    of the embeddings and of each layer, (B, T, C)
    products  queries, keys and values of each layer, before they are binarized, (B, T, C) each
    there     bool (B, T): the tokens that do not merely fill up
    heads     among which the channels of `products` are divided
    """

    outputs: Tensor
    hidden: list[Tensor]
    products: list[tuple[Tensor, Tensor, Tensor]]
    there: Tensor
    heads: int
