"""What a training step minimises."""

from typing import Any

import torch
from torch import Tensor, nn

from onebit.nn import layers
from onebit.tasks.task import Task
from onebit.training.distillation import Distillation


class Objective(nn.Module):
    """What a step differentiates: inputs, targets -> (loss, outputs). One module, so that all of it compiles together.

    loss = (1 - w) * the task's loss + w * the teacher's part + the method's regularization, w = 0 without a teacher; see
    Distillation.
    """

    def __init__(self, model: nn.Module, task: Task, distillation: Distillation | None = None):
        super().__init__()
        self.model = model
        self.task = task
        self.distillation = distillation
        layers.hooks_are_called(model)  # by this module and by Step

    def set_progress(self, fraction: float, begins: bool) -> None:
        """Move all schedules to fraction = epoch / epochs of the training; the network's, which are saved with it and may turn
        its weights, where the epoch begins."""
        if begins:
            layers.set_progress(self.model, fraction)
        if self.distillation is not None:
            self.distillation.set_progress(fraction)

    def forward(self, inputs: Tensor, targets: Any) -> tuple[Tensor, Any]:
        teacher = self.distillation
        needed = teacher is None or teacher.needs_targets
        states = None
        if teacher is not None and teacher.needs_states:
            states = self.model.states(inputs)  # type: ignore[operator]
            outputs, loss = states.outputs, self.task.loss(states.outputs, targets) if needed else None
        else:
            loss, outputs = self.task.forward(self.model, inputs, targets if needed else None)
        if loss is None:
            loss = torch.zeros((), dtype=torch.float32, device=inputs.device)
        if teacher is not None:
            loss = (1 - teacher.weight) * loss + teacher(inputs, outputs, states)
        extra = layers.regularization(self.model)
        return loss if extra is None else loss + extra, outputs
