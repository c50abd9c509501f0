"""Learning from a teacher: where the teacher comes from, and what the student's distance from it costs.

    distribution   distance(student, teacher), in place of the targets' loss
    squares        likewise
    soft           (1 - w) loss(student, targets) + w distance(student, teacher)

and of networks for words also h hidden(student, teacher) + s similarity(student, teacher) (`onebit.training.inner`).

w moves from its first value to its last along half a cosine, w(f) = last + (first - last) (1 + cos(pi f)) / 2 with f the
fraction of the training that is done at the start of the epoch.

The distances are the task's (see `onebit.tasks`). The teacher is frozen: evaluation mode, no gradients; it is in no optimizer
and in no checkpoint.
"""

import dataclasses
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from onebit.checkpoints import checkpoint, weights
from onebit.data.dataset import Data
from onebit.data.inputs import IMAGENET_MEAN, IMAGENET_STD, Images, Inputs, Normalization, images
from onebit.errors import UserError
from onebit.nn.layers import binary_layers
from onebit.nn.states import States
from onebit.tasks.task import Task
from onebit.training.inner import check, hidden_distance, similarity_distance
from onebit.training.recipe import DistillationOptions


class Teacher(nn.Module):
    """A frozen network for the student's inputs (B, ...) -> its outputs, no gradient.

    change: scale, shift that turn the student's inputs into the teacher's; None where they are the same
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, model: nn.Module, change: tuple[Tensor, Tensor] | None = None):
        super().__init__()
        self.model = model.requires_grad_(False).eval()
        self.binary = bool(binary_layers(model))
        self.changes = change is not None
        scale, shift = change or (torch.ones(()), torch.zeros(()))
        self.register_buffer("scale", scale)
        self.register_buffer("shift", shift)

    def train(self, mode: bool = True) -> "Teacher":
        """Stays in evaluation mode, whatever the network around it does."""
        return super().train(False)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.called(self.model, inputs)

    def states(self, inputs: Tensor) -> States:
        """What the network computes on the way to its outputs, of a network that has `states`."""
        return self.called(self.model.states, inputs)

    def called(self, function: Any, inputs: Tensor) -> Any:
        # Nothing here requires a gradient, so none is recorded. Binary layers that evaluate without gradients read
        # scales as Python numbers, which a compiled step cannot: where there are any, gradients stay enabled.
        with torch.set_grad_enabled(self.binary):
            return function(inputs * self.scale + self.shift if self.changes else inputs)


class Distillation(nn.Module):
    """The teacher's part of the loss, of weight `weight` beside 1 - weight of the targets' part.

    weights         the first and the last weight
    needs_targets   whether the targets' part ever counts
    hidden, similarity   weights of those distances of states
    """

    weight: Tensor

    def __init__(
        self,
        teacher: Teacher,
        task: Task,
        kind: str,
        weights: tuple[float, float],
        temperature: float,
        hidden: float = 0.0,
        similarity: float = 0.0,
    ):
        super().__init__()
        self.hidden, self.similarity = hidden, similarity
        self.teacher, self.task, self.kind, self.temperature = teacher, task, kind, temperature
        self.weights = weights if kind == "soft" else (1.0, 1.0)
        self.needs_targets = min(self.weights) < 1
        self.register_buffer("weight", torch.tensor(self.weights[0]))  # a buffer: moving it recompiles nothing

    def set_progress(self, fraction: float) -> None:
        """Move the weight to fraction = epoch / epochs of the training."""
        first, last = self.weights
        self.weight.fill_(last + (first - last) * (1 + math.cos(math.pi * fraction)) / 2)

    @property
    def needs_states(self) -> bool:
        return bool(self.hidden or self.similarity)

    def forward(self, inputs: Tensor, outputs: Tensor, states: States | None = None) -> Tensor:
        """inputs (B, ...), the student's outputs, and its states where those count -> number."""
        if states is None:
            return self.weight * self.task.distance(outputs, self.teacher(inputs), self.kind, self.temperature)
        theirs = self.teacher.states(inputs)
        found = self.weight * self.task.distance(outputs, theirs.outputs, self.kind, self.temperature)
        if self.hidden:
            found = found + self.hidden * hidden_distance(states, theirs)
        if self.similarity:
            found = found + self.similarity * similarity_distance(states, theirs)
        return found


def distillation(
    options: DistillationOptions, data: Data, task: Task, layout: torch.memory_format, student: nn.Module
) -> Distillation | None:
    """The student's distillation for inputs of `data` and outputs of `task`; None where the options name no teacher.

    Raises UserError for a teacher that cannot be had or does not fit, and for options without a teacher.
    """
    if options.teacher is None:
        set_anyway = {
            "teacher_weights": options.teacher_weights is not None,
            "distillation": options.distillation != "distribution",
            "distillation_hidden": options.distillation_hidden != 0,
            "distillation_similarity": options.distillation_similarity != 0,
            "distillation_last_weight": options.distillation_last_weight is not None,
        }
        if key := next((key for key, value in set_anyway.items() if value), None):
            raise UserError(
                f"recipe: {key} = {getattr(options, key)!r} without a teacher; set teacher, or leave it out"
            )
        return None
    frozen = teacher(options, data, task).to(memory_format=layout)
    first, last = options.distillation_weight, options.distillation_last_weight
    weights = (first, first if last is None else last)
    inner = (options.distillation_hidden, options.distillation_similarity)
    if any(inner):
        check_states(frozen, student, data, options)
    return Distillation(frozen, task, options.distillation, weights, options.temperature, *inner)


