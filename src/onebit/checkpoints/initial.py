"""Weights to start from: those of another checkpoint of the same network, such as the first of two training steps."""

from pathlib import Path

from torch import nn

from onebit.checkpoints import checkpoint, weights
from onebit.nn.layers import binary_layers


def initialize_from(model: nn.Module, path: str | Path) -> list[str]:
    """Load a checkpoint's weights (its averaged ones, where there are some) into `model`; returns the names not found.

    Every tensor of the checkpoint must be used and every one of the network found, but for what belongs to binarizers:
    the first step's network has none for its weights. Weight binarizers that found nothing start anew from the loaded
    weights, as ReBNN's scales do. Raises UserError for a checkpoint of another network.
    """
    content = checkpoint.load(path)
    state = content.get("ema") or content["model"]
    missing = weights.load(
        model,
        state,
        f"initial = {path}",
        "this network",
        _networks(content, model),
        lambda name: ".weight_binarizer." in name or ".activation_binarizer." in name,
    )
    for name, layer in binary_layers(model):
        found = any(key.startswith(f"{name}.weight_binarizer.") for key in state)
        if layer.weight_binarizer is not None and not found:
            layer.weight_binarizer.initialize(layer.weight.detach())
    return missing


def _networks(content: dict[str, object], model: nn.Module) -> str:
    """Which two networks these are, for an error."""
    theirs, ours = content["config"], model.config
    assert isinstance(theirs, dict) and isinstance(ours, dict)
    if different := [key for key in ours if theirs.get(key) != ours[key]]:
        return "it was trained with " + ", ".join(f"{k} = {theirs.get(k)!r} (here {ours[k]!r})" for k in different)
    return "it was written by another version"
