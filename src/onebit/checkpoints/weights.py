"""Weights from files of others, and into networks: every tensor used, none missing, nothing executed."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from onebit.errors import UserError
from onebit.runtime.recognition import explained, recognized


def read_torch(path: str | Path, remedy: str, wanted: str = "weights") -> Any:
    """The content of a PyTorch file, on the CPU, without executing anything. UserError, ending in remedy, if it is none.

    wanted   a row of `recognition.REMEDIES`: what the file should be, for one that is something else altogether
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path} is not a file; {remedy}")
    if path.stat().st_size == 0:
        raise UserError(f"{path} is empty; copy or make it again")
    if recognized(path).name not in ("torch", ""):  # PyTorch reads safetensors too
        raise UserError(explained(path, wanted) or f"{path} is no PyTorch file; {remedy}")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the restricted unpickler lets errors of every kind through
        if (line := explained(path, wanted)) is not None:
            raise UserError(line) from error
        reason = str(error).split("\n")[0][:200]
        if "Unsupported global" in str(error) or "GLOBAL " in str(error):
            raise UserError(
                f"{path} holds Python objects, which would execute code when read; save the network's state_dict() instead, or "
                "pack the network in Python: onebit.pack(model, ...)"
            ) from error
        raise UserError(f"{path} is not a PyTorch file that can be read safely ({reason}); {remedy}") from error


def read(path: str | Path, remedy: str) -> dict[str, Tensor]:
    """The state dict of a safetensors or PyTorch file: the file itself, or its entry "state_dict" or "model".

    Raises UserError, ending in the remedy, for a file that cannot be read or holds anything else.
    """
    kind = recognized(path).name
    if kind in ("safetensors", "packed") or (str(path).endswith(".safetensors") and kind != "torch"):
        import safetensors.torch

        try:
            content: Any = safetensors.torch.load_file(path)
        except (OSError, ValueError, safetensors.SafetensorError) as error:
            if (line := explained(path, "weights")) is not None:
                raise UserError(line) from error
            reason = str(error).split("\n")[0][:200]
            raise UserError(f"{path} is not a safetensors file that can be read ({reason}); {remedy}") from error
        if kind == "packed":
            raise UserError(str(explained(path, "weights")))
    else:
        content = read_torch(path, remedy)
    for entry in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(entry), dict):
            content = content[entry]
    if not isinstance(content, dict) or not content or not all(isinstance(v, Tensor) for v in content.values()):
        raise UserError(f"{path} holds no state dict; {remedy}")
    return content


def load(
    model: nn.Module,
    state: Mapping[str, Tensor],
    where: str,
    network: str,
    remedy: str,
    may_lack: Callable[[str], bool] = lambda name: False,
    names: Mapping[str, str] | None = None,
) -> list[str]:
    """Load a state dict into model; returns the names of its tensors that state lacks, where may_lack allows it.

    Raises UserError for a tensor left over, misshapen or missing, before anything is loaded. It starts with `where`, calls
    the model `network`, and ends in the remedy; names: what tensors of state are called in their file.
    """
    expected = model.state_dict()
    for name, value in state.items():
        called = (names or {}).get(name, name)
        if name not in expected:
            raise UserError(f"{where}: tensor {called!r} has no place in {network}; {remedy}")
        if value.shape != expected[name].shape:
            shapes = f"{tuple(value.shape)}, that of {network} {tuple(expected[name].shape)}"
            raise UserError(f"{where}: tensor {called!r} has shape {shapes}; {remedy}")
    missing = [name for name in expected if name not in state]
    if lacking := [name for name in missing if not may_lack(name)]:
        raise UserError(f"{where}: tensor {lacking[0]!r} of {network} is missing ({len(lacking)} in all); {remedy}")
    model.load_state_dict({**expected, **state}, strict=True)
    return missing
