"""What is evaluated: a checkpoint in PyTorch or a packed file in the engine, and a data set that it fits."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from onebit import data, runtime, tasks
from onebit.checkpoints import checkpoint as checkpoints
from onebit.checkpoints.checkpoint import Checkpoint
from onebit.data.dataset import Batch, Data, Examples
from onebit.data.inputs import Images, Inputs, Normalization, Words, images
from onebit.errors import UserError
from onebit.machine import processor
from onebit.tasks.task import Task


@dataclass(frozen=True)
class Subject:
    """A network and the test examples for it.

    path      of its file, for messages
    network   inputs as the network takes them, float32 (B, C, H, W), normalised, or texts, int64 (B, 3, T) -> its outputs (B, ...)
    task      of both
    test      the examples, cut as the network takes them; normalised as the data set has them
    ours      inputs of the data set
    theirs    inputs of the network
    runtime   what computes
    described its model and method
    """

    path: str
    network: Callable[[Tensor], Tensor]
    task: Task
    test: Examples
    ours: Inputs
    theirs: Inputs
    runtime: str
    described: dict[str, str]

    def batches(self, batch_size: int) -> Iterator[Batch]:
        """The test examples as the network takes them. Raises UserError where its outputs are not what the task reads."""
        batches = adapted(self.test.evaluation_batches(batch_size), self.ours, self.theirs)
        return checked(batches, self.network, self.task, self.path)

    def limited(self, count: int | None) -> "Subject":
        """The same, of `count` of the examples, evenly spaced in their order; all, where there are no more."""
        return self if count is None else replace(self, test=self.test.some(count))


def opened(
    path: str,
    name: str,
    root: str,
    *,
    checkpoint: bool,
    download: bool = False,
    threads: int | None = None,
    isa: str | None = None,
    backend: str = "auto",
    glue: str | None = None,
) -> Subject:
    """The file `path`, a checkpoint or a packed file, and the data set `name` in `root`, of glue the task `glue`, by default the
    network's own. Raises UserError for a model that does not fit the data."""
    keys: dict[str, Any] = {"download": download, **({} if glue is None else {"glue": glue})}
    if checkpoint:
        return of_checkpoint(path, name, root, keys, threads)
    packed = runtime.load(path, threads=threads, isa=isa, backend=backend)
    keys = {**split_of(packed.training), **keys}
    theirs: Inputs
    if packed.input_kind == "text":
        (pieces,) = (source for source in packed.inputs if isinstance(source, runtime.Tokens) and source.vocabulary)
        theirs = Words(pieces.vocabulary, pieces.length, pieces.lowercase)
        source = loaded(name, root, data.LoadOptions(length=pieces.length, **keys))
    else:
        (image,) = (source for source in packed.inputs if isinstance(source, runtime.Image))
        theirs = Images(image.shape[0], image.shape[1], Normalization(image.mean, image.std))
        source = loaded(name, root, data.LoadOptions(image_size=theirs.size, **keys))
    task = task_of(packed.task.name, packed.labels, source, path, packed.task.settings)
    if isinstance(theirs, Words):
        source.inputs.change_to(theirs)
        test = source.test
    else:
        check_inputs(path, theirs.channels, source)
        test = source.test.cut(*packed.input_shape[1:], packed.resize)  # as `onebit run` does
    described = {"model": packed.name, "method": packed.method}
    return Subject(path, task.outputs_of(packed), task, test, source.inputs, theirs, packed.isa, described)


def of_checkpoint(path: str, name: str, root: str, keys: Mapping[str, Any], threads: int | None) -> Subject:
    saved = checkpoints.load(path)
    model, config = saved.network(), saved.config
    source, theirs, task, test = data_for(saved, name, root, path, keys)
    if threads:
        torch.set_num_threads(processor.usable(threads))

    def network(inputs: Tensor) -> Any:
        return model(inputs.contiguous(memory_format=torch.channels_last) if inputs.dim() == 4 else inputs)

    described = {"model": config["name"], "method": config["method"]}
    return Subject(path, network, task, test, source.inputs, theirs, "pytorch", described)


def data_for(
    saved: Checkpoint, name: str, root: str, where: str, keys: Mapping[str, Any] | None = None
) -> tuple[Data, Inputs, Task, Examples]:
    """(the data set, inputs of the network, task of both, test examples cut as the training cut photographs) for the network of
    a checkpoint. Raises UserError, which starts with `where`, for a data set of another task, labels or channels.

    keys   of LoadOptions, where they are not those of the training
    """
    config = saved.config
    trained = saved.progress.recipe if saved.progress is not None else {}
    asked: dict[str, Any] = {**split_of(trained), **(keys or {})}
    if isinstance(saved.inputs, Words):
        asked["length"] = saved.inputs.length
    else:
        asked["image_size"] = config["image_size"]
    source = loaded(name, root, data.LoadOptions(**asked))
    task = task_of(saved.task["name"], saved.task["labels"], source, where, saved.task.get("settings"))
    theirs = saved.inputs or source.inputs
    if isinstance(theirs, Words):
        source.inputs.change_to(theirs)
        return source, theirs, task, source.test
    check_inputs(where, config["in_channels"], source)
    own = theirs.resize is not None
    return source, theirs, task, source.test.cut(theirs.size, theirs.size, theirs.resize) if own else source.test


def loaded(name: str, root: str, options: data.LoadOptions) -> Data:
    """The data set, whatever keys it does not read: where it is of another kind than the network, its task says so."""
    return data.DATA[name](Path(root), options)


def split_of(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The keys that say which examples a training kept for the test, where its recipe has them: it is to be tested on those."""
    kinds: dict[str, Any] = {"val_split": float, "split_seed": int, "glue": str, "vocabulary": str}
    return {key: kind(recipe[key]) for key, kind in kinds.items() if recipe.get(key) is not None}


def adapted(batches: Iterable[Batch], ours: Inputs, theirs: Inputs) -> Iterator[Batch]:
    """Batches normalised as the model was trained, which the data set's constants need not be."""
    change = ours.change_to(theirs)
    for batch in batches:
        yield batch if change is None else Batch(batch.inputs * change[0] + change[1], batch.targets)


def task_of(
    name: str, labels: Sequence[str] | None, source: Data, path: str, settings: Mapping[str, Any] | None = None
) -> Task:
    """The data set's task, which must be the model's, with its labels in the same order, and the settings by which the model's
    outputs are read. Raises UserError."""
    if name != source.task:
        raise UserError(
            f"{path} was made for the task {name}, data set {source.name!r} is for {source.task}; choose another with --data"
        )
    task = tasks.of_data(source, settings=settings)
    task.check_labels(labels, path)
    return task


def check_inputs(path: str, channels: int, source: Data) -> None:
    """Refuse a model made for other inputs than the data set's."""
    theirs = images(source.inputs, path).channels
    if channels != theirs:
        raise UserError(
            f"{path} was made for {channels} channels, data set {source.name!r} has {theirs}; "
            "choose another with --data"
        )


def checked(batches: Iterable[Batch], network: Callable[[Tensor], Any], task: Task, path: str) -> Iterator[Batch]:
    """The batches; before the first one, whether the network's outputs are what the task reads."""
    for number, batch in enumerate(batches):
        if not number:
            with torch.inference_mode():
                task.check_outputs(network(batch.inputs[:1]), path)
        yield batch
