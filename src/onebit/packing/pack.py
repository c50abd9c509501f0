"""From a trained model to a file of bits: trace, freeze to binary forms, fold, compare with the model, write."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from onebit import files
from onebit.errors import FormatError, UserError
from onebit.nn.layers import float32_bytes
from onebit.packing import arguments, signature
from onebit.packing.comparison import compare, probes
from onebit.packing.layers import converter
from onebit.packing.lowering import BATCH, Operation
from onebit.packing.merge import merge_affines
from onebit.packing.preparation import prepared, unwrapped
from onebit.packing.variations import Recorded, check_batches, fixed_inputs, lowered
from onebit.runtime import bits, code_conv, format
from onebit.runtime.graph import Graph, TaskRecord
from onebit.runtime.inputs import Image, Input, Tokens
from onebit.runtime.operators import infer_shapes
from onebit.runtime.tensors import Tensors, vocabulary_of
from onebit.runtime.vocabulary import encoded

# Of EfficientNet-Lite0 at 128 x 128 (Zen 5, `onebit bench --layers`): 96 products a value of 16 channels took 0.8 of the time of float32,
# 24 of 96 channels 0.84; 16 of 32 channels 1.9, 288 of 3 channels 1.8.
LEAST_CHANNELS = 16  # that a tap of a convolution sums
LEAST_PRODUCTS = 24  # that a value takes part in


def pack(
    model: nn.Module,
    path: str | os.PathLike[str],
    *,
    input_shape: tuple[int, int, int] | None = None,
    inputs: Mapping[str, Input] | None = None,
    mean: Sequence[float] | float | None = None,
    std: Sequence[float] | float | None = None,
    labels: Sequence[str] | None = None,
    name: str | None = None,
    method: str | None = None,
    recipe: str | None = None,
    accuracy: float | None = None,
    task: str = TaskRecord.name,
    answer: str = TaskRecord.answer,
    scores: Mapping[str, float] | None = None,
    settings: Mapping[str, Any] | None = None,
    resize: int | None = None,
    int8: bool = False,
    training: Mapping[str, float | str] | None = None,
) -> dict[str, Any]:
    """Write a model as a packed file that `onebit.runtime.load` runs; the model is left as it is.

    model         as a training leaves it: on any device, of any precision, wrapped by DataParallel or torch.compile
    input_shape   (C, H, W) of an image; models from `onebit.models.create` know theirs
    mean, std     normalisation of pixels in [0, 1] that the runtime applies to uint8 images, a number or one per channel;
                  default 0 and 1
    resize        pixels of the shorter side before the centre crop when pictures are read
    inputs        what goes in, by the names of forward's arguments, which they keep in the file, in the order of forward:
                  {"image": onebit.Image((3, 32, 32), mean, std), "ids": onebit.Tokens(length, count),
                  "sensors": onebit.Floats((8,))}. Tokens that hold pieces, with their vocabulary, and types and a mask let the file
                  read texts. input_shape, mean, std and resize are the short form for one image, which
                  the file names "input". Other arguments have their defaults
    int8          store the weights that are not binary, those of float convolutions, linear layers and embeddings, in 8 bits:
                  q = round(w / scale), scale = max |w| / 127 per output channel (of embeddings, per token). Convolutions without
                  groups and linear layers also round what they read to 8 bits, each pixel by its own largest magnitude, and
                  multiply whole numbers; the one that reads the image takes its bytes. All others compute with scale·q
    labels        names of what the network tells apart, one for each channel of the first output, but for the background of the
                  answer "boxes"; name and recipe are recorded in the file
    task, answer  what the network is for, and how its outputs are read, a row of `onebit.runtime.answers.ANSWERS`
    scores        in percent by name; the accuracy may be given as such
    settings      of the answer "boxes", how boxes are made from the outputs, as docs/format.md has it: {"anchors": ..., "weights":
                  ..., "score": ..., "overlap": ..., "most": ...}
    training      how the weights came to be: numbers and texts by name, such as {"data": "cifar10", "epochs": 40, "seed": 0}

    The model returns one tensor, which the file names "output", or several: a dict (its keys), a named tuple (its fields), a
    tuple or list ("output0", "output1", ...). Sequences (B, T, C), which embeddings give, take elementwise layers, nn.Linear,
    sums, and the mean over T; the file keeps them as maps, so that a network that returns one gives (B, C, T, 1).

    Returns {"path", "bytes", "float32_bytes", "binary_weights", "int8_weights", "float_weights"}: the file's size, that of
    the parameters and buffers in float32, and the number of weights stored in one bit, in 8 and in 32.
    Before it is written, what the file computes is compared with the model in evaluation mode, in float32 on the CPU, call by
    call on two random inputs.

    Raises UserError for a model that cannot be traced, has diverged, or computes something that the file would not, and for a
    file that cannot be written.
    """
    files.check_name(path)
    model = unwrapped(model)
    config = getattr(model, "config", {})
    config = config if isinstance(config, Mapping) else {}
    sources = arguments.inputs(inputs, input_shape, mean, std, resize, config)
    scores = arguments.numbers(scores)
    if accuracy is not None:
        scores["accuracy"] = arguments.number(accuracy, "accuracy")
    arguments.check_answer(task, answer)
    arguments.check_percent(scores.get("accuracy"))
    graph: dict[str, Any] = {
        "name": arguments.text(name or config.get("name") or type(model).__name__, "name", "give another with name="),
        "method": arguments.text(method or config.get("method") or "custom", "method", "give another with method="),
        "recipe": None if recipe is None else arguments.text(recipe, "recipe", "give another with recipe="),
        "task": {
            "name": arguments.text(task, "task", "give another with task="),
            "answer": answer,
            "labels": arguments.names(labels),
            "scores": scores,
            **arguments.settings(answer, settings),
        },
        "training": arguments.training(training),
    }
    frozen = prepared(model)
    traced: nn.Module = frozen
    named = signature.arguments(vars(frozen).get("forward") or frozen.forward, sources)
    if converter(frozen):  # a layer alone
        traced, named = nn.Sequential(frozen), {"input": next(iter(named.values()))}
    lowering, operations, outputs = lowered(traced, named, BATCH, check=True)
    recorded = Recorded.of(lowering, operations)
    check_batches(traced, named, recorded, lowering.traced)
    places: dict[str, str | None] = {}
    operations, nodes = merge_affines(operations, tuple(outputs.values()), places)
    operations = needed(operations, nodes, places)
    read = {name for operation in operations for name in operation.inputs}
    if unread := [argument for argument, source in named.items() if source.name not in read]:
        raise UserError(
            f"pack: what the model returns does not depend on {unread[0]}; leave it out of inputs=, and give forward's argument a "
            "default"
        )
    graph |= {
        "inputs": [source.to_dict() for source in named.values()],
        "nodes": [node_of(operation) for operation in operations],
        "outputs": [{"name": name, "node": node} for name, node in zip(outputs, nodes, strict=True)],
    }
    tensors, binary = arrays_of(operations, int8=False)
    words = {
        vocabulary_of(i.name): encoded(i.vocabulary) for i in named.values() if isinstance(i, Tokens) and i.vocabulary
    }
    tensors |= words
    compare(lowering, places, graph, tensors, {argument: probes(source, BATCH) for argument, source in named.items()})
    checked = format.validate(graph, tensors)
    for argument in fixed_inputs(traced, named, recorded, lambda sizes: fits(checked, tensors, sizes)):
        graph["inputs"][list(named).index(argument)]["fixed"] = True
    if int8:
        tensors, binary = arrays_of(operations, int8=True)
        tensors |= words
        images = {source.name for source in named.values() if isinstance(source, Image)}
        for node, operation in zip(graph["nodes"], operations):
            if in_codes(operation, images):
                node["activations"] = code_conv.INT8
    format.write(path, graph, tensors)
    return {
        "path": str(path),
        "bytes": Path(path).stat().st_size,
        "float32_bytes": float32_bytes(frozen),
        "binary_weights": binary,
        "int8_weights": sum(a.size for a in tensors.values() if a.dtype == np.int8),
        "float_weights": sum(a.size for a in tensors.values() if a.dtype == np.float32),
    }


def fits(graph: Graph, tensors: Mapping[str, np.ndarray], sizes: Mapping[str, Any]) -> bool:
    """Whether the file's operators take inputs of other sizes."""
    try:
        infer_shapes(graph, Tensors.of(tensors), sizes)
    except FormatError:
        return False
    return True


