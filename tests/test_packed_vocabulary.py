"""What a caller says of a network of texts: a vocabulary in order, room for a word, masks that are looked at in other ways."""

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import onebit
from onebit import pack
from onebit.errors import UserError
from onebit.runtime import load
from test_packed_texts import COUNT, INPUTS, LENGTH, VOCABULARY, bert, check


@pytest.mark.parametrize(
    "given", [{piece: number for number, piece in enumerate(VOCABULARY)}, set(VOCABULARY), "vocab.txt", None]
)
def test_a_vocabulary_without_an_order_is_refused(given, tmp_path):
    """That of `get_vocab()` of a tokenizer is a dict, whose order is not that of its numbers."""
    inputs = INPUTS | {"ids": onebit.Tokens(LENGTH, COUNT, holds="pieces", vocabulary=given)}
    with pytest.raises(UserError, match=r"vocabulary = .* must be a list of the pieces in the order of their numbers"):
        pack(bert("float"), tmp_path / "net", inputs=inputs)


def test_a_vocabulary_of_numpy_packs(tmp_path):
    inputs = INPUTS | {"ids": onebit.Tokens(LENGTH, COUNT, holds="pieces", vocabulary=np.array(VOCABULARY))}
    pack(bert("float"), tmp_path / "net", inputs=inputs)
    assert load(tmp_path / "net").inputs[0].vocabulary == VOCABULARY


def test_predict_needs_room_for_a_word(tmp_path):
    short = {name: dataclasses.replace(source, length=2) for name, source in INPUTS.items()}
    pack(bert("float"), tmp_path / "net", inputs=short)
    with pytest.raises(UserError, match="takes 2 tokens, too few for a text"):
        load(tmp_path / "net").predict(("a", "b"))


class Turned(nn.Module):
    """A mask whose axes are exchanged on its way to the attention."""

    def __init__(self):
        super().__init__()
        self.words, self.head = nn.Embedding(COUNT, 8), nn.Linear(8, 2)

    def forward(self, ids, mask):
        x = self.words(ids)[:, None]  # (B, 1, T, C)
        there = (mask != 0)[:, :, None, None].transpose(1, 3)  # (B, 1, 1, T)
        return self.head(F.scaled_dot_product_attention(x, x, x, attn_mask=there).transpose(1, 2).flatten(2)[:, 0])


def test_a_mask_whose_axes_are_exchanged(tmp_path):
    torch.manual_seed(0)
    model = Turned().eval()
    pack(model, tmp_path / "net", inputs={name: INPUTS[name] for name in ("ids", "mask")})
    assert "attention" in check(model, tmp_path / "net", texts=([5, 8, 3],))
