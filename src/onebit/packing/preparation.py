"""The network that is packed, out of what training scripts leave: unwrapped, copied, on the CPU, float32, in evaluation mode."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from onebit.errors import UserError

WRAPPERS = {  # by the name of their class: PyTorch's, Lightning Fabric's and timm's; what holds the network
    "AveragedModel": "module",
    "DataParallel": "module",
    "DistributedDataParallel": "module",
    "ModelEma": "module",
    "ModelEmaV2": "module",
    "ModelEmaV3": "module",
    "OptimizedModule": "_orig_mod",  # of torch.compile
    "_FabricModule": "module",
}
HOOKS = ("_forward_hooks", "_forward_pre_hooks")


def unwrapped(model: Any) -> nn.Module:
    """The network itself. Raises UserError for what is none, and for a wrapper with hooks, which would be left out."""
    if isinstance(model, str | os.PathLike):
        raise UserError(
            f"pack: the model is the text {str(model)!r}; give the nn.Module. A checkpoint file is packed by `onebit pack`"
        )
    if isinstance(model, Mapping):
        raise UserError(
            "pack: the model is a dict of weights or a checkpoint's content; load it into the network "
            "(model.load_state_dict) and give that"
        )
    if not isinstance(model, nn.Module):
        raise UserError(f"pack: the model is of the type {type(model).__name__}; give a torch.nn.Module")
    while (inside := WRAPPERS.get(type(model).__name__)) is not None:
        inner = getattr(model, inside, None)
        if not isinstance(inner, nn.Module):
            break
        if any(getattr(model, hooks) for hooks in HOOKS):
            raise UserError(
                f"pack: the wrapper {type(model).__name__} has forward hooks, which no file holds; remove them"
            )
        model = inner
    if isinstance(model, torch.jit.ScriptModule):
        raise UserError("pack: the model is TorchScript, which cannot be traced; give the nn.Module it was made from")
    return model


def prepared(model: nn.Module) -> nn.Module:
    """A copy of the network to trace and run; the model is left as it is. Raises UserError for weights without a value."""
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if is_lazy(tensor):
            raise UserError(
                f"pack: {name} has no shape yet (a lazy layer); run the model on an image, train it, then pack"
            )
        if tensor.is_meta:
            raise UserError(f"pack: {name} is on the device 'meta' and has no values; load the weights first")
        if tensor.is_complex():
            raise UserError(f"pack: {name} is complex; the format has real numbers only")
    # Weights that hooks compute (weight norm, pruning) are results of autograd, which deepcopy refuses.
    computed = [t for m in model.modules() for t in vars(m).values() if isinstance(t, Tensor) and not t.is_leaf]
    try:
        frozen = copy.deepcopy(model, {id(t): t.detach().clone() for t in computed})
        for parent in list(frozen.modules()):
            for name, child in list(parent.named_children()):
                if (inner := unwrapped(child)) is not child:
                    setattr(parent, name, inner)
        return frozen.cpu().float().eval()
    except UserError:
        raise
    except Exception as error:  # of whatever the model holds
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise UserError(
            f"pack: the model cannot be copied to the CPU as float32 ({reason}); "
            "load its weights into a fresh instance and pack that"
        ) from error
