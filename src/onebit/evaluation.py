"""Accuracy of a checkpoint in PyTorch, or of a packed file in the engine, on a data set's test images."""

import time
from typing import Any

import numpy as np
import torch

from onebit import checkpoint as checkpoints
from onebit import data, runtime
from onebit.errors import UserError
from onebit.train import evaluate as evaluate_torch


def evaluate(
    path: str,
    name: str,
    root: str,
    *,
    checkpoint: bool,
    download: bool = False,
    batch_size: int = 100,
    threads: int | None = None,
    isa: str | None = None,
    backend: str = "auto",
) -> dict[str, Any]:
    """{"accuracy" (percent), "images", "runtime", "seconds", "model", "method"}; UserError for a model that does not fit."""
    if checkpoint:
        content = checkpoints.load(path)
        model = checkpoints.build(content, path)
        config = content["config"]
        source = data.load(name, root, data.LoadOptions(download, config["image_size"]))
        fits(path, config["in_channels"], config["classes"], source)
        if threads:
            torch.set_num_threads(threads)
        began = time.perf_counter()
        accuracy, images = evaluate_torch(model, source.test.evaluation_batches(batch_size))
        used, described = "pytorch", {"model": config["name"], "method": config["method"]}
    else:
        packed = runtime.load(path, threads=threads, isa=isa, backend=backend)
        source = data.load(name, root, data.LoadOptions(download, packed.input_shape[1]))
        fits(path, packed.input_shape[0], len(packed.labels or source.labels), source)
        began = time.perf_counter()
        accuracy, images = evaluate_packed(packed, source.test.evaluation_batches(batch_size))
        used, described = packed.isa, {"model": packed.name, "method": packed.method}
    seconds = round(time.perf_counter() - began, 2)
    return {"accuracy": round(accuracy, 4), "images": images, "runtime": used, "seconds": seconds, **described}


def evaluate_packed(model: runtime.Model, batches: Any) -> tuple[float, int]:
    """(accuracy in percent, images) of a packed model."""
    correct = images = 0
    for batch in batches:
        logits = model(np.ascontiguousarray(batch.images.numpy()))
        correct += int((logits.argmax(1) == batch.labels.numpy()).sum())
        images += len(logits)
    return 100.0 * correct / max(images, 1), images


def fits(path: str, channels: int, classes: int, source: data.Data) -> None:
    """Refuse a model made for other images or classes than the data set's."""
    if (channels, classes) != (source.in_channels, len(source.labels)):
        raise UserError(
            f"{path} was made for {channels} channels and {classes} classes, data set {source.name!r} has "
            f"{source.in_channels} and {len(source.labels)}; choose another with --data"
        )
