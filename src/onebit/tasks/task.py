"""What a network is for: what its answers mean, how far they are from the targets, and how they are scored.

Training, evaluation, distillation, the benchmarks and `onebit run` ask a `Task` and know nothing of labels themselves.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torchmetrics import MetricCollection

from onebit.errors import UserError
from onebit.tasks.options import TaskOptions


class Task(ABC):
    """A row of the task table, for the labels of a data set.

    name      of the row
    answer    a row of `onebit.runtime.answers.ANSWERS`: what a person reads of a packed network's outputs
    labels    names of what the network tells apart
    """

    name: ClassVar[str]
    answer: ClassVar[str]

    def __init__(self, labels: Sequence[str], options: TaskOptions):
        self.labels = tuple(labels)
        self.options = options

    def arguments(self) -> dict[str, Any]:
        """What a network for these labels is built with: arguments of `models.create`."""
        return {"classes": len(self.labels)}

    def record(self) -> dict[str, Any]:
        """As plain values, for checkpoints and packed files."""
        return {"name": self.name, "labels": list(self.labels)}

    @abstractmethod
    def loss(self, outputs: Any, targets: Any) -> Tensor:
        """How far outputs are from targets: a float32 number."""

    @abstractmethod
    def metrics(self) -> MetricCollection:
        """Fresh metrics of outputs and targets, each in [0, 1], the higher the better; best.ckpt goes by the first."""

    @abstractmethod
    def random_targets(self, count: int, generator: torch.Generator) -> Any:
        """Targets of `count` made-up examples, for benchmarks."""

    def forward(self, model: nn.Module, inputs: Tensor, targets: Any) -> tuple[Tensor | None, Any]:
        """(loss, outputs) of a training step; the loss may be left out where targets are None."""
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
        """Refuse the same labels in another order. Other names may stand for the same things."""
        for place, (label, own) in enumerate(zip(theirs or (), self.labels, strict=False)):
            if label != own and label in self.labels:
                raise UserError(
                    f"{where} calls class {place} {label!r}, which is class {self.labels.index(label)} of the data set; "
                    "the classes must be in the same order"
                )
