"""What a training step minimises."""

from typing import Any

import torch
from torch import Tensor, nn

from onebit.nn import layers
from onebit.tasks.task import Task
from onebit.training.distillation import Distillation


class Objective(nn.Module):
    """What a step differentiates: inputs, targets -> (loss, outputs). One module, so that all of it compiles together.

    loss = targets_weight * the task's loss + the teacher's part + the method's regularization. Without a teacher
    targets_weight is 1; see Distillation.
    """

    def __init__(self, model: nn.Module, task: Task, distillation: Distillation | None = None):
        super().__init__()
        self.model = model
        self.task = task
        self.distillation = distillation
        self.targets_weight = 1.0 if distillation is None else distillation.targets_weight

    def forward(self, inputs: Tensor, targets: Any) -> tuple[Tensor, Any]:
        from_targets, outputs = self.task.forward(self.model, inputs, targets if self.targets_weight else None)
        if from_targets is None:
            loss = torch.zeros((), dtype=torch.float32, device=inputs.device)
        else:
            loss = self.targets_weight * from_targets
        if self.distillation is not None:
            loss = loss + self.distillation(inputs, outputs)
        extra = layers.regularization(self.model)
        return loss if extra is None else loss + extra, outputs
