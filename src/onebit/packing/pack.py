"""From a trained model to a file of bits: trace, freeze to binary forms, fold, write."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from onebit.errors import UserError
from onebit.nn.layers import float32_bytes
from onebit.packing.lowering import trace
from onebit.packing.merge import merge_affines
from onebit.runtime import bits, format
from onebit.runtime.graph import TaskRecord


def pack(
    model: nn.Module,
    path: str | os.PathLike[str],
    *,
    input_shape: tuple[int, int, int] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
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

    input_shape   (C, H, W) of an image; models from `onebit.models.create` know theirs
    mean, std     normalisation of pixels in [0, 1] that the runtime applies to uint8 images; default 0 and 1
    int8          store the weights that are not binary, those of float convolutions and linear layers, in 8 bits:
                  q = round(w / scale), scale = max |w| / 127 per output channel; the runtime computes with scale·q
    labels        names of what the network tells apart; name and recipe are recorded in the file
    task, answer  what the network is for, and how its outputs are read, a row of `onebit.runtime.answers.ANSWERS`
    scores        in percent by name; of classifiers, the file records the accuracy alone, which may be given as such

    Returns {"path", "bytes", "float32_bytes", "binary_weights", "int8_weights", "float_weights"}: the file's size, that of
    the parameters and buffers in float32, and the number of weights stored in one bit, in 8 and in 32.
    Raises UserError for a model that cannot be traced or has diverged, and for a file that cannot be written.
    """
    config: dict[str, Any] = getattr(model, "config", {})
    if input_shape is None:
        if not {"in_channels", "image_size"} <= config.keys():
            raise UserError(
                "pack: input_shape=(channels, height, width) is needed for a model that onebit did not create for images"
            )
        input_shape = (config["in_channels"], config["image_size"], config["image_size"])
    frozen = copy.deepcopy(model).cpu().eval()
    operations, output = merge_affines(*trace(frozen, input_shape))
    nodes: list[dict[str, Any]] = []
    tensors: dict[str, np.ndarray] = {}
    binary = 0
    for operation in operations:
        attributes = dict(operation.attributes)
        arrays = {what: np.ascontiguousarray(t.float().numpy()) for what, t in operation.tensors.items()}
        if operation.product is not None:
            product = operation.product.canonical()
            binary += product.signs.numel()
            signs = product.signs.numpy()
            arrays["bits"] = bits.pack_weight(signs) if signs.ndim == 4 else bits.pack(signs)
            arrays["channels"] = np.ascontiguousarray(product.channels().numpy())
        if int8 and operation.op in ("conv", "linear"):
            arrays["weight"], arrays["weight_scale"] = quantized(arrays["weight"])
        nodes.append({"op": operation.op, "name": operation.name, "inputs": operation.inputs, **attributes})
        tensors |= {f"{operation.name}.{what}": array for what, array in arrays.items()}
    channels = input_shape[0]
    classifies, scores = task == TaskRecord.name, dict(scores or {})
    if accuracy is not None:
        scores["accuracy"] = accuracy
    graph = {
        "name": name or config.get("name") or type(model).__name__,
        "method": method or config.get("method") or "custom",
        "input": {
            "shape": list(input_shape),
            "mean": [float(v) for v in (mean if mean is not None else [0.0] * channels)],
            "std": [float(v) for v in (std if std is not None else [1.0] * channels)],
            **({} if resize is None else {"resize": resize}),
        },
        "labels": None if labels is None else list(labels),
        "recipe": recipe,
        "accuracy": scores.get("accuracy") if classifies else None,
        **({} if classifies else {"task": {"name": task, "answer": answer, "scores": scores}}),
        "nodes": nodes,
        "output": output,
    }
    format.write(path, graph, tensors)
    return {
        "path": str(path),
        "bytes": Path(path).stat().st_size,
        "float32_bytes": float32_bytes(frozen),
        "binary_weights": binary,
        "int8_weights": sum(a.size for a in tensors.values() if a.dtype == np.int8),
        "float_weights": sum(a.size for a in tensors.values() if a.dtype == np.float32),
    }


def quantized(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(int8 (O, ...), float32 scale (O)) with weight ≈ scale·int8, symmetric, per output channel."""
    scale = np.abs(weight).reshape(len(weight), -1).max(axis=1) / np.float32(127)
    scale = np.where(scale > 0, scale, np.float32(1))  # an output of zeros
    quotient = weight / scale.reshape(-1, *[1] * (weight.ndim - 1))
    return np.clip(np.rint(quotient), -127, 127).astype(np.int8), scale
