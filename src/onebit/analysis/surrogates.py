"""The surrogate gradients of a network at several points of its training (RBNN, Fig. 5)."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from onebit.nn.layers import binary_layers

FRACTIONS = (0.0, 0.25, 0.5, 0.75, 1.0)
REACH = 2.0  # curves go from -REACH to REACH


@torch.no_grad()
def curves(model: nn.Module) -> dict[str, Any]:
    """{"x": [...], "fractions": [...], "weights": [slopes at each fraction], "activations": likewise} of the first layer that
    trains through a surrogate; an operand without one is left out. The curves follow from the schedule: no training is needed.
    """
    x = torch.arange(-100, 101) * REACH / 100  # with 0 itself
    found: dict[str, Any] = {"x": x.tolist(), "fractions": list(FRACTIONS)}
    for operand in ("weights", "activations"):
        name = "weight_binarizer" if operand == "weights" else "activation_binarizer"
        binarizers = (getattr(layer, name) for _, layer in binary_layers(model))
        surrogate = next((b.surrogate for b in binarizers if b is not None and b.surrogate is not None), None)
        if surrogate is not None:
            found[operand] = [slopes(surrogate, fraction, x) for fraction in FRACTIONS]
    return found


def slopes(surrogate: Any, fraction: float, x: Tensor) -> list[float]:
    """The derivative at x (N,) at fraction = epoch / epochs of the training; the surrogate stays as it is."""
    moved = copy.deepcopy(surrogate)
    moved.set_progress(fraction)
    return [float(value) for value in moved.slope(x)]
