"""Where a training first became infinite or not a number."""

from typing import Any

import torch
from torch import Tensor, nn

from onebit.data.dataset import Batch
from onebit.nn.layers import BinaryConv2d, BinaryLinear


class NonFiniteLoss(Exception):
    """The loss of a step is not finite; the weights are as they were before it."""

    def __init__(self, loss: float, batch: Batch):
        super().__init__(loss)
        self.loss, self.batch = loss, batch


def non_finite_parameter(model: nn.Module) -> str | None:
    """Name of the first parameter that is not finite."""
    return next((name for name, parameter in model.named_parameters() if not parameter.isfinite().all()), None)


def first_non_finite(model: nn.Module, inputs: Tensor) -> str:
    """Name of the first layer whose parameters or output are not finite."""
    if culprit := non_finite_parameter(model):
        return f"the parameter {culprit}"
    found: list[str] = []

    def watch(name: str) -> Any:
        def hook(module: nn.Module, arguments: Any, output: Tensor) -> None:
            if not found and isinstance(output, Tensor) and not output.isfinite().all():
                found.append(f"the output of layer {name}")

        return hook

    handles = [
        module.register_forward_hook(watch(name))
        for name, module in model.named_modules()
        if name and (isinstance(module, BinaryConv2d | BinaryLinear) or not list(module.children()))
    ]
    with torch.no_grad():
        model(inputs)
    for handle in handles:
        handle.remove()
    return found[0] if found else "the loss alone"
