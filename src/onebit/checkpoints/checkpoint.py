"""Checkpoints of training: written to a temporary name and renamed, read without executing anything."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from onebit import files, models
from onebit.errors import UserError
from onebit.nn.layers import binary_layers
from onebit.packing import pack as packing


def save(path: Path, content: dict[str, Any]) -> None:
    """Write atomically: whatever happens, `path` holds either its old content or the new one, whole."""
    files.write(path, lambda file: torch.save(content, file))


def read(path: str | Path, remedy: str) -> Any:
    """The content of a PyTorch file, on the CPU, without executing anything. UserError, ending in remedy, if it is none."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path} is not a file; {remedy}")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the restricted unpickler lets errors of every kind through
        reason = str(error).split("\n")[0][:200]
        raise UserError(f"{path} is not a PyTorch file that can be read safely ({reason}); {remedy}") from error


def load(path: str | Path) -> dict[str, Any]:
    """The content of a checkpoint of onebit. Raises UserError for anything that is not one."""
    content = read(path, "name a checkpoint such as runs/NAME/last.ckpt")
    if not isinstance(content, dict) or "model" not in content or not isinstance(content.get("config"), dict):
        raise UserError(f"{path} is not a checkpoint of onebit; authors' checkpoints are read by `onebit import`")
    return content


def build(content: dict[str, Any], path: str | Path, averaged: bool = True) -> nn.Module:
    """The model of a checkpoint, in evaluation mode; its averaged weights where there are some and `averaged` is true."""
    try:
        model = models.create(**content["config"])
        weights = content.get("ema") if averaged else None
        model.load_state_dict(weights or content["model"], strict=True)
    except (RuntimeError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"{path} does not fit the architecture it names: {reason}") from error
    return model.to(memory_format=torch.channels_last).eval()


def normalization(content: dict[str, Any], path: str | Path) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """(mean, std) per channel that the model's images are normalised with, None where the checkpoint does not say."""
    found = content.get("normalization")
    if found is None:
        return None
    try:
        mean, std = (tuple(map(float, found[key])) for key in ("mean", "std"))
    except (TypeError, ValueError, KeyError) as error:
        raise UserError(f"{path}: normalization must be a mean and a std, a list of numbers each") from error
    channels = content["config"].get("in_channels", 3)
    if not len(mean) == len(std) == channels or 0.0 in std:
        raise UserError(f"{path}: normalization must have {channels} means and stds other than 0")
    return mean, std


def pack(content: dict[str, Any], path: str | Path, out: str | Path, int8: bool = False) -> dict[str, Any]:
    """Write a checkpoint's network as a packed file; returns what `onebit.pack` returns."""
    found = normalization(content, path)
    if found is None:
        raise UserError(
            f"{path} does not say how its images are normalised; pack the model with onebit.pack(mean=, std=)"
        )
    return packing.pack(
        build(content, path),
        out,
        mean=found[0],
        std=found[1],
        labels=content.get("labels"),
        recipe=content.get("source"),
        accuracy=content.get("accuracy"),
        resize=content.get("resize"),
        int8=int8,
    )


def describe(path: str | Path) -> dict[str, Any]:
    """Architecture, progress and sizes of a checkpoint, for `onebit info`."""
    content = load(path)
    model = build(content, path)
    return {
        "file": str(path),
        "kind": "checkpoint",
        **{key: content["config"].get(key) for key in ("name", "method", "options", "structure", "classes")},
        "binarize": content["config"].get("binarize", "both"),
        "epoch": content.get("epoch"),
        "accuracy": content.get("accuracy"),
        "parameters": sum(p.numel() for p in model.parameters()),
        "binary_weights": sum(
            layer.weight.numel() for _, layer in binary_layers(model) if layer.weight_binarizer is not None
        ),
        "bytes": Path(path).stat().st_size,
        "float32_bytes": packing.float32_bytes(model),
    }