@torch.no_grad()
def check_states(frozen: Teacher, student: nn.Module, data: Data, options: DistillationOptions) -> None:
    """Refuse to compare states of networks that have none, or others."""
    for who, network in (("the network", student), (f"teacher {options.teacher}", frozen.model)):
        if not hasattr(network, "states"):
            key = "distillation_hidden" if options.distillation_hidden else "distillation_similarity"
            raise UserError(f"recipe: {key} compares states of networks for words, {who} has none; leave it out")
    training, blank = student.training, data.inputs.blank(1)
    states: Any = student.eval().states
    ours = states(blank.to(next(student.parameters()).device))
    student.train(training)
    similar = bool(options.distillation_similarity)
    check(ours, frozen.states(blank), similar, f"recipe: teacher {options.teacher}")


def teacher(options: DistillationOptions, data: Data, task: Task) -> Teacher:
    """options.teacher: a checkpoint of onebit, timm:NAME or torchvision:NAME, with teacher_weights or the download.

    Raises UserError for a teacher that cannot be had, and for one of other outputs or inputs than the data's.
    """
    name = options.teacher or ""
    library, _, model_name = name.partition(":")
    if library in LIBRARIES and model_name:
        theirs: Inputs | None
        model, theirs = LIBRARIES[library](
            model_name, options.teacher_weights, images(data.inputs, f"recipe: teacher {name}"), task
        )
    elif Path(name).is_file():
        if options.teacher_weights is not None:
            raise UserError(f"recipe: teacher {name} holds its own weights; leave teacher_weights out")
        saved = checkpoint.load(name)
        task.check_labels(saved.task["labels"], f"recipe: teacher {name}")
        model, theirs = saved.network(), saved.inputs
    else:
        raise UserError(f"recipe: teacher = {name!r} is neither a file nor timm:NAME nor torchvision:NAME")
    frozen = Teacher(model, None if theirs is None else data.inputs.change_to(theirs))
    probe = data.inputs.blank(1)
    try:
        outputs = frozen(probe)
    except (RuntimeError, ValueError, AssertionError, AttributeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"recipe: teacher {name} does not take inputs of {tuple(probe.shape[1:])}: {reason}") from error
    task.check_outputs(outputs, f"recipe: teacher {name}")
    task.distance(outputs, outputs, options.distillation, options.temperature)  # refuses where there is none
    return frozen


def _timm(name: str, weights: str | None, inputs: Images, task: Task) -> tuple[nn.Module, Images | None]:
    import timm

    if not timm.is_model(name):
        raise UserError(f"recipe: teacher = 'timm:{name}' is not a network of timm {timm.__version__}")
    if weights is None:
        model = _downloaded(f"timm:{name}", lambda: timm.create_model(name, pretrained=True))
    else:
        arguments: dict[str, Any] = {"num_classes": len(task.labels), "in_chans": inputs.channels}
        model = timm.create_model(name, pretrained=False, **arguments)
        _load(model, f"timm:{name}", weights)
    found = timm.data.resolve_model_data_config(model)
    if len(found["mean"]) != inputs.channels:
        return model, None
    return model, dataclasses.replace(inputs, normalization=Normalization(tuple(found["mean"]), tuple(found["std"])))


def _torchvision(name: str, weights: str | None, inputs: Images, task: Task) -> tuple[nn.Module, Images | None]:
    import torchvision

    if name not in torchvision.models.list_models(torchvision.models):
        raise UserError(f"recipe: teacher = 'torchvision:{name}' is not a network of torchvision.models")
    if weights is None:
        model = _downloaded(f"torchvision:{name}", lambda: torchvision.models.get_model(name, weights="DEFAULT"))
    else:
        model = torchvision.models.get_model(name, weights=None, num_classes=len(task.labels))
        _load(model, f"torchvision:{name}", weights)
    return model, dataclasses.replace(inputs, normalization=Normalization(IMAGENET_MEAN, IMAGENET_STD))


LIBRARIES = {"timm": _timm, "torchvision": _torchvision}


def _downloaded(name: str, create: Any) -> nn.Module:
    try:
        return create()
    except Exception as error:  # each library and each of its transports has its own
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"recipe: the weights of teacher {name} cannot be downloaded ({type(error).__name__}: {reason}); "
            "set teacher_weights to a local file"
        ) from error


def _load(model: nn.Module, name: str, path: str) -> None:
    """Load a safetensors or PyTorch file, without executing anything. UserError for any tensor left over or missing."""
    remedy = "set teacher_weights to a file of the teacher's weights"
    state = {key.removeprefix("module."): value for key, value in weights.read(path, remedy).items()}
    weights.load(model, state, f"teacher_weights {path}", name, remedy, lambda key: key.endswith("num_batches_tracked"))
