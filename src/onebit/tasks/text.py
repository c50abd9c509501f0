"""What a text, or a pair of texts, means: one of several labels, or a quantity where there is a single label.

Logits (B, labels) and targets int64 (B,), with the cross entropy; or outputs (B, 1) and targets float32 (B,), with the squared
error. Scores are those that the data set wants, of `text_scores.SCORES`, as GLUE has them.

Distances from a teacher: those of classification, of quantities always the squared error.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import MetricCollection

from onebit.tasks.classification import logits_distance
from onebit.tasks.task import Task
from onebit.tasks.text_scores import TextScores


class Text(Task):
    name = "text"

    def __init__(self, labels: Sequence[str], *rest: Any):
        super().__init__(labels, *rest)
        self.quantity = len(self.labels) == 1
        self.answer = "values" if self.quantity else "one"

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        if self.quantity:
            return F.mse_loss(outputs.float()[:, 0], targets)
        return F.cross_entropy(outputs.float(), targets, label_smoothing=self.options.label_smoothing)

    def metrics(self) -> MetricCollection:
        return MetricCollection({"text": TextScores(self.scores())})

    def scores(self) -> tuple[str, ...]:
        return self.wanted or (("pearson", "spearman") if self.quantity else ("accuracy",))

    def random_targets(self, count: int, generator: torch.Generator) -> Tensor:
        if self.quantity:
            return 5 * torch.rand(count, generator=generator)
        return torch.randint(len(self.labels), (count,), generator=generator)

    def distance(self, student: Tensor, teacher: Tensor, kind: str, temperature: float) -> Tensor:
        return logits_distance(student, teacher, "squares" if self.quantity else kind, temperature)
