"""A packed network as a model of OpenVINO, whose BinaryConvolution (opset 1) is the only other 1-bit engine on PyPI that
runs a whole network. Nothing else makes such models: NNCF dropped binarization in 2024.

BinaryConvolution takes activations of 0 and 1, for −1 and +1, and weights of one bit; with pad_value 0 a padded tap adds
nothing, as in ours: it computes A·B. AdaBin's y = scale·(A·B + shift·ΣB) + offset·(A·1 + shift·N) + bias takes a second
one with a single output, A·1, and a constant map, since ΣB and N depend on the border. RBNN's sample means it cannot say.
Real layers of weights in 8 bits compute in float, and do not round what they read.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
from openvino import Model, Shape, Tensor, Type, save_model
from openvino import opset14 as ops
from openvino.op import Constant

from onebit import files
from onebit.errors import UserError
from onebit.export import borders
from onebit.runtime import format
from onebit.runtime.binary import CHANNEL
from onebit.runtime.bits import unpack_weight
from onebit.runtime.graph import Node
from onebit.runtime.tensors import Arrays, by_node, float_weight


def write(path: str | os.PathLike[str], out: str | os.PathLike[str], batch: int | None = None) -> dict[str, Any]:
    """Writes the network of a packed file as OpenVINO's files: `out`, which ends in .xml, and the weights beside it in .bin.

    batch    images of a call, 1 if it is None

    Returns {"file", "format", "bytes", "inputs", "outputs"}, the bytes of both files. Raises UserError for another name, as
    `openvino_model` does, and for files that cannot be written.
    """
    xml = Path(out)
    if xml.suffix != ".xml":
        raise UserError(
            f"{out}: OpenVINO reads its weights from the .bin beside the .xml; give a name that ends in .xml"
        )
    weights = xml.with_suffix(".bin")
    files.check_output(weights, [path], "the file of weights")
    files.check_name(xml)
    model = openvino_model(path, batch or 1)
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "model.xml"
        save_model(model, made, compress_to_fp16=False)
        contents = {weights: made.with_suffix(".bin").read_bytes(), xml: made.read_bytes()}
    for place, content in contents.items():
        files.write(place, partial(_fill, content), follow=True)
    return {
        "file": os.fspath(out),
        "format": "openvino",
        "bytes": sum(map(len, contents.values())),
        "inputs": {x.output(0).get_any_name(): _words(x.get_output_shape(0)) for x in model.get_parameters()},
        "outputs": {x.output(0).get_any_name(): _words(x.get_output_shape(0)) for x in model.get_results()},
    }


def _fill(content: bytes, file: IO[bytes]) -> None:
    file.write(content)


def _words(shape: Any) -> str:
    return f"float32 ({', '.join(map(str, shape))})"


def openvino_model(path: str | os.PathLike[str], batch: int) -> Model:
    """The model of a packed file, for normalised images, float32 (batch, C, H, W), of the file's size.

    Raises UserError for a file that cannot be read, for networks of other or several inputs and outputs, and for what OpenVINO
    cannot say: other operators, groups of binary convolutions, thresholds that depend on the image.
    """
    graph, arrays = format.read(path)
    if graph.image is None or len(graph.outputs) != 1:
        raise UserError(f"networks of one image and one output are translated; {graph.takes()}")
    tensors = by_node(arrays)
    image = ops.parameter([batch, *graph.image.shape], np.float32, graph.image.name)
    image.output(0).set_names({graph.image.name})
    values = {graph.image.name: image}
    for node in graph.nodes:
        if node.op not in OPERATORS:
            raise UserError(f"no translation of {node.op}")
        values[node.name] = OPERATORS[node.op](
            node, tensors.get(node.name, {}), *(values[name] for name in node.inputs)
        )
    result = ops.result(values[graph.outputs[0].node], graph.outputs[0].name)
    result.output(0).set_names({graph.outputs[0].name})
    return Model([result], [image], "packed")


def _window(node: Node) -> dict[str, Any]:
    padding = list(node["padding"])
    return {"strides": list(node["stride"]), "pads_begin": padding, "pads_end": padding}


def _channels(x: Any, values: np.ndarray) -> np.ndarray:
    """(C) beside maps (B, C, H, W) or vectors (B, C)."""
    return values.reshape(1, -1, *[1] * (len(x.get_output_shape(0)) - 2))


def _affine(node: Node, arrays: Arrays, x: Any) -> Any:
    scale, bias = arrays["channels"]
    return ops.add(ops.multiply(x, _channels(x, scale)), _channels(x, bias))


def _conv(node: Node, arrays: Arrays, x: Any) -> Any:
    weight = float_weight(arrays["weight"], arrays.get("weight_scale"))  # (O, I/g, KH, KW)
    groups, window = node["groups"], {**_window(node), "dilations": list(node["dilation"])}
    if groups == 1:
        y = ops.convolution(x, weight, **window)
    else:
        y = ops.group_convolution(x, weight.reshape(groups, -1, *weight.shape[1:]), **window)  # (G, O/g, I/g, KH, KW)
    return ops.add(y, _channels(y, arrays["bias"])) if "bias" in arrays else y


def _linear(node: Node, arrays: Arrays, x: Any) -> Any:
    weight = float_weight(arrays["weight"], arrays.get("weight_scale"))  # (O, I)
    y = ops.matmul(x, weight, False, True)
    return ops.add(y, arrays["bias"][None]) if "bias" in arrays else y


def _binary_conv(node: Node, arrays: Arrays, x: Any) -> Any:
    threshold, shift, channels = node["threshold"], node["shift"], arrays["channels"]
    if node["groups"] != 1:
        raise UserError("its BinaryConvolution has no groups")
    if isinstance(threshold, str) and threshold != CHANNEL:
        raise UserError("its activations have constant thresholds")
    level = arrays["threshold"] if threshold == CHANNEL else np.full(1, threshold, np.float32)
    below = _channels(x, np.nextafter(level, np.float32(-np.inf)))  # x > below where x >= level
    bits = ops.fake_quantize(x, below, below, np.float32(0), np.float32(1), 2)
    signs = unpack_weight(arrays["bits"], node["in_channels"], node["kernel"])  # (O, I, KH, KW)
    every = np.ones_like(signs[:1])
    window = {**_window(node), "dilations": list(node["dilation"]), "mode": "xnor-popcount", "pad_value": 0.0}
    y = ops.binary_convolution(bits, _bits(signs), **window)  # A·B
    scale, rest = channels[0][:, None, None], channels[1][:, None, None]  # (O, 1, 1)
    if shift:
        inside = partial(borders.sums, node, x.get_output_shape(0)[2:])  # over the taps inside the image
        rest = rest + scale * (shift * inside(signs))  # (O, OH, OW)
    y = ops.multiply(y, scale[None])
    if len(channels) == 3:
        offset = channels[2][:, None, None]
        rest = rest + offset * (shift * inside(every)) if shift else rest
        y = ops.add(y, ops.multiply(ops.binary_convolution(bits, _bits(every), **window), offset[None]))  # A·1
    return ops.add(y, rest[None].astype(np.float32))


def _bits(signs: np.ndarray) -> Any:
    """The CPU plugin takes the first weight from the lowest bit; a constant made of numbers would put it in the highest."""
    weight = Tensor(Type.u1, Shape(signs.shape))  # of its own memory: one made from an array keeps no reference to it
    weight.data[:] = np.packbits(signs.reshape(-1) > 0, bitorder="little")
    return Constant(weight)


def _rprelu(node: Node, arrays: Arrays, x: Any) -> Any:
    shift_in, slope, shift_out = (_channels(x, row) for row in arrays["channels"])
    return ops.add(ops.prelu(ops.add(x, shift_in), slope.reshape(-1)), shift_out)


def _maxout(node: Node, arrays: Arrays, x: Any) -> Any:
    positive, negative = (_channels(x, row) for row in arrays["channels"])
    return ops.subtract(ops.multiply(ops.relu(x), positive), ops.multiply(ops.relu(ops.negative(x)), negative))


def _pool(node: Node) -> dict[str, Any]:
    rounding = "ceil_torch" if node["ceil_mode"] else "floor"
    return {**_window(node), "kernel_shape": list(node["kernel"]), "rounding_type": rounding}


def _max_pool(node: Node, arrays: Arrays, x: Any) -> Any:
    maximum = ops.max_pool(x, dilations=[1, 1], **_pool(node)).output(0)  # the other output are indices
    return ops.convert(maximum, np.float32)


def _avg_pool(node: Node, arrays: Arrays, x: Any) -> Any:
    return ops.avg_pool(x, exclude_pad=not node["count_include_pad"], **_pool(node))


def _flatten(node: Node, arrays: Arrays, x: Any) -> Any:
    batch = x.get_output_shape(0)[0]
    return ops.reshape(ops.transpose(x, [0, 2, 3, 1]), [batch, -1], False)  # (B, H·W·C), channel fastest


def _option_a(node: Node, arrays: Arrays, x: Any) -> Any:
    stride, (before, after) = node["stride"], node["pad"]
    whole = [1, 1, 1, 1]
    y = ops.strided_slice(x, [0] * 4, [0] * 4, [1, 1, stride, stride], whole, whole)
    return ops.pad(y, [0, before, 0, 0], [0, after, 0, 0], "constant", np.float32(0))


OPERATORS: dict[str, Callable[..., Any]] = {
    "conv": _conv,
    "linear": _linear,
    "binary_conv": _binary_conv,
    "affine": _affine,
    "add": lambda node, arrays, x, y: ops.add(x, y),
    "concat": lambda node, arrays, x, y: ops.concat([x, y], ("channels", "height", "width").index(node["axis"]) + 1),
    "hardtanh": lambda node, arrays, x: ops.clamp(x, -1.0, 1.0),
    "relu": lambda node, arrays, x: ops.relu(x),
    "prelu": lambda node, arrays, x: ops.prelu(x, arrays["slope"]),
    "rprelu": _rprelu,
    "maxout": _maxout,
    "max_pool": _max_pool,
    "avg_pool": _avg_pool,
    "global_avg_pool": lambda node, arrays, x: ops.reduce_mean(x, [2, 3], False),
    "flatten": _flatten,
    "option_a": _option_a,
}
