"""Weights to start from: those of another checkpoint of the same network, such as the first of two training steps."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from onebit.checkpoints import checkpoint, weights
from onebit.nn.layers import binary_layers


def initialize_from(model: nn.Module, path: str | Path) -> list[str]:
    """Load a checkpoint's weights (its averaged ones, where there are some) into `model`; returns the names not found.

    Every tensor of the checkpoint must be used and every one of the network found, but for what belongs to binarizers:
    the first step's network has none for its weights. Weight binarizers that found nothing start anew from the loaded
    weights, as ReBNN's scales do. Raises UserError for a checkpoint of another network.
    """
    saved = checkpoint.load(path)
    state = saved.ema or saved.model
    missing = weights.load(
        model,
        state,
        f"initial = {path}",
        "this network",
        _networks(saved.config, model),
        lambda name: ".weight_binarizer." in name or ".activation_binarizer." in name,
    )
    for name, layer in binary_layers(model):
        found = any(key.startswith(f"{name}.weight_binarizer.") for key in state)
        if layer.weight_binarizer is not None and not found:
            layer.weight_binarizer.initialize(layer.weight.detach())
    return missing


def _networks(theirs: Mapping[str, Any], model: nn.Module) -> str:
    """Which two networks these are, for an error."""
    ours: Any = model.config
    if different := [key for key in ours if theirs.get(key) != ours[key]]:
        return "it was trained with " + ", ".join(f"{k} = {theirs.get(k)!r} (here {ours[k]!r})" for k in different)
    return "it was written by another version"
