"""What a packed file holds, for `onebit info`: needs the runtime alone."""

from collections import Counter
from typing import Any

import numpy as np

from onebit.runtime import format
from onebit.runtime.binary import products
from onebit.runtime.operators import infer_shapes
from onebit.runtime.tensors import Shape, Tensors


def describe(path: str) -> dict[str, Any]:
    """Name, method, inputs, outputs, sizes in bytes and numbers of weights of a packed file; of a network of one image, also
    its shape."""
    data = format.read_bytes(path)
    with format.explaining(path):
        graph, tensors = format.decode(data)
    shapes = {source.name: source.map for source in graph.inputs} | infer_shapes(graph, Tensors.of(tensors))
    binary = sum(
        len(tensors[f"{node.name}.bits"]) * products(node, shapes[node.inputs[0]][-1])
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
        "scores": dict(graph.task.scores),
        **graph.task.scores,
        "training": {key: _plain(value) for key, value in graph.training.items()},
    }


def _plain(value: float | str) -> float | int | str:
    """Whole numbers without a fraction."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _shape(shape: Shape) -> list[int]:
    """Without the batch, as a call gives it: [C, H, W] or [C]."""
    return [shape[-1], *shape[:-1]]
