"""What loading a hostile file may do: refuse it with a FormatError or UserError, or load it; a small one then runs."""

from __future__ import annotations

import math
import time
from pathlib import Path

import numpy as np

from onebit.errors import UserError
from onebit.runtime import load, native
from onebit.runtime.format import decode
from onebit.runtime.inputs import Image, Input, Tokens
from onebit.runtime.model import Model
from onebit.runtime.operators import infer_shapes
from onebit.runtime.tensors import Tensors

SECONDS = 5.0  # of the processor, to load or to refuse
MAX_IMAGE = 64 * 64 * 16  # elements of an image that is run
MAX_COST = 2**24  # multiplications of a network that is run, roughly


class TooSlow(Exception):
    """A small file took more than SECONDS."""


def outcome(data: bytes, path: Path) -> str:
    """ "refused", "loaded" or "run". Raises whatever else happens. `path` is a file to write the data to."""
    path.write_bytes(data)
    start = time.process_time()
    try:
        model = load(path, threads=2)
    except UserError as error:
        str(error).encode()  # it can be printed
        _check_time(start)
        return "refused"
    _check_time(start)
    if not native.available() or _cost(model) > MAX_COST:
        return "loaded"
    model(**{source.name: _value(source) for source in model.inputs})
    return "run"


def _value(source: Input) -> np.ndarray:
    """One of what goes in."""
    if isinstance(source, Tokens):
        return np.arange(source.length)[None] % source.count
    if isinstance(source, Image):
        return np.full((1, *source.map), 128, np.uint8)
    return np.full((1, *source.shape), 0.5, np.float32)


def _check_time(start: float) -> None:
    seconds = time.process_time() - start
    if seconds > SECONDS:
        raise TooSlow(f"{seconds:.1f} s")


def _cost(model: Model) -> float:
    """Outputs times inputs of each, over all nodes; infinite for an input that is too large."""
    if any(math.prod(source.map) > MAX_IMAGE for source in model.inputs):
        return math.inf
    graph, tensors = decode(model._data)
    shapes = {source.name: source.map for source in graph.inputs} | infer_shapes(graph, Tensors.of(tensors))
    cost = 0
    for node in graph.nodes:
        read = math.prod(shapes[node.inputs[0]]) if node.inputs else 0
        area = read
        if "kernel" in node.attributes:
            area = min(area, math.prod(node["kernel"]) * shapes[node.inputs[0]][-1])
        elif node.op == "attention":
            area = math.prod(shapes[node.inputs[1]]) + math.prod(shapes[node.inputs[2]])
        elif node.op == "roi_align":
            area = 4 * node["samples"] ** 2
        elif node.op == "proposals":
            area = min(node["candidates"], read)
        elif node.op not in ("conv", "linear", "binary_linear", "transposed_conv"):
            area = 1  # elementwise
        cost += math.prod(shapes[node.name]) * area + read
    return cost
