"""Rows of numbers for words, one bit each: what binarizes them sees the rows that a batch has, not all of the vocabulary."""

from torch import Tensor, nn

from onebit.nn.binarizer import WeightBinarizer


class RowBinarizer(WeightBinarizer):
    """A weight binarizer that can be given some of the rows."""

    def rows(self, rows: Tensor, weight: Tensor) -> Tensor:
        """`forward(weight)` of some rows (N, C) of weight (O, C)."""
        raise NotImplementedError

    def forward(self, weight: Tensor) -> Tensor:
        return self.rows(weight, weight)


class BinaryEmbedding(nn.Embedding):
    """Numbers of words (...) -> their binary rows (..., C)."""

    def __init__(self, count: int, width: int, weight_binarizer: RowBinarizer):
        super().__init__(count, width)
        self.weight_binarizer = weight_binarizer

    def forward(self, ids: Tensor) -> Tensor:
        rows = super().forward(ids)  # (..., C)
        return self.weight_binarizer.rows(rows.reshape(-1, rows.shape[-1]), self.weight).reshape(rows.shape)