def needed(operations: Sequence[Operation], outputs: Sequence[str], places: dict[str, str | None]) -> list[Operation]:
    """The operations that an output depends on; `places` forgets the others."""
    names = set(outputs)
    kept = []
    for operation in reversed(operations):
        if operation.name in names:
            names |= set(operation.inputs)
            kept.append(operation)
    gone = {operation.name for operation in operations} - {operation.name for operation in kept}
    places.update({name: None for name, place in places.items() if place in gone})
    return kept[::-1]


def node_of(operation: Operation) -> dict[str, Any]:
    """The operation in the file's graph."""
    return {"op": operation.op, "name": operation.name, "inputs": operation.inputs, **operation.attributes}


def arrays_of(operations: Sequence[Operation], int8: bool) -> tuple[dict[str, np.ndarray], int]:
    """(The file's tensors by "<node>.<what>", number of binary weights)."""
    tensors: dict[str, np.ndarray] = {}
    binary = 0
    for operation in operations:
        arrays = {what: np.ascontiguousarray(t.float().numpy()) for what, t in operation.tensors.items()}
        if operation.product is not None:
            product = operation.product.canonical()
            binary += product.signs.numel()
            signs = product.signs.numpy()
            arrays["bits"] = bits.pack_weight(signs) if signs.ndim == 4 else bits.pack(signs)
            arrays["channels"] = np.ascontiguousarray(product.channels().numpy())
        if "signs" in arrays:  # of an embedding
            signs = arrays.pop("signs")
            binary += signs.size
            arrays["bits"] = bits.pack(signs)
        if int8 and "weight" in arrays:
            arrays["weight"], arrays["weight_scale"] = quantized(arrays["weight"])
        tensors |= {f"{operation.name}.{what}": array for what, array in arrays.items()}
    return tensors, binary


def in_codes(operation: Operation, images: Set[str]) -> bool:
    """Whether a layer of weights in 8 bits takes values in 8 bits: products of a whole pixel, but for those of an image, whose
    bytes are taken as they are, and convolutions with so few products that rounding each pixel costs more than it saves."""
    if operation.op not in ("conv", "linear") or operation.attributes.get("groups", 1) != 1:
        return False
    outputs, channels, *kernel = operation.tensors["weight"].shape
    few = operation.op == "conv" and (channels < LEAST_CHANNELS or outputs * math.prod(kernel) < LEAST_PRODUCTS)
    return channels <= code_conv.MAX_CODES and not few and not images & set(operation.inputs)


def quantized(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(int8 (O, ...), float32 scale (O)) with weight ≈ scale·int8, symmetric, per output channel."""
    scale = np.abs(weight).reshape(len(weight), -1).max(axis=1) / np.float32(127)
    scale = np.where(scale > 0, scale, np.float32(1))  # an output of zeros
    quotient = weight / scale.reshape(-1, *[1] * (weight.ndim - 1))
    return np.clip(np.rint(quotient), -127, 127).astype(np.int8), scale
