"""From a trained model to a file of bits: trace, freeze to binary forms, fold, compare with the model, write."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from onebit import files
from onebit.nn.layers import float32_bytes
from onebit.packing import arguments
from onebit.packing.comparison import compare, probes
from onebit.packing.functions import FUNCTIONS
from onebit.packing.lowering import BATCH, Lowering, Operation, converter
from onebit.packing.merge import merge_affines
from onebit.packing.preparation import prepared, unwrapped
from onebit.packing.tracing import trace
from onebit.runtime import bits, format
from onebit.runtime.graph import TaskRecord

LARGE = 128**2  # pixels of an image


def pack(
    model: nn.Module,
    path: str | os.PathLike[str],
    *,
    input_shape: tuple[int, int, int] | None = None,
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
    resize: int | None = None,
    int8: bool = False,
) -> dict[str, Any]:
    """Write a model as a packed file that `onebit.runtime.load` runs; the model is left as it is.

    model         as a training leaves it: on any device, of any precision, wrapped by DataParallel or torch.compile
    input_shape   (C, H, W) of an image; models from `onebit.models.create` know theirs
    mean, std     normalisation of pixels in [0, 1] that the runtime applies to uint8 images, a number or one per channel;
                  default 0 and 1
    int8          store the weights that are not binary, those of float convolutions and linear layers, in 8 bits:
                  q = round(w / scale), scale = max |w| / 127 per output channel; the runtime computes with scale·q
    labels        names of what the network tells apart; name and recipe are recorded in the file
    task, answer  what the network is for, and how its outputs are read, a row of `onebit.runtime.answers.ANSWERS`
    scores        in percent by name; of classifiers, the file records the accuracy alone, which may be given as such

    Returns {"path", "bytes", "float32_bytes", "binary_weights", "int8_weights", "float_weights"}: the file's size, that of
    the parameters and buffers in float32, and the number of weights stored in one bit, in 8 and in 32.
    Before it is written, what the file computes is compared with the model in evaluation mode, in float32 on the CPU, layer by
    layer on one or two pictures.

    Raises UserError for a model that cannot be traced, has diverged, or computes something that the file would not, and for a
    file that cannot be written.
    """
    files.check_name(path)
    model = unwrapped(model)
    config = getattr(model, "config", {})
    config = config if isinstance(config, Mapping) else {}
    input_shape = arguments.image_shape(input_shape, config)
    mean = arguments.per_channel(mean, "mean", input_shape[0], 0.0)
    std = arguments.per_channel(std, "std", input_shape[0], 1.0)
    classifies, scores = task == TaskRecord.name, arguments.numbers(scores)
    if accuracy is not None:
        scores["accuracy"] = arguments.number(accuracy, "accuracy")
    arguments.check_answer(task, answer)
    arguments.check_percent(scores.get("accuracy"))
    resize = arguments.whole(resize, "resize")
    graph: dict[str, Any] = {
        "name": arguments.text(name or config.get("name") or type(model).__name__, "name", "give another with name="),
        "method": arguments.text(method or config.get("method") or "custom", "method", "give another with method="),
        "input": {
            "shape": list(input_shape),
            "mean": mean,
            "std": std,
            **({} if resize is None else {"resize": resize}),
        },
        "labels": arguments.names(labels),
        "recipe": None if recipe is None else arguments.text(recipe, "recipe", "give another with recipe="),
        "accuracy": scores.get("accuracy") if classifies else None,
        **(
            {}
            if classifies
            else {
                "task": {
                    "name": arguments.text(task, "task", "give another with task="),
                    "answer": answer,
                    "scores": scores,
                }
            }
        ),
    }
    frozen = prepared(model)
    images = probes(input_shape, mean, std, BATCH)
    lowering = Lowering(trace(nn.Sequential(frozen) if converter(frozen) else frozen, images), FUNCTIONS)
    places: dict[str, str | None] = {}
    operations, output = merge_affines(*lowering.run(), places)
    graph |= {"nodes": [node_of(operation) for operation in operations], "output": output}
    tensors, binary = arrays_of(operations, int8=False)
    few = images[:1] if images[0, 0].numel() > LARGE else images  # whose layers have values enough
    compare(lowering, places, graph, tensors, few)
    if int8:
        tensors, binary = arrays_of(operations, int8=True)
    format.write(path, graph, tensors)
    return {
        "path": str(path),
        "bytes": Path(path).stat().st_size,
        "float32_bytes": float32_bytes(frozen),
        "binary_weights": binary,
        "int8_weights": sum(a.size for a in tensors.values() if a.dtype == np.int8),
        "float_weights": sum(a.size for a in tensors.values() if a.dtype == np.float32),
    }


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
        if int8 and operation.op in ("conv", "linear"):
            arrays["weight"], arrays["weight_scale"] = quantized(arrays["weight"])
        tensors |= {f"{operation.name}.{what}": array for what, array in arrays.items()}
    return tensors, binary


def quantized(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(int8 (O, ...), float32 scale (O)) with weight ≈ scale·int8, symmetric, per output channel."""
    scale = np.abs(weight).reshape(len(weight), -1).max(axis=1) / np.float32(127)
    scale = np.where(scale > 0, scale, np.float32(1))  # an output of zeros
    quotient = weight / scale.reshape(-1, *[1] * (weight.ndim - 1))
    return np.clip(np.rint(quotient), -127, 127).astype(np.int8), scale
