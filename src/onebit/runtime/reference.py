"""The oracle: every operator as plain numpy, for reading, never for speed.

Float arithmetic is float32 with one rounding per operation; convolutions and linear layers start at the bias and take
their products in the order (kh, kw, channel) by fused multiply-add, one rounding each. The engine does the same, so
both give the same bits. Integer parts are exact. Maps are (B, H, W, C),
vectors (B, C).

The binary convolution. With A = sign(x − τ) and B the weight signs, both ±1, a padded tap contributes 0, so
  1. every sum below runs over the valid taps of the window, the ones that lie inside the image;
  2. conv(A, B + shift)  = A·B + shift·A·1, where shift is the activation's offset relative to its scale: for
     activations s·(A + shift), conv(s·(A + shift), B) = s·(A·B + shift·ΣB);
  3. a weight offset adds offset·conv(A + shift, 1) = offset·(A·1 + shift·N), N = number of valid products;
  4. together  y = scale·(A·B + shift·ΣB) + offset·(A·1 + shift·N) + bias,
     evaluated as (scale·u + offset·v) + bias with u, v rounded to float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from onebit.errors import UserError
from onebit.runtime.bits import unpack, unpack_weight
from onebit.runtime.byte_conv import ByteConv, byte_conv
from onebit.runtime.graph import INPUT, Graph, Node
from onebit.runtime.operators import CHANNEL, SAMPLE_MEAN, float_weight, pool_size, tensors_of, window_size

Pair = tuple[int, int]


class Reference:
    """Runs a checked graph: the methods of `model.Backend`."""

    isa = "reference"
    threads = 1

    def __init__(self, graph: Graph, tensors: dict[str, np.ndarray]) -> None:
        self._graph = graph
        self._tensors = tensors

    def run(self, images: np.ndarray) -> np.ndarray:
        return self.trace(normalized(images))[self._graph.output]

    def run_bytes(self, images: np.ndarray, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
        return self._values(normalized(images, mean, std), images)[self._graph.output]

    def trace(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Output of every node, and "<node>:accumulator" (int32) of every binary node."""
        return self._values(images, None)

    def _values(self, images: np.ndarray, image_bytes: np.ndarray | None) -> dict[str, np.ndarray]:
        values = {INPUT: images}
        for node in self._graph.nodes:
            tensors = tensors_of(node, self._tensors)
            inputs = [values[name] for name in node.inputs]
            form = None if image_bytes is None else byte_conv(node, tensors, self._graph)
            if form is not None and image_bytes is not None:
                values[node.name] = conv_of_bytes(node, form, image_bytes)
            elif node.op in ("binary_conv", "binary_linear"):
                accumulator, values[node.name] = BINARY[node.op](node, tensors, *inputs)
                values[f"{node.name}:accumulator"] = accumulator
            else:
                values[node.name] = FLOAT[node.op](node, tensors, *inputs)
        del values[INPUT]
        return values


def normalized(images: np.ndarray, mean: np.ndarray | float = 0.0, std: np.ndarray | float = 1.0) -> np.ndarray:
    """float32 (B, H, W, C) from uint8 (B, H, W, C), or from float32 (B, C, H, W), which is normalised already."""
    if images.dtype == np.uint8:
        return (images.astype(np.float32) / np.float32(255) - mean) / std
    x = np.ascontiguousarray(images.transpose(0, 2, 3, 1))  # (B, H, W, C)
    if not np.isfinite(x).all():
        raise UserError("images contain NaN or infinity; check how they were normalised")
    return x


def _taps(
    x: np.ndarray, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair, out: Pair, fill: float
) -> Iterator[tuple[int, int, np.ndarray]]:
    """For each tap (kh, kw) the pixel it sees at every output position: (B, OH, OW, C)."""
    (ph, pw), (sh, sw) = padding, stride
    # Windows of a pooling in ceil mode may reach past the padding, by less than a stride.
    padded = np.pad(x, ((0, 0), (ph, ph + sh), (pw, pw + sw), (0, 0)), constant_values=fill)
    for kh in range(kernel[0]):
        for kw in range(kernel[1]):
            top, left = kh * dilation[0], kw * dilation[1]
            yield kh, kw, padded[:, top : top + sh * out[0] : sh, left : left + sw * out[1] : sw][:, : out[0], : out[1]]


