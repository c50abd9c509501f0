"""Functions and methods of tensors, as a user's forward calls them, that the format has an operator for, by their plain name.

A function whose arguments change what it computes is compared with the operator; what differs is refused with the layer or
the arguments to use instead.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch import fx

from onebit.packing import channels, embeddings, fold, pooling, products, views
from onebit.packing.arithmetic import ARITHMETIC, clip
from onebit.packing.attention import ATTENTION
from onebit.packing.channels import constant
from onebit.packing.lowering import Lowering
from onebit.packing.masks import MASKS

Function = Callable[[Lowering, fx.Node], None]


def _arguments(lowering: Lowering, node: fx.Node, **defaults: Any) -> list[Any]:
    """The arguments after the tensor that a call gives by position or by name, else the defaults."""
    given = dict(zip(defaults, node.args[1:], strict=False)) | {k: v for k, v in node.kwargs.items() if k in defaults}
    return [given.get(name, value) for name, value in defaults.items()]


def _plain(op: str) -> Function:
    return lambda lowering, node: _emitted(lowering, node, op)


def _emitted(lowering: Lowering, node: fx.Node, op: str, **attributes: Any) -> None:
    lowering.emit(node, op, attributes=attributes)


def _same(lowering: Lowering, node: fx.Node) -> None:
    lowering.skip(node)


def _whole(lowering: Lowering, node: fx.Node) -> None:
    """Tokens are whole numbers already."""
    if getattr(lowering.any(node), "name", "") not in lowering.tokens:
        raise lowering.refuse(node, "of anything but tokens has no operator in the format")
    lowering.skip(node)


def _dropout(lowering: Lowering, node: fx.Node) -> None:
    if _arguments(lowering, node, p=0.5, training=True)[1]:
        raise lowering.refuse(node, "stays random in evaluation; use nn.Dropout, or give training=self.training")
    lowering.skip(node)


# ---- nonlinearities


def _clamp(lowering: Lowering, node: fx.Node) -> None:
    clip(lowering, node, *_arguments(lowering, node, min=None, max=None))


def _clamp_min(lowering: Lowering, node: fx.Node) -> None:
    clip(lowering, node, _arguments(lowering, node, min=None)[0], None)


def _clamp_max(lowering: Lowering, node: fx.Node) -> None:
    clip(lowering, node, None, _arguments(lowering, node, max=None)[0])


def _hardtanh(lowering: Lowering, node: fx.Node) -> None:
    clip(lowering, node, *_arguments(lowering, node, min_val=-1.0, max_val=1.0)[:2])


def _relu6(lowering: Lowering, node: fx.Node) -> None:
    clip(lowering, node, 0.0, 6.0)


def _elu(lowering: Lowering, node: fx.Node) -> None:
    _emitted(lowering, node, "elu", alpha=float(_arguments(lowering, node, alpha=1.0)[0]))


def _gelu(lowering: Lowering, node: fx.Node) -> None:
    (approximate,) = _arguments(lowering, node, approximate="none")
    _emitted(lowering, node, "gelu_tanh" if approximate == "tanh" else "gelu")


def _leaky_relu(lowering: Lowering, node: fx.Node) -> None:
    slope = torch.tensor([float(_arguments(lowering, node, negative_slope=0.01)[0])])
    channels.per_channel(lowering, node, "prelu", "slope", [slope])


def _prelu(lowering: Lowering, node: fx.Node) -> None:
    weight = constant(lowering, node, lowering.argument(node, 1, "weight"))
    assert weight is not None
    channels.per_channel(lowering, node, "prelu", "slope", [weight])


def _softmax(lowering: Lowering, node: fx.Node) -> None:
    channels.softmax(lowering, node, _arguments(lowering, node, dim=None)[0])


# ---- products and norms, whose weights are constants


def _weights(lowering: Lowering, node: fx.Node, *names: str) -> list[Any]:
    return [constant(lowering, node, value) for value in _arguments(lowering, node, **dict.fromkeys(names))]


def _conv2d(lowering: Lowering, node: fx.Node) -> None:
    weight, bias = _weights(lowering, node, "weight", "bias")
    names = ("weight", "bias", "stride", "padding", "dilation", "groups")
    values = _arguments(lowering, node, **dict(zip(names, (None, None, 1, 0, 1, 1))))
    geometry = SimpleNamespace(**dict(zip(names[2:], values[2:])), padding_mode="zeros")
    products.conv(lowering, node, geometry, weight, bias)


def _conv_transpose2d(lowering: Lowering, node: fx.Node) -> None:
    weight, bias = _weights(lowering, node, "weight", "bias")
    names = ("weight", "bias", "stride", "padding", "output_padding", "groups", "dilation")
    values = _arguments(lowering, node, **dict(zip(names, (None, None, 1, 0, 0, 1, 1))))
    products.transposed_conv(lowering, node, SimpleNamespace(**dict(zip(names[2:], values[2:]))), weight, bias)


def _linear(lowering: Lowering, node: fx.Node) -> None:
    products.linear(lowering, node, *_weights(lowering, node, "weight", "bias"))


def _embedding(lowering: Lowering, node: fx.Node) -> None:
    weight = constant(lowering, node, lowering.argument(node, 1, "weight"))
    assert weight is not None
    embeddings.embedding(
        lowering, node, weight, _arguments(lowering, node, weight=None, padding_idx=None, max_norm=None)[2]
    )


def _batch_norm(lowering: Lowering, node: fx.Node) -> None:
    names = ("running_mean", "running_var", "weight", "bias")
    defaults = dict.fromkeys(names) | {"training": False, "momentum": 0.1, "eps": 1e-5}
    *weights, training, _, eps = _arguments(lowering, node, **defaults)
    if training:
        raise lowering.refuse(
            node, "takes the statistics of a batch, which differ from call to call; use nn.BatchNorm2d"
        )
    mean, variance, weight, bias = (constant(lowering, node, value) for value in weights)
    channels.batch_norm(lowering, node, fold.normalization(mean, variance, weight, bias, eps))


def _layer_norm(lowering: Lowering, node: fx.Node) -> None:
    shape, weight, bias, eps = _arguments(lowering, node, normalized_shape=None, weight=None, bias=None, eps=1e-5)
    weight, bias = constant(lowering, node, weight), constant(lowering, node, bias)
    channels.layer_norm(lowering, node, tuple(shape), weight, bias, eps)


def _group_norm(lowering: Lowering, node: fx.Node) -> None:
    groups, weight, bias, eps = _arguments(lowering, node, num_groups=1, weight=None, bias=None, eps=1e-5)
    channels.group_norm(lowering, node, groups, constant(lowering, node, weight), constant(lowering, node, bias), eps)


def _instance_norm(lowering: Lowering, node: fx.Node) -> None:
    names = ("running_mean", "running_var", "weight", "bias", "use_input_stats", "momentum", "eps")
    values = _arguments(lowering, node, **dict(zip(names, (None, None, None, None, True, 0.1, 1e-5))))
    mean, variance, weight, bias = (constant(lowering, node, value) for value in values[:4])
    if values[4]:
        channels.group_norm(lowering, node, lowering.shape(node)[1], weight, bias, values[6])
    else:
        channels.batch_norm(lowering, node, fold.normalization(mean, variance, weight, bias, values[6]))


# ---- pools and sizes


def _pool(op: str, **defaults: Any) -> Function:
    defaults = {"kernel_size": None, "stride": None, "padding": 0, **defaults}

    def lower(lowering: Lowering, node: fx.Node) -> None:
        values = _arguments(lowering, node, **defaults)
        pooling.pool(lowering, node, op, SimpleNamespace(**dict(zip(defaults, values, strict=True))))

    return lower


def _adaptive(op: str) -> Function:
    return lambda lowering, node: pooling.adaptive(lowering, node, op)


def _axes(given: Any, rank: int) -> list[int]:
    return list(range(rank)) if given is None else list(given) if isinstance(given, tuple | list) else [given]


def _mean(lowering: Lowering, node: fx.Node) -> None:
    dims, keep, kind = _arguments(lowering, node, dim=None, keepdim=False, dtype=None)
    if kind is not None:
        raise lowering.refuse(node, f"with dtype = {kind} has no operator in the format")
    channels.mean(lowering, node, _axes(dims, len(lowering.shape(node.args[0]))), bool(keep))


def _amax(lowering: Lowering, node: fx.Node) -> None:
    dims, keep = _arguments(lowering, node, dim=None, keepdim=False)
    pooling.largest(lowering, node, _axes(dims, 4), bool(keep))


def _interpolate(lowering: Lowering, node: fx.Node) -> None:
    names = ("size", "scale_factor", "mode", "align_corners")
    _, _, mode, corners = _arguments(lowering, node, **dict(zip(names, (None, None, "nearest", None))))
    pooling.interpolate(lowering, node, mode, corners)


def _pad(lowering: Lowering, node: fx.Node) -> None:
    """Channels of zeros before and after those of a map, and pixels around it."""
    pad, mode, value = _arguments(lowering, node, pad=(), mode="constant", value=None)
    widths = [*pad, *[0] * (8 - len(pad))]  # of the last axis first
    left, right, top, bottom, before, after = widths[:6]
    pixels = [top, bottom, left, right]
    mode = "zeros" if mode == "constant" else mode
    shape = lowering.shape(node)
    if (
        len(shape) != 4
        or (mode == "zeros" and value)
        or any(widths[6:])
        or min(widths) < 0
        or (before + after and any(pixels))
    ):
        raise lowering.refuse(
            node,
            f"by {pad} has no operator in the format, which pads channels of maps with zeros, or pixels; pad one after the other",
        )
    if any(pixels):
        lowering.emit_map(node, "pad", lowering.map(node), attributes={"pixels": pixels, "mode": mode})
    else:
        lowering.emit_map(node, "option_a", lowering.map(node), attributes={"stride": 1, "pad": [before, after]})


def _shuffle(lowering: Lowering, node: fx.Node) -> None:
    lowering.emit(
        node, "channel_shuffle", lowering.map(node), attributes={"groups": _arguments(lowering, node, groups=1)[0]}
    )


FUNCTIONS: dict[str, Function] = {
    **ARITHMETIC,
    **ATTENTION,
    **MASKS,
    **{name: _plain(name) for name in ("relu", "sigmoid", "tanh", "silu", "hardswish", "hardsigmoid")},
    **{name: _clamp for name in ("clamp", "clip")},
    "clamp_min": _clamp_min,
    "clamp_max": _clamp_max,
    "hardtanh": _hardtanh,
    "relu6": _relu6,
    "elu": _elu,
    "gelu": _gelu,
    "leaky_relu": _leaky_relu,
    "prelu": _prelu,
    "softmax": _softmax,
    **{
        name: _same
        for name in (
            "contiguous",
            "detach",
            "clone",
            "data",
            "cpu",
            "alias",
        )
    },
    **{name: _whole for name in ("long", "int")},
    **{name: _dropout for name in ("dropout", "dropout1d", "dropout2d", "alpha_dropout", "feature_dropout")},
    "conv2d": _conv2d,
    "conv_transpose2d": _conv_transpose2d,
    "linear": _linear,
    "embedding": _embedding,
    "batch_norm": _batch_norm,
    "layer_norm": _layer_norm,
    "group_norm": _group_norm,
    "instance_norm": _instance_norm,
    "max_pool2d": _pool("max_pool", dilation=1, ceil_mode=False),
    "avg_pool2d": _pool("avg_pool", ceil_mode=False, count_include_pad=True, divisor_override=None),
    "adaptive_avg_pool2d": _adaptive("avg_pool"),
    "adaptive_max_pool2d": _adaptive("max_pool"),
    "mean": _mean,
    "amax": _amax,
    **{name: _interpolate for name in ("interpolate", "upsample")},
    "pad": _pad,
    "channel_shuffle": _shuffle,
    **{
        name: views.reshape
        for name in ("reshape", "view", "flatten", "unflatten", "squeeze", "unsqueeze", "view_as", "reshape_as")
    },
    **{name: views.transpose for name in ("transpose", "swapaxes", "swapdims")},
    **{name: views.last_two for name in ("T", "mT", "t")},
    **{name: views.movedim for name in ("movedim", "moveaxis")},
    "permute": views.permute,
    **{name: views.expand for name in ("expand", "expand_as", "broadcast_to")},
    **{name: views.cat for name in ("cat", "concat", "concatenate")},
    **{name: views.split for name in ("chunk", "split", "split_with_sizes", "tensor_split", "unbind")},
    "part": views.part,
    "getitem": views.getitem,
    "narrow": views.narrow,
    "select": views.select,
}
