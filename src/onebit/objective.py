"""What a training step minimises."""

import torch.nn.functional as F
from torch import Tensor, nn

from onebit import layers


class Objective(nn.Module):
    """What a step differentiates: images, labels -> (loss, logits). One module, so that all of it compiles together."""

    def __init__(self, model: nn.Module, label_smoothing: float):
        super().__init__()
        self.model = model
        self.label_smoothing = label_smoothing

    def forward(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.model(images)
        loss = F.cross_entropy(logits.float(), labels, label_smoothing=self.label_smoothing)
        extra = layers.regularization(self.model)
        return loss if extra is None else loss + extra, logits
