"""Scores of a checkpoint in PyTorch, or of a packed file in the engine, on a data set's test examples."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from onebit import data, runtime, tasks
from onebit.checkpoints import checkpoint as checkpoints
from onebit.data.dataset import Batch, Data
from onebit.data.inputs import Images, Normalization
from onebit.data.loading.workers import deaths_explained
from onebit.errors import UserError
from onebit.machine import processor
from onebit.runtime.network import first_output
from onebit.tasks.score import score_module, score_network
from onebit.tasks.task import Task


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
    """Evaluate the file `path` on the data set `name` in `root`.

    Returns its scores in percent by name, and {"examples", "runtime", "seconds", "model", "method"}. Raises UserError for a
    model that does not fit the data.
    """
    if checkpoint:
        saved = checkpoints.load(path)
        model, config = saved.network(), saved.config
        source = data.load(name, root, data.LoadOptions(download, config["image_size"]))
        task = task_of(saved.task["name"], saved.task["labels"], source, path)
        theirs = saved.inputs or source.inputs
        check_inputs(path, config["in_channels"], source)
        if threads:
            torch.set_num_threads(processor.usable(threads))
        began = time.perf_counter()
        own = theirs.resize is not None  # as the training cut photographs
        test = source.test.cut(theirs.size, theirs.size, theirs.resize) if own else source.test
        batches = adapted(test.evaluation_batches(batch_size), source.inputs, theirs)
        scores, examples = score_module(model, checked(batches, model, task, path), task)
        used, described = "pytorch", {"model": config["name"], "method": config["method"]}
    else:
        packed = runtime.load(path, threads=threads, isa=isa, backend=backend)
        channels, height, width = packed.input_shape
        source = data.load(name, root, data.LoadOptions(download, height))
        task = task_of(packed.task.name, packed.labels, source, path)
        check_inputs(path, channels, source)
        (image,) = (source for source in packed.inputs if isinstance(source, runtime.Image))
        theirs = Images(channels, height, Normalization(image.mean, image.std))
        test = source.test.cut(height, width, packed.resize)  # as `onebit run` does
        began = time.perf_counter()
        batches = adapted(test.evaluation_batches(batch_size), source.inputs, theirs)
        network = outputs_of(packed)
        scores, examples = score_network(network, checked(batches, network, task, path), task, torch.device("cpu"))
        used, described = packed.isa, {"model": packed.name, "method": packed.method}
    seconds = round(time.perf_counter() - began, 2)
    rounded = {key: round(value, 4) for key, value in scores.items()}
    return {**rounded, "scores": list(rounded), "examples": examples, "runtime": used, "seconds": seconds, **described}


def outputs_of(packed: runtime.Model) -> Callable[[Tensor], Tensor]:
    """A packed network as a function of tensors: normalised float32 (B, C, H, W) -> its (first) output (B, ...)."""
    return lambda inputs: torch.from_numpy(first_output(packed, np.ascontiguousarray(inputs.numpy())))


def adapted(batches: Iterable[Batch], ours: Images, theirs: Images) -> Iterator[Batch]:
    """Batches normalised as the model was trained, which the data set's constants need not be."""
    change = ours.change_to(theirs)
    for batch in batches:
        yield batch if change is None else Batch(batch.inputs * change[0] + change[1], batch.targets)


def task_of(name: str, labels: Sequence[str] | None, source: Data, path: str) -> Task:
    """The data set's task, which must be the model's, with its labels in the same order. Raises UserError."""
    if name != source.task:
        raise UserError(
            f"{path} was made for the task {name}, data set {source.name!r} is for {source.task}; choose another with --data"
        )
    task = tasks.create(source.task, source.labels)
    if labels is not None and len(labels) != len(source.labels):
        raise UserError(
            f"{path} was made for {len(labels)} classes, data set {source.name!r} has {len(source.labels)}; "
            "choose another with --data"
        )
    task.check_labels(labels, path)
    return task


def check_inputs(path: str, channels: int, source: Data) -> None:
    """Refuse a model made for other inputs than the data set's."""
    if channels != source.inputs.channels:
        raise UserError(
            f"{path} was made for {channels} channels, data set {source.name!r} has {source.inputs.channels}; "
            "choose another with --data"
        )


def checked(batches: Iterable[Batch], network: Callable[[Tensor], Any], task: Task, path: str) -> Iterator[Batch]:
    """The batches; before the first one, whether the network's outputs are what the task reads."""
    for number, batch in enumerate(batches):
        if not number:
            with torch.inference_mode():
                task.check_outputs(network(batch.inputs[:1]), path)
        yield batch
