"""The gradient of one optimizer step, from a batch at once or in parts where memory is short."""

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn


def backward(fabric: Fabric, objective: nn.Module, images: Tensor, labels: Tensor, parts: int) -> tuple[Tensor, Tensor]:
    """Set the parameters' gradients to those of the batch's mean loss; returns (that loss, logits (B, classes)), detached.

    images (B, C, H, W), labels (B, ...), B a multiple of parts; gradients are None before. The mean over B is the mean of
    the means over equal parts:

        L = 1/P sum_p L_p,  dL/dw = 1/P sum_p dL_p/dw

    so terms without images (weight regularization) count once. The sum is divided, not each loss: then that holds for terms
    too that a method's backward adds whatever gradient arrives (ReBNN as released), as between devices. Batch norms see one
    part at a time. Devices exchange gradients with the last part only.
    """
    if parts == 1:
        loss, logits = objective(images, labels)
        fabric.backward(loss)
        return loss.detach(), logits.detach()
    losses, outputs = [], []
    for part, (some, their_labels) in enumerate(zip(images.chunk(parts), labels.chunk(parts), strict=True)):
        with fabric.no_backward_sync(objective, enabled=part < parts - 1):  # type: ignore[arg-type]
            loss, logits = objective(some, their_labels)
            fabric.backward(loss)
        losses.append(loss.detach())
        outputs.append(logits.detach())
    for parameter in objective.parameters():
        if parameter.grad is not None:
            parameter.grad.div_(parts)
    return torch.stack(losses).mean(), torch.cat(outputs)
