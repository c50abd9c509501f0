"""What a text, or a pair of texts, means: one of several labels, or a quantity where there is a single label.

Logits (B, labels) and targets int64 (B,), with the cross entropy; or outputs (B, 1) and targets float32 (B,), with the squared
error. Scores are those that the data set wants, of `text_scores.SCORES`, as GLUE has them.

Distances from a teacher: those of classification, of quantities always the squared error.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import MetricCollection

from onebit.runtime import texts
from onebit.runtime.model import Model
from onebit.runtime.network import first_output
from onebit.runtime.word_pieces import Encoded
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

    def outputs_of(self, packed: Model) -> Callable[[Tensor], Tensor]:
        """A packed network as a function of texts as `onebit.data.inputs.Words` has them, int64 (B, 3, T). They run as `onebit run`
        runs them: each with its own tokens."""

        def outputs(inputs: Tensor) -> Tensor:
            ids, types, there = inputs.unbind(1)  # (B, T) each
            lengths = there.sum(1)  # (B,)
            seconds = lengths - types.sum(1)
            rows = [
                Encoded(row[:length].tolist(), int(second), cut=False, empty=False)
                for row, length, second in zip(ids, lengths, seconds, strict=True)
            ]
            found: dict[int, np.ndarray] = {}
            for numbers in texts.groups(rows):
                group = texts.given([rows[number] for number in numbers], packed)
                found |= zip(numbers, first_output(packed, *group), strict=True)
            return torch.from_numpy(np.stack([found[number] for number in range(len(rows))]))

        return outputs

    def random_targets(self, count: int, generator: torch.Generator) -> Tensor:
        if self.quantity:
            return 5 * torch.rand(count, generator=generator)
        return torch.randint(len(self.labels), (count,), generator=generator)

    def distance(self, student: Tensor, teacher: Tensor, kind: str, temperature: float) -> Tensor:
        return logits_distance(student, teacher, "squares" if self.quantity else kind, temperature)
