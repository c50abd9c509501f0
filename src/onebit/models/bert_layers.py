"""The parts of a BERT, in the names of the library transformers."""

import torch
from torch import Tensor, nn

from onebit.errors import UserError
from onebit.methods.method import Method
from onebit.models.blocks import binary_linear
from onebit.nn.attention import Attention, BinaryAttention
from onebit.nn.embedding import BinaryEmbedding
from onebit.nn.structure import Structure

EPSILON = 1e-12  # of layer norms
Products = tuple[Tensor, Tensor, Tensor]


class Embeddings(nn.Module):
    """Words (B, T) and types (B, T) -> (B, T, C)."""

    def __init__(
        self, method: Method, structure: Structure, vocabulary: int, width: int, positions: int, dropout: float
    ):
        super().__init__()
        self.word_embeddings: nn.Embedding = word_embeddings(method, structure, vocabulary, width)
        self.position_embeddings = nn.Embedding(positions, width)
        self.token_type_embeddings = nn.Embedding(2, width)
        self.LayerNorm = nn.LayerNorm(width, EPSILON)
        self.dropout = nn.Dropout(dropout)

    def forward(self, ids: Tensor, types: Tensor | None) -> Tensor:
        places = torch.arange(ids.shape[1], device=ids.device)  # (T,)
        types = torch.zeros_like(ids) if types is None else types
        x = self.word_embeddings(ids) + self.position_embeddings(places) + self.token_type_embeddings(types)
        return self.dropout(self.LayerNorm(x))


def word_embeddings(method: Method, structure: Structure, vocabulary: int, width: int) -> nn.Embedding:
    if structure.embedding == "float" or method.weight is None:
        return nn.Embedding(vocabulary, width)
    if method.embedding is None:
        raise UserError(
            f"structure: embedding = 'binary', but method {method.name!r} has no binary embeddings; leave it out"
        )
    return BinaryEmbedding(vocabulary, width, method.embedding(torch.Size((vocabulary, width))))


def attention(method: Method, structure: Structure, width: int, heads: int, dropout: float) -> Attention:
    if structure.attention == "float" or method.activation is None:
        return Attention(heads, dropout)
    made = method.attention
    if made is None:
        raise UserError(
            f"structure: attention = 'binary', but method {method.name!r} has no binary attention; leave it out"
        )
    operands = (made.operand(width), made.operand(width), made.operand(width))
    return BinaryAttention(heads, dropout, operands, made.probability(heads), made.softmax)


class SelfAttention(nn.Module):
    def __init__(self, method: Method, structure: Structure, width: int, heads: int, dropout: float):
        super().__init__()
        self.query = binary_linear(method, width, width)
        self.key = binary_linear(method, width, width)
        self.value = binary_linear(method, width, width)
        self.products = attention(method, structure, width, heads, dropout)

    def forward(self, x: Tensor, hidden: Tensor | None) -> tuple[Tensor, Products]:
        q, k, v = self.query(x), self.key(x), self.value(x)  # (B, T, C)
        return self.products(q, k, v, hidden), (q, k, v)


class Output(nn.Module):
    """norm(shortcut + dense(x)): x (B, T, I), shortcut (B, T, C). nonnegative: whether x never is negative."""

    def __init__(self, method: Method, inputs: int, width: int, dropout: float, nonnegative: bool = False):
        super().__init__()
        self.dense = binary_linear(method, inputs, width, nonnegative=nonnegative)
        self.LayerNorm = nn.LayerNorm(width, EPSILON)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, shortcut: Tensor) -> Tensor:
        return self.LayerNorm(self.dropout(self.dense(x)) + shortcut)


class AttentionBlock(nn.Module):
    def __init__(self, method: Method, structure: Structure, width: int, heads: int, dropout: float):
        super().__init__()
        self.self = SelfAttention(method, structure, width, heads, dropout)
        self.output = Output(method, width, width, dropout)

    def forward(self, x: Tensor, hidden: Tensor | None) -> tuple[Tensor, Products]:
        y, products = self.self(x, hidden)
        return self.output(y, x), products


class Intermediate(nn.Module):
    """act(dense(x)): (B, T, C) -> (B, T, H)."""

    def __init__(self, method: Method, structure: Structure, width: int, hidden: int):
        super().__init__()
        self.dense = binary_linear(method, width, hidden)
        self.activation = structure.activation(hidden)
        self.of_channels = bool(list(self.activation.parameters()))  # one number per channel, which then is dimension 1

    def forward(self, x: Tensor) -> Tensor:
        y = self.dense(x)
        return self.activation(y.movedim(-1, 1)).movedim(1, -1) if self.of_channels else self.activation(y)


class Layer(nn.Module):
    def __init__(self, method: Method, structure: Structure, width: int, heads: int, hidden: int, dropout: float):
        super().__init__()
        self.attention = AttentionBlock(method, structure, width, heads, dropout)
        self.intermediate = Intermediate(method, structure, width, hidden)
        self.output = Output(method, hidden, width, dropout, structure.nonlinearity == "relu")

    def forward(self, x: Tensor, hidden: Tensor | None) -> tuple[Tensor, Products]:
        y, products = self.attention(x, hidden)
        return self.output(self.intermediate(y), y), products


class Encoder(nn.Module):
    """x (B, T, C) -> (x and the output of each layer, queries, keys and values of each layer)."""

    def __init__(
        self, method: Method, structure: Structure, layers: int, width: int, heads: int, hidden: int, dropout: float
    ):
        super().__init__()
        self.layer = nn.ModuleList(Layer(method, structure, width, heads, hidden, dropout) for _ in range(layers))

    def forward(self, x: Tensor, hidden: Tensor | None) -> tuple[list[Tensor], list[Products]]:
        every, products = [x], []
        for layer in self.layer:
            x, of_layer = layer(x, hidden)
            every.append(x)
            products.append(of_layer)
        return every, products


class Pooler(nn.Module):
    """tanh(dense(x[:, 0])): (B, T, C) -> (B, C). method: None leaves it real."""

    def __init__(self, method: Method | None, width: int):
        super().__init__()
        self.dense = binary_linear(method, width, width)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.dense(x[:, 0]))
