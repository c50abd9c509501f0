"""One optimizer step: what the training loop repeats and `onebit bench train` times."""

import math
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from onebit.data.dataset import Batch
from onebit.nn import layers
from onebit.training.average import Average
from onebit.training.non_finite import NonFiniteLoss


class Step:
    """Forward and backward pass, clipping, update, and the hooks of methods.

    Args:
        fabric: of the training
        objective: inputs, targets -> (loss, outputs), set up by fabric
        optimizer: of the model's parameters, set up by fabric
        model: the network inside the objective
        parts: of a batch, one after the other, where memory is short
        clip_grad_norm: bound on the norm of the whole gradient; 0 means none
        average: moving average of the model's weights, or None

    Attributes:
        graphs: whether the objective was compiled to CUDA graphs
        hooks: the methods' own, which may be compiled
    """

    def __init__(
        self,
        fabric: Fabric,
        objective: Any,
        optimizer: Any,
        model: nn.Module,
        *,
        parts: int = 1,
        clip_grad_norm: float = 0.0,
        average: Average | None = None,
    ):
        self.fabric, self.objective, self.optimizer, self.model = fabric, objective, optimizer, model
        self.parts, self.clip_grad_norm, self.average = parts, clip_grad_norm, average
        self.graphs = False
        self.hooks = layers.StepHooks(model)

    def __call__(self, batch: Batch, checks: bool = True) -> tuple[Tensor, Any]:
        """(loss, outputs) of the batch before the step, detached. Raises NonFiniteLoss, before the update, if it checks.

        Checking waits for the device.
        """
        if self.graphs:
            torch.compiler.cudagraph_mark_step_begin()  # the last step's results may be overwritten
        loss, outputs = backward(self.fabric, self.objective, batch, self.parts)
        if self.graphs:
            loss, outputs = loss.clone(), None if outputs is None else outputs.clone()
        layers.before_step(self.model, self.hooks)
        clipping = clip_gradients(self.fabric, self.objective, self.optimizer, self.clip_grad_norm)
        if checks and not math.isfinite(loss.item()):
            raise NonFiniteLoss(loss.item(), batch)
        self.optimizer.step()
        layers.after_step(self.model, clipping, self.hooks)
        self.optimizer.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.update_parameters(self.model)
        return loss, outputs


def clip_gradients(fabric: Fabric, module: Any, optimizer: Any, bound: float) -> Tensor | None:
    """Bound the norm of the whole gradient, 0 for no bound; returns what the gradient was multiplied by."""
    if not bound:
        return None
    norm: Any = fabric.clip_gradients(module, optimizer, max_norm=bound, error_if_nonfinite=False)
    # as torch.nn.utils.clip_grad_norm_ does
    return (bound / (norm + 1e-6)).clamp(min=torch.finfo(norm.dtype).tiny, max=1.0)


def backward(fabric: Fabric, objective: nn.Module, batch: Batch, parts: int) -> tuple[Tensor, Any]:
    """Set the parameters' gradients to those of the batch's mean loss; returns (that loss, outputs (B, ...) or None), detached.

    The batch has a multiple of `parts` examples; gradients are None before. The mean over B is the mean of the means over
    equal parts:

        L = 1/P sum_p L_p,  dL/dw = 1/P sum_p dL_p/dw

    so terms without examples (weight regularization) count once. The sum is divided, not each loss: then that holds for
    terms too that a method's backward adds whatever gradient arrives (ReBNN as released), as between devices. Batch norms
    see one part at a time. Devices exchange gradients with the last part only.
    """
    if parts == 1:
        loss, outputs = objective(batch.inputs, batch.targets)
        fabric.backward(loss)
        return loss.detach(), None if outputs is None else outputs.detach()
    losses, answers = [], []
    for number, part in enumerate(batch.split(parts)):
        with fabric.no_backward_sync(objective, enabled=number < parts - 1):  # type: ignore[arg-type]
            loss, outputs = objective(part.inputs, part.targets)
            fabric.backward(loss)
        losses.append(loss.detach())
        if outputs is not None:
            answers.append(outputs.detach())
    for parameter in objective.parameters():
        if parameter.grad is not None:
            parameter.grad.div_(parts)
    return torch.stack(losses).mean(), torch.cat(answers) if answers else None