def _conv_taps(node: Node, x: np.ndarray, kernel: Pair) -> Iterator[tuple[int, int, np.ndarray]]:
    stride, padding, dilation = node["stride"], node["padding"], node["dilation"]
    rows, columns = (window_size(x.shape[1 + i], kernel[i], stride[i], padding[i], dilation[i]) for i in (0, 1))
    return _taps(x, kernel, stride, padding, dilation, (rows, columns), 0)


def fma(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """a·b + c in float32, rounded once.

    A product of two float32 is exact in float64, but its sum with c may be rounded to float64 and then to float32, which
    differs where the first rounding ends half-way between two float32. Rounding the float64 sum to odd avoids that
    (Boldo and Melquiond 2008): where it is inexact and its last bit is 0, it takes the neighbour on the error's side.
    """
    product, addend = np.multiply(a, b, dtype=np.float64), c.astype(np.float64)
    total = product + addend
    back = total - product
    error = (product - (total - back)) + (addend - back)  # exact (Knuth's TwoSum)
    even = (total.view(np.int64) & 1) == 0
    odd = np.nextafter(total, np.where(error > 0, np.inf, -np.inf))
    return np.where((error != 0) & even, odd, total).astype(np.float32)


def conv(node: Node, tensors: dict[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    """y[o] = Σ_{kh, kw, c} x·w[o] (+ bias[o]) with zero padding; (B, H, W, I) -> (B, OH, OW, O)."""
    weight = float_weight(tensors["weight"], tensors.get("weight_scale"))  # (O, I/g, KH, KW)
    out, group_channels, *kernel = weight.shape
    groups = node["groups"]
    weight = weight.reshape(groups, out // groups, group_channels, *kernel)  # (G, O/g, I/g, KH, KW)
    y: np.ndarray = tensors.get("bias", np.zeros(out, np.float32)).reshape(groups, -1)  # (G, O/g)
    for kh, kw, pixel in _conv_taps(node, x, tuple(kernel)):
        pixel = pixel.reshape(*pixel.shape[:3], groups, group_channels)  # (B, OH, OW, G, I/g)
        for c in range(group_channels):
            y = fma(pixel[..., c, None], weight[:, :, c, kh, kw], y)  # (B, OH, OW, G, O/g)
    return y.reshape(*y.shape[:3], out)  # (B, OH, OW, O)


def conv_of_bytes(node: Node, form: ByteConv, x: np.ndarray) -> np.ndarray:
    """The formula of `byte_conv`; uint8 (B, H, W, I) -> float32 (B, OH, OW, O)."""
    out, channels, *kernel = form.weight.shape
    sums: np.ndarray = np.zeros((channels, out), np.int64)
    inside: np.ndarray = sums
    taps = _conv_taps(node, x.astype(np.int64), tuple(kernel))
    valid = _conv_taps(node, np.ones(x[:1].shape, np.int64), tuple(kernel))
    for (kh, kw, pixel), (_, _, one) in zip(taps, valid):
        weight = form.weight[:, :, kh, kw].T.astype(np.int64)  # (I, O)
        sums = sums + pixel[..., None] * weight  # (B, OH, OW, I, O)
        inside = inside + one[..., None] * weight  # (1, OH, OW, I, O)
    base = form.bias
    for c in range(channels):
        base = base - form.b[c] * inside[..., c, :].astype(np.float64)  # (1, OH, OW, O)
    y: np.ndarray = base.astype(np.float32)
    for c in range(channels):
        y = fma(form.a[c], sums[..., c, :].astype(np.float32), y)  # (B, OH, OW, O)
    return y


def linear(node: Node, tensors: dict[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    """y[o] = Σ_i x[i]·w[o, i] (+ bias[o]); (B, I) -> (B, O)."""
    weight = float_weight(tensors["weight"], tensors.get("weight_scale"))  # (O, I)
    y: np.ndarray = tensors.get("bias", np.zeros(len(weight), np.float32))
    for i in range(weight.shape[1]):
        y = fma(x[:, i, None], weight[:, i], y)  # (B, O)
    return y


def sample_mean(x: np.ndarray) -> np.ndarray:
    """Mean of each sample in double, rounded to float32: per channel over the pixels in order, then over channels."""
    flat = x.reshape(len(x), -1, x.shape[-1]).astype(np.float64)  # (B, H·W, C)
    per_channel = np.cumsum(flat, axis=1)[:, -1]  # (B, C); cumsum fixes the order of the additions
    mean = np.cumsum(per_channel, axis=1)[:, -1] / (flat.shape[1] * flat.shape[2])  # (B)
    return mean.astype(np.float32).reshape(-1, *[1] * (x.ndim - 1))


def _signs(node: Node, tensors: dict[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    """A = +1 where x >= threshold, else −1, as float64 (sums of it are exact)."""
    threshold = node["threshold"]
    if threshold == SAMPLE_MEAN:
        level = sample_mean(x)
    elif threshold == CHANNEL:
        level = tensors["threshold"]  # (C)
    else:
        level = np.array(threshold, np.float32)
    return np.where(x >= level, 1.0, -1.0)


def _binary_output(
    node: Node, tensors: dict[str, np.ndarray], ab: np.ndarray, a1: np.ndarray, sum_b: np.ndarray, n: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Step 4 above: accumulators A·B (…, O), A·1 (…, O), ΣB (…, O) and N (…, 1) -> (int32 A·B, y)."""
    channels, shift = tensors["channels"], node["shift"]  # (2 or 3, O)
    u = ab.astype(np.float32) + (shift * sum_b).astype(np.float32)
    y = channels[0] * u
    if len(channels) == 3:
        y = y + channels[2] * (a1.astype(np.float32) + (shift * n).astype(np.float32))
    return ab.astype(np.int32), y + channels[1]


def binary_conv(node: Node, tensors: dict[str, np.ndarray], x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(B, H, W, I) -> int32 accumulators and float32 outputs, both (B, OH, OW, O)."""
    groups, kernel = node["groups"], node["kernel"]
    group_channels = x.shape[-1] // groups
    signs = unpack_weight(tensors["bits"], group_channels, kernel).astype(np.float64)  # (O, I/g, KH, KW)
    out = len(signs)
    signs = signs.reshape(groups, out // groups, group_channels, *kernel)  # (G, O/g, I/g, KH, KW)
    ab = a1 = sum_b = n = np.zeros(1)
    activations = _signs(node, tensors, x)
    inside = _conv_taps(node, np.ones_like(activations), kernel)  # 1 for a valid tap, 0 for a padded one
    for (kh, kw, a), (_, _, valid) in zip(_conv_taps(node, activations, kernel), inside):
        a = a.reshape(*a.shape[:3], groups, group_channels)  # (B, OH, OW, G, I/g)
        b = signs[:, :, :, kh, kw]  # (G, O/g, I/g)
        ab = ab + np.einsum("bhwgi,goi->bhwgo", a, b)
        a1 = a1 + a.sum(axis=-1, keepdims=True)  # (B, OH, OW, G, 1)
        sum_b = sum_b + valid[..., :1, None] * b.sum(axis=-1)  # (B, OH, OW, G, O/g)
        n = n + valid[..., :1] * group_channels  # (B, OH, OW, 1)
    whole = ab.shape
    flat = (*whole[:3], out)
    a1 = np.broadcast_to(a1, whole)
    return _binary_output(node, tensors, ab.reshape(flat), a1.reshape(flat), sum_b.reshape(flat), n)


def binary_linear(node: Node, tensors: dict[str, np.ndarray], x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(B, I) -> int32 accumulators and float32 outputs, both (B, O)."""
    signs = unpack(tensors["bits"], x.shape[1]).astype(np.float64)  # (O, I)
    a = _signs(node, tensors, x)
    n = np.full((1, 1), float(x.shape[1]))
    return _binary_output(node, tensors, a @ signs.T, a.sum(axis=1, keepdims=True), signs.sum(axis=1), n)


def affine(node: Node, tensors: dict[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    """y = scale·x + bias."""
    scale, bias = tensors["channels"]
    return scale * x + bias


def _prelu(x: np.ndarray, slope: np.ndarray) -> np.ndarray:
    return np.where(x >= 0, x, slope * x)


def rprelu(node: Node, tensors: dict[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    """y = prelu(x + shift_in, slope) + shift_out."""
    shift_in, slope, shift_out = tensors["channels"]
    return _prelu(x + shift_in, slope) + shift_out


def maxout(node: Node, tensors: dict[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    """y = positive·max(x, 0) + negative·min(x, 0)."""
    positive, negative = tensors["channels"]
    return np.where(x >= 0, positive, negative) * x


def _pool_out(node: Node, x: np.ndarray) -> Pair:
    kernel, stride, padding = node["kernel"], node["stride"], node["padding"]
    rows, columns = (pool_size(x.shape[1 + i], kernel[i], stride[i], padding[i], node["ceil_mode"]) for i in (0, 1))
    return rows, columns


def _pool_taps(node: Node, x: np.ndarray, fill: float) -> Iterator[tuple[int, int, np.ndarray]]:
    return _taps(x, node["kernel"], node["stride"], node["padding"], (1, 1), _pool_out(node, x), fill)


def max_pool(node: Node, tensors: dict[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    """Maximum over the pixels of the window that lie inside the image."""
    y: np.ndarray = np.full(1, -np.inf, np.float32)
    for _, _, pixel in _pool_taps(node, x, -np.inf):
        y = np.maximum(y, pixel)
    return y


def avg_pool(node: Node, tensors: dict[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    """Sum over the window / number of its pixels: inside the image, or inside image and padding (count_include_pad)."""
    total = count = np.zeros(1, np.float32)
    counted = np.ones_like(x[:1, :, :, :1])
    padding = node["padding"]
    if node["count_include_pad"]:
        counted = np.pad(counted, ((0, 0), (padding[0],) * 2, (padding[1],) * 2, (0, 0)), constant_values=1)
        padding = (0, 0)
    counts = _taps(counted, node["kernel"], node["stride"], padding, (1, 1), _pool_out(node, x), 0)
    for (_, _, pixel), (_, _, one) in zip(_pool_taps(node, x, 0), counts):
        total = total + pixel
        count = count + one
    return total / count


def global_avg_pool(node: Node, tensors: dict[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    """Mean over the pixels, in double: (B, H, W, C) -> (B, C)."""
    flat = x.reshape(len(x), -1, x.shape[-1]).astype(np.float64)  # (B, H·W, C)
    return (np.cumsum(flat, axis=1)[:, -1] / flat.shape[1]).astype(np.float32)


def option_a(node: Node, tensors: dict[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    """Every stride-th pixel, with zero channels before and after (the parameter-free shortcut of ResNet)."""
    stride = node["stride"]
    return np.pad(x[:, ::stride, ::stride], ((0, 0), (0, 0), (0, 0), node["pad"]))


BINARY: dict[str, Callable[..., tuple[np.ndarray, np.ndarray]]] = {
    "binary_conv": binary_conv,
    "binary_linear": binary_linear,
}
FLOAT: dict[str, Callable[..., np.ndarray]] = {
    "conv": conv,
    "linear": linear,
    "affine": affine,
    "add": lambda node, tensors, x, y: x + y,
    "hardtanh": lambda node, tensors, x: np.clip(x, np.float32(-1), np.float32(1)),
    "relu": lambda node, tensors, x: np.maximum(x, np.float32(0)),
    "prelu": lambda node, tensors, x: _prelu(x, tensors["slope"]),
    "rprelu": rprelu,
    "maxout": maxout,
    "max_pool": max_pool,
    "avg_pool": avg_pool,
    "global_avg_pool": global_avg_pool,
    "flatten": lambda node, tensors, x: x.reshape(len(x), -1),  # (B, H·W·C)
    "option_a": option_a,
}
