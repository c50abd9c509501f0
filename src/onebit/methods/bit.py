"""BiT: Robustly Binarized Multi-distilled Transformer (Liu et al., NeurIPS 2022, arXiv 2205.13016).

weights       w_b = mean|w| sign(w - mean w), both means of the whole matrix, dL/dw = dL/dw_b
activations   a_b = alpha sign(a + b_c), elastic: alpha learned for each layer from 2 mean|a| on, b learned per channel from 0

    da = da_b 1_{|a + b| <= alpha},  dalpha = 1/sqrt(n) sum da_b sign(a + b),  n elements of a

never negative ones (behind ReLU, and probabilities, which have no b): a_b = alpha where (a + b) / alpha rounds to 1 or more, else 0;
alpha from 4 mean|a| on; u = (a + b) / alpha

    da = da_b 1_{0 <= u <= 1},  dalpha = 1/sqrt(n) sum da_b (0 where u < 0, round(u) - u in between, 1 where u > 1)

attention     queries, keys and values elastic; the softmax is kept, its probabilities become {0, alpha}
binary        word embeddings (mean|w| of a row, mean w of the matrix), all linear layers of the encoder, the pooler
real          embeddings of positions and types, layer norms, biases, the classifier; ReLU in place of GELU

With `bits = 2`, the paper's step between the real network and that of one bit, activations have four levels, alpha times -2 to 1 or
0 to 3 (`elastic`), alpha from 2 mean|a| or 4 mean|a| / sqrt 3 on. The authors' code moves the latter to begin at their least value;
here they begin at 0. Formulas are otherwise as in that code, but for the limits that `elastic` names.
"""

from functools import partial
from typing import Any, Literal

from onebit.errors import UserError
from onebit.methods.centred_sign import CentredSign
from onebit.methods.elastic import ElasticLevels, ElasticSign, ElasticStep
from onebit.methods.method import AttentionMethod, Method
from onebit.nn.structure import Structure
from onebit.nn.surrogates import Surrogate, identity


def bit(*, bits: Literal[1, 2] = 1) -> Method:
    """BiT; in networks of images, its binarizers with a shortcut around each convolution.

    bits    of activations: 2 for a network from which one of 1 starts and learns

    Raises UserError for another number of bits.
    """
    if type(bits) is not int or bits not in (1, 2):
        raise UserError(f"method 'bit': bits must be 1 or 2, got {bits!r}")
    signed: Any = ElasticSign if bits == 1 else partial(ElasticLevels, low=-2, high=1)
    unsigned: Any = ElasticStep if bits == 1 else partial(ElasticLevels, low=0, high=3)
    return Method(
        "bit",
        lambda shape: CentredSign(shape, Surrogate(identity), "tensor", "tensor"),
        signed,
        Structure(),
        {"transformer": {"attention": "binary", "embedding": "binary", "pooler": "binary", "nonlinearity": "relu"}},
        attention=AttentionMethod(signed, lambda heads: unsigned(heads, shifts=False), softmax=True),
        embedding=lambda shape: CentredSign(shape, Surrogate(identity), "row", "tensor"),
        nonnegative=unsigned,
    )
