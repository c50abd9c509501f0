"""What a training step minimises."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from onebit.nn import layers
from onebit.training.distillation import Distillation


class Objective(nn.Module):
    """What a step differentiates: images, labels -> (loss, logits). One module, so that all of it compiles together.

    loss = labels_weight * cross entropy + the teacher's part + the method's regularization; images (B, C, H, W), labels
    class indices (B,) or probabilities (B, classes). Without a teacher labels_weight is 1; see Distillation.
    """

    def __init__(self, model: nn.Module, label_smoothing: float = 0.0, distillation: Distillation | None = None):
        super().__init__()
        self.model = model
        self.label_smoothing = label_smoothing
        self.distillation = distillation
        self.labels_weight = 1.0 if distillation is None else distillation.labels_weight

    def forward(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.model(images)
        loss = logits.new_zeros((), dtype=torch.float32)
        if self.labels_weight:
            loss = self.labels_weight * F.cross_entropy(logits.float(), labels, label_smoothing=self.label_smoothing)
        if self.distillation is not None:
            loss = loss + self.distillation(images, logits.float())
        extra = layers.regularization(self.model)
        return loss if extra is None else loss + extra, logits
