"""A packed network as a model of ONNX: standard operators alone (opset 18), or those of QONNX for signs.

Values are maps (B, C, H, W), vectors (B, C) and sequences of tokens (B, C, T, 1), with any B and the file's own C, H, W and T.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto, ValueInfoProto, checker, helper

from onebit import __version__, files
from onebit.errors import UserError
from onebit.export.onnx.binary import BINARY
from onebit.export.onnx.drawing import QONNX, Drawing, Value
from onebit.export.onnx.elementwise import ELEMENTWISE
from onebit.export.onnx.layers import LAYERS
from onebit.export.onnx.maps import MAPS
from onebit.export.onnx.regions import REGIONS
from onebit.export.onnx.sequences import SEQUENCES
from onebit.runtime import format
from onebit.runtime.graph import Graph
from onebit.runtime.inputs import Image, Input, Tokens
from onebit.runtime.operators import infer_shapes
from onebit.runtime.tensors import Arrays, Shape, Tensors, by_node

OPSET, IR = 18, 8  # IR 8 is the one that came with this opset: readers of 2022 and later know both
MAX_BYTES = 2**31 - 1  # of one protobuf
# Operator of the file -> (drawing, node, its tensors, its inputs) -> name of the value.
OPERATORS: dict[str, Callable[..., str]] = {**LAYERS, **BINARY, **SEQUENCES, **ELEMENTWISE, **MAPS, **REGIONS}


@dataclass(frozen=True)
class Form:
    """What an ONNX file is to be like.

    qonnx    signs as BipolarQuant of QONNX, for FINN and hls4ml, and float32 weights; ONNX Runtime does not run that
    pixels   images go in as bytes, uint8 (B, H, W, C), and are normalised inside; else as float32 (B, C, H, W), normalised
             already, as the PyTorch model sees them
    batch    samples of a call; None: any number, but one for QONNX, whose tools want to know every shape
    """

    qonnx: bool = False
    pixels: bool = False
    batch: int | None = None

    @property
    def first(self) -> str | int:
        """The first size of every input and output."""
        return self.batch or (1 if self.qonnx else "batch")


DEFAULT = Form()


def write(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    qonnx: bool = False,
    pixels: bool = False,
    batch: int | None = None,
) -> dict[str, Any]:
    """Writes the network of a packed file as an ONNX file; what it is like says `Form`.

    Returns {"file", "format", "opset", "bytes", "inputs", "outputs"}. Raises UserError for a file that cannot be read or
    written, and for what ONNX cannot say.
    """
    made = model(*format.read(path), Form(qonnx, pixels, batch))
    data = made.SerializeToString()
    files.write(Path(out), lambda file: file.write(data), follow=True)
    return {
        "file": os.fspath(out),
        "format": "qonnx" if qonnx else "onnx",
        "opset": OPSET,
        "bytes": len(data),
        "inputs": {value.name: words(value) for value in made.graph.input},
        "outputs": {value.name: words(value) for value in made.graph.output},
    }


def model(graph: Graph, tensors: Arrays, form: Form = DEFAULT) -> ModelProto:
    """The model, checked by onnx.checker. Outputs have the names that the file gives them; one that is called as an input has an
    underscore behind it, since names are unique in ONNX. Raises UserError as `write` does."""
    if unknown := sorted({node.op for node in graph.nodes} - OPERATORS.keys()):
        raise UserError(f"the operator {unknown[0]} has no form in ONNX; add a row in src/onebit/export/onnx")
    if form.pixels and not any(isinstance(source, Image) for source in graph.inputs):
        raise UserError(f"pixels are of images, and {graph.needs()}; leave --pixels out")
    factors = {name: 32 if form.qonnx and name.endswith(".bits") else 1 for name in tensors}  # float32 instead of bits
    if (size := sum(factors[name] * array.nbytes for name, array in tensors.items())) > MAX_BYTES:
        raise UserError(
            f"the weights take {size} bytes, an ONNX file has at most {MAX_BYTES}; pack the network with --int8"
        )
    shapes = infer_shapes(graph, Tensors.of(tensors))
    drawing = Drawing([source.name for source in graph.inputs], form.qonnx)
    outputs = {output.name: drawing.unique(output.name) for output in graph.outputs}
    first = {output.node: outputs[output.name] for output in reversed(graph.outputs)}
    names = {node.name: first.get(node.name) or drawing.unique(node.name) for node in graph.nodes}
    values = {source.name: entered(drawing, source, form.pixels) for source in graph.inputs}
    sample = Value(graph.inputs[0].name, ())
    arrays = by_node(tensors)
    for node in graph.nodes:
        drawing.where, start = node.name, len(drawing.nodes)
        inputs = [values[name] for name in node.inputs] or [sample]
        drawn = OPERATORS[node.op](drawing, node, arrays.get(node.name, {}), *inputs)
        drawing.call(names[node.name], drawn, start)
        values[node.name] = Value(names[node.name], shapes[node.name])
    for output in graph.outputs:
        if outputs[output.name] != values[output.node].name:  # a second output of one node
            drawing.copy(outputs[output.name], values[output.node].name)
    return finished(graph, drawing, form, [(outputs[o.name], shapes[o.node]) for o in graph.outputs])


def entered(draw: Drawing, source: Input, pixels: bool) -> Value:
    """An input, as operators read it. Bytes are normalised as by `onebit.runtime.inputs.normalized`."""
    if isinstance(source, Tokens):
        return Value(source.name, (source.length,))
    if not pixels or not isinstance(source, Image):
        return Value(source.name, source.map)
    draw.where = source.name
    scaled = draw.add("Div", draw.cast(source.name), draw.constant(255))  # (B, H, W, C)
    centred = draw.add("Sub", scaled, draw.tensor("mean", np.array(source.mean, np.float32)))
    normal = draw.add("Div", centred, draw.tensor("std", np.array(source.std, np.float32)))
    return Value(draw.add("Transpose", normal, perm=[0, 3, 1, 2]), source.map)


def finished(graph: Graph, drawing: Drawing, form: Form, outputs: list[tuple[str, Shape]]) -> ModelProto:
    opsets = [helper.make_opsetid("", OPSET), *([helper.make_opsetid(QONNX, 1)] if drawing.bipolar else [])]
    made = helper.make_model(
        helper.make_graph(
            drawing.nodes,
            graph.name or "network",
            [declared(source, form) for source in graph.inputs],
            [
                helper.make_tensor_value_info(name, TensorProto.FLOAT, [form.first, *outer(shape)])
                for name, shape in outputs
            ],
            drawing.constants,
        ),
        opset_imports=opsets,
        ir_version=IR,
        producer_name="onebit",
        producer_version=__version__,
    )
    helper.set_model_props(made, properties(graph, form.pixels))
    checker.check_model(made, full_check=not drawing.bipolar)  # which knows no shapes of operators of others
    return made


def outer(shape: Shape) -> tuple[int, ...]:
    """Channels first: (H, W, C) -> (C, H, W)."""
    return (shape[-1], *shape[:-1])


def declared(source: Input, form: Form) -> ValueInfoProto:
    if isinstance(source, Tokens):
        return helper.make_tensor_value_info(source.name, TensorProto.INT64, [form.first, source.length])
    if form.pixels and isinstance(source, Image):
        return helper.make_tensor_value_info(source.name, TensorProto.UINT8, [form.first, *source.map])
    return helper.make_tensor_value_info(source.name, TensorProto.FLOAT, [form.first, *outer(source.map)])


def properties(graph: Graph, pixels: bool) -> dict[str, str]:
    """What the file says of itself, as texts; what is not a text is JSON: labels, scores, training, for each image how it is
    normalised and what the shorter side measured before the centre crop, and for tokens of texts what they hold. (The word pieces
    themselves are not there: who gives their numbers has them.)"""
    images: Mapping[str, Any] = {
        source.name: {"mean": source.mean, "std": source.std, "resize": source.resize, "normalised_inside": pixels}
        for source in graph.inputs
        if isinstance(source, Image)
    }
    texts = {
        source.name: {"holds": source.holds, **({"lowercase": source.lowercase} if source.vocabulary else {})}
        for source in graph.inputs
        if isinstance(source, Tokens) and source.holds
    }
    found: dict[str, Any] = {
        "method": graph.method,
        "recipe": graph.recipe,
        "task": graph.task.name,
        "answer": graph.task.answer,
        "labels": graph.task.labels,
        "scores": dict(graph.task.scores),
        "settings": dict(graph.task.settings),
        "training": dict(graph.training),
        "images": images,
        "texts": texts,
    }
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in found.items() if value}


def words(value: ValueInfoProto) -> str:
    """A declared input or output in words, such as "float32 (batch, 3, 32, 32)"."""
    tensor = value.type.tensor_type
    names: dict[int, str] = {TensorProto.FLOAT: "float32", TensorProto.UINT8: "uint8", TensorProto.INT64: "int64"}
    name = names[tensor.elem_type]
    return f"{name} ({', '.join(str(size.dim_param or size.dim_value) for size in tensor.shape.dim)})"
