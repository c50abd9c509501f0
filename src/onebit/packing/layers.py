"""Layers of a model that are one call each, with what lowers them: a row of MODULES. Other layers of torch.nn are the calls of
functions that they make."""

from __future__ import annotations

from collections.abc import Callable

from torch import fx, nn

from onebit.errors import UserError
from onebit.nn.attention import Attention, BinaryAttention
from onebit.nn.embedding import BinaryEmbedding
from onebit.nn.l2_norm import L2Norm
from onebit.nn.layers import BinaryConv2d, BinaryLinear, OptionA
from onebit.nn.nonlinearities import Hardtanh, Maxout, RPReLU
from onebit.nn.proposals import Proposals
from onebit.nn.roi_align import RoIAlign
from onebit.packing import channels, embeddings, fold, pooling, products, regions, views
from onebit.packing.arithmetic import clip
from onebit.packing.attention import binary_attention, multihead, real_attention
from onebit.packing.lowering import Lowering, same


def _conv(lowering: Lowering, node: fx.Node, name: str, layer: nn.Conv2d) -> None:
    products.conv(lowering, node, layer, layer.weight, layer.bias)


def _transposed(lowering: Lowering, node: fx.Node, name: str, layer: nn.ConvTranspose2d) -> None:
    products.transposed_conv(lowering, node, layer, layer.weight, layer.bias)


def _linear(lowering: Lowering, node: fx.Node, name: str, layer: nn.Linear) -> None:
    products.linear(lowering, node, layer.weight, layer.bias)


def _embedding(lowering: Lowering, node: fx.Node, name: str, layer: nn.Embedding) -> None:
    embeddings.embedding(lowering, node, layer.weight, layer.max_norm)


def _batch_norm(lowering: Lowering, node: fx.Node, name: str, layer: nn.BatchNorm2d) -> None:
    channels.batch_norm(lowering, node, fold.batch_norm(layer))


def _layer_norm(lowering: Lowering, node: fx.Node, name: str, layer: nn.LayerNorm) -> None:
    channels.layer_norm(lowering, node, tuple(layer.normalized_shape), layer.weight, layer.bias, layer.eps)


def _group_norm(lowering: Lowering, node: fx.Node, name: str, layer: nn.GroupNorm) -> None:
    channels.group_norm(lowering, node, layer.num_groups, layer.weight, layer.bias, layer.eps)


def _l2_norm(lowering: Lowering, node: fx.Node, name: str, layer: L2Norm) -> None:
    channels.l2_norm(lowering, node, layer.weight)


def _hardtanh(lowering: Lowering, node: fx.Node, name: str, layer: nn.Hardtanh) -> None:
    clip(lowering, node, layer.min_val, layer.max_val)


def _per_channel(op: str, tensor: str, *parameters: str) -> Callable[..., None]:
    return lambda lowering, node, name, layer: channels.per_channel(
        lowering, node, op, tensor, [getattr(layer, parameter) for parameter in parameters]
    )


def _plain(op: str) -> Callable[..., None]:
    return lambda lowering, node, name, layer: lowering.emit(node, op)


def _pool(op: str) -> Callable[..., None]:
    return lambda lowering, node, name, layer: pooling.pool(lowering, node, op, layer)


def _adaptive(op: str) -> Callable[..., None]:
    return lambda lowering, node, name, layer: pooling.adaptive(lowering, node, op)


def _option_a(lowering: Lowering, node: fx.Node, name: str, layer: OptionA) -> None:
    attributes = {"stride": layer.stride, "pad": [layer.before, layer.after]}
    lowering.emit_map(node, "option_a", lowering.map(node), attributes=attributes)


def _flatten(lowering: Lowering, node: fx.Node, name: str, layer: nn.Flatten) -> None:
    views.reshape(lowering, node)


MODULES: dict[type[nn.Module], Callable[..., None]] = {
    Attention: real_attention,
    BinaryAttention: binary_attention,
    BinaryConv2d: products.binary,
    BinaryEmbedding: embeddings.binary,
    BinaryLinear: products.binary,
    L2Norm: _l2_norm,
    Maxout: _per_channel("maxout", "channels", "positive", "negative"),
    OptionA: _option_a,
    Proposals: regions.proposals,
    RoIAlign: regions.roi_align,
    RPReLU: _per_channel("rprelu", "channels", "shift_in", "slope", "shift_out"),
    nn.AdaptiveAvgPool2d: _adaptive("avg_pool"),
    nn.AdaptiveMaxPool2d: _adaptive("max_pool"),
    nn.AvgPool2d: _pool("avg_pool"),
    nn.BatchNorm1d: _batch_norm,
    nn.BatchNorm2d: _batch_norm,
    nn.Conv2d: _conv,
    nn.ConvTranspose2d: _transposed,
    nn.Dropout: same,
    nn.Dropout1d: same,
    nn.Dropout2d: same,
    nn.Embedding: _embedding,
    nn.Flatten: _flatten,
    nn.GroupNorm: _group_norm,
    nn.Hardtanh: _hardtanh,
    Hardtanh: lambda lowering, node, name, layer: lowering.emit(node, "hardtanh"),
    nn.Identity: same,
    nn.LayerNorm: _layer_norm,
    nn.Linear: _linear,
    nn.MaxPool2d: _pool("max_pool"),
    nn.MultiheadAttention: multihead,
    nn.PReLU: _per_channel("prelu", "slope", "weight"),
    nn.ReLU: _plain("relu"),
    nn.SyncBatchNorm: _batch_norm,
}
BINARY = BinaryConv2d | BinaryLinear | BinaryEmbedding | BinaryAttention
INNER = ("forward", "_conv_forward")  # what a layer computes with


def converter(layer: nn.Module) -> Callable[..., None] | None:
    """What lowers the layer: the row of its class, or of the class whose computation it has taken over unchanged."""
    for base in type(layer).__mro__:
        if base in MODULES and all(getattr(type(layer), name, None) is getattr(base, name, None) for name in INNER):
            return MODULES[base]
    return None


def known(layer: nn.Module, path: str) -> bool:
    """Whether the layer is one call. Raises UserError for a binary layer that computes something else than its class."""
    replaced = "forward" in vars(layer)
    if isinstance(layer, BINARY) and (replaced or converter(layer) is None):
        why = (
            "its forward was replaced"
            if replaced
            else f"its class {type(layer).__name__} changes what its base computes"
        )
        raise UserError(f"layer {path}: {why}, which no file holds; write it into the model's forward")
    return converter(layer) is not None and not replaced
