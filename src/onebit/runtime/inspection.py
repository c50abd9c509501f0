"""What a packed file holds, for `onebit info`: needs the runtime alone."""

import os
from collections import Counter
from typing import Any

import numpy as np

from onebit.runtime import format
from onebit.runtime.operators import Tensors, infer_shapes, products


def describe(path: str) -> dict[str, Any]:
    """Name, method, shapes, sizes in bytes and numbers of weights of a packed file."""
    graph, tensors = format.read(path)
    shapes = infer_shapes(graph, Tensors.of(tensors), *graph.input_shape[1:])
    binary = sum(
        len(tensors[f"{node.name}.bits"]) * products(node, shapes[node.inputs[0]][-1])
        for node in graph.nodes
        if f"{node.name}.bits" in tensors
    )
    bytes_ = sum(array.size for array in tensors.values() if array.dtype == np.int8)
    floats = sum(array.size for array in tensors.values() if array.dtype == np.float32)
    operators = Counter(node.op for node in graph.nodes)
    return {
        "file": path,
        "kind": "packed file, version 1",
        "model": graph.name,
        "method": graph.method,
        "input_shape": list(graph.input_shape),
        "classes": None if graph.labels is None else len(graph.labels),
        "bytes": os.stat(path).st_size,
        "binary_weights": binary,
        "int8_weights": bytes_,
        "float_weights": floats,
        "operators": dict(operators),
        "recipe": graph.recipe,
        "task": graph.task.name,
        **graph.task.scores,
    }
