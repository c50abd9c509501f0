"""Checkpoints of training: written to a temporary name and renamed, read without executing anything."""

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

from onebit import models
from onebit.errors import UserError


def save(path: Path, content: dict[str, Any]) -> None:
    """Write atomically: whatever happens, `path` holds either its old content or the new one, whole."""
    temporary = path.with_name(path.name + ".part")
    try:
        with open(temporary, "wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:  # torch's zip writer turns a full disk into RuntimeError
        temporary.unlink(missing_ok=True)
        raise UserError(f"{path} could not be written ({error}); the file of that name, if any, is as it was") from error


def load(path: str | Path) -> dict[str, Any]:
    """The content of a checkpoint on the CPU. Raises UserError for anything that is not one."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path} is not a file; name a checkpoint such as runs/NAME/last.ckpt")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        reason = str(error).split("\n")[0][:200]
        raise UserError(f"{path} is not a checkpoint of onebit: {reason}") from error
    if not isinstance(content, dict) or "model" not in content or "config" not in content:
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
    return model.eval()
