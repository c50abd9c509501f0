"""A training loop of one's own that forgets the hooks of its method is told so, once in a process, with the lines to add.

A schedule that nobody moves stays at its start, and a loss without its regularization is another method's: neither fails, so
neither is noticed. Each layer counts the optimizer's steps by
its weight's version, which every change in place moves.
"""

import warnings
from typing import Any

import torch
from torch import nn

from onebit.nn.binarizer import ActivationBinarizer, WeightBinarizer

STEPS = 50  # after which a loop has had an epoch to call the hooks in
LINES = {
    "set_progress": "onebit.set_progress(model, epoch / epochs) at the start of each epoch",
    "regularization": "loss = loss + onebit.regularization(model) before loss.backward()",
    "before_step": "onebit.before_step(model) before the optimizer's step",
    "after_step": "onebit.after_step(model) after the optimizer's step",
}
told = False


class Watch:
    """What a layer knows of the loop that trains it.

    calls   hooks that were called
    steps   changes of its weight between forward passes of training
    """

    def __init__(self) -> None:
        self.calls: set[str] = set()
        self.steps = 0
        self.version = -1

    def count(self, layer: Any) -> None:
        """Called in each forward pass of training."""
        weight = layer.weight
        if (
            type(weight) is not nn.Parameter or weight._version == self.version
        ):  # a functional call's weight has no history
            return
        self.version = weight._version
        self.steps += 1
        if self.steps == STEPS + 1:
            tell(layer)


def tell(layer: Any) -> None:
    """Warn of the hooks that the layer's method needs and the loop has not called."""
    global told
    missing = [hook for hook in needed(layer) if hook not in layer.watch.calls]
    if told or not {"set_progress", "regularization"} & set(missing):
        return
    told = True
    lines = "; ".join(LINES[hook] for hook in missing)
    warnings.warn(
        f"{STEPS} training steps without the hooks that this binarization method needs. Add: {lines}", stacklevel=4
    )


def needed(layer: Any) -> list[str]:
    """The hooks that do something for a layer."""
    weights, activations = layer.weight_binarizer, layer.activation_binarizer
    found = []
    if moves(weights, WeightBinarizer) or moves(activations, ActivationBinarizer):
        found.append("set_progress")
    if weights is None:
        return found
    with torch.no_grad():
        if weights.regularization(layer.weight) is not None:
            found.append("regularization")
    return found + [
        hook
        for hook in ("before_step", "after_step")
        if getattr(type(weights), hook) is not getattr(WeightBinarizer, hook)
    ]


def moves(binarizer: Any, base: type) -> bool:
    """Whether a binarizer has a schedule: its own, or its surrogate's."""
    if binarizer is None:
        return False
    courses = getattr(binarizer.surrogate, "courses", {}).values()
    own = type(binarizer).set_progress is not base.set_progress  # type: ignore[attr-defined]
    return own or any(course(0.0) != course(1.0) for course in courses)
