"""BERT (Devlin et al., NAACL 2019, arXiv 1810.04805) for texts: an encoder, a pooler on its first token, a classifier.

    x0 = norm(word + position + type)
    y  = norm(x + out(attention(query(x), key(x), value(x))))
    x' = norm(y + ffn2(act(ffn1(y))))                            of each layer
    outputs = classifier(tanh(pooler(x[:, 0])))

Modules are named and wired as in the library transformers, so that its files of weights fit (`bert_files`). The linear layers of
the encoder are the method's. Its structure says whether the rows of words, the attention and the pooler are, too, and what the
nonlinearity is (GELU, unless the method's paper has another). Embeddings of positions and types, layer norms, biases and the
classifier are real.
"""

import torch
from torch import Tensor, nn

from onebit.errors import UserError
from onebit.methods.method import Method
from onebit.models.architecture import Architecture, architecture
from onebit.models.bert_files import translated
from onebit.models.bert_layers import Embeddings, Encoder, Pooler
from onebit.models.blocks import start_weights
from onebit.nn.binarizer import ActivationBinarizer
from onebit.nn.states import States
from onebit.nn.structure import Structure

STRUCTURE = {"nonlinearity": "gelu"}
SPREAD = 0.02  # standard deviation of new weights, as in BERT


class Bert(nn.Module):
    """Words -> outputs (B, classes).

    calibrates   learned thresholds and scales of activations start from a batch
    """

    calibrates = True

    def __init__(
        self,
        method: Method,
        structure: Structure,
        classes: int,
        vocabulary: int,
        layers: int,
        width: int,
        heads: int,
        hidden: int,
        positions: int,
        dropout: float,
    ):
        super().__init__()
        if width % heads:
            raise UserError(f"bert: width = {width} is no multiple of heads = {heads}; choose others")
        if not 0 <= dropout < 1:
            raise UserError(f"bert: dropout = {dropout} must be in [0, 1)")
        self.heads, self.positions = heads, positions
        self.embeddings = Embeddings(method, structure, vocabulary, width, positions, dropout)
        self.encoder = Encoder(method, structure, layers, width, heads, hidden, dropout)
        self.pooler = Pooler(method if structure.pooler == "binary" else None, width)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(width, classes)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=SPREAD)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
        start_weights(self)
        binarizers = [module for module in self.modules() if isinstance(module, ActivationBinarizer)]
        for binarizer in binarizers if not self.classifier.weight.is_meta else []:
            if any(isinstance(form.threshold, str) for form in binarizer.freeze()):
                raise UserError(
                    f"bert: the thresholds of method {method.name!r} are means of an input, which tokens that fill up would change; "
                    "choose another method"
                )

    def forward(self, ids: Tensor, types: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """ids: int64 (B, T); types: 1 for tokens of the second text of a pair, mask: 1 for all but those that fill up. Or the three
        of them in one tensor (B, 3, T), as data sets give them."""
        return self.states(ids, types, mask).outputs

    def states(self, ids: Tensor, types: Tensor | None = None, mask: Tensor | None = None) -> States:
        """What `forward` computes on the way, too."""
        if ids.dim() == 3:
            ids, types, mask = ids.unbind(1)
        if ids.shape[1] > self.positions:
            raise ValueError(f"{ids.shape[1]} tokens, this network has {self.positions} positions")
        hidden = None if mask is None else mask == 0  # (B, T)
        x = self.embeddings(ids, types)
        every, products = self.encoder(x, hidden)
        outputs = self.classifier(self.dropout(self.pooler(every[-1])))
        there = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask != 0
        return States(outputs, every, products, there, self.heads)

    def adopted(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """The tensors of a file of weights of a BERT, in the names of this network."""
        return translated(state)


@architecture("transformer", "text", STRUCTURE)
def bert(
    method: Method,
    structure: Structure,
    *,
    classes: int = 2,
    vocabulary: int = 30522,
    layers: int = 4,
    width: int = 256,
    heads: int = 4,
    hidden: int = 1024,
    positions: int = 512,
    dropout: float = 0.1,
) -> Bert:
    """A BERT of any size; by default of that which Turc et al. 2019 (arXiv 1908.08962) call mini."""
    return Bert(method, structure, classes, vocabulary, layers, width, heads, hidden, positions, dropout)


def _sized(layers: int, width: int, heads: int, hidden: int) -> Architecture:
    @architecture("transformer", "text", STRUCTURE)
    def build(
        method: Method,
        structure: Structure,
        *,
        classes: int = 2,
        vocabulary: int = 30522,
        positions: int = 512,
        dropout: float = 0.1,
    ) -> Bert:
        return Bert(method, structure, classes, vocabulary, layers, width, heads, hidden, positions, dropout)

    return build


bert_base = _sized(12, 768, 12, 3072)
minilm = _sized(6, 384, 12, 1536)  # of six layers: Wang et al. 2020, arXiv 2002.10957
