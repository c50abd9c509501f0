"""Accuracy of a checkpoint in PyTorch, or of a packed file in the engine, on a data set's test images."""

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from onebit import data, runtime
from onebit.checkpoints import checkpoint as checkpoints
from onebit.data.dataset import Batch, Normalization
from onebit.data.loading.workers import deaths_explained
from onebit.errors import UserError
from onebit.training.train import evaluate as evaluate_torch


@deaths_explained()
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
        fits(path, config["in_channels"], config["classes"], source, content.get("labels"))
        found = checkpoints.normalization(content, path)
        theirs = Normalization(*found) if found else source.normalization
        batches = normalized(source.test.evaluation_batches(batch_size), source.normalization, theirs)
        if threads:
            torch.set_num_threads(threads)
        began = time.perf_counter()
        accuracy, images = evaluate_torch(model, batches)
        used, described = "pytorch", {"model": config["name"], "method": config["method"]}
    else:
        packed = runtime.load(path, threads=threads, isa=isa, backend=backend)
        source = data.load(name, root, data.LoadOptions(download, packed.input_shape[1]))
        fits(path, packed.input_shape[0], len(packed.labels or source.labels), source, packed.labels)
        theirs = Normalization(*(tuple(packed.graph["input"][key]) for key in ("mean", "std")))
        batches = normalized(source.test.evaluation_batches(batch_size), source.normalization, theirs)
        began = time.perf_counter()
        accuracy, images = evaluate_packed(packed, batches)
        used, described = packed.isa, {"model": packed.name, "method": packed.method}
    seconds = round(time.perf_counter() - began, 2)
    return {"accuracy": round(accuracy, 4), "images": images, "runtime": used, "seconds": seconds, **described}


def evaluate_packed(model: runtime.Model, batches: Any) -> tuple[float, int]:
    """(accuracy in percent, images) of a packed model."""
    correct = images = 0
    for batch in batches:
        logits = model(np.ascontiguousarray(batch.images.numpy()))
        if logits.ndim != 2:
            raise UserError(
                f"{model.name} gives maps {logits.shape[1:]}, not one number per class; eval needs a classifier"
            )
        correct += int((logits.argmax(1) == batch.labels.numpy()).sum())
        images += len(logits)
    return 100.0 * correct / max(images, 1), images


def normalized(batches: Iterable[Batch], ours: Normalization, theirs: Normalization) -> Iterator[Batch]:
    """Batches normalised as the model was trained, which the data set's constants need not be."""
    scale, shift = ours.change_to(theirs)
    for batch in batches:
        yield batch if ours == theirs else Batch(batch.images * scale + shift, batch.labels)


def fits(path: str, channels: int, classes: int, source: data.Data, labels: Sequence[str] | None = None) -> None:
    """Refuse a model made for other images or classes than the data set's, or for the same classes in another order."""
    if (channels, classes) != (source.in_channels, len(source.labels)):
        raise UserError(
            f"{path} was made for {channels} channels and {classes} classes, data set {source.name!r} has "
            f"{source.in_channels} and {len(source.labels)}; choose another with --data"
        )
    for place, (label, own) in enumerate(zip(labels or (), source.labels, strict=False)):
        if label != own and label in source.labels:  # other names may stand for the same classes
            raise UserError(
                f"{path} calls class {place} {label!r}, which is class {source.labels.index(label)} of data set "
                f"{source.name!r}; the classes must be in the same order"
            )
