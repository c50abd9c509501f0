"""The operators of the format: their attributes, their tensors, the shape of their output and what they compute.

The table `OPERATORS` is the only list of operators that the reader, the writer and the reference share: a new one is a row,
whose functions may stand in a file beside this one. Shapes are (H, W, C) for maps and (C,) for vectors, without the batch;
values are float32 (B, H, W, C) and (B, C). Float arithmetic is float32 with one rounding per operation; integer parts are exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from onebit.errors import FormatError
from onebit.runtime import (
    attention,
    binary,
    code_conv,
    convolutions,
    embeddings,
    exponentials,
    normalization,
    pools,
    rearrangements,
    regions,
    transposed_conv,
    upsampling,
    windows,
)
from onebit.runtime.fields import MAX_SIZE, integer, number, pair, positive
from onebit.runtime.graph import Attribute, Graph, Node
from onebit.runtime.inputs import Tokens
from onebit.runtime.tensors import MAX_ELEMENTS, Arrays, Shape, Tensors, map_of


@dataclass(frozen=True)
class Operator:
    """A row of OPERATORS.

    inputs      how many values it reads; if none, it computes (1, ...): the same for every sample
    infer       (node, shapes of the inputs, tensors) -> shape of the output; takes the node's tensors, or raises FormatError
    compute     (node, the node's tensors by what they are, *values of the inputs) -> value; binary ones (int32 A·B, value)
    attributes  by name
    tokens      which of them are inputs of tokens, int32 (B, T), of shape (T, V): T of V
    more        so many more it may read
    """

    inputs: int
    infer: Callable[[Node, list[Shape], Tensors], Shape]
    compute: Callable[..., np.ndarray | binary.Sums]
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    tokens: tuple[int, ...] = ()
    more: int = 0


def infer_shapes(graph: Graph, tensors: Tensors, sizes: Mapping[str, Shape] | None = None) -> dict[str, Shape]:
    """Shape of every node's output, by name. Raises FormatError for inputs that do not fit.

    sizes    of inputs by name, (H, W, C), (T, 1, 1) or (C,); default those of the file
    """
    shapes: dict[str, Shape] = {}
    for source in graph.inputs:
        shape = (sizes or {}).get(source.name, source.map)
        if source.fixed and shape != source.map:
            raise FormatError("the network takes this size alone")
        if math.prod(shape) > MAX_ELEMENTS:
            raise FormatError(f"the input {source.name!r} of {shape} has more than {MAX_ELEMENTS} values")
        shapes[source.name] = (shape[0], source.count) if isinstance(source, Tokens) else shape
    for node in graph.nodes:
        shape = OPERATORS[node.op].infer(node, [shapes[name] for name in node.inputs], tensors)
        if any(size < 1 for size in shape) or math.prod(shape) > MAX_ELEMENTS:
            raise FormatError(
                f"node {node.name!r} ({node.op}) would have the shape {shape}; the image is too small or big"
            )
        shapes[node.name] = shape
    return {node.name: shapes[node.name] for node in graph.nodes}


def _unchanged(node: Node, inputs: list[Shape], tensors: Tensors) -> Shape:
    return inputs[0]


def _channelwise(what: str, rows: int | None) -> Callable[[Node, list[Shape], Tensors], Shape]:
    """An elementwise operator with one tensor <node>.<what> of shape (rows, C), or (C) if rows is None."""

    def infer(node: Node, inputs: list[Shape], tensors: Tensors) -> Shape:
        channels = inputs[0][-1]
        tensors.expect(node, what, "F32", *([channels] if rows is None else [rows, channels]))
        return inputs[0]

    return infer


def _two_equal(node: Node, inputs: list[Shape], tensors: Tensors) -> Shape:
    if inputs[0] != inputs[1]:
        raise FormatError(f"node {node.name!r} (add) needs two equal shapes, got {inputs[0]} and {inputs[1]}")
    return inputs[0]


def _clip_shape(node: Node, inputs: list[Shape], tensors: Tensors) -> Shape:
    if node["low"] > node["high"]:
        raise FormatError(f"node {node.name!r} (clip) needs low <= high, got {node['low']} and {node['high']}")
    return inputs[0]


def _clip(x: np.ndarray, low: float, high: float) -> np.ndarray:
    """min(max(x, low), high), of values that compare as equal x."""
    x = np.where(x < np.float32(low), np.float32(low), x)
    return np.where(x > np.float32(high), np.float32(high), x)


def _hardsigmoid(x: np.ndarray) -> np.ndarray:
    return _clip(x + np.float32(3), 0, 6) / np.float32(6)


def _in_float64(function: Callable[[np.ndarray], np.ndarray]) -> Operator:
    """An elementwise operator without tensors that is computed in float64 and rounded once."""
    return Operator(1, _unchanged, lambda node, tensors, x: function(x.astype(np.float64)).astype(np.float32))


def _elu(node: Node, tensors: Arrays, x: np.ndarray) -> np.ndarray:
    y: np.ndarray = exponentials.elu(x.astype(np.float64), np.float32(node["alpha"])).astype(np.float32)
    return y


def _prelu(x: np.ndarray, slope: np.ndarray) -> np.ndarray:
    return np.where(x >= 0, x, slope * x)


def _affine(node: Node, tensors: Arrays, x: np.ndarray) -> np.ndarray:
    scale, bias = tensors["channels"]
    return scale * x + bias


def _rprelu(node: Node, tensors: Arrays, x: np.ndarray) -> np.ndarray:
    shift_in, slope, shift_out = tensors["channels"]
    return _prelu(x + shift_in, slope) + shift_out


def _maxout(node: Node, tensors: Arrays, x: np.ndarray) -> np.ndarray:
    positive, negative = tensors["channels"]
    return np.where(x >= 0, positive, negative) * x


def _option_a_shape(node: Node, inputs: list[Shape], tensors: Tensors) -> Shape:
    height, width, channels = map_of(node, inputs[0])
    stride, (before, after) = node["stride"], node["pad"]
    return -(-height // stride), -(-width // stride), before + channels + after


def _option_a(node: Node, tensors: Arrays, x: np.ndarray) -> np.ndarray:
    """Every stride-th pixel, with zero channels before and after (the parameter-free shortcut of ResNet)."""
    stride = node["stride"]
    return np.pad(x[:, ::stride, ::stride], ((0, 0), (0, 0), (0, 0), node["pad"]))


_OPTION_A = {"stride": Attribute(integer(1, MAX_SIZE), 1), "pad": Attribute(pair(0, MAX_SIZE), (0, 0))}

OPERATORS: dict[str, Operator] = {
    "conv": Operator(1, convolutions.conv_shape, convolutions.conv, {**windows.CONV, **code_conv.ACTIVATIONS}),
    "binary_conv": Operator(1, binary.conv_shape, binary.conv, binary.CONVOLUTION),
    "linear": Operator(1, convolutions.linear_shape, convolutions.linear, code_conv.ACTIVATIONS),
    "binary_linear": Operator(1, binary.linear_shape, binary.linear, binary.LINEAR),
    "embedding": Operator(1, embeddings.embedding_shape, embeddings.embedding, tokens=(0,)),
    "binary_embedding": Operator(
        1,
        embeddings.binary_embedding_shape,
        embeddings.binary_embedding,
        embeddings.BINARY_EMBEDDING,
        tokens=(0,),
    ),
    "positions": Operator(1, embeddings.positions_shape, embeddings.positions),
    "affine": Operator(1, _channelwise("channels", 2), _affine),
    "add": Operator(2, _two_equal, lambda node, tensors, x, y: x + y),
    "concat": Operator(2, rearrangements.concat_shape, rearrangements.concat, rearrangements.CONCAT),
    "hardtanh": Operator(1, _unchanged, lambda node, tensors, x: np.clip(x, np.float32(-1), np.float32(1))),
    "relu": Operator(1, _unchanged, lambda node, tensors, x: np.maximum(x, np.float32(0))),
    "prelu": Operator(1, _channelwise("slope", None), lambda node, tensors, x: _prelu(x, tensors["slope"])),
    "rprelu": Operator(1, _channelwise("channels", 3), _rprelu),
    "maxout": Operator(1, _channelwise("channels", 2), _maxout),
    "clip": Operator(
        1,
        _clip_shape,
        lambda node, tensors, x: _clip(x, node["low"], node["high"]),
        {"low": Attribute(number), "high": Attribute(number)},
    ),
    "hardsigmoid": Operator(1, _unchanged, lambda node, tensors, x: _hardsigmoid(x)),
    "hardswish": Operator(1, _unchanged, lambda node, tensors, x: x * _hardsigmoid(x)),
    "sigmoid": _in_float64(exponentials.sigmoid),
    "tanh": _in_float64(exponentials.tanh),
    "silu": _in_float64(exponentials.silu),
    "elu": Operator(1, _unchanged, _elu, {"alpha": Attribute(positive, 1.0)}),
    "gelu": _in_float64(exponentials.gelu),
    "gelu_tanh": _in_float64(exponentials.gelu_tanh),
    "multiply": Operator(2, normalization.multiply_shape, normalization.multiply),
    "layer_norm": Operator(1, normalization.layer_norm_shape, normalization.layer_norm, normalization.LAYER_NORM),
    "group_norm": Operator(1, normalization.group_norm_shape, normalization.group_norm, normalization.GROUP_NORM),
    "l2_norm": Operator(1, normalization.l2_norm_shape, normalization.l2_norm),
    "softmax": Operator(1, _unchanged, lambda node, tensors, x: exponentials.softmax(x)),
    "max_pool": Operator(1, pools.pool_shape, pools.max_pool, pools.MAX_POOL),
    "avg_pool": Operator(1, pools.pool_shape, pools.avg_pool, pools.AVG_POOL),
    "global_avg_pool": Operator(1, lambda node, inputs, tensors: (map_of(node, inputs[0])[2],), pools.global_avg_pool),
    "flatten": Operator(
        1,
        lambda node, inputs, tensors: (math.prod(map_of(node, inputs[0])),),
        lambda node, tensors, x: x.reshape(len(x), -1),  # (B, H·W·C)
    ),
    "constant": Operator(0, rearrangements.constant_shape, rearrangements.constant),
    "slice": Operator(1, rearrangements.slice_shape, rearrangements.sliced, rearrangements.SLICE),
    "channel_shuffle": Operator(1, rearrangements.shuffle_shape, rearrangements.shuffle, rearrangements.SHUFFLE),
    "to_sequence": Operator(1, rearrangements.sequence_shape, rearrangements.sequence, rearrangements.SEQUENCE),
    "pad": Operator(1, rearrangements.pad_shape, rearrangements.pad, rearrangements.PAD),
    "upsample": Operator(1, upsampling.upsample_shape, upsampling.upsample, upsampling.UPSAMPLE),
    "transposed_conv": Operator(
        1, transposed_conv.transposed_conv_shape, transposed_conv.transposed_conv, transposed_conv.TRANSPOSED_CONV
    ),
    "attention": Operator(3, attention.attention_shape, attention.attention, attention.ATTENTION, tokens=(3,), more=1),
    "binary_attention": Operator(
        3,
        attention.binary_attention_shape,
        attention.binary_attention,
        attention.BINARY_ATTENTION,
        tokens=(3,),
        more=1,
    ),
    "proposals": Operator(2, regions.proposals_shape, regions.proposals, regions.PROPOSALS),
    "roi_align": Operator(2, regions.roi_align_shape, regions.roi_align, regions.ROI_ALIGN),
    "option_a": Operator(1, _option_a_shape, _option_a, _OPTION_A),
}
