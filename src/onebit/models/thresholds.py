"""Where the thresholds of activations start: at 0, or at the mean of what a layer gets of a batch of inputs."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from onebit.errors import UserError
from onebit.models.dataflow import call
from onebit.nn.binarizer import ActivationBinarizer


def constant_signs(layer: Any) -> bool:
    """Whether the signs of inputs that are at least 0 are all +1: no threshold of the layer is above 0."""
    if any(parameter.is_meta for parameter in layer.parameters()):
        return False
    thresholds = [form.threshold for form in layer.activation_binarizer.freeze()]
    return all(not isinstance(t, str) and bool((torch.as_tensor(t) <= 0).all()) for t in thresholds)


def batch_for(model: nn.Module, inputs: Any) -> Any:
    """Inputs to calibrate on, as tensors; floats of the type of the network's weights. Raises UserError for what is empty, not finite,
    or does not run."""
    kind = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)

    def tensor(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: tensor(part) for key, part in value.items()}
        if isinstance(value, tuple | list):
            return tuple(tensor(part) for part in value)
        if not hasattr(value, "__array__"):
            return value
        value = torch.as_tensor(value)
        if value.numel() == 0:
            raise UserError(f"calibrate: {tuple(value.shape)} holds no images; give a batch of some")
        if value.is_floating_point():
            value = value.to(kind)
            if not bool(value.isfinite().all()):
                raise UserError("calibrate: a number is not finite; thresholds cannot start there")
        return value

    if isinstance(inputs, str) or (isinstance(inputs, tuple | list | Mapping) and not inputs):
        raise UserError(
            f"calibrate = {inputs!r} is no batch of images; give a tensor (B, ...), or a tuple or dict of arguments"
        )
    inputs = tensor(inputs)
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    try:
        with torch.no_grad(), torch.random.fork_rng([]):
            call(model, inputs)
    except Exception as error:  # of whatever the model's code does
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise UserError(f"calibrate: the model does not run on it: {reason}; give images as it takes them") from error
    finally:
        for buffer, value in buffers:
            buffer.data.copy_(value)
    return inputs


def start_thresholds(model: nn.Module, inputs: Any) -> None:
    """Let each activation binarizer start from its layer's inputs (`ActivationBinarizer.initialize`), in one forward pass of
    training on a batch: a tensor (B, ...), or a tuple or dict of the network's arguments.

    Layers that come first are set first, so that later ones see what they will see. Buffers, such as batch norms'
    statistics, modes, and PyTorch's random numbers stay as they are.
    """
    started: set[int] = set()

    def start(binarizer: Any, arguments: tuple[Tensor, ...]) -> None:
        if id(binarizer) not in started:  # of a layer that is called again the first call counts
            started.add(id(binarizer))
            binarizer.initialize(arguments[0].detach())

    found = [module for module in model.modules() if isinstance(module, ActivationBinarizer)]
    modes = [(module, module.training) for module in model.modules()]
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    hooks = [binarizer.register_forward_pre_hook(start) for binarizer in found]
    model.train()
    devices = list({p.device for p in model.parameters() if p.device.type == "cuda"})
    try:
        with torch.random.fork_rng(devices), torch.no_grad():
            call(model, inputs)
    finally:
        for hook in hooks:
            hook.remove()
        for module, mode in modes:
            module.training = mode
        for buffer, value in buffers:
            buffer.data.copy_(value)
