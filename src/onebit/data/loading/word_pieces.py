"""Texts as numbers of word pieces, by the library `tokenizers`: as BERT's tokenizer, [CLS] a [SEP] or [CLS] a [SEP] b [SEP]."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from onebit.errors import UserError

CHUNK = 10_000  # texts at a time: the library's answers take kilobytes each


@dataclass(frozen=True)
class Pieces:
    """N texts, or pairs of texts, one after the other.

    ids      int32 (M,): numbers of all their word pieces
    ends     int64 (N + 1,): text i has ids[ends[i] : ends[i + 1]]
    seconds  int64 (N,): tokens of text i before its second text; all of them where it has none
    cut      of them that were longer than allowed
    """

    ids: np.ndarray
    ends: np.ndarray
    seconds: np.ndarray
    cut: int


def pieces(
    first: Sequence[str], second: Sequence[str] | None, vocabulary: Sequence[str], lowercase: bool, length: int
) -> Pieces:
    """The texts by the vocabulary, of pairs the longer text cut first, to `length` tokens each.

    Raises UserError where `tokenizers` is not installed.
    """
    encoder = encoder_of(vocabulary, lowercase, length)
    texts: Sequence[Any] = first if second is None else list(zip(first, second, strict=True))
    ids, lengths, seconds, cut = [], [], [], 0
    for start in range(0, len(texts), CHUNK):
        for found in encoder.encode_batch(list(texts[start : start + CHUNK])):
            ids.append(np.array(found.ids, np.int32))
            lengths.append(len(found.ids))
            seconds.append(len(found.ids) - sum(found.type_ids))
            cut += bool(found.overflowing)
    ends = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Pieces(np.concatenate(ids), ends, np.array(seconds, np.int64), cut)


def encoder_of(vocabulary: Sequence[str], lowercase: bool, length: int) -> Any:
    try:
        from tokenizers import BertWordPieceTokenizer
    except ModuleNotFoundError as error:
        raise UserError("texts need the package tokenizers; pip install 'onebit[text]'") from error
    encoder = BertWordPieceTokenizer({word: number for number, word in enumerate(vocabulary)}, lowercase=lowercase)
    encoder.enable_truncation(length, strategy="longest_first")
    return encoder
