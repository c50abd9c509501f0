"""What callbacks of other libraries' training loops share: the hooks where the loss is somebody else's."""

from collections.abc import Iterable
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from onebit.nn import layers


def add_regularization(model: nn.Module, parameters: Iterable[Tensor]) -> None:
    """Add the gradient of the methods' loss terms to that of the parameters, as if the loss contained them:

        d(L + R)/dw = dL/dw + dR/dw

    once a step, after the gradients of its parts and devices have been averaged: R depends on weights alone and is the same
    for all of them. Not by a backward pass, in which wrappers that synchronise gradients would take part.
    """
    with torch.enable_grad():
        extra = layers.regularization(model)
    if extra is None or not extra.requires_grad:
        return
    trained = [p for p in parameters if p.requires_grad]
    for parameter, gradient in zip(trained, torch.autograd.grad(extra, trained, allow_unused=True)):
        if gradient is not None:
            parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient


def base_class(name: str, *modules: str) -> Any:
    """The class of this name of the first module that is installed; `object` where none is, so that names exist all the same."""
    for module in modules:
        try:
            return getattr(import_module(module), name)
        except ModuleNotFoundError:
            continue
    return object
