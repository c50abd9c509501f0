"""What a network is for: what its answers mean, how far they are from the targets, and how they are scored.

Training, evaluation, distillation, the benchmarks and `onebit run` ask a `Task` and know nothing of labels themselves.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torchmetrics import MetricCollection

from onebit.errors import UserError
from onebit.runtime.model import Model
from onebit.runtime.network import first_output
from onebit.tasks.options import TaskOptions


class Task(ABC):
    """A row of the task table, for the labels of a data set.

    name      of the row
    answer    a row of `onebit.runtime.answers.ANSWERS`: what a person reads of a packed network's outputs
    running   whether outputs of training steps are scored, too
    labels    names of what the network tells apart
    settings  how a network's outputs are read, as far as that differs from network to network: plain values
    wanted    names of the scores that the data set wants, the first one first; for tasks that have several
    """

    name: ClassVar[str]
    answer: str
    running: ClassVar[bool] = True

    def __init__(
        self,
        labels: Sequence[str],
        options: TaskOptions,
        settings: Mapping[str, Any] | None = None,
        wanted: Sequence[str] = (),
    ):
        self.labels = tuple(labels)
        self.options = options
        self.settings = dict(settings or {})
        self.wanted = tuple(wanted)

    def arguments(self) -> dict[str, Any]:
        """What a network for these labels is built with: arguments of `models.create`."""
        return {"classes": len(self.labels)}

    def adopt(self, model: nn.Module) -> None:
        """Read the outputs of `model` from now on, which says how in its attribute `settings`, where that differs."""
        if isinstance(settings := getattr(model, "settings", None), Mapping):
            self.settings = dict(settings)

    def record(self) -> dict[str, Any]:
        """As plain values, for checkpoints and packed files."""
        settings = {"settings": self.settings} if self.settings else {}
        return {"name": self.name, "labels": list(self.labels), **settings}

    @abstractmethod
    def loss(self, outputs: Any, targets: Any) -> Tensor:
        """How far outputs are from targets: a float32 number."""

    @abstractmethod
    def metrics(self) -> MetricCollection:
        """Fresh metrics of outputs and targets, each in [0, 1], the higher the better; best.ckpt goes by the first."""

    def scores(self) -> tuple[str, ...]:
        """The names of what `metrics` gives, the first one first."""
        return tuple(map(str, self.metrics()))

    def outputs_of(self, packed: Model) -> Callable[[Tensor], Any]:
        """A packed network as a function of normalised inputs, float32 (B, C, H, W), whose results `metrics` take: by default
        its (first) output (B, ...)."""
        return outputs_of(packed)

    @abstractmethod
    def random_targets(self, count: int, generator: torch.Generator) -> Any:
        """Targets of `count` made-up examples, for benchmarks."""

    def forward(self, model: nn.Module, inputs: Tensor, targets: Any) -> tuple[Tensor | None, Any]:
        """(loss, outputs) of a training step; the loss may be left out where targets are None, the outputs where `running`
        is false."""
        outputs = model(inputs)
        return None if targets is None else self.loss(outputs, targets), outputs

    def distance(self, student: Any, teacher: Any, kind: str, temperature: float) -> Tensor:
        """How far a student's outputs are from its teacher's. Raises UserError where the task has no such thing."""
        raise UserError(f"recipe: the task {self.name} cannot learn from a teacher; leave teacher out")

    def check_outputs(self, outputs: Any, where: str) -> None:
        """Refuse outputs (B, ...) of a network that was made for other labels: a UserError that starts with `where`."""
        if not isinstance(outputs, Tensor) or outputs.dim() != 2:
            shape = tuple(outputs.shape[1:]) if isinstance(outputs, Tensor) else type(outputs).__name__
            raise UserError(f"{where} gives {shape}, not one number for each of {len(self.labels)} labels")
        if outputs.shape[1] != len(self.labels):
            raise UserError(f"{where} tells {outputs.shape[1]} classes apart, the data set has {len(self.labels)}")

    def check_labels(self, theirs: Sequence[str] | None, where: str) -> None:
        """Refuse another number of labels than the data set's, and the same labels in another order. Other names may stand for
        the same things."""
        if theirs is not None and len(theirs) != len(self.labels):
            raise UserError(
                f"{where} was made for {len(theirs)} classes, the data set has {len(self.labels)}; choose another with --data"
            )
        for place, (label, own) in enumerate(zip(theirs or (), self.labels, strict=False)):
            if label != own and label in self.labels:
                raise UserError(
                    f"{where} calls class {place} {label!r}, which is class {self.labels.index(label)} of the data set; "
                    "the classes must be in the same order"
                )


def outputs_of(packed: Model) -> Callable[[Tensor], Tensor]:
    """A packed network as a function of tensors: normalised float32 (B, C, H, W) -> its (first) output (B, ...)."""
    return lambda inputs: torch.from_numpy(first_output(packed, np.ascontiguousarray(inputs.numpy())))
