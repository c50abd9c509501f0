"""What a packed file holds, for `onebit info`: needs the runtime alone."""

from collections import Counter
from typing import Any

import numpy as np

from onebit.runtime import box_settings, format
from onebit.runtime.binary import products
from onebit.runtime.code_conv import INT8
from onebit.runtime.graph import Node
from onebit.runtime.layers import Layer, Summary
from onebit.runtime.operators import infer_shapes
from onebit.runtime.tensors import Shape, Tensors

ROWS = ("embedding", "binary_embedding", "positions")  # of tokens and places


def describe(path: str) -> dict[str, Any]:
    """Name, method, inputs, outputs, sizes in bytes and numbers of weights of a packed file; of a network of one image, also
    its shape."""
    data = format.read_bytes(path)
    with format.explaining(path):
        graph, tensors = format.decode(data)
    shapes = {source.name: source.map for source in graph.inputs} | infer_shapes(graph, Tensors.of(tensors))
    binary = sum(
        len(tensors[f"{node.name}.bits"]) * _signs(node, shapes)
        for node in graph.nodes
        if f"{node.name}.bits" in tensors
    )
    bytes_ = sum(array.size for array in tensors.values() if array.dtype == np.int8)
    floats = sum(array.size for array in tensors.values() if array.dtype == np.float32)
    labels = graph.task.labels
    return {
        "file": path,
        "kind": f"packed file, version {format.version(data)}",
        "model": graph.name,
        "method": graph.method,
        "inputs": [source.to_dict() for source in graph.inputs],
        "outputs": [{"name": name, "shape": _shape(shapes[node])} for name, node in graph.outputs],
        **({} if graph.image is None else {"input_shape": list(graph.image.shape)}),
        "classes": None if labels is None else len(labels),
        "bytes": len(data),
        "binary_weights": binary,
        "int8_weights": bytes_,
        "float_weights": floats,
        "operators": dict(Counter(node.op for node in graph.nodes)),
        "recipe": graph.recipe,
        "task": graph.task.name,
        **({"boxes": box_settings.parse(graph.task.settings, "settings").words()} if graph.task.settings else {}),
        "scores": dict(graph.task.scores),
        **graph.task.scores,
        "training": {key: _plain(value) for key, value in graph.training.items()},
    }


def layers(path: str) -> Summary:
    """The table of the file's nodes that compute products or hold tensors; see `onebit.runtime.layers`."""
    with format.explaining(path):
        graph, tensors = format.decode(format.read_bytes(path))
    shapes = {source.name: source.map for source in graph.inputs} | infer_shapes(graph, Tensors.of(tensors))
    rows = [_layer(node, shapes, tensors) for node in graph.nodes]
    return Summary(tuple(row for row in rows if row.packed_bytes or row.ops))


def _layer(node: Node, shapes: dict[str, Shape], tensors: dict[str, np.ndarray]) -> Layer:
    own = {
        name.removeprefix(f"{node.name}."): array
        for name, array in tensors.items()
        if name.rpartition(".")[0] == node.name
    }
    weight, bits, out = own.get("weight"), own.get("bits"), shapes[node.name]
    outputs = int(np.prod(out)) if node.op not in ROWS else 0  # what rows are added to or picked from is no product
    binary = _signs(node, shapes) if bits is not None else 0
    real = 0 if weight is None else int(np.prod(weight.shape[1:]))
    floats = 4 * sum(array.size for name, array in own.items() if name not in ("bits", "weight_scale"))
    if bits is not None:
        floats += 4 * len(bits) * binary
    multiplied = 8 if node.attributes.get("activations") == INT8 else 32
    multiplied_by = "" if not real else f"8/{multiplied}" if _eight(weight) else "32/32"
    kind = "" if not outputs else "1/1" if binary else multiplied_by
    packed = sum(array.nbytes for array in own.values())
    return Layer(node.name, node.op, tuple(_shape(out)), kind, outputs * binary, outputs * real, floats, packed)


def _signs(node: Node, shapes: dict[str, Shape]) -> int:
    """The one-bit weights of an output channel; of a word its row."""
    return node["width"] if node.op == "binary_embedding" else products(node, shapes[node.inputs[0]][-1])


def _eight(weight: np.ndarray | None) -> bool:
    return weight is not None and weight.dtype == np.int8


def _plain(value: float | str) -> float | int | str:
    """Whole numbers without a fraction."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _shape(shape: Shape) -> list[int]:
    """Without the batch, as a call gives it: [C, H, W] or [C]."""
    return [shape[-1], *shape[:-1]]
