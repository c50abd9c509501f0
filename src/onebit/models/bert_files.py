"""Files of a BERT's weights, as transformers and its forerunners wrote them, in the names of `models.bert`."""

import re

from torch import Tensor

PREFIX = re.compile(r"^(?:module\.|_orig_mod\.)*(?:bert\.)?")
OLD = ((re.compile(r"LayerNorm\.gamma$"), "LayerNorm.weight"), (re.compile(r"LayerNorm\.beta$"), "LayerNorm.bias"))
# Numbers from 0 on, and heads of the pretraining, which no classifier has
LEFT_OUT = re.compile(r"^(?:embeddings\.(?:position_ids|token_type_ids)$|cls\.)")


def translated(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without a prefix, with today's names of layer norms, and without what a classifier has no use for."""
    found = {}
    for name, value in state.items():
        name = PREFIX.sub("", name)
        for pattern, today in OLD:
            name = pattern.sub(today, name)
        if not LEFT_OUT.match(name):
            found[name] = value.float() if value.is_floating_point() else value
    return found
